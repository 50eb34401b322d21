"""What random numbers that no number of ranks changes cost over torch's own, side by side in one run.

    python3 dev.py run -n 1 benchmarks/random_speed.py

Prints, with torch on one thread: nanoseconds per number of `ms.random`'s functions and of torch's for the same
shard, for shards of about 10^7 numbers that are the whole of a matrix, or what rank 1 of some has of one; and
milliseconds of `ms.vmap(..., randomness="different")` and of `torch.vmap`. Times are medians of the rounds, in
which all take turns, of the time that the processor spent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import minisplit as ms
from minisplit.core.random import grids, sampling
from minisplit.core.random.philox import CallKey

ROUNDS = 9
SIZE = 10**7
SAMPLES = 100_000
CPU = torch.device("cpu")
# Global shapes and splits over some ranks, of which each holds 10^6 to 10^7 numbers; the last are narrow, where
# words are wasted whose numbers lie on other ranks.
CUTS = [
    ((4000, 2500), 0, 2), ((4000, 2500), 1, 2), ((8000, 5000), 1, 4), ((10**6, 40), 1, 4), ((4 * 10**6, 8), 1, 4),
    ((2 * 10**6, 4), 1, 4), ((10**6, 80), 1, 8), ((10**6, 640), 1, 64), ((10**6, 64), 1, 64),
]  # fmt: skip
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "rand": (sampling.uniform, torch.rand),
    "randn": (sampling.normal, torch.randn),
}


def seconds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median time of each call, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.thread_time()
            call()
            times[name].append(time.thread_time() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def show(what: str, unit: str, ours: float, torchs: float) -> None:
    print(f"{what:>52}  {ours:8.2f} {unit}  torch {torchs:8.2f} {unit}  {ours / torchs:5.2f}x")


def arrays() -> None:
    for dtype in (torch.float32, torch.float64):
        for split in (0, 1):
            shape = 4000, 2500
            calls: dict[str, Callable[[], Any]] = {}
            for name, (_, torchs) in FUNCTIONS.items():
                calls[name] = partial(getattr(ms.random, name), shape, split=split, dtype=dtype)
                calls[f"torch {name}"] = partial(torchs, shape, dtype=dtype)
            taken = seconds(calls)
            for name in FUNCTIONS:
                title = f"{name} {str(dtype)[6:]}, split {split}, {shape}"
                show(title, "ns", taken[name] / SIZE * 1e9, taken[f"torch {name}"] / SIZE * 1e9)


def integers() -> None:
    for size in (SIZE // 10, SIZE):
        taken = seconds({
            "ours": partial(ms.random.randint, 1000, size=size, split=0),
            "torch": partial(torch.randint, 1000, (size,)),
        })  # fmt: skip
        show(f"randint(1000) of {size}", "ns", taken["ours"] / size * 1e9, taken["torch"] / size * 1e9)


def shards() -> None:
    for shape, split, ranks in CUTS:
        grid = grids.shard_grid(ms.Layout(shape, split, ranks), 1, CallKey(1))
        size = grid.rows * grid.length
        for dtype in (torch.float32, torch.float64):
            for name, (ours, torchs) in FUNCTIONS.items():
                draw = partial(torchs, size, dtype=dtype)
                taken = seconds({"ours": partial(ours, grid, dtype, CPU), "torch": draw})
                title = f"{name} {str(dtype)[6:]}, split {split} of {shape} over {ranks}"
                show(title, "ns", taken["ours"] / size * 1e9, taken["torch"] / size * 1e9)


def mapped() -> None:
    def func(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(8)

    for samples in (SAMPLES, 10):
        x = torch.zeros(samples, 8)
        split = ms.array(x, split=0, comm=ms.MPI_SELF)
        bare = torch.vmap(func, randomness="different")
        ours = ms.vmap(func, randomness="different")
        taken = seconds({"ours": partial(ours, split), "torch": partial(bare, x)})
        show(f"vmap of x + randn(8), {samples} samples", "ms", taken["ours"] * 1e3, taken["torch"] * 1e3)


def main() -> None:
    torch.set_num_threads(1)
    with ms.use_comm(ms.MPI_SELF):
        arrays()
        integers()
        shards()
        mapped()


if __name__ == "__main__":
    main()
