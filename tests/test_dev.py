"""Tests of dev.py, tests/rank.py and tests/conftest.py: what contributors see when something goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dev

pytestmark = pytest.mark.serial


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let dev.py take a folder of this test for its .venv, and the Python that runs now for that in it."""
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "STAMP", tmp_path / ".venv" / "dev-stamp")
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# Setting up


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of a set-up, in which nothing is done."""
    done: list[str] = []
    monkeypatch.setattr(dev, "make_venv", lambda: done.append("venv"))
    monkeypatch.setattr(dev, "pip", lambda *arguments: done.append("pip"))
    return done


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        pytest.param("that of now", [], id="fits"),
        pytest.param("that of another time", ["pip", "pip"], id="outdated"),
        pytest.param(dev.UNFINISHED, ["venv", "pip", "pip"], id="half-made"),
        pytest.param(None, ["pip", "pip"], id="made-by-hand"),
    ],
)
def test_set_up_does_what_is_missing(stamp: str | None, expected: list[str], steps: list[str]) -> None:
    dev.VENV.mkdir()
    if stamp:
        dev.STAMP.write_text(dev.fingerprint() if stamp == "that of now" else stamp)
    dev.set_up()
    assert steps == expected
    assert dev.STAMP.read_text() == (dev.fingerprint() if expected or stamp else "")


def test_set_up_makes_what_is_not_there(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "PYTHON", dev.VENV / "bin" / "python")
    dev.VENV.mkdir()
    dev.set_up()
    assert steps == ["venv", "pip", "pip"]


def test_fingerprint_follows_requirements_only(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "ROOT", checkout)
    project, constraints = checkout / "pyproject.toml", checkout / "constraints.txt"
    project.write_text("[project]\ndependencies = ['torch']\n")
    constraints.write_text("torch==2\n")
    first = dev.fingerprint()
    project.write_text("[project]\ndependencies = ['torch']\n[tool.ruff]\nline-length = 1\n")
    assert dev.fingerprint() == first
    constraints.write_text("torch==3\n")
    second = dev.fingerprint()
    project.write_text("[project]\ndependencies = ['torch', 'numpy']\n")
    assert len({first, second, dev.fingerprint()}) == 3


def test_pip_failure_is_one_sentence_below_its_last_lines(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = program(checkout / "python", "seq 100; echo no route to host >&2; exit 1")
    monkeypatch.setattr(dev, "PYTHON", python)
    with pytest.raises(SystemExit, match=r"^dev.py: installing failed, as above\. .* pip install .* torch$"):
        dev.pip("torch")
    assert capsys.readouterr().out.splitlines()[-2:] == ["100", "no route to host"]


def test_python_without_venv_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        dev.make_venv()
    assert not dev.VENV.exists()


# Launching


def test_what_the_user_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT", raising=False)
    environment = dev.Mpi("mpich", Path("/a/bin/mpiexec"), Path("/a/lib")).environment()
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert environment["MPI4PY_LIBMPI"] == "/a/lib"
    assert environment["MINISPLIT_MPIEXEC"] == "/a/bin/mpiexec"


def test_system_mpiexec_is_none_of_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = program(dev.VENV / "mpi" / "mpich" / "bin" / "mpiexec", "")
    monkeypatch.setenv("PATH", str(ours.parent))
    assert dev.system_mpiexec() is None
    theirs = program(checkout / "bin" / "mpiexec", "")
    monkeypatch.setenv("PATH", f"{ours.parent}{os.pathsep}{theirs.parent}")
    assert dev.system_mpiexec() == theirs


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo size=1; echo size=1", "started 2 jobs of 1 rank: it is not of the MPI that mpi4py loads."),
        ("echo no slots; exit 3", "did not start a job of 2 ranks: it ended with status 3.\nno slots"),
        ("echo size=2", "did not start a job of 2 ranks.\nsize=2"),
    ],
)
def test_launcher_that_does_not_launch(checkout: Path, script: str, problem: str) -> None:
    launcher = program(checkout / "mpiexec", script)
    assert dev.check(dev.Mpi("broken", launcher), 2) == f"{launcher} {problem}"


def test_auto_goes_on_without_a_broken_system_mpi(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = program(checkout / "system" / "mpiexec", "exit 3")
    wheel = dev.Mpi("mpich", program(checkout / "wheel" / "mpiexec", "echo size=2; echo size=2"))
    monkeypatch.setattr(dev, "system_mpiexec", lambda: broken)
    monkeypatch.setattr(dev, "wheel_mpi", lambda name: {"mpich": wheel}[name])
    dev.VENV.mkdir()
    assert dev.find_mpi("auto", 2) == [wheel]
    assert "it ended with status 3. Going on with the wheel of MPICH." in capsys.readouterr().out
    program(wheel.mpiexec, "echo worse; exit 4")
    with pytest.raises(SystemExit, match=r"^dev\.py: .* it ended with status 4\.\nworse$"):
        dev.find_mpi("mpich", 3)


def test_launcher_is_checked_once(checkout: Path) -> None:
    launcher = program(checkout / "mpiexec", f"echo >> {checkout}/runs; echo size=2; echo size=2")
    dev.VENV.mkdir()
    for _ in range(2):
        dev.check(dev.Mpi("good", launcher), 2)
    assert (checkout / "runs").read_text() == "\n"
    os.utime(launcher, (1, 1))
    dev.check(dev.Mpi("good", launcher), 2)
    assert (checkout / "runs").read_text() == "\n\n"


# Watching


def test_job_that_takes_too_long_is_ended(checkout: Path) -> None:
    chatter = ["sh", "-c", "while true; do echo; sleep 0.05; done"]
    fault = dev.supervise(chatter, dict(os.environ), checkout, patience=60, limit=0.3)
    assert fault == "took longer than 0.3 s"


@pytest.mark.parametrize("call", ["dev.supervise", "run_in_a_lane"])
def test_interrupt_leaves_no_process(checkout: Path, call: str) -> None:
    """Also none that a rank started, in a process group that is not the launcher's."""
    rank = f"setsid sh -c 'sleep 60 & echo $! $$ > {checkout}/rank-0.pid; wait' & wait"
    watch = f"""
import dev, os, pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def run_in_a_lane(*arguments):
    with dev.lanes_of(2) as executor:
        executor.submit(dev.supervise, *arguments).result()
{call}(["sh", "-c", {rank!r}], dict(os.environ), pathlib.Path({str(checkout)!r}), 60, 60)
"""
    watcher = subprocess.Popen([sys.executable, "-c", watch], cwd=dev.ROOT, stderr=subprocess.DEVNULL)
    while not dev.rank_processes(checkout):
        time.sleep(0.01)
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait() != 0
    assert all_ended(checkout)


