"""`python -m minisplit selftest`: small jobs that check an installation."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from minisplit.launch.jobs import Launcher, last_lines, run_job

# Those of selftest_checks.py, which cannot be imported without MPI.
NAMES = ("agree", "exchange", "vmap", "random", "error")
LIMIT = 90.0
ADVICE = """\
If the first check fails, launcher and MPI library do not fit: `python -m minisplit info` shows both, and --mpi or
MINISPLIT_MPIEXEC chooses another. If it fails only on more ranks than there are cores, ask for fewer with -n.
Anything else is a fault of minisplit: report it, with this output and that of `info`."""


def selftest(launcher: Launcher, counts: Sequence[int]) -> int:
    """Run the checks as one job for each number of ranks; print a table, and what to do where a check fails.

    Parameters
    ----------
    launcher : Launcher
        What starts the jobs.
    counts : sequence of int
        The numbers of ranks.

    Returns
    -------
    int
        The exit status: 0 if all checks passed, else 1.
    """
    print(f"With {launcher.program} ({launcher.origin})\n")
    print(f"ranks  {'  '.join(f'{name:8}' for name in NAMES)}  seconds", flush=True)
    failures = []
    for ranks in counts:
        started = time.monotonic()
        # A job of its own for each number: one that hangs or crashes leaves the others.
        status, output = run_job(launcher, ranks, "-m", "minisplit.launch.selftest_checks", limit=LIMIT)
        passed = re.findall(rf"^passed (\w+) on {ranks}\b", output, re.MULTILINE)
        cells = ["ok" if name in passed else "FAILED" for name in NAMES]
        if "FAILED" in cells:  # what follows the first that failed has not run
            first = cells.index("FAILED")
            cells[first + 1 :] = ["-"] * (len(cells) - first - 1)
        seconds = time.monotonic() - started
        print(f"{ranks:5}  {'  '.join(f'{cell:8}' for cell in cells)}  {seconds:7.1f}", flush=True)
        if status != 0 or "FAILED" in cells:
            how = f"took longer than {LIMIT:g} s" if status is None else f"ended with status {status}"
            failures.append(f"The job of {ranks} {how}. The end of what it printed:\n\n{last_lines(output, 25)}")
    if not failures:
        print("\nAll is well.")
        return 0
    print("", *failures, sep="\n")
    print(f"\n{ADVICE}")
    return 1
