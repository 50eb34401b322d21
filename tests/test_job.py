"""job.py, rank.py and conftest.py: ranks that fail, hang or disagree, and what is shown of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import job
import pytest
from launchers import ROOT, launcher, program

pytestmark = pytest.mark.serial
TESTS = ROOT / "tests"
CONFTEST = TESTS / "conftest.py"


# Watching


def test_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    chatter = ["sh", "-c", f"while true; do echo >> {tmp_path}/rank-0.results; sleep 0.05; done"]
    assert job.supervise(chatter, os.environ, tmp_path, patience=60, limit=0.3) == "took longer than 0.3 s"


@pytest.mark.parametrize("call", ["job.supervise", "run_beside_others"])
def test_interrupt_leaves_no_process(tmp_path: Path, call: str) -> None:
    """Also none that a rank started, in a process group that is not the launcher's."""
    rank = f"setsid sh -c 'sleep 60 & echo $! $$ > {tmp_path}/rank-0.pid; wait' & wait"
    watch = f"""
import os, pathlib, signal
import job, parts
signal.signal(signal.SIGINT, signal.default_int_handler)
def run_beside_others(*arguments):
    with parts.workers(2) as executor:
        executor.submit(job.supervise, *arguments).result()
{call}(["sh", "-c", {rank!r}], dict(os.environ), pathlib.Path({str(tmp_path)!r}), 60, 60)
"""
    watcher = subprocess.Popen([sys.executable, "-c", watch], cwd=TESTS, stderr=subprocess.DEVNULL)
    while not job.rank_processes(tmp_path):
        time.sleep(0.01)
    time.sleep(1)  # on a busy machine a rank may write its file before Popen has returned
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait() != 0
    assert all_ended(tmp_path)


def all_ended(folder: Path) -> bool:
    """Whether the processes of the ranks end within some seconds."""
    left = {process for process, _ in job.rank_processes(folder)}
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
    ("records", "fault", "counts", "report"),
    [
        ([PASSED, SKIPPED, GOOD], "", (1, 0, 1), ""),
        ([NONE], "", (0, 0, 0), ""),
        ([PASSED, FAILED, BAD], "", (1, 1, 0), "____ a on R ____________________\nwhat went wrong"),
        ([PASSED], "stood still", (1, 1, 0), "____ R: stood still ____"),
        ([PASSED], "", (1, 1, 0), "____ R: rank 0 left before the tests ended ____"),
        ([], "", (0, 1, 0), "____ R: rank 0 left before the tests ended ____"),
        ([WRONG], "", (0, 1, 0), "____ R: pytest ended with status 4 ____"),
    ],
)
def test_judge(
    records: list[dict[str, object]], fault: str, counts: tuple[int, ...], report: str, tmp_path: Path
) -> None:
    (tmp_path / "rank-0.results").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = job.judge("R", tmp_path, fault)
    assert (result.passed, result.failed, result.skipped) == counts
    assert report in result.report
    assert bool(result.report) == bool(result.failed)


# Whole jobs


@pytest.fixture
def mpi(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The MPI of this environment; what does not end with it is given up soon."""
    monkeypatch.setenv("MINISPLIT_TEST_PATIENCE", "15")
    return {"MINISPLIT_MPIEXEC": launcher().program}


def run(tests: str, folder: Path, settings: dict[str, str], ranks: int = 2, conftest: bool = True) -> job.Result:
    """Run tests as a job of their own."""
    (folder / "test_it.py").write_text(tests)
    if conftest:
        shutil.copy(CONFTEST, folder)
    return job.run("here", ranks, settings, ["--rootdir", str(folder), str(folder)])


@pytest.mark.mpi
def test_launcher_that_fails_at_once_is_tried_again(tmp_path: Path) -> None:
    script = f'[ -e {tmp_path}/failed ] || {{ touch {tmp_path}/failed; exit 213; }}; shift 2; exec "$@"'
    moody = {"MINISPLIT_MPIEXEC": program(tmp_path / "mpiexec", script)}
    result = run("def test_it(): pass", tmp_path, moody, ranks=1, conftest=False)
    assert (result.passed, result.failed) == (1, 0), result.report


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


def test_failure_and_standstill_are_shown(
    mpi: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINISPLIT_TEST_PATIENCE", "10")
    result = run(STUCK, tmp_path, mpi)
    assert (result.passed, result.failed) == (1, 2)
    bad, stuck = result.report.split("____ here: stood still for 10 s ____")
    assert "test_it.py::test_bad on here ____" in bad
    assert "failed on rank 1 of 2" in bad
    assert bad.count("AssertionError: wrong here") == 1
    first, second = stuck.split("--- rank-1\n")
    assert "a last word" in first
    assert 'test_it.py", line 8 in test_stuck' in first
    assert 'test_it.py", line 9 in test_stuck' in second
    folder = Path(result.report.split()[-1])
    assert len(job.rank_processes(folder)) == 2
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


def test_ranks_agree_on_every_test(mpi: dict[str, str], tmp_path: Path) -> None:
    result = run(APART, tmp_path, mpi)
    assert (result.passed, result.failed, result.skipped) == (1, 4, 1), result.report
    failures = result.report.split("____ test_it.py::")[1:]
    expected = [
        ("test_fails on here ", "failed on rank 1 of 2", "AssertionError: call"),
        ("test_skips on here ", "skipped on rank 1 of 2", "for no good reason"),
        ("test_set_up on here ", "failed on rank 1 of 2", "AssertionError: set-up"),
        ("test_tear_down on here ", "failed on rank 1 of 2", "AssertionError: tear-down"),
    ]
    for text, parts in zip(failures, expected, strict=True):
        assert all(part in text for part in parts), text
    shutil.rmtree(result.report.split()[-1])


@pytest.mark.mpi
def test_a_rank_that_dies_fails_the_job(mpi: dict[str, str], tmp_path: Path) -> None:
    tests = "import os\nfrom mpi4py.MPI import COMM_WORLD as comm\n"
    tests += "def test_good(): comm.Barrier()\ndef test_bad(): comm.rank and os.kill(os.getpid(), 9)\n"
    result = run(tests, tmp_path, mpi)
    assert (result.passed, result.failed) == (1, 1), result.report
    assert "____ here: " in result.report
    shutil.rmtree(result.report.split()[-1])


def test_a_property_needs_ranks_of_its_own(mpi: dict[str, str], tmp_path: Path) -> None:
    tests = "from hypothesis import given, strategies\n@given(strategies.integers())\ndef test_n(n): pass\n"
    result = run(tests, tmp_path, mpi)
    assert (result.passed, result.failed) == (0, 1)
    assert "test_n draws examples on every rank: give it @minisplit.testing.spmd" in result.report
    shutil.rmtree(result.report.split()[-1])


def test_ranks_must_have_the_same_tests(mpi: dict[str, str], tmp_path: Path) -> None:
    uneven = "import pytest\nfrom mpi4py.MPI import COMM_WORLD\n"
    uneven += "@pytest.mark.parametrize('n', range(1 + COMM_WORLD.rank))\ndef test_n(n): pass\n"
    result = run(uneven, tmp_path, mpi)
    assert (result.passed, result.failed) == (0, 1)
    assert "0 errors here is test_it.py::test_n on rank 1" in result.report
    shutil.rmtree(result.report.split()[-1])