def all_ended(folder: Path) -> bool:
    """Whether the processes of the ranks end within some seconds."""
    left = {process for process, _ in dev.rank_processes(folder)}
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        left = {process for process in left if is_running(process)}
    return not left


def is_running(process: int) -> bool:
    """Whether it lives: one that ended, but that its parent did not ask for, is in the list still."""
    try:
        os.kill(process, 0)
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc here, or the process has ended since
        return not Path("/proc").exists()


# Judging


PASSED = {"test": "a", "outcome": "passed", "text": ""}
FAILED = {"test": "a", "outcome": "failed", "text": "what went wrong"}
SKIPPED = {"test": "b", "outcome": "skipped", "text": ""}
GOOD, BAD, WRONG, NONE = ({"ended": status} for status in (0, 1, 4, 5))


@pytest.mark.parametrize(
    ("ranks", "fault", "counts", "told"),
    [
        ([[PASSED, SKIPPED, GOOD], [PASSED, SKIPPED, GOOD]], "", (1, 0, 1), ""),
        ([[NONE], [NONE]], "", (0, 0, 0), ""),
        ([[PASSED, GOOD], [FAILED, BAD]], "", (0, 1, 0), "a on R: rank 1 "),
        ([[FAILED, BAD], [FAILED, BAD]], "", (0, 1, 0), "a on R "),
        ([[PASSED], [PASSED]], "stood still", (1, 1, 0), "R: stood still"),
        ([[PASSED, GOOD], [PASSED]], "", (1, 1, 0), "R: rank 1 left before the tests ended"),
        ([[], []], "", (0, 1, 0), "R: ranks 0, 1 left before"),
        ([[WRONG], [WRONG]], "", (0, 1, 0), "R: pytest ended with status 4, 4"),
    ],
)
def test_judge(
    ranks: list[list[dict[str, object]]], fault: str, counts: tuple[int, ...], told: str, tmp_path: Path
) -> None:
    for rank, lines in enumerate(ranks):
        results = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"rank-{rank}.results").write_text(results)
    run = dev.judge("R", tmp_path, len(ranks), fault)
    assert (run.passed, run.failed, run.skipped) == counts
    assert told in run.report
    assert bool(run.report) == bool(run.failed)


