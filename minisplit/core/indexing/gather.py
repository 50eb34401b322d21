"""Rows that ranks ask of one another: which go where, and how they get there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from minisplit.core.collectives import all_to_all
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout

# Indices into the axes of an array, by axis; all with as many dimensions, and broadcastable.
Indices = Mapping[int, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Which rows each rank asks of each owner, every row once; a row is what one index into each axis selects.

    asked: the numbers of the rows that this rank is asked for, in order of the asking ranks.
    give: how many of them each rank asks for.
    take: how many rows this rank asks of each owner.
    inverse: for each position of this rank's indices, which of the rows it takes stands there.
    moved: how many rows go to other ranks, over all ranks; None where each rank knows only of its own.
    """

    asked: torch.Tensor
    give: list[int]
    take: list[int]
    inverse: torch.Tensor
    moved: int | None


def find_route(
    mine: Indices, whole: Indices | None, group: Layout, x: Layout, axes: Sequence[int], comm: Communication
) -> Route:
    """Find who needs which rows of an array with layout `x`.

    mine: the indices into `axes`, of which the first is the split axis, that this rank has under `group`.
    whole: those of all ranks, where every rank knows them: then there is no message. Else collective: an
        allgather of counts, and each index travels once.
    """
    numbers = row_numbers(mine, axes, x.shape, group.lshape(comm.rank))
    wanted, inverse = torch.unique(numbers, return_inverse=True)
    device = wanted.device
    row, total = math.prod(x.shape[axis] for axis in axes[1:]), math.prod(x.shape[axis] for axis in axes)
    take = _lengths(wanted, torch.from_numpy(x.offsets() * row).to(device))
    if whole is None:
        table = comm.allgather(np.array(take))
        give, moved = table[:, comm.rank].tolist(), int(table.sum() - table.trace())
        asked = all_to_all(wanted, take, give, 0, comm, ("indices split as", group, "into", x))
    else:
        moved = None
        numbers, positions = rows_of_owner(whole, group, x, axes, comm.rank)
        ends = torch.from_numpy(group.offsets()[1:].copy()).to(device)
        asking = torch.searchsorted(ends, positions[group.split or 0].contiguous(), right=True)
        asked = torch.unique(asking * total + numbers)
        give = _lengths(asked, torch.arange(comm.size + 1, device=device) * total)
        asked %= max(total, 1)
    return Route(asked, give, take, inverse, moved)


def rows_moved(index: torch.Tensor, group: Layout, x: Layout) -> int:
    """How many of the rows that an `index` into the split axis of `x` selects, all of it, are of another rank than
    the one that has their place in `group`. Local."""
    along = group.split or 0
    owners, askers = (torch.from_numpy(layout.offsets()[1:].copy()).to(index.device) for layout in (x, group))
    asking = torch.searchsorted(askers, torch.arange(group.shape[along], device=index.device), right=True)
    there = torch.searchsorted(owners, index.contiguous(), right=True)
    return int((there != asking.reshape(-1, *[1] * (group.ndim - 1 - along))).expand(group.shape).sum())


def rows_of_owner(
    whole: Indices, group: Layout, x: Layout, axes: Sequence[int], rank: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Of all rows that `whole` selects those that `rank` owns: their numbers, and where in the indices they stand.

    Places are coordinates by axis of `group`, in row-major order. Local.
    """
    # First along one axis, before the indices are combined: of indices that span a grid no rank makes all of it.
    along = group.split or 0
    start, stop = x.span(rank)
    hits = (whole[axes[0]] >= start) & (whole[axes[0]] < stop)
    for other in range(group.ndim):
        hits = hits if other == along else hits.any(other, keepdim=True)
    picks = hits.flatten().expand(group.shape[along]).nonzero()[:, 0]
    narrowed = {
        axis: index if index.shape[along] == 1 else index.index_select(along, picks)
        for axis, index in whole.items()
    }
    shape = (*group.shape[:along], len(picks), *group.shape[along + 1 :])
    numbers = row_numbers(narrowed, axes, x.shape, shape)
    row = math.prod(x.shape[axis] for axis in axes[1:])
    inside = ((numbers >= start * row) & (numbers < stop * row)).nonzero()[:, 0]
    places = list(torch.unravel_index(inside, shape)) if shape else []
    places[along] = picks[places[along]]
    return numbers[inside], tuple(places)


def row_numbers(
    indices: Indices, axes: Sequence[int], extents: Sequence[int], shape: Sequence[int]
) -> torch.Tensor:
    """The rows' numbers, row-major over `axes`, for `indices` that are broadcast to `shape` and flattened."""
    number = indices[axes[0]]
    for axis in axes[1:]:
        number = number * extents[axis] + indices[axis]
    return number.expand(tuple(shape)).reshape(-1)


def row_indices(numbers: torch.Tensor, axes: Sequence[int], extents: Sequence[int], start: int) -> Indices:
    """The indices by axis of numbered rows; those of the split axis, the first of `axes`, counted from `start`."""
    indices: dict[int, torch.Tensor] = {}
    for axis in axes[:0:-1]:
        indices[axis] = numbers % max(extents[axis], 1)
        numbers = numbers // max(extents[axis], 1)
    indices[axes[0]] = numbers - start
    return indices


def last_of_each(numbers: torch.Tensor) -> torch.Tensor:
    """The place of the last occurrence of every number, in ascending order of the numbers."""
    distinct, inverse = torch.unique(numbers, return_inverse=True)
    places = torch.arange(len(numbers), device=numbers.device)
    return places.new_empty(len(distinct)).scatter_reduce(0, inverse, places, "amax", include_self=False)


def _lengths(ascending: torch.Tensor, bounds: torch.Tensor) -> list[int]:
    """How many of the `ascending` numbers lie between each two `bounds`."""
    lengths: list[int] = torch.searchsorted(ascending, bounds).diff().tolist()
    return lengths
