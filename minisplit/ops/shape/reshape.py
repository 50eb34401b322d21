"""`reshape`: the elements of an array, in row-major order, in another shape and layout."""

from __future__ import annotations

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import linear, redistribute
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_if_large
from minisplit.core.pytorch.transforms import unwrap
from minisplit.ops.shape.layouts import (
    Axes,
    canonical_layout,
    column_boxes,
    elements_reshaped,
    infer_shape,
    merge_axes,
    needs_one_exchange,
    reshape_layout,
)

_LARGE_MOVE = (
    "in the new shape ranks have other elements than in the old one. Where x is split along axis 0 most of them "
    "stay where they are"
)


def reshape(x: DNDarray, /, shape: Axes, *, copy: bool | None = None) -> DNDarray:
    """Return the elements of `x`, in row-major order, in another shape.

    The result is split along its axis that has as many elements before it as the split axis of `x` has (for split
    0 its first axis longer than 1), but evenly along its longest axis if it has no such axis or that one would
    overload a rank.

    Parameters
    ----------
    x : DNDarray
        The array.
    shape : int or sequence of int
        The shape. One extent may be -1: it is computed from the others.
    copy : bool, optional
        Whether the result gets new memory. By default and for True it does. With False it shares the memory of
        `x`, on all ranks or none.

    Returns
    -------
    DNDarray
        The array. See above for where it is split.

    Raises
    ------
    ValueError
        If the shape does not fit. With `copy=False` also if elements change their rank, or a shard cannot be
        viewed in that shape.
    TypeError
        If an extent is not an int.

    Communication
    -------------
    Local if each rank keeps its elements: if only axes before the split axis are merged or divided with each
    other, and axes from the split axis on with each other. Otherwise collective: one exchange of the elements that
    change their rank. There are two exchanges if neither of the numbers of elements before the two split axes
    divides the other. `copy=False` takes an agreement.

    Notes
    -----
    The ranks' bounds go to the nearest whole index of the result's split axis, so that the elements in between go
    to neighbours. A rank is overloaded if it would get more than 1.25 times as many elements as the fullest rank
    of `x`, and more than default counts would give it. If one rank has all of `x`, it keeps all. Of the axes that
    have an index for each rank, one to which a single exchange leads counts as longer.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(24, split=0).reshape((4, 6))
    >>> x.shape, x.split, ms.reshape(x, (2, -1, 3)).shape
    ((4, 6), 0, (2, 4, 3))
    """
    layout = reshape_layout(as_dndarray(x).layout, infer_shape(shape, x.size))
    if copy is False:
        return _view_as(x, layout)
    warn_if_large(elements_reshaped(x.layout, layout) * x.larray.itemsize, _LARGE_MOVE, x.comm)
    return without_aliasing(reshape_to(x, layout), x)


def ravel(x: DNDarray, /) -> DNDarray:
    """Return the elements of `x`, in row-major order, as a 1-d array.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The elements, split if `x` is.

    Communication
    -------------
    Local if `x` is split along axis 0, or replicated. Otherwise collective: one exchange, as `reshape`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ravel(ms.zeros((2, 3), split=0)).shape
    (6,)
    """
    return reshape(x, -1)


def flatten(x: DNDarray, /) -> DNDarray:
    """Return the elements of `x`, in row-major order, as a 1-d array. The same as `ravel`.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The elements, split if `x` is.

    Communication
    -------------
    Local if `x` is split along axis 0, or replicated. Otherwise collective: one exchange, as `reshape`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.flatten(ms.zeros((2, 3), split=0)).shape
    (6,)
    """
    return reshape(x, -1)


def reshape_to(x: DNDarray, dst: Layout) -> DNDarray:
    """Return `x` in the layout `dst` of as many elements. Collective where an element changes its rank.

    The result may share memory with `x`. Each element that changes its rank is sent once, by one exchange; but
    twice, by two, where neither of the numbers of elements before the two split axes divides the other.
    """
    src, comm = x.layout, x.comm
    if src.split is None or dst.split is None:
        # Every rank has all elements before or after: a gather or a cut, and a local reshape.
        whole = x._align(src.with_split(None)).larray.reshape(dst.shape)
        return DNDarray(whole, Layout(dst.shape, None, dst.ranks), comm)._align(dst)
    shard = x.larray
    # Where each rank keeps its elements its shard has them in order already, and a view does.
    if canonical_layout(src) != canonical_layout(dst):
        before, after = merge_axes(src), merge_axes(dst)
        if not needs_one_exchange(before.shape[0], after.shape[0]):
            # As a row, before which there is 1 element, which divides both. To send each element at once to its
            # rank would need an index for each element: that took 100 times as long.
            return reshape_to(reshape_to(x, Layout((src.size,), 0, src.ranks)), dst)
        shard = shard.reshape(before.lshape(comm.rank))
        if before.shape == after.shape:
            shard = redistribute(shard, before, after, comm)
        else:
            shard = _regroup(shard, before, after, comm)
    return DNDarray(shard.reshape(dst.lshape(comm.rank)), dst, comm)


