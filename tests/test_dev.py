"""dev.py: what it says when something is missing, and how it shows failing and hanging runs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
dev = importlib.util.module_from_spec(SPEC)
sys.modules["dev"] = dev
SPEC.loader.exec_module(dev)

MPIEXEC = os.environ.get("MINISPLIT_MPIEXEC", "mpiexec")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with this one's conftest and rank.py, and the test file that a test writes; and a launcher."""
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("conftest.py", "rank.py"):
        (tests / name).write_text((ROOT / "tests" / name).read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    launcher = [MPIEXEC, "-n", "2", sys.executable]

    def run(code):
        (tests / "test_it.py").write_text(code)
        logs = tmp_path / "logs"
        logs.mkdir()
        return dev.watch("2 ranks", 2, logs, launcher, dict(os.environ), [])

    return run


def test_a_failing_rank_is_shown(project, capsys):
    finished = project("def test_a(rank):\n    assert rank == 0, 'planted'\n\ndef test_b(): pass\n")
    assert finished.counts() == {"passed": 1, "failed": 1, "skipped": 0}
    dev.show(finished)
    shown = capsys.readouterr().out
    assert "ranks with a failure of their own: 1" in shown
    assert "planted" in shown
    assert dev.summarise([finished]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_a_hanging_run_is_ended_with_every_stack(project, capsys, monkeypatch):
    monkeypatch.setattr(dev, "PATIENCE", 4.0)
    finished = project("def test_a(comm, rank):\n    rank == 0 or comm.mpi.Barrier()\n    while True: pass\n")
    assert finished.hung
    assert finished.counts()["failed"] == 1
    dev.show(finished)
    shown = capsys.readouterr().out
    assert shown.count("test_it.py") >= 2
    assert "rank 0, the end" in shown
    assert "rank 1, the end" in shown
    assert shown.count("in test_a") == 2
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(finished.logs) not in left


def test_a_run_that_breaks_off_fails(project, capsys):
    finished = project("import os\ndef test_a(): os._exit(3)\n")
    assert finished.status != 0
    assert finished.counts()["failed"] == 1


def test_no_tests_is_a_failure(tmp_path, capsys):
    assert dev.summarise([dev.Run("nothing", 1, tmp_path)]) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["demo", "-n", "0"], "invalid positive value"),
        (["demo", "--mpi", "all"], "for test only"),
        (["run"], "run needs a script"),
        (["fly"], "invalid choice"),
    ],
)
def test_wrong_words(words, text, capsys):
    with pytest.raises(SystemExit):
        dev.parse(words)
    assert text in capsys.readouterr().err


def test_pip_without_a_network_gets_one_sentence(monkeypatch):
    monkeypatch.setattr(dev, "PYTHON", sys.executable)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(dev.Problem, match=r"pip could not install .*is there a network"):
        dev.pip("install", "--no-index", "no-such-package-of-anyones")


def test_no_venv_module_gets_one_sentence(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho No module named venv >&2\nexit 1\n")
    broken.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(dev.sys, "executable", str(broken))
    with pytest.raises(dev.Problem, match=r"apt install python3-venv.*No module named venv"):
        dev.set_up_venv()


def test_a_launcher_of_another_mpi_is_found_out(monkeypatch, tmp_path):
    launcher = tmp_path / "mpiexec"
    launcher.write_text("#!/bin/sh\nfor i in $(seq $2); do echo size=1; done\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(dev, "VENV", tmp_path)
    with pytest.raises(dev.Problem, match=r"ran 3 jobs of 1 rank: launcher and MPI library are not of one MPI"):
        dev.check_job_size(dev.Mpi("system", launcher, None), 3)


def test_the_users_settings_win(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = dev.Mpi("mpich", Path("mpiexec"), Path("lib")).environment()
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["MPI4PY_LIBMPI"] == "lib"
