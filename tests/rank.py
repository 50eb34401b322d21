"""One rank of a test run: `rank.py FOLDER PYTEST-ARGUMENTS`, as `job.py` starts it.

What rank R prints goes to FOLDER/rank-R.log, and its process to FOLDER/rank-R.pid. What came of each test goes to
FOLDER/rank-0.results, as a line of JSON: the ranks agree on it, see `conftest.py`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SEVERITY = ("passed", "skipped", "failed")


class Results:
    """A pytest plugin that records each test once done, so that a rank that hangs or dies loses none."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", buffering=1)
        self.outcome = "passed"
        self.text = ""
        self.seconds = 0.0

    def record(self, **entry: Any) -> None:
        self.file.write(json.dumps(entry) + "\n")

    def add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.outcome = max(self.outcome, report.outcome, key=SEVERITY.index)
        if report.failed:
            printed = [f"{'-' * 10} {title}\n{text}" for title, text in report.sections]
            self.text += "\n".join([report.longreprtext, *printed]).rstrip() + "\n"

    def pytest_runtest_logstart(self) -> None:
        self.outcome, self.text, self.seconds = "passed", "", 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report)
        self.seconds += report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.record(test=nodeid, outcome=self.outcome, text=self.text, seconds=round(self.seconds, 3))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome, self.text = "passed", ""
            self.add(report)
            self.record(test=report.nodeid, outcome=self.outcome, text=self.text)


def own_rank() -> int:
    """The rank, from what the launcher set: asking MPI would start it, which is up to the tests."""
    names = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def main() -> int:
    folder, *arguments = sys.argv[1:]
    rank = own_rank()
    path = Path(folder, f"rank-{rank}")
    log = path.with_suffix(".log").open("a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    path.with_suffix(".pid").write_text(f"{os.getpid()} {os.getpgrp()}")
    # tee: what a test prints is in the log also if the rank dies in it. The cache is for one rank at a time.
    options = ["-v", "--no-header", "--capture=tee-sys", "-p", "no:cacheprovider"]
    results = Results(path.with_suffix(".results")) if rank == 0 else None
    status = pytest.main([*options, *arguments], plugins=[results] if results else [])
    if results:
        results.record(ended=int(status))
    # Launchers end the other ranks where one leaves with a status, so failed tests, and none, give none.
    return 0 if results or status in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED} else status


if __name__ == "__main__":
    sys.exit(main())