def _view_as(x: DNDarray, dst: Layout) -> DNDarray:
    """Return `x` in the layout `dst`, in the memory of `x`. Collective: the ranks agree on whether all can.

    Raises ValueError where elements change their rank, or a shard's strides do not allow it.
    """
    if (dst.split != x.split and None in {dst.split, x.split}) or (
        dst.split is not None and canonical_layout(x.layout) != canonical_layout(dst)
    ):
        raise ValueError(f"copy=False, but elements change their rank from {x.layout} to {dst}: leave copy out")
    # Strides are a rank's own: one alone may fail.
    with agreement(x.comm, "looking at its shard in another shape"):
        try:
            shard = x.larray.view(dst.lshape(x.comm.rank))
        except RuntimeError as error:
            raise ValueError(f"copy=False, but the shard of this rank has to be copied: {error}") from error
    return DNDarray(shard, dst, x.comm)


def contiguous_clone(shard: torch.Tensor) -> torch.Tensor:
    """`shard` in contiguous memory of its own."""
    return shard.clone(memory_format=torch.contiguous_format)


def without_aliasing(result: DNDarray, x: DNDarray) -> DNDarray:
    """`result`, in memory of its own where it has that of `x`."""
    # Of the storage, as views of one tensor may begin at different addresses.
    if unwrap(result.larray).untyped_storage().data_ptr() != unwrap(x.larray).untyped_storage().data_ptr():
        return result
    return DNDarray(contiguous_clone(result.larray), result.layout, result.comm)


def _regroup(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    """Move an array between two layouts that `merge_axes` makes of different shapes. Collective: one exchange.

    In one of them rows are longer, by a factor, than in the other. There a rank has a run of each long row, and in
    the other it has columns of all short rows. What two ranks have in common is where runs and columns meet: at
    most three boxes in each long row, see `column_boxes`.
    """

    def exchange(source: torch.Tensor) -> torch.Tensor:
        source = source.contiguous()
        target = source.new_empty((*dst.lshape(comm.rank), *source.shape[2:]))
        send: list[tuple[int, torch.Tensor]] = []
        recv: list[tuple[int, torch.Tensor]] = []
        for peer in _peers(src, comm.rank, dst):
            send += [(peer, piece) for piece in _overlaps(source, src, comm.rank, dst, peer)]
        for peer in _peers(dst, comm.rank, src):
            recv += [(peer, piece) for piece in _overlaps(target, dst, comm.rank, src, peer)]
        own, to = ([piece for peer, piece in pieces if peer == comm.rank] for pieces in (send, recv))
        for piece, place in zip(own, to, strict=True):
            place.copy_(piece)
        send, recv = ([one for one in pieces if one[0] != comm.rank] for pieces in (send, recv))
        comm.exchange(send, recv, (source.dtype, src, "to", dst), source.device)
        return target

    return linear(shard, comm, exchange, lambda gradient: _regroup(gradient, dst, src, comm))


def _peers(own: Layout, rank: int, other: Layout) -> list[int]:
    """The ranks whose shards under `other` have something in common with that of `rank` under `own`."""
    bounds, period = other.offsets(), min(own.shape[1], other.shape[1])
    run, columns = np.array(own.span(rank))[:, None], np.stack([bounds[:-1], bounds[1:]])
    if own.shape[1] == period:
        run, columns = columns, run
    (start, stop), (first, last) = run, columns
    # A run, moved to the first short row, meets columns there, or those of the next short row where it is longer.
    begin = start % period
    end = begin + stop - start
    meets = [np.maximum(begin, first + more) < np.minimum(end, last + more) for more in (0, period)]
    peers: list[int] = np.flatnonzero(meets[0] | meets[1]).tolist()
    return peers


def _overlaps(shard: torch.Tensor, own: Layout, rank: int, other: Layout, peer: int) -> list[torch.Tensor]:
    """Views of what the shard of `rank` under `own` has in common with that of `peer` under `other`."""
    outer, period = min(own.shape[0], other.shape[0]), min(own.shape[1], other.shape[1])
    more = shard.shape[2:]  # of a batch, see `minisplit.core.collectives`
    # A rank has the run from start to stop of each long row, and the columns from first to last of short ones.
    if own.shape[1] > period:
        (start, stop), (first, last) = own.span(rank), other.span(peer)
    else:
        (start, stop), (first, last) = other.span(peer), own.span(rank)
    views = []
    for low, high, left, right in column_boxes(start, stop, first, last, period):
        # Pieces on both sides have the axes (long rows, short rows, columns), and their elements in the same
        # order.
        if own.shape[1] == period:
            rows = shard.view(outer, shard.shape[0] // outer, last - first, *more)[:, low:high]
            views.append(rows[:, :, left - first : right - first])
        elif high - low == 1:
            views.append(shard[:, None, low * period + left - start : low * period + right - start])
        else:
            rows = shard[:, low * period - start : high * period - start].view(outer, high - low, period, *more)
            views.append(rows[:, :, left:right])
    return views
