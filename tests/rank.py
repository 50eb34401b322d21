"""One rank of a test run: `rank.py FOLDER PYTEST-ARGUMENTS`, as `dev.py test` starts it.

What rank R prints goes to FOLDER/rank-R.log, and what came of each test, as a line of JSON, to
FOLDER/rank-R.results. On SIGUSR1 it writes the stack of every thread to its log.
"""

import faulthandler
import json
import os
import signal
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

    def record(self, **entry: Any) -> None:
        self.file.write(json.dumps(entry) + "\n")

    def add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.outcome = max(self.outcome, report.outcome, key=SEVERITY.index)
        if report.failed:
            printed = [f"{'-' * 10} {title}\n{text}" for title, text in report.sections]
            self.text += "\n".join([report.longreprtext, *printed]).rstrip() + "\n"

    def pytest_runtest_logstart(self) -> None:
        self.outcome, self.text = "passed", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.record(test=nodeid, outcome=self.outcome, text=self.text)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome, self.text = "passed", ""
            self.add(report)
            self.record(test=report.nodeid, outcome=self.outcome, text=self.text)


def own_rank() -> int:
    """The rank, from what the launcher set: asking MPI would start it, which is up to the tests."""
    names = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def main() -> int:
    folder, *arguments = sys.argv[1:]
    path = Path(folder, f"rank-{own_rank()}")
    log = path.with_suffix(".log").open("a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    # To the log itself: pytest may point the descriptors 1 and 2 elsewhere.
    faulthandler.register(signal.SIGUSR1, file=log, all_threads=True)
    path.with_suffix(".pid").write_text(f"{os.getpid()} {os.getpgrp()}")
    results = Results(path.with_suffix(".results"))
    # tee: what a test prints is in the log also if the rank dies in it. The cache is for one rank at a time.
    options = ["-v", "--no-header", "--capture=tee-sys", "-p", "no:cacheprovider"]
    status = pytest.main([*options, *arguments], plugins=[results])
    results.record(ended=int(status))
    # The results say what failed; launchers may end the other ranks where one leaves with another status.
    return 0


if __name__ == "__main__":
    sys.exit(main())
