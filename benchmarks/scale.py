"""How planning and messages grow with the number of ranks, up to 65,536, in one process; and predicted times.

    .venv/bin/python benchmarks/scale.py

First what one rank spends on planning, cold: time and memory of `plan(src, dst, rank)`; "ragged" is from 0 to 1
with counts that differ from rank to rank, before and after. Next what it spends, but for the messages, on the
splitters of a sample sort, on finding rows by a split index, on `gradient`, on `convolve` and on a reshape that
regroups rows. The other ranks are not there: what they send is made up. Then, for 2 to 16 ranks (as threads), the
calls, messages and bytes that the model has of some operations beside those that were counted. Last predicted
times on a cluster of one rank per link, by

    T = alpha * (rounds + messages) + bytes / beta

of the busiest rank, where an exchange has a message for each peer, an allreduce (agree, merge) takes
2 * ceil(log2 p) rounds, an allgather and a scan ceil(log2 p); with alpha = 2 us and beta = 12.5 GB/s (100 Gbit/s),
for arrays of 64 MiB per rank. Computing takes what it takes on one rank, and is not in it.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import minisplit as ms
from minisplit.core.indexing.gather import find_route
from minisplit.core.indexing.index_arrays import IndexArrays
from minisplit.core.transfer import plan
from minisplit.ops.reductions.extremes import ordinal
from minisplit.ops.sorting import splitters
from minisplit.ops.sorting.sample_sort import partition_by_samples
from minisplit.testing import run, traffic

RANKS = (4, 64, 1024, 16_384, 65_536)
ALPHA, BETA = 2e-6, 12.5e9
NUMBER = 100_000  # elements of a rank that are sorted
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
    uneven = [60 + rank * 7919 % 9 for rank in range(ranks)]
    uneven[-1] += ranks * 64 - sum(uneven)
    return {
        "0 to 1": (square, square.with_split(1)),
        "ragged": (square.with_counts(uneven), square.with_split(1).with_counts(uneven)),
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


class Alone(ms.Communication):
    """One rank of many, whose others have elements drawn as its own, from 0 to 1, and send nothing."""

    def __init__(self, size: int) -> None:
        super().__init__(size // 2, size)
        self.draw = np.random.default_rng(1)
        self.gathered = 0
        self.keys = np.empty(0)

    def _no(self, *args: object, **options: object) -> Any:
        raise NotImplementedError("there are no others")

    _broadcast = _broadcast_bytes = _allgather_text = _agree = _split = _free = _scan = abort = _no

    def _exchange(self, send: object, recv: object, device: object) -> None:
        pass

    def _allgather(self, record: Any) -> Any:
        self.gathered += record.nbytes * self.size
        # Others have a sample where this rank, for once, has none.
        rows = np.tile(record if len(record) > 1 else record.clip(1), (self.size, 1))
        if len(record) > 1:  # keys of samples
            keys = self.draw.random((self.size, len(record) // 3), dtype=np.float32)
            rows[:, 1::3] = ordinal(torch.from_numpy(keys)).numpy()
            self.keys = np.sort(keys.reshape(-1))
        return rows

    def _allreduce(self, total: torch.Tensor, op: object) -> None:
        self.gathered += total.nbytes
        if total.ndim:  # how many elements of all ranks are less than the samples
            total.copy_(torch.from_numpy((self.keys * float(self.size * NUMBER)).astype(np.int64)))

    def _alltoall(self, record: Any) -> Any:
        self.gathered += record.nbytes
        return record


def per_call(ranks: int) -> dict[str, str]:
    """By operation the time of one rank, and the bytes that it gathers of all."""
    comm = Alone(ranks)
    values = torch.from_numpy(np.sort(comm.draw.random(NUMBER, dtype=np.float32)))

    def keys_at(places: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(places), ordinal(values[places]), places], 1)

    line = ms.DNDarray(torch.rand(16), ms.Layout((16 * ranks,), 0, ranks), comm)
    kernel = ms.DNDarray(torch.rand(5), ms.Layout((5,), None, ranks), comm)
    wide = ms.DNDarray(torch.rand(4, 64), ms.Layout((4, 64 * ranks), 1, ranks), comm)
    number = torch.tensor([3 * ranks])
    index = IndexArrays(ms.Layout((ranks,), 0, ranks), {0: number}, None)
    calls: dict[str, Callable[[], object]] = {
        "splitters": lambda: partition_by_samples(NUMBER, keys_at, 0, values.device, comm),
        "x[i]": lambda: find_route(index, line.layout, [0], 4, comm),
        "gradient": lambda: ms.gradient(line),
        "convolve": lambda: ms.convolve(line, kernel, mode="same"),
        "reshape": lambda: ms.reshape(wide, (2, -1)),
    }
    found = {}
    for name, call in calls.items():
        times = []
        for _ in range(3):
            comm.gathered, started = 0, time.perf_counter()
            # As many rounds as are usual. Samples that are made up do not lie where those of a second round do.
            with patch.object(splitters, "ROUNDS", 2):
                call()
            times.append(time.perf_counter() - started)
        found[name] = f"{min(times) * 1e3:7.1f} ms {comm.gathered / 2**20:8.1f} MiB"
    return found


@dataclass(frozen=True)
class Cost:
    """What the busiest rank does: the collective calls by kind, and what its exchanges send."""

    calls: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    size: int = 0

    def __add__(self, other: Cost) -> Cost:
        kinds = {**self.calls, **other.calls}
        calls = {kind: self.calls.get(kind, 0) + other.calls.get(kind, 0) for kind in kinds}
        return Cost(calls, self.messages + other.messages, self.size + other.size)

    def seconds(self, ranks: int) -> float:
        depth = math.ceil(math.log2(ranks))
        rounds = {
            "allreduce": 2 * depth,
            "agree": 2 * depth,
            "merge": 2 * depth,
            "allgather": depth,
            "scan": depth,
        }
        latency = sum(rounds.get(kind, 0) * times for kind, times in self.calls.items())
        return ALPHA * (latency + self.messages) + self.size / BETA


def of_move(src: ms.Layout, dst: ms.Layout, chosen: Iterable[int], itemsize: int = 4) -> Cost:
    """By the plans of some ranks."""
    plans = [plan(src, dst, rank) for rank in chosen]
    most = max(way.elements_sent for way in plans) * itemsize
    return Cost({"exchange": 1} if most else {}, max(way.messages_sent for way in plans), most)


Arguments = Callable[[], tuple[ms.DNDarray, ...]]


def operations(
    n: int, ranks: int, some: Iterable[int]
) -> dict[str, tuple[Arguments, Callable[..., object], Cost]]:
    """Calls on arrays of n rows of n for each rank, and what the model says that they cost."""
    rows = ms.Layout((n * ranks, n * 2), 0, ranks)
    far = rows.with_counts([2 * n * (rank % 2 == 0) for rank in range(ranks)])
    some = list(some)

    def arrays(*layouts: ms.Layout) -> Arguments:
        return lambda: tuple(ms.zeros(each.shape, split=each.split).to_layout(each) for each in layouts)

    def one(kind: str) -> Cost:
        return Cost({kind: 1})

    mapped = ms.vmap(lambda x, y: (x * y).sum())
    home = of_move(far, rows, some)
    whole = of_move(rows, rows.with_split(None), some)
    weights = ms.Layout((2 * n, 3), None, ranks)
    return {
        "vmap(f)(a, b)": (arrays(rows, rows), mapped, one("agree")),
        "vmap(f)(a, b), b on every other rank": (arrays(rows, far), mapped, home + one("agree")),
        "a + b": (arrays(rows, rows), lambda x, y: x + y, Cost()),
        "a + b, b on every other rank": (arrays(rows, far), lambda x, y: x + y, home),
        "a.sum()": (arrays(rows), lambda x: x.sum(), one("allreduce")),
        "a.sum(axis=1)": (arrays(rows), lambda x: x.sum(1), Cost()),
        "a.var()": (arrays(rows), lambda x: x.var(), one("merge")),
        "a.argmax()": (arrays(rows), lambda x: x.argmax(), one("merge")),
        "a.cumsum(0)": (arrays(rows), lambda x: x.cumsum(0), one("scan")),
        "a[:, ::2]": (arrays(rows), lambda x: x[:, ::2], Cost()),
        "a @ w, w replicated": (arrays(rows, weights), lambda x, w: x @ w, Cost()),
        "balance()": (arrays(far), lambda x: x.balance(), home),
        "resplit(1)": (arrays(rows), lambda x: x.resplit(1), of_move(rows, rows.with_split(1), some)),
        "resplit(None)": (arrays(rows), lambda x: x.resplit(None), whole),
    }


def counted(ranks: int) -> dict[str, tuple[Cost, Cost]]:
    """Of each operation what the model says of the busiest rank, and what was counted."""

    def body() -> list[Cost]:
        found = []
        for make, call, _ in operations(6, ranks, [0]).values():
            given = make()
            with traffic() as seen:
                call(*given)
            found.append(Cost(dict(seen.calls), seen.messages_sent, seen.bytes_sent))
        return found

    of_ranks = run(body, ranks=ranks)
    result = {}
    for place, (name, (_, _, cost)) in enumerate(operations(6, ranks, range(ranks)).items()):
        each = [costs[place] for costs in of_ranks]
        seen = Cost(each[0].calls, max(one.messages for one in each), max(one.size for one in each))
        result[name] = cost, seen
    return result


def shown(cost: Cost) -> str:
    kinds = " ".join(cost.calls) or "nothing"
    return f"{kinds}, {cost.messages} messages, {cost.size} bytes"


def main() -> None:
    torch.set_num_threads(1)
    print("planning, one rank, cold: time, peak memory")
    for name in ways(4):
        print(f"{name:>10}", *[f"{ranks:>7}: {planning(ranks, name)}" for ranks in RANKS], sep="\n    ")
    print("calls, one rank, without messages: time, bytes gathered")
    for ranks in RANKS[1:]:
        print(f"{ranks:>10}", *[f"{name:>10}: {text}" for name, text in per_call(ranks).items()], sep="\n    ")
    for ranks in (2, 4, 8, 16):
        found = counted(ranks)
        wrong = {name: pair for name, pair in found.items() if pair[0] != pair[1]}
        print(
            f"{ranks} ranks: of {len(found)} operations the model and what was counted differ in {wrong or 'none'}"
        )
    print("on 16 ranks, the busiest rank")
    for name, (cost, _) in found.items():
        print(f"{name:>40}: {shown(cost)}")
    print("predicted, 64 MiB per rank, alpha 2 us, beta 12.5 GB/s: microseconds on so many ranks")
    tables = {ranks: operations(2896, ranks, {0, 1, ranks // 2, ranks - 1}) for ranks in RANKS[:4]}
    print(f"{'':>40}", *[f"{ranks:>12}" for ranks in tables])
    for name in found:
        print(f"{name:>40}", *[f"{table[name][2].seconds(ranks) * 1e6:12,.0f}" for ranks, table in tables.items()])


if __name__ == "__main__":
    main()
