"""Sample sort: which of the ranks' sorted elements go to which rank, so that all get about as many, and how.

Regular sampling, after Li, Lu, Schaeffer, Shillington, Wong and Shi, "On the versatility of parallel sorting by
regular sampling" (1993). Elements are compared by keys of three int64, of which the last tells equals apart: so
however often a value occurs, ranks share it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.collectives import all_to_all
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.reductions.extremes import ordinal

# From places in this rank's sorted elements the keys of what stands there, as rows of three int64.
KeyAt = Callable[[torch.Tensor], torch.Tensor]
Integers = NDArray[np.int64]

# With s samples from each rank no rank gets more than its share and one s-th of all elements. As many as ranks
# makes that twice its share, the bound of the paper; for few ranks more are cheap.
_SAMPLES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Deal:
    """How many elements this rank gives to and takes from each rank, and how many each rank has in the end."""

    give: list[int]
    take: list[int]
    counts: tuple[int, ...]
    comm: Communication

    def carry(self, elements: torch.Tensor) -> torch.Tensor:
        """Send one tensor of this rank's elements, and return what comes, in order of the ranks. Collective."""
        return all_to_all(elements, self.give, self.take, 0, self.comm, ("sorted parts", self.counts))

    def back(self, elements: torch.Tensor) -> torch.Tensor:
        """Send back something for each element that came, in the order in which they came. Collective."""
        return all_to_all(elements, self.take, self.give, 0, self.comm, ("back from", self.counts))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """This rank's part of rows that were sorted, one after the other: their elements and, where asked for, ids.

    The id of an element is its number in the unsorted rows, counted row by row.
    """

    values: torch.Tensor
    ids: torch.Tensor
    layout: Layout


def sample_sort(
    rows: torch.Tensor,
    line: Layout,
    comm: Communication,
    descending: bool = False,
    keep: int | None = None,
    numbered: bool = False,
) -> Run:
    """Sort each row of an array of two dimensions that is split along the second, or its first `keep` elements.

    Collective: two small allgathers and an exchange of the elements; one of ids too, if `numbered`, with `keep`,
    or for more than one row. Gradients flow back to the elements.
    """
    number, extent = rows.shape[0], line.extent
    numbered = numbered or number > 1 or keep is not None
    keep = extent if keep is None else keep
    values, places = leading(rows, keep, descending)
    first = torch.arange(number, device=rows.device)[:, None] * extent + line.span(comm.rank)[0]
    ids, values = (places + first).flatten(), values.flatten()
    still = values.detach()

    def key_at(places: torch.Tensor) -> torch.Tensor:
        keys = ordinal(still[places])
        return torch.stack([ids[places] // extent, ~keys if descending else keys, ids[places]], -1)

    way = deal(len(values), key_at, rows.device, comm)
    # What comes is in order of the ranks, so that equals stay in theirs.
    values, order = torch.sort(way.carry(values), descending=descending, stable=True)
    if numbered:
        ids = way.carry(ids.to(torch.int32 if line.size < 2**31 else torch.int64))[order]
    if number > 1:
        by_row = torch.sort(ids // max(extent, 1), stable=True).indices
        values, ids = values[by_row], ids[by_row]
    held = sum(min(keep, count) for count in line.counts or ())
    flat = Layout((number * held,), 0, comm.size, way.counts)
    run = Run(values, ids, flat)
    return _beginnings(run, held, keep, comm.rank) if flat.size and keep < held else run


def leading(rows: torch.Tensor, keep: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `keep` elements along the last axis in order, and their places; of equals the first. Local."""
    if 0 < keep <= rows.shape[-1] // 4 and rows.dtype is not torch.bool:
        least, places = torch.topk(rows, keep, largest=descending)
        least = least[..., -1:]
        is_among = (rows >= least) | rows.isnan() if descending else rows <= least
        # Where others equal the last, it is not said which of them torch has found.
        if (is_among.sum(-1) == keep).all():
            places = places.sort(-1).values
            values, order = torch.sort(rows.gather(-1, places), descending=descending, stable=True)
            return values, places.gather(-1, order)
    values, places = torch.sort(rows, descending=descending, stable=True)
    return (values, places) if keep >= rows.shape[-1] else (values[..., :keep].clone(), places[..., :keep].clone())


def _beginnings(run: Run, held: int, keep: int, rank: int) -> Run:
    """The first `keep` of the `held` elements of each row. Local: all know who has how many."""
    bounds = run.layout.offsets()
    kept = np.diff(bounds // held * keep + np.minimum(bounds % held, keep)).tolist()
    places = torch.arange(*run.layout.span(rank), device=run.values.device)
    mine = (places % held < keep).nonzero()[:, 0]
    return Run(run.values[mine], run.ids[mine], Layout((sum(kept),), 0, run.layout.ranks, tuple(kept)))


def deal(number: int, key_at: KeyAt, device: torch.device, comm: Communication) -> Deal:
    """Find out where this rank's elements, a `number` of them in order, go. Collective: two small allgathers."""
    sampled = max(comm.size, _SAMPLES)
    places = (2 * torch.arange(sampled, device=device) + 1) * number // (2 * sampled)
    samples = key_at(places) if number else torch.zeros((sampled, 3), dtype=torch.int64)
    records = comm.allgather(np.concatenate([[number], samples.flatten().cpu().numpy()]))
    pivots = torch.from_numpy(pivots_of(records[:, 0], records[:, 1:])).to(device)
    bounds = [0, *_places(number, key_at, pivots).tolist(), number]
    give = np.diff(bounds)
    table = comm.allgather(give)
    return Deal(give.tolist(), table[:, comm.rank].tolist(), tuple(table.sum(0).tolist()), comm)


def pivots_of(numbers: Integers, samples: Integers) -> Any:
    """The keys at which the ranks' elements are cut, one less than ranks, from a row of sampled keys per rank.

    Each sample stands for as many elements as it was taken from: `numbers` of them on each rank.

    >>> keys = [[0, 1, 0, 0, 3, 0], [0, 2, 0, 0, 4, 0]]
    >>> pivots_of(np.array([10, 10]), np.array(keys)).tolist()
    [[0, 3, 0]]
    """
    size, keys = len(numbers), samples.reshape(-1, 3)
    order = np.lexsort(keys.T[::-1])
    ends = np.cumsum(np.repeat(numbers, len(keys) // size)[order])
    picks = np.searchsorted(ends, ends[-1] * np.arange(1, size) // size, side="right")
    return keys[order][picks.clip(max=len(keys) - 1)]


def _places(number: int, key_at: KeyAt, pivots: torch.Tensor) -> torch.Tensor:
    """How many of the elements come before each pivot: binary searches, side by side."""
    low = torch.zeros(len(pivots), dtype=torch.int64, device=pivots.device)
    high = torch.full_like(low, number)
    for _ in range(number.bit_length()):
        middle = (low + high) // 2
        is_before = (middle < high) & _less(key_at(middle.clamp(max=number - 1)), pivots)
        low, high = torch.where(is_before, middle + 1, low), torch.where(is_before, high, middle)
    return low


def _less(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    first, second, third = (a < b).unbind(-1)
    same, same_too, _ = (a == b).unbind(-1)
    return first | (same & (second | (same_too & third)))
