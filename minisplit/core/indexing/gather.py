"""Rows that ranks ask of one another: which go where, and how they get there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

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
    numbers = numbered(mine, axes, x.shape, group.lshape(comm.rank))
    wanted, inverse = torch.unique(numbers, return_inverse=True)
    device = wanted.device
    row, total = math.prod(x.shape[axis] for axis in axes[1:]), math.prod(x.shape[axis] for axis in axes)
    take = _lengths(wanted, torch.from_numpy(x.offsets() * row).to(device))
    if whole is None:
        table = comm.allgather(np.array(take))
        give, moved = table[:, comm.rank].tolist(), int(table.sum() - table.trace())
        asked = travel(wanted, take, give, 0, comm, ("indices split as", group, "into", x))
    else:
        moved = None
        numbers, positions = owned(whole, group, x, axes, comm.rank)
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


def owned(
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
    numbers = numbered(narrowed, axes, x.shape, shape)
    row = math.prod(x.shape[axis] for axis in axes[1:])
    inside = ((numbers >= start * row) & (numbers < stop * row)).nonzero()[:, 0]
    places = list(torch.unravel_index(inside, shape)) if shape else []
    places[along] = picks[places[along]]
    return numbers[inside], tuple(places)


def numbered(indices: Indices, axes: Sequence[int], extents: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """The rows' numbers, row-major over `axes`, for `indices` that are broadcast to `shape` and flattened."""
    number = indices[axes[0]]
    for axis in axes[1:]:
        number = number * extents[axis] + indices[axis]
    return number.expand(tuple(shape)).reshape(-1)


def unnumbered(numbers: torch.Tensor, axes: Sequence[int], extents: Sequence[int], start: int) -> Indices:
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


def travel(
    blocks: torch.Tensor,
    give: list[int],
    take: list[int],
    axis: int,
    comm: Communication,
    purpose: tuple[object, ...],
) -> torch.Tensor:
    """Send `give[r]` indices of `axis` of `blocks` to each rank r and return `take[r]` from each. Collective.

    Autograd flows back by the reverse, which is collective as well.
    """
    if torch.is_grad_enabled() and blocks.requires_grad:
        travelled: torch.Tensor = _Travel.apply(blocks, give, take, axis, comm, purpose)  # type: ignore[no-untyped-call]
        return travelled
    return _travel(blocks.detach(), give, take, axis, comm, purpose)