def test_summary_ends_with_the_totals() -> None:
    runs = [dev.Run("serial", passed=3), dev.Run("2 ranks", passed=4, failed=1), dev.Run("3 ranks")]
    lines = dev.summary(runs).splitlines()
    assert [line.split(maxsplit=6)[-1] for line in lines[2:4]] == ["FAILED", "no tests"]
    assert lines[-1] == "7 passed, 1 failed"
    runs.append(dev.Run("4 ranks", skipped=2))
    assert dev.summary(runs).splitlines()[-1] == "7 passed, 1 failed, 2 skipped"


# The command line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo"], {"n": 4, "mpi": "auto"}),
        (["docs"], {"mpi": "auto"}),
        (["test", "--mpi", "all"], {"n": None, "mpi": "all", "pytest": []}),
        (["test", "-n", "2", "--", "-k", "resplit"], {"n": 2, "pytest": ["-k", "resplit"]}),
        (
            ["run", "-n", "2", "script.py", "-n", "7"],
            {"script": "script.py", "n": 2, "arguments": ["-n", "7"]},
        ),
    ],
)
def test_parse(arguments: list[str], expected: dict[str, object]) -> None:
    chosen = vars(dev.parse(arguments))
    assert {name: chosen[name] for name in expected} == expected


def test_number_of_ranks_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dev.parse(["demo", "-n", "0"])
    assert "must be a whole number above 0, got '0'" in capsys.readouterr().err


# Documentation


