"""Makes thousands of calls, and shows whether memory, descriptors and caches stay as they are.

    python benchmarks/soak.py [ROUNDS]
    mpiexec -n 2 python benchmarks/soak.py [ROUNDS]

A round is one of each: a resplit, a mapped call of a new function, also one that fails, a redistribution, a draw
from a new generator, a communicator that is split off and freed or dropped, and every hundredth a run on threads.
The first tenth of the rounds fills what is bounded; from then on the numbers must not grow.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource
import sys
from pathlib import Path

import torch

import minisplit as ms


def round_of_calls(number: int) -> None:
    """Make one call of each kind."""
    x = ms.ones((64, 8), split=0)
    ranks = x.comm.size
    x.resplit(1).resplit(0)
    x.redistribute([64] + [0] * (ranks - 1)).balance()
    w = torch.ones(8, requires_grad=True)
    (y,) = ms.vmap(lambda v: (v @ w) * number)(x)
    y.sum().larray.backward()
    with contextlib.suppress(ValueError):
        ms.vmap(fail)(x)
    ms.random.rand(8, split=0, generator=ms.random.Generator(number))
    part = x.comm.split(0)
    if part is not None and number % 2:
        part.free()
    if number % 100 == 0 and ranks == 1:
        ms.testing.run(lambda: ms.arange(6, split=0).sum().item(), ranks=3)


def fail(v: torch.Tensor) -> torch.Tensor:
    raise ValueError("as it should")


def state() -> dict[str, int]:
    """Numbers of this process that must not grow."""
    gc.collect()
    caches = [x for x in gc.get_objects() if type(x) is functools._lru_cache_wrapper]
    own = [x for x in caches if x.__module__.startswith("minisplit")]
    memory = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {
        "KiB": int(memory.split()[1]),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "cache entries": sum(x.cache_info().currsize for x in own),
        "objects": len(gc.get_objects()),
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rank = ms.MPI_WORLD.rank
    for number in range(rounds):
        round_of_calls(number)
        if (number + 1) % max(1, rounds // 10) == 0 and rank == 0:
            print(number + 1, state(), flush=True)
    if rank == 0:
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "KiB")


if __name__ == "__main__":
    main()
