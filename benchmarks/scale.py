"""How planning and messages grow with the number of ranks, up to 65,536, in one process; and predicted times.

    .venv/bin/python benchmarks/scale.py

First what one rank spends on planning, cold: time and memory of `plan(src, dst, rank)`. Then, for 2 to 16 ranks
(as threads), bytes that the plans predict beside those that were counted. Last predicted times on a cluster of one
rank per link, by

    T = alpha * messages + bytes / beta        of the busiest rank, all its messages in flight at once
    T = 2 * ceil(log2 p) * alpha + 2 * bytes * (p - 1) / p / beta      of an allreduce

with alpha = 2 us and beta = 12.5 GB/s (100 Gbit/s), for arrays of 64 MiB per rank.
"""

from __future__ import annotations

import math
import time
import tracemalloc

import torch

import minisplit as ms
from minisplit.core.transfer import plan
from minisplit.testing import run, traffic

RANKS = (4, 64, 1024, 16_384, 65_536)
ALPHA, BETA = 2e-6, 12.5e9
ROWS = 4096  # per rank, of 4096 float32: 64 MiB


def skewed(n: int, ranks: int) -> ms.Layout:
    """Every other rank has twice what the next one has."""
    share = n // (3 * ranks // 2)
    counts = [share * (2 - rank % 2) for rank in range(ranks)]
    counts[-1] += n - sum(counts)
    return ms.Layout((n, 4096), 0, ranks, tuple(counts))


def ways(ranks: int) -> dict[str, tuple[ms.Layout, ms.Layout]]:
    shape = (ROWS * ranks, 4096)
    rows = ms.Layout(shape, 0, ranks)
    square = ms.Layout((ranks * 64, ranks * 64), 0, ranks)
    return {
        "0 to 1": (square, square.with_split(1)),
        "rebalance": (skewed(shape[0], ranks), rows),
        "gather": (rows, rows.with_split(None)),
    }


def planning(ranks: int, name: str) -> str:
    src, dst = ways(ranks)[name]
    plan.cache_clear()
    started = time.perf_counter()
    plan(src, dst, ranks // 2)
    first = time.perf_counter() - started
    plan.cache_clear()
    tracemalloc.start()
    plan(src, dst, ranks // 2)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"{first * 1e3:7.2f} ms {memory / 1024:8.0f} KiB"


def messages_of(src: ms.Layout, dst: ms.Layout, rank: int, itemsize: int) -> tuple[int, int]:
    """How many messages and bytes one rank sends to others."""
    way = plan(src, dst, rank)
    return sum(peer != rank for peer, _, _ in way.send), way.elements_sent * itemsize


def counted(ranks: int) -> list[tuple[int, int]]:
    """Predicted and counted bytes of all ranks together, for moves of a small array."""
    n = 240
    rows = ms.Layout((n, n), 0, ranks)
    moves = [(rows, rows.with_split(1)), (skewed(n, ranks).balanced(), rows), (rows, rows.with_split(None))]
    results = []
    for src, dst in [(s, d) for s, d in moves if s.shape == d.shape]:

        def body(src: ms.Layout = src, dst: ms.Layout = dst) -> int:
            x = ms.zeros(src.shape).to_layout(src)
            with traffic() as seen:
                x.to_layout(dst)
            return seen.bytes_sent

        predicted = sum(messages_of(src, dst, rank, 4)[1] for rank in range(ranks))
        results.append((predicted, sum(run(body, ranks=ranks))))
    return results


def predicted(ranks: int, name: str) -> float:
    src, dst = ways(ranks)[name]
    middle = [messages_of(src, dst, rank, 4) for rank in {0, ranks // 2, ranks - 1}]
    return max(ALPHA * messages + size / BETA for messages, size in middle)


def main() -> None:
    torch.set_num_threads(1)
    print("planning, one rank, cold: time, peak memory")
    for name in ways(4):
        print(f"{name:>10}", *[f"{ranks:>7}: {planning(ranks, name)}" for ranks in RANKS], sep="\n    ")
    print("bytes of a move: predicted, counted")
    for ranks in (2, 4, 8, 16):
        print(f"{ranks:>4}", counted(ranks))
    print("predicted seconds, 64 MiB per rank, alpha 2 us, beta 12.5 GB/s")
    for ranks in RANKS[:4]:
        moves = {name: f"{predicted(ranks, name):.4f}" for name in ("rebalance", "gather")}
        depth = math.ceil(math.log2(ranks))
        print(f"{ranks:>7}", moves, f"allreduce of 97 integers (vmap): {2 * depth * ALPHA * 1e6:.0f} us")


if __name__ == "__main__":
    main()
