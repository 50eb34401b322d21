"""How long importing minisplit takes, and its peers, beyond torch, mpi4py and NumPy: in processes of their own.

    .venv/bin/python benchmarks/imports.py OUT.json

The median of several imports. Python compiles modules once and keeps that, so one import goes before those.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
PROGRAM = """
import sys, time
sys.path.insert(0, {folder!r})
import numpy, torch, mpi4py.MPI
{before}
started = time.perf_counter()
{what}
print(time.perf_counter() - started)
"""
CONTESTANTS = {
    "minisplit": ("", "import minisplit"),
    "Heat": ("from peers import stand_in; stand_in()", "import heat"),
}


def seconds(before: str, what: str, environment: dict[str, str]) -> float | None:
    """Of one import, or None where there is nothing to import."""
    program = PROGRAM.format(folder=str(Path(__file__).parent), before=before, what=what)
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def main() -> None:
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        found = {}
        for who, (before, what) in CONTESTANTS.items():
            times = [seconds(before, what, environment) for _ in range(ROUNDS + 1)][1:]
            known = [t for t in times if t is not None]
            found[who] = statistics.median(known) if known else None
    row = {"name": "import, beyond torch and mpi4py", "target": 0.1, "times": found}
    Path(sys.argv[1]).write_text(json.dumps(row))


if __name__ == "__main__":
    main()
