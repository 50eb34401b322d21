"""Rows of a benchmark: contestants that do the same thing, timed in turns, so that a slow spell meets all."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minisplit as ms

Call = Callable[[], Any]
SECONDS = 1.0  # about so long for a row
ROUND = 0.004
OURS = "minisplit"


@dataclass
class Row:
    """One thing to do. `limits` do the least that it takes, bare: the fastest of them counts."""

    group: str
    name: str
    ours: Call
    limits: dict[str, Call] = field(default_factory=dict)
    peers: dict[str, Call] = field(default_factory=dict)
    target: float | None = None  # how many times the limit


def measure(row: Row, comm: ms.Communication) -> dict[str, Any]:
    """Medians and quartiles in microseconds, of the slowest rank in each round. Collective."""
    calls = {OURS: row.ours, **row.limits, **row.peers}
    once = {name: longest(seconds(call, 1), comm) for name, call in calls.items() if settle(call)}
    repeats = {name: max(1, min(500, int(ROUND / max(t, 1e-7)))) for name, t in once.items()}
    rounds = int(max(5, min(25, SECONDS / sum(once[name] * n for name, n in repeats.items()))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        # In another order each time, alike on all ranks: a call may find in the cache what the last one has read.
        order = random.Random(turn).sample(list(calls.items()), len(calls))
        for name, call in order:
            comm.agree(np.zeros(1, dtype=np.int64))
            times[name].append(longest(seconds(call, repeats[name]), comm) * 1e6)
    quartiles = {name: statistics.quantiles(t, n=4) for name, t in times.items()}
    return {
        "group": row.group,
        "name": row.name,
        "target": row.target,
        "limits": list(row.limits),
        "us": {name: round(q[1], 2) for name, q in quartiles.items()},
        "quartiles": {name: [round(q[0], 2), round(q[2], 2)] for name, q in quartiles.items()},
    }


def settle(call: Call) -> bool:
    """Call it a few times, for caches and pages."""
    for _ in range(3):
        call()
    return True


def seconds(call: Call, repeats: int) -> float:
    """Of one call on this rank."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def longest(mine: float, comm: ms.Communication) -> float:
    return float(comm.allgather_record(np.array([int(mine * 1e9)])).max()) / 1e9
