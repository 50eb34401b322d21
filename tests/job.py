"""One run of pytest, as a plain process or on the ranks of an MPI job: started, watched, ended and judged.

Ranks write into the folder of the job (see `rank.py`): each its log and its process, and rank 0 what came of each
test, at once. So where a rank hangs or dies, no result is lost, and no process is left behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Set by Ctrl-C, for the threads that watch jobs.
INTERRUPTED = threading.Event()


@dataclass
class Result:
    """What came of the tests of one job, and what to show of it."""

    title: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    report: str = ""
    # The files of tests, and how many seconds each took.
    files: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return "FAILED" if self.failed else "ok" if self.passed + self.skipped else "no tests"


def run(
    title: str, ranks: int, settings: Mapping[str, str], pytest_arguments: Sequence[str], engine: str = "mpi"
) -> Result:
    """Run pytest on that many ranks of a job, or, where it is 0, in a plain process.

    Parameters
    ----------
    title : str
        The name of the job in the report.
    ranks : int
        The number of ranks; 0 for a plain process.
    settings : Mapping of str to str
        Environment variables of the job.
    pytest_arguments : sequence of str
        What pytest is called with on each rank.
    engine : {"mpi", "torch"}, default "mpi"
        What carries messages between the ranks.

    Returns
    -------
    Result
        The numbers of tests. A test that failed on any rank has failed. A job that hangs has one failure more.
    """
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="minisplit-tests-"))
    patience = float(os.environ.get("MINISPLIT_TEST_PATIENCE", "120"))
    limit = float(os.environ.get("MINISPLIT_TEST_LIMIT", "3600"))
    launcher = ["-m", "minisplit", "run", "--engine", engine, "-n", str(ranks)] if ranks else ["-P"]
    command = [sys.executable, *launcher, str(ROOT / "tests" / "rank.py"), str(folder)]
    # Within the patience: each rank then has written the stacks of its threads into its log.
    command += ["-o", f"faulthandler_timeout={0.75 * patience}", *pytest_arguments]
    environment = {
        "OMP_NUM_THREADS": "1",
        # Less than the above: ranks that wait for each other in minisplit say in which calls.
        "MINISPLIT_TIMEOUT": "60",
        "PRTE_MCA_prte_tmpdir_base": str(folder),
        **os.environ,
        **settings,
        # Else each of some hundred processes would compile the package, and the tests, anew.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    fault = supervise(command, environment, folder, patience, limit)
    # Open MPI's launcher fails to start once in a while.
    if fault and not rank_processes(folder) and not INTERRUPTED.is_set():
        fault = supervise(command, environment, folder, patience, limit)
    result = judge(title, folder, fault)
    result.seconds = time.monotonic() - started
    if result.failed:
        result.report += f"\n\nThe logs of its ranks are in {folder}"
    else:
        shutil.rmtree(folder)
    return result


def supervise(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, patience: float, limit: float
) -> str:
    """Run a job to its end and return what was wrong, or "". No process of it is left behind, also on Ctrl-C.

    The job is ended where rank 0 records no result for `patience` seconds, or where it takes longer than `limit`.
    """
    with (folder / "job.log").open("w") as log:
        job = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return wait(job, folder, patience, limit)
    finally:
        # Launchers may give each rank a process group of its own.
        for group in {job.pid, *(group for _, group in rank_processes(folder))}:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        job.wait()


def wait(job: subprocess.Popen[bytes], folder: Path, patience: float, limit: float) -> str:
    """Wait for a job; return why it is to be ended, or was not ended well, or ""."""
    started = latest = time.monotonic()
    size = 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            status = job.wait(timeout=0.1)
            return f"ended with status {status}" if status else ""
        if INTERRUPTED.is_set():
            return "was interrupted"
        now = time.monotonic()
        previous, size = size, sum(file.stat().st_size for file in folder.glob("*.results"))
        if size != previous:
            latest = now
        if now - latest > patience:
            return f"stood still for {patience:g} s"
        if now - started > limit:
            return f"took longer than {limit:g} s"


def rank_processes(folder: Path) -> list[tuple[int, int]]:
    """The process and the process group of each rank, as `rank.py` writes them down."""
    written = [file.read_text().split() for file in folder.glob("rank-*.pid")]
    return [(int(numbers[0]), int(numbers[1])) for numbers in written if len(numbers) == 2]


def judge(title: str, folder: Path, fault: str) -> Result:
    """Make a result of what rank 0 recorded, for which all ranks have agreed on the outcome of each test."""
    results = folder / "rank-0.results"
    records = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    failures = []
    for record in records:
        if record.get("outcome") == "failed":
            failures.append(heading(f"{record['test']} on {title}") + "\n" + record["text"])
    status = records[-1].get("ended") if records else None
    if not fault and status is None:
        fault = "rank 0 left before the tests ended"
    # 5 is "no tests". pytest fails without a failed test where it was called wrongly, for one.
    if not fault and not failures and status not in {0, 5}:
        fault = f"pytest ended with status {status}"
    if fault:
        failures.append(f"{heading(f'{title}: {fault}')}\n{last_words(folder)}")
    outcomes = [record.get("outcome") for record in records]
    passed, skipped = outcomes.count("passed"), outcomes.count("skipped")
    files: dict[str, float] = {}
    for record in records:
        if "seconds" in record:
            file = record["test"].partition("::")[0]
            files[file] = files.get(file, 0.0) + record["seconds"]
    return Result(title, passed, len(failures), skipped, report="\n\n".join(failures), files=files)


def last_words(folder: Path) -> str:
    """The logs from the last test on, without the frames of the test tools."""
    parts = []
    for log in sorted(folder.glob("*.log")):
        words = re.sub(r".*/site-packages/(_pytest|pluggy|hypothesis)/.*\n", "", log.read_text("utf-8", "replace"))
        tests = [match.start() for match in re.finditer(r"^\S+\.py::", words, re.MULTILINE)]
        if words:
            lines = words[tests[-1] if tests else 0 :].rstrip().splitlines()
            parts.append("\n".join([f"--- {log.stem}", *lines[-80:]]))
    return "\n".join(parts)


def heading(text: str) -> str:
    return f"{'_' * 20} {text} {'_' * 20}"
