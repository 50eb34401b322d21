"""What mpi4py loads, as one line of JSON. Runs as a file, since `import minisplit` may fail here.

Tested in tests/launch/test_jobs.py.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# What begins the line: programs, and MPI libraries, may print other lines.
MARK = "minisplit-probe "


def library() -> dict[str, Any]:
    """Describe the MPI library that mpi4py loads, or say why it loads none. Does not initialise MPI."""
    try:
        import mpi4py  # noqa: PLC0415 - may be missing

        mpi4py.rc.initialize = False
        from mpi4py import MPI  # noqa: PLC0415 - may fail
    except (ImportError, RuntimeError) as error:
        return {"error": str(error).splitlines()[0]}
    maps = Path("/proc/self/maps")
    paths = {line.split()[-1] for line in maps.read_text().splitlines()} if maps.exists() else set()
    return {
        "vendor": MPI.get_vendor()[0],
        "version": ".".join(map(str, MPI.get_vendor()[1])),
        "standard": ".".join(map(str, MPI.Get_version())),
        "path": next((path for path in sorted(paths) if Path(path).name.startswith("libmpi.")), ""),
    }


def size() -> dict[str, Any]:
    """Return the rank of this process, and how many ranks MPI says the job has."""
    from mpi4py import MPI  # noqa: PLC0415 - starts MPI

    return {"rank": MPI.COMM_WORLD.rank, "size": MPI.COMM_WORLD.size}


def report(facts: dict[str, Any]) -> None:
    """Print facts in one write: launchers may mix what the ranks write in pieces."""
    os.write(1, f"{MARK}{json.dumps(facts)}\n".encode())


if __name__ == "__main__":
    report({"library": library, "size": size}[sys.argv[1]]())
