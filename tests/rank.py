"""One rank of a test run: `python tests/rank.py LOGS ARGUMENTS...` runs pytest, its output in a log of its own.

`dev.py` reads what this leaves in the folder LOGS: `rank-R.log`, `rank-R.pid`, and the counts in `rank-R.json`.
SIGUSR1 writes the stacks of all threads into the log.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path

import pytest


def rank_of_launcher() -> int:
    """This process' rank as its launcher tells it; asking MPI would start MPI in serial runs too."""
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


class Counter:
    """Counts each test once, by what became of it."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.when == "call" or report.skipped:
            self.outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"

    def counts(self) -> dict[str, int]:
        found = list(self.outcomes.values())
        return {outcome: found.count(outcome) for outcome in ("passed", "failed", "skipped")}


def main() -> int:
    logs, rank = Path(sys.argv[1]), rank_of_launcher()
    log = os.open(logs / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    (logs / f"rank-{rank}.pid").write_text(str(os.getpid()))
    # On a descriptor of its own: pytest captures 1 and 2 while a test runs.
    faulthandler.register(signal.SIGUSR1, file=os.dup(log), all_threads=True)
    counter = Counter()
    status = pytest.main([*sys.argv[2:], "-p", "no:faulthandler", "--color=no"], plugins=[counter])
    (logs / f"rank-{rank}.json").write_text(json.dumps(counter.counts()))
    sys.stdout.flush()
    return 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else int(status)


if __name__ == "__main__":
    sys.exit(main())