def mirrored(shard: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """Give this rank's shard to the rank as far from the last as this one is from the first. Collective."""
    axis, ranks = layout.split or 0, layout.ranks
    counts = layout.counts or ()
    give, take = [0] * ranks, [0] * ranks
    opposite = ranks - 1 - comm.rank
    give[opposite], take[opposite] = counts[comm.rank], counts[opposite]
    return travel(shard, give, take, axis, comm, ("mirrored", layout))


def windowed(
    shard: torch.Tensor, layout: Layout, spans: Sequence[tuple[int, int]], comm: Communication
) -> torch.Tensor:
    """Return what of the split axis lies in `spans[rank]`, which may overlap the spans of others. Collective.

    One exchange, of what ranks do not have of their own; without a message where all have all.
    """
    axis, held = layout.split or 0, list(pairwise(layout.offsets().tolist()))
    mine, wanted = held[comm.rank], spans[comm.rank]
    own = _common(wanted, mine)
    kept = shard.narrow(axis, own[0] - mine[0], own[1] - own[0])
    if all(
        start >= stop or (first <= start and stop <= last)
        for (start, stop), (first, last) in zip(spans, held, strict=True)
    ):
        return kept
    pieces, give, take = [shard.narrow(axis, 0, 0)], [0] * comm.size, [0] * comm.size
    for peer in range(comm.size):
        if peer == comm.rank:
            continue
        start, stop = _common(spans[peer], mine)
        pieces.append(shard.narrow(axis, start - mine[0], stop - start))
        give[peer] = stop - start
        start, stop = _common(wanted, held[peer])
        take[peer] = stop - start
    came = travel(torch.cat(pieces, axis), give, take, axis, comm, ("spans of", layout, *spans))
    before = sum(take[: comm.rank])
    return torch.cat([came.narrow(axis, 0, before), kept, came.narrow(axis, before, sum(take) - before)], axis)


def _common(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """What two spans have in common; within `b`, also where that is nothing."""
    start = min(max(a[0], b[0]), b[1])
    return start, max(start, min(a[1], b[1]))


def _travel(
    blocks: torch.Tensor,
    give: list[int],
    take: list[int],
    axis: int,
    comm: Communication,
    purpose: tuple[object, ...],
) -> torch.Tensor:
    shape = (*blocks.shape[:axis], sum(take), *blocks.shape[axis + 1 :])
    out = torch.empty(shape, dtype=blocks.dtype, device=blocks.device)
    send, recv = torch.split(blocks, give, axis), torch.split(out, take, axis)
    recv[comm.rank].copy_(send[comm.rank])
    comm.exchange(
        [(peer, piece) for peer, piece in enumerate(send) if peer != comm.rank and piece.numel()],
        [(peer, piece) for peer, piece in enumerate(recv) if peer != comm.rank and piece.numel()],
        (blocks.dtype, *purpose),
    )
    return out


class _Travel(torch.autograd.Function):
    """An exchange of blocks, and the reverse exchange of their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: torch.Tensor,
        give: list[int],
        take: list[int],
        axis: int,
        comm: Communication,
        purpose: tuple[object, ...],
    ) -> torch.Tensor:
        ctx.reverse = (take, give, axis, comm, purpose)
        return _travel(blocks, give, take, axis, comm, purpose)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        with ctx.reverse[3].taken_over():
            return travel(gradient, *ctx.reverse), None, None, None, None, None


def spread(piece: torch.Tensor, shape: tuple[int, ...], owner: int, comm: Communication) -> torch.Tensor:
    """Return the `piece`, of `shape`, of rank `owner`; other ranks pass any tensor of its array. Collective.

    The result is replicated, and so is its gradient: that of the owner flows back, without a message. A second
    backward pass is collective.
    """
    if torch.is_grad_enabled() and piece.requires_grad:
        everywhere: torch.Tensor = _Spread.apply(piece, shape, owner, comm)  # type: ignore[no-untyped-call]
        return everywhere
    return _spread(piece.detach(), shape, owner, comm)


def _spread(piece: torch.Tensor, shape: tuple[int, ...], owner: int, comm: Communication) -> torch.Tensor:
    return comm.broadcast(piece if comm.rank == owner else piece.new_empty(shape), owner)


class _Spread(torch.autograd.Function):
    """A piece of one rank on all; its gradient is that of the owner's copy."""

    @staticmethod
    def forward(
        ctx: Any, piece: torch.Tensor, shape: tuple[int, ...], owner: int, comm: Communication
    ) -> torch.Tensor:
        ctx.own_shape, ctx.forth = piece.shape, (shape, owner, comm)
        return _spread(piece, shape, owner, comm)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Kept.apply(gradients[0], ctx.own_shape, ctx.forth), None, None, None  # type: ignore[no-untyped-call]


class _Kept(torch.autograd.Function):
    """What all ranks have, on its owner alone, and nothing elsewhere: the reverse of `_Spread`."""

    @staticmethod
    def forward(
        ctx: Any, whole: torch.Tensor, shape: tuple[int, ...], forth: tuple[tuple[int, ...], int, Communication]
    ) -> torch.Tensor:
        ctx.forth, (_, owner, comm) = forth, forth
        return whole.clone() if comm.rank == owner else whole.new_zeros(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with ctx.forth[2].taken_over():
            return spread(gradients[0], *ctx.forth), None, None
