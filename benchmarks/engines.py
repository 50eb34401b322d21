"""The torch engine beside MPI's, and beside DTensor doing the same, on processes of this machine.

    .venv/bin/python benchmarks/engines.py

Starts jobs of 2 and 4 processes, by mpiexec and torchrun in turns, and prints the least time of each call over all
of them, of the slowest process: the machine may be busy in any one. DTensor takes turns with minisplit in the jobs
of torchrun. It has no vmap: there `local_map` has torch's map the shards, and nobody hears whether that fails.
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


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum()


def calls(on_torch: bool) -> dict[str, dict[str, Callable[[], Any]]]:
    """The rows of the table: for each its contestants in this job."""
    torch.set_num_threads(1)
    x, y = (ms.random.rand(100, 10, split=0) for _ in range(2))
    small, large = (ms.random.rand(n, n, split=0) for n in (64, 4000))
    mapped = ms.vmap(product)
    rows: dict[str, dict[str, Callable[[], Any]]] = {
        "vmap of 100 rows": {"minisplit": lambda: mapped(x, y)},
        "x.sum()": {"minisplit": x.sum},
        "resplit of 64 x 64": {"minisplit": lambda: small.resplit(1)},
        "resplit of 4000 x 4000": {"minisplit": lambda: large.resplit(1)},
    }
    if on_torch:
        dist.init_process_group("gloo")
        dx, dy, dsmall, dlarge = (each.to_dtensor() for each in (x, y, small, large))
        local = local_map(torch.vmap(product), [Shard(0)], ([Shard(0)], [Shard(0)]))
        rows["vmap of 100 rows"]["DTensor"] = lambda: local(dx, dy)
        rows["x.sum()"]["DTensor"] = lambda: dx.sum().full_tensor()
        rows["resplit of 64 x 64"]["DTensor"] = lambda: dsmall.redistribute(placements=[Shard(1)])
        rows["resplit of 4000 x 4000"]["DTensor"] = lambda: dlarge.redistribute(placements=[Shard(1)])
    return rows


def job(out: Path) -> None:
    """One rank of a job."""
    comm, word, found = ms.WORLD, np.zeros(1, dtype=np.int64), {}
    for row, contestants in calls("RANK" in os.environ).items():
        repeats = dict.fromkeys(contestants, 1)
        for turn in range(ROUNDS):
            for who, call in contestants.items():
                comm.agree(word)
                started = time.perf_counter()
                for _ in range(repeats[who]):
                    call()
                each = (time.perf_counter() - started) / repeats[who]
                slowest = float(comm.agree(np.array([each * 1e9], dtype=np.int64))[0]) / 1e3
                repeats[who] = max(1, min(200, int(ROUND * 1e6 / slowest)))
                if turn > 2:
                    found[f"{row}/{who}"] = min(found.get(f"{row}/{who}", slowest), slowest)
    if comm.rank == 0:
        out.write_text(json.dumps(found))


def best(ranks: int, folder: Path) -> dict[str, float]:
    """The least microseconds of each row and contestant."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    least: dict[str, float] = {}
    for number in range(JOBS):
        for engine in ("mpi", "torch"):
            out = folder / f"{engine}-{ranks}-{number}.json"
            start = ["-m", "minisplit", "run", "--engine", engine, "-n", str(ranks)]
            subprocess.run([sys.executable, *start, __file__, out], env=environment, check=True)
            for name, microseconds in json.loads(out.read_text()).items():
                key = f"{name}, {engine}"
                least[key] = min(least.get(key, microseconds), microseconds)
    return least


def main() -> None:
    print("| processes | | MPI engine | torch engine | DTensor | torch / MPI | torch / DTensor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for ranks in RANKS:
            least = best(ranks, Path(folder))
            for row in dict.fromkeys(name.partition("/")[0] for name in least):
                mpi, ours = (least[f"{row}/minisplit, {engine}"] for engine in ("mpi", "torch"))
                peer = least[f"{row}/DTensor, torch"]
                times = " | ".join(f"{us / 1e3:.2f} ms" for us in (mpi, ours, peer))
                print(f"| {ranks} | {row} | {times} | {ours / mpi:.1f} | {ours / peer:.2f} |", flush=True)


if __name__ == "__main__":
    job(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
