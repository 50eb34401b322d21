"""Larger arrays out of copies of smaller ones: repeated, laid side by side, broadcast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_index, normalise_axis, normalise_shape
from minisplit.ops.elementwise.alignment import align, broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.shape.join import check_arrays, concat_as
from minisplit.ops.shape.layouts import Axes, concat_plan, summed, with_extent
from minisplit.ops.shape.manipulation import ravel
from minisplit.ops.shape.reshape import insert_axes, own_memory


def tile(x: DNDarray, repetitions: Axes, /) -> DNDarray:
    """Return copies of `x` side by side: `repetitions[i]` of them along axis i.

    Of `x` and `repetitions` the one with fewer entries is filled up with 1 at the front. Local where there is
    one copy along the split axis; else collective, by one exchange, and the result has the default counts.
    ValueError for a negative number.

    >>> import minisplit as ms
    >>> ms.tile(ms.arange(2, split=0), (2, 2)).tolist()
    [[0, 1, 0, 1], [0, 1, 0, 1]]
    """
    given = tuple(repetitions) if isinstance(repetitions, Iterable) else (repetitions,)
    times = [as_index(n, "repetitions") for n in given]
    if any(n < 0 for n in times):
        raise ValueError(f"repetitions must not be negative, got {short_repr(given)}")
    x = insert_axes(x, range(len(times) - as_dndarray(x).ndim))
    times = [1] * (x.ndim - len(times)) + times
    split = x.split
    if split is not None and times[split] != 1:
        x, times[split] = _copies(x, times[split]), 1
    layout = x.layout
    for place, n in enumerate(times):
        layout = with_extent(layout, place, layout.shape[place] * n, layout.counts)
    return DNDarray(x.larray.tile(times), layout, x.comm)


def _copies(x: DNDarray, copies: int) -> DNDarray:
    """`x` so many times along its split axis."""
    layout, axis = x.layout, x.layout.split or 0
    even = Layout(with_extent(layout.with_split(None), axis, layout.extent * copies).shape, axis, layout.ranks)
    if copies == 0:
        return DNDarray(x.larray.narrow(axis, 0, 0), even, x.comm)
    if copies < x.comm.size:
        return concat_as([x] * copies, axis, concat_plan([layout] * copies, axis, even))
    # Each rank needs nearly all of it, and some of that several times.
    whole = all_reduce_gradient(x._align(layout.with_split(None)).larray, x.comm)
    start, stop = even.span(x.comm.rank)
    index = torch.arange(start, stop, device=x.device) % max(layout.extent, 1)
    return DNDarray(whole.index_select(axis, index), even, x.comm)


def repeat(x: DNDarray, repeats: int | Sequence[int] | DNDarray, /, axis: int | None = None) -> DNDarray:
    """Return `x` with each index of `axis` repeated; None takes the elements in row-major order, as `ravel` does.

    repeats: how often, for all or for each index: an int, or as many ints in a sequence, tensor or
        array, the same on all ranks, or in a DNDarray.

    Copies stay on the rank of the original: local, but collective where `ravel` is, and for a split DNDarray
    `repeats`, which is gathered. Raises IndexError for an axis out of range, TypeError for repeats that are no
    ints, ValueError for another number of them than indices, or negative ones.

    >>> import minisplit as ms
    >>> ms.repeat(ms.arange(3, split=0), [2, 0, 1]).tolist()
    [0, 0, 2]
    """
    x = ravel(x) if axis is None else as_dndarray(x)
    if isinstance(repeats, DNDarray):
        check_one_communicator([x, repeats])
    axis = normalise_axis(0 if axis is None else axis, x.ndim, "axis")
    times = _times(repeats, x.shape[axis])
    mine = times[x.layout.box(x.comm.rank)[axis]]
    counts = summed(x.layout, times) if axis == x.split else None
    layout = with_extent(x.layout, axis, int(times.sum()), counts)
    shard = x.larray.repeat_interleave(torch.from_numpy(mine.copy()).to(x.device), axis)
    return DNDarray(shard, layout, x.comm)


def _times(repeats: Any, extent: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each of `extent` indices is to be repeated."""
    given = repeats.numpy() if isinstance(repeats, DNDarray) else np.asarray(repeats)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"repeats must be ints, got {short_repr(repeats)}")
    if given.ndim > 1 or given.size not in {1, extent}:
        raise ValueError(f"repeats must be one int, or {extent}, as the axis is long, got shape {given.shape}")
    if (given < 0).any():
        raise ValueError(f"repeats must not be negative, got {given.min()}")
    return np.broadcast_to(given.astype(np.int64), (extent,))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which these shapes broadcast. Local. ValueError where they do not.

    >>> import minisplit as ms
    >>> ms.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    return broadcast_shape([normalise_shape(shape) for shape in shapes]) if shapes else ()