@pytest.mark.parametrize(("statuses", "expected"), [([0, 0], 0), ([3], 3), ([0, 2], 2)])
def test_docs_install_once_draw_and_build(
    statuses: list[int], expected: int, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second time nothing is installed. What fails is the status."""
    dev.VENV.mkdir()
    commands: list[list[str]] = []

    def done(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, statuses[(len(commands) - 1) % len(statuses)])

    monkeypatch.setattr(dev.subprocess, "run", done)
    mpi = dev.Mpi("none", Path("mpiexec"))
    assert [dev.docs(mpi), dev.docs(mpi)] == [expected, expected]
    assert steps == ["pip"]
    assert len(commands) == 2 * len(statuses)
    assert commands[0][1].endswith("figures.py")


# Whole runs


def test_every_part_of_the_tests_runs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def titles(mpis: list[dev.Mpi], *arguments: str) -> list[str]:
        monkeypatch.setattr(dev, "set_up", lambda: None)
        monkeypatch.setattr(dev, "find_mpi", lambda *_: mpis)
        monkeypatch.setattr(dev, "run_tests", lambda title, *_: dev.Run(title, passed=1))
        monkeypatch.setattr(sys, "argv", ["dev.py", "test", *arguments])
        assert dev.main() == 0
        live, table = capsys.readouterr().out.split("\n\n")[:2]
        runs = re.findall(r"^(\w, .*?)  ", table, re.MULTILINE)
        shown = [
            line.removesuffix(": 1 passed in 0.0 s") for line in live.splitlines() if not line.endswith("...")
        ]
        assert sorted(shown) == sorted(runs)
        return runs

    a, b = dev.Mpi("a", checkout), dev.Mpi("b", checkout)
    assert titles([a, b], "-n", "2") == ["a, 2 ranks", "a, threads, 2 ranks", "b, 2 ranks"]
    assert titles([a])[:5] == ["a, jobs", "a, examples", "a, serial", "a, pool", "a, 1 rank"]
    assert len(titles([a, b])) == 2 * 8 + 2


def test_all_runs_with_debug_mode_and_without() -> None:
    on = {part.title: ("MINISPLIT_DEBUG", "1") in part.settings for part in (dev.SERIAL, dev.POOL)}
    on |= {part.title: ("MINISPLIT_DEBUG", "1") in part.settings for part in (dev.on_mpi(3), dev.on_threads(3))}
    assert on == {"serial": False, "pool": True, "3 ranks": False, "threads, 3 ranks": True}


@pytest.fixture
def mpi(monkeypatch: pytest.MonkeyPatch) -> dev.Mpi:
    """The MPI of this environment; what does not end with it is given up soon."""
    monkeypatch.setenv("MINISPLIT_TEST_PATIENCE", "15")
    mpiexec = shutil.which(os.environ.get("MINISPLIT_MPIEXEC", "mpiexec"))
    if mpiexec is None:
        pytest.skip("needs an mpiexec; `dev.py test` names one in MINISPLIT_MPIEXEC")
    return dev.Mpi("mpi", Path(mpiexec))


def test_launcher_that_fails_at_once_is_tried_again(checkout: Path) -> None:
    (checkout / "test_it.py").write_text("def test_it(): pass\n")
    script = f'[ -e {checkout}/failed ] || {{ touch {checkout}/failed; exit 213; }}; shift 2; exec "$@"'
    mpi = dev.Mpi("moody", program(checkout / "mpiexec", script))
    run = dev.run_tests("here", mpi, dev.on_mpi(1), ["--rootdir", str(checkout), str(checkout)])
    assert (run.passed, run.failed) == (1, 0), run.report


STUCK = """
from mpi4py.MPI import COMM_WORLD as comm
def test_good(): comm.Barrier()
def test_bad(): assert comm.rank == 0, "wrong here"
def test_stuck():
    if comm.rank == 0:
        print("a last word")
        comm.Barrier()
    while True: pass
"""


def test_failure_and_standstill_are_shown(mpi: dev.Mpi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_stuck.py").write_text(STUCK)
    monkeypatch.setenv("MINISPLIT_TEST_PATIENCE", "4")
    run = dev.run_tests("here", mpi, dev.on_mpi(2), ["--rootdir", str(tmp_path), str(tmp_path)])
    assert (run.passed, run.failed) == (1, 2)
    bad, stuck = run.report.split("____ here: stood still for 4 s ____")
    assert "test_stuck.py::test_bad on here: rank 1 ____" in bad
    assert bad.count("AssertionError: wrong here") == 1
    first, second = stuck.split("--- rank-1\n")
    assert "a last word" in first
    assert 'test_stuck.py", line 8 in test_stuck' in first
    assert 'test_stuck.py", line 9 in test_stuck' in second
    folder = Path(run.report.split()[-1])
    assert len(dev.rank_processes(folder)) == 2
    assert all_ended(folder)
    shutil.rmtree(folder)


APART = """
import pytest
from mpi4py.MPI import COMM_WORLD as comm
here = comm.rank == 1

@pytest.fixture
def bad_set_up():
    assert not here, "set-up"

@pytest.fixture
def bad_tear_down():
    yield
    assert not here, "tear-down"

def test_fails(): assert not here, "call"
def test_skips(): here and pytest.skip("for no good reason")
def test_set_up(bad_set_up): comm.Barrier()
def test_tear_down(bad_tear_down): comm.Barrier()
def test_all_skip(): pytest.skip("agreed")
def test_passes(): comm.Barrier()
"""


def test_ranks_agree_on_every_test(mpi: dev.Mpi, tmp_path: Path) -> None:
    (tmp_path / "test_apart.py").write_text(APART)
    shutil.copy(dev.ROOT / "tests" / "conftest.py", tmp_path)
    run = dev.run_tests("here", mpi, dev.on_mpi(2), ["--rootdir", str(tmp_path), str(tmp_path)])
    assert (run.passed, run.failed, run.skipped) == (1, 4, 1), run.report
    told = run.report.split("____ test_apart.py::")[1:]
    expected = [
        ("test_fails on here ", "failed on rank 1 of 2", "AssertionError: call"),
        ("test_skips on here ", "skipped on rank 1 of 2", "for no good reason"),
        ("test_set_up on here ", "failed on rank 1 of 2", "AssertionError: set-up"),
        ("test_tear_down on here ", "failed on rank 1 of 2", "AssertionError: tear-down"),
    ]
    for text, parts in zip(told, expected, strict=True):
        assert all(part in text for part in parts), text
    shutil.rmtree(run.report.split()[-1])


def test_a_property_needs_ranks_of_its_own(mpi: dev.Mpi, tmp_path: Path) -> None:
    script = "from hypothesis import given, strategies\n@given(strategies.integers())\ndef test_n(n): pass\n"
    (tmp_path / "test_drawn.py").write_text(script)
    shutil.copy(dev.ROOT / "tests" / "conftest.py", tmp_path)
    run = dev.run_tests("here", mpi, dev.on_mpi(2), ["--rootdir", str(tmp_path), str(tmp_path)])
    assert (run.passed, run.failed) == (0, 1)
    assert "test_n draws examples on every rank: give it @minisplit.testing.spmd" in run.report
    shutil.rmtree(run.report.split()[-1])


def test_ranks_must_have_the_same_tests(mpi: dev.Mpi, tmp_path: Path) -> None:
    uneven = "import pytest\nfrom mpi4py.MPI import COMM_WORLD\n"
    uneven += "@pytest.mark.parametrize('n', range(1 + COMM_WORLD.rank))\ndef test_n(n): pass\n"
    (tmp_path / "test_uneven.py").write_text(uneven)
    shutil.copy(dev.ROOT / "tests" / "conftest.py", tmp_path)
    run = dev.run_tests("here", mpi, dev.on_mpi(2), ["--rootdir", str(tmp_path), str(tmp_path)])
    assert (run.passed, run.failed) == (0, 1)
    assert "0 errors here is test_uneven.py::test_n on rank 1" in run.report
    shutil.rmtree(run.report.split()[-1])
