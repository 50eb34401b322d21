"""What mpi4py loads, as one line of JSON; run as a file, as `import minisplit` may not work."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MARK = "minisplit-probe "


def library() -> dict[str, Any]:
    """What MPI library it is. Does not initialise it."""
    try:
        import mpi4py  # noqa: PLC0415 - may be missing

        mpi4py.rc.initialize = False
        from mpi4py import MPI  # noqa: PLC0415 - may fail
    except (ImportError, RuntimeError) as error:
        return {"error": str(error).splitlines()[0]}
    mapped = Path("/proc/self/maps")
    paths = {line.split()[-1] for line in mapped.read_text().splitlines()} if mapped.exists() else set()
    return {
        "vendor": MPI.get_vendor()[0],
        "version": ".".join(map(str, MPI.get_vendor()[1])),
        "standard": ".".join(map(str, MPI.Get_version())),
        "path": next((path for path in sorted(paths) if Path(path).name.startswith("libmpi.")), ""),
    }


def size() -> dict[str, Any]:
    """Of how many ranks the job is, in the eyes of MPI."""
    from mpi4py import MPI  # noqa: PLC0415 - starts MPI

    return {"rank": MPI.COMM_WORLD.rank, "size": MPI.COMM_WORLD.size}


def tell(facts: dict[str, Any]) -> None:
    """Print them in one write: launchers may mix what the ranks write in pieces."""
    os.write(1, f"{MARK}{json.dumps(facts)}\n".encode())


if __name__ == "__main__":
    tell({"library": library, "size": size}[sys.argv[1]]())
