"""The torch engine beside MPI's, and beside DTensor doing the same, on processes of this machine.

    .venv/bin/python benchmarks/engines.py

Starts jobs of 2 and 4 processes, of each engine and of DTensor in turns, and prints the least time of each call
over all of them: from when the first process begins until the last one ends. By its own clock a process that waits
for none would take no longer where it shares a core, since the clock starts once it has its turn.

Each contestant has jobs of its own: memory that one gives back is not there for the next call of the other, and a
resplit of 4000 x 4000 then writes to new pages. DTensor has no vmap: there `local_map` has torch's map the shards,
and nobody hears whether that fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard
from torch.distributed.tensor.experimental import local_map

import minisplit as ms

RANKS, JOBS, ROUNDS, ROUND = (2, 4), 3, 60, 0.002
ROWS = "vmap of 100 rows", "x.sum()", "resplit of 64 x 64", "resplit of 4000 x 4000"


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum()


def calls(dtensor: bool) -> dict[str, Callable[[], Any]]:
    """The rows of the table."""
    torch.set_num_threads(1)
    x, y = (ms.random.rand(100, 10, split=0) for _ in range(2))
    small, large = (ms.random.rand(n, n, split=0) for n in (64, 4000))
    mapped = ms.vmap(product)
    if not dtensor:
        results = lambda: mapped(x, y), x.sum, lambda: small.resplit(1), lambda: large.resplit(1)
    else:
        dist.init_process_group("gloo")
        dx, dy, dsmall, dlarge = (each.to_dtensor() for each in (x, y, small, large))
        local = local_map(torch.vmap(product), [Shard(0)], ([Shard(0)], [Shard(0)]))
        results = (
            lambda: local(dx, dy),
            lambda: dx.sum().full_tensor(),
            lambda: dsmall.redistribute(placements=[Shard(1)]),
            lambda: dlarge.redistribute(placements=[Shard(1)]),
        )
    return dict(zip(ROWS, results, strict=True))


def job(out: Path, who: str) -> None:
    """One rank of a job."""
    comm, word, found = ms.WORLD, np.zeros(1, dtype=np.int64), {}
    for row, call in calls(who == "DTensor").items():
        repeats = 1
        for turn in range(ROUNDS):
            comm.agree(word)
            started = time.monotonic_ns()  # one clock for all processes of a machine
            for _ in range(repeats):
                call()
            first, last = comm.agree(np.array([-started, time.monotonic_ns()], dtype=np.int64)).tolist()
            each = (first + last) / 1e3 / repeats
            repeats = max(1, min(200, int(ROUND * 1e6 / each)))
            if turn > 2:
                found[row] = min(found.get(row, each), each)
    if comm.rank == 0:
        out.write_text(json.dumps(found))


def best(ranks: int, folder: Path) -> dict[tuple[str, str], float]:
    """The least microseconds of each row and contestant."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    least: dict[tuple[str, str], float] = {}
    for number in range(JOBS):
        for who in ("mpi", "torch", "DTensor"):
            out = folder / f"{who}-{ranks}-{number}.json"
            start = ["-m", "minisplit", "run", "--engine", "mpi" if who == "mpi" else "torch", "-n", str(ranks)]
            subprocess.run([sys.executable, *start, __file__, out, who], env=environment, check=True)
            for row, microseconds in json.loads(out.read_text()).items():
                least[row, who] = min(least.get((row, who), microseconds), microseconds)
    return least


def main() -> None:
    print("| processes | | MPI engine | torch engine | DTensor | torch / MPI | torch / DTensor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for ranks in RANKS:
            least = best(ranks, Path(folder))
            for row in ROWS:
                mpi, ours, peer = (least[row, who] for who in ("mpi", "torch", "DTensor"))
                times = " | ".join(f"{us / 1e3:.2f} ms" for us in (mpi, ours, peer))
                print(f"| {ranks} | {row} | {times} | {ours / mpi:.1f} | {ours / peer:.2f} |", flush=True)


if __name__ == "__main__":
    job(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else main()
