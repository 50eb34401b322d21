"""What a small `ms.vmap` call costs over bare `torch.vmap` on the shards, side by side in one run.

    python3 dev.py run -n 2 benchmarks/vmap_overhead.py

Maps `lambda x, y: (x * y).sum()` over two aligned (100, 10) arrays. Prints medians over all ranks in
microseconds: of `torch.vmap` on each rank's shards with no communication, of the same and then one 8-byte
allreduce (what any call that agrees on errors must at least do), and of `ms.vmap`; and the MPI calls of one
`ms.vmap` call.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import minisplit as ms

REPEATS, ROUNDS = 50, 40


def func(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum()


class Counting:
    """Stands before an mpi4py communicator and counts the calls of its methods."""

    def __init__(self, mpi: Any) -> None:
        self.mpi, self.calls = mpi, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.mpi, name)


def microseconds(call: Callable[[], Any]) -> float:
    """Mean time of one call in a round of `REPEATS`."""
    started = time.perf_counter()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter() - started) / REPEATS * 1e6


def main() -> None:
    torch.set_num_threads(1)
    comm = ms.MPI_WORLD
    x, y = ms.ones((100, 10), split=0), ms.ones((100, 10), split=0)
    word = np.zeros(1, dtype=np.int64)
    bare, mapped = torch.vmap(func), ms.vmap(func)

    def agreeing() -> None:
        bare(x.larray, y.larray)
        comm.agree(word)

    cases = {
        "torch.vmap on the shards": lambda: bare(x.larray, y.larray),
        "the same and an allreduce": agreeing,
        "ms.vmap": lambda: mapped(x, y),
    }
    # Rounds of all cases in turn, so that a slow spell of the machine meets each of them.
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, call in cases.items():
            comm.agree(word)
            times[name].append(microseconds(call))
    medians = {name: max(comm.mpi.allgather(statistics.median(t))) for name, t in times.items()}

    counting = Counting(comm.mpi)
    comm._duplicate = counting
    mapped(x, y)
    if comm.rank == 0:
        base = medians["torch.vmap on the shards"]
        print(f"{comm.size} ranks, {ROUNDS} rounds of {REPEATS} calls")
        for name, median in medians.items():
            print(f"{name:>26}  {median:7.1f} us  {median / base:5.2f}x")
        print(f"MPI calls of one ms.vmap call: {dict(counting.calls) or 'none'}")


if __name__ == "__main__":
    main()
