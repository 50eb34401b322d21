"""A map from a file to a file, both far larger than the memory that each rank may take.

    python3 dev.py run -n 2 benchmarks/larger_than_memory.py FOLDER [GIGABYTES]

Each rank limits its own memory to 1 GB (`RLIMIT_DATA`: what it allocates). It makes a file of 6 GB, maps softmax
over its rows into another, and prints how long that takes and how much memory a rank took at its highest, beyond
what it had before. Stopped, and started again with the same words, it goes on where it was.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

import minisplit as ms

LIMIT = 10**9
COLUMNS = 1000


def megabytes(name: str) -> int:
    """A line of /proc/self/status."""
    [found] = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) // 1000


def main() -> None:
    folder, size = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    comm, rows = ms.get_comm(), int(size * 1e9 / 4 / COLUMNS)
    ramp = torch.linspace(0, 1, COLUMNS)
    before = megabytes("VmRSS")

    def run(what: str, mapped: object, x: object) -> ms.StoredArray:
        started = time.perf_counter()
        (y,) = mapped(x)  # type: ignore[operator]
        seconds = time.perf_counter() - started
        peak = int(comm.agree(np.array([megabytes("VmHWM") - before]))[0])
        if comm.rank == 0:
            print(
                f"{what}: {y.nbytes / 1e9:.1f} GB in {seconds:.1f} s; at most {peak} MB more on a rank", flush=True
            )
        return y  # type: ignore[no-any-return]

    x = folder / "x.npy"
    if not comm.agree(np.array([int(x.exists())]))[0]:
        seeds = ms.arange(rows, split=0, dtype=torch.float32)
        make = ms.vmap(lambda i: torch.sin(i * ramp), chunk_size=8192, progress=True, out=x, resume=True)
        run("made", make, seeds)
    softmax = ms.vmap(
        lambda v: torch.softmax(v, 0), chunk_size=8192, progress=True, out=folder / "y.npy", resume=True
    )
    y = run("mapped", softmax, ms.open(x))
    (total,) = ms.vmap(lambda v: v.sum())(y)
    if comm.rank == 0:
        print("every row sums to 1:", bool((abs(total.larray - 1) < 1e-4).all()))


if __name__ == "__main__":
    main()
