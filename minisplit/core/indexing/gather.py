"""Rows by their numbers, to and from other ranks: which rank asks which other one for which rows.

A row is what one index into each of some axes selects. The first of these axes is the split one, where it is among
them. Rows are numbered in row-major order over these axes, so that a rank owns a range of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from minisplit.core.collectives import all_to_all
from minisplit.core.communication.protocol import Communication, Record
from minisplit.core.indexing.index_arrays import IndexArrays
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import is_large, warn_if_large

# On so many ranks a table of a number from each for each is still a small message (32 KiB), and one message takes
# less time than two.
FEW = 64
_GATHERED = (
    "an array of integers selects indices of the split axis, which come from the ranks that have them. Slices and "
    "masks leave them there, and of an array that is split along another axis nothing moves"
)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Which rows each rank asks of each owner. A rank asks for a row once, however often it has its number.

    asked: the numbers of the rows that this rank is asked for, in order of the asking ranks.
    give: how many of them each rank asks for.
    take: how many rows this rank asks of each owner.
    inverse: for each index of this rank, in row-major order, which of the rows that it takes stands there.
    """

    asked: torch.Tensor
    give: list[int]
    take: list[int]
    inverse: torch.Tensor


def find_route(arrays: IndexArrays, x: Layout, axes: Sequence[int], row_bytes: int, comm: Communication) -> Route:
    """Find which ranks need which rows of an array with layout `x`, given the indices into `axes`.

    Local where every rank has the whole index arrays. Else collective: an allgather of counts (an all-to-all and
    an allreduce on more than 64 ranks), and an exchange in which each rank sends the numbers of the rows that it
    needs to their owners. Warns if many rows are to move, of `row_bytes` each: the same on all ranks.
    """
    numbers = row_numbers(arrays.local, axes, x.shape, arrays.layout.lshape(comm.rank))
    # A row that is needed often is sent once: `inverse` then puts it to all of its places.
    needed, inverse = torch.unique(numbers, return_inverse=True)
    device = needed.device
    per_index = math.prod(x.shape[axis] for axis in axes[1:])
    take = _count_between(needed, torch.from_numpy(x.offsets() * per_index).to(device))
    if arrays.whole is None:
        give, moved = _exchange_counts(np.array(take), comm)
        asked = all_to_all(needed, take, give, 0, comm, ("indices split as", arrays.layout, "into", x))
    else:
        # The rank and the row that it needs as one number, by which they are sorted.
        rows = x.extent * per_index
        numbers, places = rows_of_rank(arrays, x, axes, comm.rank)
        asked = torch.unique(_owners(places[arrays.layout.split or 0], arrays.layout) * rows + numbers)
        give = _count_between(asked, torch.arange(comm.size + 1, device=device) * rows)
        # The modulus must not be 0, also for an array without rows, of which nobody asks for any.
        asked %= max(rows, 1)
        # It takes time to count what moves between the others, so that it is done only if it may be much.
        is_much = is_large(arrays.layout.size * row_bytes, comm)
        moved = _count_moved(arrays.whole[axes[0]], arrays.layout, x) if is_much else 0
    warn_if_large(moved * row_bytes, _GATHERED, comm)
    return Route(asked, give, take, inverse)


def rows_of_rank(
    arrays: IndexArrays, x: Layout, axes: Sequence[int], rank: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Find the rows that `rank` owns among all that the whole index arrays select. Local.

    Returns their numbers, and where the index arrays select them: coordinates by axis, in row-major order.
    """
    whole, shape = arrays.whole or {}, arrays.layout.shape
    if axes[0] != x.split or x.ranks == 1:  # the rank owns them all
        numbers = row_numbers(whole, axes, x.shape, shape)
        return numbers, torch.unravel_index(torch.arange(len(numbers), device=numbers.device), shape)
    # First by the indices of the split axis alone, along one axis of the arrays. Where arrays span a grid, as the
    # arrays of np.ix_ do, no rank then makes the whole grid.
    split = arrays.layout.split or 0
    start, stop = x.span(rank)
    hits = (whole[axes[0]] >= start) & (whole[axes[0]] < stop)
    for other in range(len(shape)):
        hits = hits if other == split else hits.any(other, keepdim=True)
    picks = hits.flatten().expand(shape[split]).nonzero()[:, 0]
    picked = {
        axis: index if index.shape[split] == 1 else index.index_select(split, picks)
        for axis, index in whole.items()
    }
    picked_shape = (*shape[:split], len(picks), *shape[split + 1 :])
    numbers = row_numbers(picked, axes, x.shape, picked_shape)
    per_index = math.prod(x.shape[axis] for axis in axes[1:])
    selected = ((numbers >= start * per_index) & (numbers < stop * per_index)).nonzero()[:, 0]
    places = list(torch.unravel_index(selected, picked_shape))
    places[split] = picks[places[split]]
    return numbers[selected], tuple(places)


def row_numbers(
    indices: Mapping[int, torch.Tensor], axes: Sequence[int], extents: Sequence[int], shape: Sequence[int]
) -> torch.Tensor:
    """Return the numbers of the rows that indices into `axes` select, once broadcast to `shape` and flattened."""
    number = indices[axes[0]]
    for axis in axes[1:]:
        number = number * extents[axis] + indices[axis]
    return number.expand(tuple(shape)).reshape(-1)


def local_rows(numbers: torch.Tensor, axes: Sequence[int], x: Layout, rank: int) -> tuple[torch.Tensor, ...]:
    """Return the indices by which `rank` finds numbered rows that it owns in its shard: one for each of `axes`."""
    indices = []
    for axis in axes[:0:-1]:
        # There are no numbers where an axis has no indices, but 0 as a modulus is an error even then.
        indices.append(numbers % max(x.shape[axis], 1))
        numbers = numbers // max(x.shape[axis], 1)
    start = x.span(rank)[0] if axes[0] == x.split else 0
    return (numbers - start, *indices[::-1])


def _exchange_counts(take: Record, comm: Communication) -> tuple[list[int], int]:
    """How many rows each rank asks of this one, and how many come from another rank in all. Collective."""
    if comm.size <= FEW:
        table = comm.allgather_record(take)
        return table[:, comm.rank].tolist(), int(table.sum() - table.trace())
    # Asked of all ranks, also where nobody is to be warned: each has its own limit for that.
    moved = comm.allreduce(torch.tensor(int(take.sum() - take[comm.rank])))
    return comm.alltoall_record(take).tolist(), int(moved)


def _count_moved(index: torch.Tensor, arrays: Layout, x: Layout) -> int:
    """Count the places in index arrays, each of which is on one rank, whose rows are on another one. Local.

    `index` is the whole array of indices into the split axis of `x`.
    """
    split = arrays.split or 0
    askers = _owners(torch.arange(arrays.shape[split], device=index.device), arrays)
    askers = askers.reshape(-1, *[1] * (arrays.ndim - 1 - split))
    return int((_owners(index, x) != askers).expand(arrays.shape).sum())


def _owners(index: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The ranks that have these indices of the split axis."""
    ends = torch.from_numpy(layout.offsets()[1:].copy()).to(index.device)
    return torch.searchsorted(ends, index.contiguous(), right=True)


def _count_between(ascending: torch.Tensor, bounds: torch.Tensor) -> list[int]:
    """Count the `ascending` numbers between each two neighbouring `bounds`."""
    counts: list[int] = torch.searchsorted(ascending, bounds).diff().tolist()
    return counts
