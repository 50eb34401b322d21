"""The elements of an array, in row-major order, as those of an array of another shape and layout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, normalise_axes
from minisplit.ops.shape.layouts import Axes, boxes, elements, expanded, fit, flat


def reshape_to(x: DNDarray, dst: Layout) -> DNDarray:
    """Return `x` in the layout `dst` of as many elements. Collective where an element changes its rank.

    The result may share memory with `x`. Each element that changes its rank is sent once, by one exchange; but
    twice, by two, where neither of the numbers of elements before the two split axes divides the other.
    """
    src, comm = x.layout, x.comm
    if src.split is None or dst.split is None:
        whole = x._align(src.with_split(None)).larray.reshape(dst.shape)
        return DNDarray(whole, Layout(dst.shape, None, dst.ranks), comm)._align(dst)
    shard = x.larray
    if elements(src) != elements(dst):
        have, need = flat(src), flat(dst)
        if not fit(have.shape[0], need.shape[0]):
            return reshape_to(reshape_to(x, Layout((src.size,), 0, src.ranks)), dst)
        change = redistribute if have.shape == need.shape else regroup
        shard = change(shard.reshape(have.lshape(comm.rank)), have, need, comm)
    return DNDarray(shard.reshape(dst.lshape(comm.rank)), dst, comm)


def view_as(x: DNDarray, dst: Layout) -> DNDarray:
    """Return `x` in the layout `dst`, in the memory of `x`. Collective: the ranks agree on whether all can.

    Raises ValueError where elements change their rank, or a shard's strides do not allow it.
    """
    if (dst.split != x.split and None in {dst.split, x.split}) or (
        dst.split is not None and elements(x.layout) != elements(dst)
    ):
        raise ValueError(f"copy=False, but elements change their rank from {x.layout} to {dst}: leave copy out")
    with agreement(x.comm, "looking at its shard in another shape"):
        try:
            shard = x.larray.view(dst.lshape(x.comm.rank))
        except RuntimeError as error:
            raise ValueError(f"copy=False, but the shard of this rank has to be copied: {error}") from error
    return DNDarray(shard, dst, x.comm)


def insert_axes(x: DNDarray, axis: Axes) -> DNDarray:
    """`x` with axes of extent 1 at the places `axis` of the result, in the memory of `x`. Local."""
    more = len(tuple(axis)) if isinstance(axis, Iterable) else 1
    axes = normalise_axes(axis, x.ndim + more)
    shard = x.larray
    for place in sorted(axes):
        shard = shard.unsqueeze(place)
    return DNDarray(shard, expanded(x.layout, axes), x.comm)


def own_memory(shard: torch.Tensor) -> torch.Tensor:
    """`shard` in contiguous memory of its own."""
    return shard.clone(memory_format=torch.contiguous_format)


def without_aliasing(result: DNDarray, x: DNDarray) -> DNDarray:
    """`result`, in memory of its own where it has that of `x`."""
    if result.larray.untyped_storage().data_ptr() != x.larray.untyped_storage().data_ptr():
        return result
    return DNDarray(own_memory(result.larray), result.layout, result.comm)


def regroup(shard: torch.Tensor, have: Layout, need: Layout, comm: Communication) -> torch.Tensor:
    """Move a shard between two layouts that `flat` gives, of other shapes. Collective: one exchange.

    One has more elements before its split axis, by a factor, than the other. Within each of those of the other,
    a rank has one run of elements under that, and the same columns of all rows under the first. Autograd flows
    back by the reverse.
    """
    if torch.is_grad_enabled() and shard.requires_grad:
        moved: torch.Tensor = _Regroup.apply(shard, have, need, comm)  # type: ignore[no-untyped-call]
        return moved
    source = shard.detach().contiguous()
    target = source.new_empty(need.lshape(comm.rank))
    send: list[tuple[int, torch.Tensor]] = []
    recv: list[tuple[int, torch.Tensor]] = []
    for peer in range(comm.size):
        outgoing = _shared_with(peer, source, have, need, comm.rank)
        incoming = _shared_with(peer, target, need, have, comm.rank)
        if peer == comm.rank:
            for theirs, mine in zip(incoming, outgoing, strict=True):
                theirs.copy_(mine)
            continue
        send += [(peer, piece) for piece in outgoing]
        recv += [(peer, piece) for piece in incoming]
    comm.exchange(send, recv, (shard.dtype, have, "to", need))
    return target


class _Regroup(torch.autograd.Function):
    """A change of grouping, and the reverse change of its gradient."""

    @staticmethod
    def forward(ctx: Any, shard: torch.Tensor, have: Layout, need: Layout, comm: Communication) -> torch.Tensor:
        ctx.reverse = (need, have, comm)
        return regroup(shard, have, need, comm)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with ctx.reverse[2].taken_over():
            return regroup(gradients[0], *ctx.reverse), None, None, None


def _shared_with(peer: int, part: torch.Tensor, mine: Layout, other: Layout, rank: int) -> list[torch.Tensor]:
    """Views of what `rank`, whose part under `mine` is given, has in common with what `peer` has under `other`."""
    outer, period = min(mine.shape[0], other.shape[0]), min(mine.shape[1], other.shape[1])
    if mine.shape[1] > period:
        (start, stop), (first, last) = mine.span(rank), other.span(peer)
    else:
        (start, stop), (first, last) = other.span(peer), mine.span(rank)
    views = []
    for low, high, left, right in boxes(start, stop, first, last, period):
        if mine.shape[1] == period:
            rows = part.view(outer, -1, last - first)[:, low:high]
            views.append(rows[..., left - first : right - first])
        elif high - low == 1:
            views.append(part[:, None, low * period + left - start : low * period + right - start])
        else:
            rows = part[:, low * period - start : high * period - start].view(outer, high - low, period)
            views.append(rows[..., left:right])
    return views
