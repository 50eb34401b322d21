"""Chunk sizes of `ms.vmap`: "auto" against one chunk and against sizes chosen by hand; the memory of small chunks.

    python3 dev.py run -n 2 benchmarks/vmap_chunks.py

Times are seconds of one call on the slowest rank, the least of the rounds, in which all sizes take turns. "first"
is the first call of "auto", which measures, as some more may do; "auto" are calls after those.
With `--auto` it prints only the ratio of calls with "auto" to calls without chunks, the median of pairs in turns.
With `--memory` it prints the peak of a process over the size of its output, which is 1 GiB in small chunks.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import grad, hessian
from vmap_compiled import attention, solve

import minisplit as ms

SIZES = (64, 256, 1024, 4096, 16384, 65536)
ROUNDS, WARM = 7, 3
# Of "auto" beside no chunks: calls until it has chosen, and then pairs of calls.
UNTIL_CHOSEN, PAIRS = 16, 25
SAMPLES = 80_000  # per rank

WEIGHTS = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) / 6
MATRIX = torch.randn(256, 256, generator=torch.Generator().manual_seed(1)) / 16


def polynomial(x: torch.Tensor) -> torch.Tensor:
    """Memory-bound: each operation reads and writes all of it."""
    for _ in range(8):
        x = (x * 0.5 + 1.0) * x - 0.25
    return x.sum()


def softmax_entropy(x: torch.Tensor) -> torch.Tensor:
    p = torch.softmax(x, 0)
    return -(p * torch.log(p + 1e-9)).sum()


def pair_distances(x: torch.Tensor) -> torch.Tensor:
    """All distances of 16 points: what is in between is larger than input and output."""
    points = x.reshape(16, 4)
    difference = points[:, None] - points[None]
    return (difference.square().sum(-1) + 1e-9).sqrt().sum()


def lorenz(x: torch.Tensor) -> torch.Tensor:
    """Many operations on three numbers."""
    a, b, c = x[0], x[1], x[2]
    for _ in range(50):
        a, b, c = a + 0.01 * 10 * (b - a), b + 0.01 * (a * (28 - c) - b), c + 0.01 * (a * b - 8 / 3 * c)
    return torch.stack([a, b, c])


def network(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(WEIGHTS @ torch.tanh(WEIGHTS @ x[:32])).square().sum()


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    y = x[:6]
    return (100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum()


def singular_values(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(x.reshape(8, 8))


def products(x: torch.Tensor) -> torch.Tensor:
    """Matmul-bound."""
    y = x.reshape(64, 1).expand(64, 4).reshape(256)
    return (MATRIX @ torch.relu(MATRIX @ y))[:8]


def cheap(x: torch.Tensor) -> torch.Tensor:
    """One pass over memory is all there is."""
    return x * 2 + 1


def small_products(x: torch.Tensor) -> torch.Tensor:
    y = x.reshape(8, 8)
    for _ in range(4):
        y = torch.tanh(y @ y.T)
    return y.sum()


CASES: dict[str, tuple[Callable[..., Any], int]] = {
    "polynomial": (polynomial, SAMPLES),
    "softmax entropy": (softmax_entropy, SAMPLES),
    "pair distances": (pair_distances, SAMPLES // 2),
    "Lorenz, 50 steps": (lorenz, SAMPLES // 4),
    "gradient of a network": (grad(network), SAMPLES // 2),
    "Hessian": (hessian(rosenbrock), SAMPLES // 16),
    "SVD of 8 x 8": (singular_values, SAMPLES // 10),
    "matrix products": (products, SAMPLES // 4),
    "cheap": (cheap, SAMPLES),
    "attention": (attention, SAMPLES // 2),
    "small products": (small_products, SAMPLES // 2),
    "solve of 8 x 8": (solve, SAMPLES // 4),
}


def seconds(comm: ms.Communication, call: Callable[[], Any]) -> float:
    comm.agree(np.zeros(1, dtype=np.int64))
    started = time.perf_counter()
    call()
    mine = np.array([int((time.perf_counter() - started) * 1e9)])
    return float(comm.agree(mine)[0]) / 1e9


def measure(name: str, func: Callable[..., Any], samples: int) -> None:
    comm = ms.MPI_WORLD
    x = ms.array(torch.randn(samples, 64, generator=torch.Generator().manual_seed(comm.rank)), is_split=0)
    fresh = ms.vmap(func, chunk_size="auto")
    first = seconds(comm, lambda: fresh(x))
    for _ in range(WARM):
        fresh(x)
    calls = {"None": ms.vmap(func), **{str(n): ms.vmap(func, chunk_size=n) for n in SIZES}, "auto": fresh}
    times: dict[str, list[float]] = {key: [] for key in calls}
    for _ in range(ROUNDS):
        for key, mapped in calls.items():
            times[key].append(seconds(comm, lambda mapped=mapped: mapped(x)))  # type: ignore[misc]
    least = {key: min(each) for key, each in times.items()}
    best = min(least[str(n)] for n in SIZES)
    chosen = fresh.plan(x).chunk_size
    if comm.rank == 0:
        cells = " ".join(f"{value:7.3f}" for value in (*least.values(), first))
        ratios = f"{least['auto'] / best:5.2f} {least['auto'] / least['None']:5.2f}"
        print(f"{name:>22} {cells}  {ratios}  {chosen}", flush=True)


def beside_none(name: str, func: Callable[..., Any], samples: int) -> None:
    """Print the median of the ratios of calls with "auto" to calls at once, and their quartiles."""
    comm = ms.MPI_WORLD
    x = ms.array(torch.randn(samples, 64, generator=torch.Generator().manual_seed(comm.rank)), is_split=0)
    auto, at_once = ms.vmap(func, chunk_size="auto"), ms.vmap(func)
    for _ in range(UNTIL_CHOSEN):
        auto(x)
        at_once(x)
    ratios = []
    for turn in range(PAIRS):
        first, second = (auto, at_once) if turn % 2 else (at_once, auto)
        times = {mapped: seconds(comm, lambda mapped=mapped: mapped(x)) for mapped in (first, second)}  # type: ignore[misc]
        ratios.append(times[auto] / times[at_once])
    quarter, median, three_quarters = np.quantile(ratios, (0.25, 0.5, 0.75))
    if comm.rank == 0:
        chosen = auto.plan(x).chunk_size
        print(
            f"{name:>22} {median:5.2f} ({quarter:.2f} to {three_quarters:.2f})  {chosen} of {samples}", flush=True
        )


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(chunk_size: Any) -> None:
    """What one rank's process takes beyond what it had, over its part of an output of 1 GiB."""
    comm = ms.MPI_WORLD
    rows = 2**20 // comm.size
    x = ms.array(torch.zeros(rows, 1), is_split=0)
    mapped = ms.vmap(lambda v: v + torch.arange(256.0), chunk_size=chunk_size)
    ms.vmap(lambda v: v + torch.arange(256.0))(ms.zeros((comm.size, 1), split=0))
    before = peak()
    (y,) = mapped(x)
    over = (peak() - before) / (y.larray.numel() * y.larray.itemsize)
    highest = float(comm.agree(np.array([int(over * 1000)]))[0]) / 1000
    if comm.rank == 0:
        print(f"peak over output of 1 GiB on {comm.size} ranks, chunk_size={chunk_size}: {highest:.2f}")


def main() -> None:
    torch.set_num_threads(1)
    comm = ms.MPI_WORLD
    if "--memory" in sys.argv:
        memory(4096 if "auto" not in sys.argv else "auto")
        return
    if "--auto" in sys.argv:
        for name, (func, samples) in CASES.items():
            beside_none(name, func, samples)
        return
    if comm.rank == 0:
        names = " ".join(f"{key:>7}" for key in ("None", *map(str, SIZES), "auto", "first"))
        print(f"{comm.size} ranks, up to {SAMPLES} samples of 64 float32 on each; the ratios are of auto")
        print(f"{'':>22} {names}  /best /None  size")
    for name, (func, samples) in CASES.items():
        measure(name, func, samples)


if __name__ == "__main__":
    main()