def broadcast_to(x: DNDarray, /, shape: Sequence[int]) -> DNDarray:
    """Return `x` broadcast to `shape`, as an array with all its elements in memory.

    Local, and with the counts of `x`, but where the split axis is one of extent 1 that is broadcast: then
    collective, and the result has the default counts along it. ValueError where `x` does not broadcast to that
    shape.

    >>> import minisplit as ms
    >>> ms.broadcast_to(ms.arange(2, split=0), (3, 2)).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    target = normalise_shape(shape)
    if broadcast_shape([as_dndarray(x).shape, target]) != target:
        raise ValueError(
            f"shape {x.shape} does not broadcast to {target}: each extent must be that of the target, or 1"
        )
    return _broadcast([x], target)[0]


def broadcast_arrays(*arrays: DNDarray) -> tuple[DNDarray, ...]:
    """Return the arrays broadcast to one shape, and in one layout, as `minisplit.add` of them would have.

    Local or collective as that is. Raises ValueError for shapes that do not broadcast, and arrays on different
    communicators.

    >>> import minisplit as ms
    >>> x, y = ms.broadcast_arrays(ms.zeros((3, 1), split=0), ms.zeros(2))
    >>> x.shape, y.shape, y.split
    ((3, 2), (3, 2), 0)
    """
    checked = check_arrays(arrays, "broadcast_arrays") if arrays else []
    return _broadcast(checked, broadcast_shape([x.shape for x in checked])) if checked else ()


def meshgrid(*arrays: DNDarray, indexing: str = "xy") -> tuple[DNDarray, ...]:
    """Return, for 1-d arrays of coordinates, the coordinates of each point of their grid, in as many arrays.

    indexing: "ij": axis i of the results is that of array i; "xy": the first two are swapped.

    All results have one layout, as of `broadcast_arrays`: Local where at most one array is split, and else
    collective. Raises ValueError for arrays that are not 1-d or another indexing.

    >>> import minisplit as ms
    >>> x, y = ms.meshgrid(ms.arange(3, split=0), ms.arange(2))
    >>> x.tolist(), y.split
    ([[0, 1, 2], [0, 1, 2]], 1)
    """
    if indexing not in {"xy", "ij"}:
        raise ValueError(f"indexing must be 'xy' or 'ij', got {indexing!r}")
    for place, x in enumerate(arrays):
        if as_dndarray(x, f"array {place}").ndim != 1:
            raise ValueError(f"meshgrid needs 1-d arrays, but array {place} has shape {x.shape}")
    places = list(range(len(arrays)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = 1, 0
    others = [[other for other in places if other != place] for place in places]
    return broadcast_arrays(*[insert_axes(x, axes) for x, axes in zip(arrays, others, strict=True)])


def _broadcast(arrays: Sequence[DNDarray], shape: tuple[int, ...]) -> tuple[DNDarray, ...]:
    """The arrays broadcast to `shape`, in one layout."""
    comm = arrays[0].comm
    layouts = (*(x.layout for x in arrays), Layout(shape, None, comm.size))
    meeting = align(layouts, (*(x.larray.itemsize for x in arrays), 0))
    results = []
    for x, wanted in zip(arrays, meeting.needed, strict=False):
        shard = x._align(wanted or x.layout).larray
        if (wanted or x.layout).split is None and meeting.result.split is not None:
            shard = all_reduce_gradient(shard, comm)
        results.append(DNDarray(own_memory(shard.expand(meeting.result.lshape(comm.rank))), meeting.result, comm))
    return tuple(results)
