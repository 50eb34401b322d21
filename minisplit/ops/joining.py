"""One array out of several, or of copies of one: joined, repeated, padded, broadcast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.dndarray import DNDarray, as_dndarray
from minisplit.core.gradients import shared
from minisplit.core.layout import Layout, as_index, normalise_axis, normalise_shape
from minisplit.core.movement import move_each
from minisplit.ops._align import broadcast, meet
from minisplit.ops._make import check_one_communicator, named
from minisplit.ops._reorder import fresh, owned, reordered, with_axes
from minisplit.ops._shape import Axes, Joining, joined, joined_as, resized, summed
from minisplit.ops.manipulation import ravel

Joiner = Callable[[Sequence[DNDarray]], DNDarray]


def concat(arrays: Sequence[DNDarray], /, axis: int | None = 0) -> DNDarray:
    """Return the arrays joined along `axis`; None joins their elements in row-major order, as `ravel` gives them.

    The shapes agree but for that axis; dtypes are promoted as torch does it. Local where the arrays are split
    alike along another axis, or replicated. Else collective: the result is split as one of the arrays is, the
    one for which the fewest bytes move, by one exchange. Where that is along `axis`, the counts are the default
    ones; or those of one array with what comes before and after it on the first and last rank, if thus no rank
    has more than the fullest had.

    Raises ValueError for no arrays, shapes that do not fit, and arrays on different communicators, IndexError
    for an axis out of range, TypeError for anything but DNDarrays.

    >>> import minisplit as ms
    >>> ms.concat([ms.arange(2, split=0), ms.zeros(1, split=0)]).tolist()
    [0.0, 1.0, 0.0]
    """
    arrays = _checked(arrays, "concat")
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    axis = normalise_axis(axis, arrays[0].ndim, "axis")
    first = arrays[0].shape
    for place, x in enumerate(arrays):
        if x.ndim != len(first) or x.shape[:axis] + x.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(
                f"the shapes of joined arrays differ along axis {axis} alone, but array 0 has {first} and array "
                f"{place} has {x.shape}"
            )
    itemsizes = tuple(x.larray.itemsize for x in arrays)
    return _joined(arrays, axis, joined(tuple(x.layout for x in arrays), axis, itemsizes))


def concatenate(arrays: Sequence[DNDarray], /, axis: int | None = 0) -> DNDarray:
    """Return the arrays joined along `axis`. Local or collective as `concat`, of which this is NumPy's name.

    >>> import minisplit as ms
    >>> ms.concatenate([ms.zeros((1, 3), split=1), ms.ones((2, 3), split=1)]).split
    1
    """
    return concat(arrays, axis=axis)


def stack(arrays: Sequence[DNDarray], /, axis: int = 0) -> DNDarray:
    """Return arrays of one shape joined along a new axis, which stands at `axis` of the result.

    Local where the arrays are split alike, or replicated; else collective, as `concat`. Raises ValueError for
    shapes that differ, and what `concat` does.

    >>> import minisplit as ms
    >>> ms.stack([ms.zeros(3, split=0), ms.ones(3, split=0)], axis=1).shape
    (3, 2)
    """
    arrays = _checked(arrays, "stack")
    for place, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            raise ValueError(
                f"stacked arrays have one shape, but array 0 has {arrays[0].shape}, array {place} {x.shape}"
            )
    return concat([with_axes(x, axis) for x in arrays], axis=axis)


def _stacker(
    name: str, prepare: Callable[[DNDarray], DNDarray], axis_of: Callable[[int], int], what: str
) -> Joiner:
    """Make the function that joins arrays after it has prepared each."""

    def operation(arrays: Sequence[DNDarray], /) -> DNDarray:
        prepared = [prepare(x) for x in _checked(arrays, name)]
        return concat(prepared, axis=axis_of(prepared[0].ndim))

    doc = f"""Return the arrays joined {what}. Local or collective as `concat`, and with its errors.

    >>> import minisplit as ms
    >>> ms.{name}([ms.zeros(2, split=0), ms.ones(2, split=0)]).size
    4
    """
    return named(operation, name, doc)


def _column(x: DNDarray) -> DNDarray:
    return with_axes(x, range(x.ndim, 2))


def _row(x: DNDarray) -> DNDarray:
    return with_axes(x, range(2 - x.ndim))


def _line(x: DNDarray) -> DNDarray:
    return with_axes(x, range(1 - x.ndim))


vstack = _stacker("vstack", _row, lambda ndim: 0, "along axis 0, 1-d ones as rows")
hstack = _stacker("hstack", _line, lambda ndim: min(1, ndim - 1), "along axis 1, 1-d ones along axis 0")
column_stack = _stacker("column_stack", _column, lambda ndim: 1, "along axis 1, 1-d ones as columns")


def roll(x: DNDarray, /, shift: Axes, axis: Axes | None = None) -> DNDarray:
    """Return `x` with index i of `axis` at i + shift, around the end; None rolls elements in row-major order.

    shift: an int for all axes, or one for each.

    The result has the layout of `x`. Local along axes that are not split; else collective: one exchange, and
    with axis=None two more, unless `x` is split along 0. Raises IndexError for an axis out of range, ValueError
    for other numbers of shifts and axes.

    >>> import minisplit as ms
    >>> ms.roll(ms.arange(5, split=0), 2).tolist()
    [3, 4, 0, 1, 2]
    """
    if axis is None:
        return reordered(roll(ravel(x), shift, axis=0), x.layout)
    given = tuple(axis) if isinstance(axis, Iterable) else (axis,)
    axes = tuple(normalise_axis(place, as_dndarray(x).ndim, "axis") for place in given)
    shifts = tuple(shift) if isinstance(shift, Iterable) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"roll needs one shift for each axis, got shift {shift} and axis {axis}")
    total = dict.fromkeys(axes, 0)
    for place, step in zip(axes, shifts, strict=True):
        total[place] += as_index(step, "shift")
    across = total.pop(x.split, 0) if x.split is not None else 0
    shard = x.larray.roll(tuple(total.values()), tuple(total)) if total else x.larray
    result = DNDarray(shard, x.layout, x.comm)
    if x.split is None or across % max(x.layout.extent, 1) == 0:
        return fresh(result, x)
    at = x.layout.extent - across % x.layout.extent
    around = (slice(None),) * x.split
    parts = [result[(*around, slice(at, None))], result[(*around, slice(at))]]
    return _joined(parts, x.split, joined_as([part.layout for part in parts], x.split, x.layout))


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
        raise ValueError(f"repetitions must not be negative, got {given}")
    x = with_axes(x, range(len(times) - as_dndarray(x).ndim))
    times = [1] * (x.ndim - len(times)) + times
    copies = 1
    if x.split is not None:
        copies, times[x.split] = times[x.split], 1
    layout = x.layout
    for place, n in enumerate(times):
        layout = resized(layout, place, layout.shape[place] * n, layout.counts)
    result = DNDarray(x.larray.tile(times), layout, x.comm)
    if copies == 1 or layout.split is None:
        return result
    even = Layout(
        resized(layout.with_split(None), layout.split, layout.extent * copies).shape, layout.split, layout.ranks
    )
    if 0 < copies < x.comm.size:
        return _joined([result] * copies, layout.split, joined_as([layout] * copies, layout.split, even))
    # Each rank needs nearly all of it, and some of that several times.
    whole = shared(result.to_layout(layout.with_split(None)).larray, x.comm)
    start, stop = even.span(x.comm.rank)
    index = torch.arange(start, stop, device=x.device) % max(layout.extent, 1)
    return DNDarray(whole.index_select(layout.split, index), even, x.comm)


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
    layout = resized(x.layout, axis, int(times.sum()), counts)
    shard = x.larray.repeat_interleave(torch.from_numpy(mine.copy()).to(x.device), axis)
    return DNDarray(shard, layout, x.comm)


def _times(repeats: Any, extent: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each of `extent` indices is to be repeated."""
    given = repeats.numpy() if isinstance(repeats, DNDarray) else np.asarray(repeats)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"repeats must be ints, got {repeats!r}")
    if given.ndim > 1 or given.size not in {1, extent}:
        raise ValueError(f"repeats must be one int or {extent}, as the axis is long, got the shape {given.shape}")
    if (given < 0).any():
        raise ValueError(f"repeats must not be negative, got {given.min()}")
    return np.broadcast_to(given.astype(np.int64), (extent,))


def pad(x: DNDarray, pad_width: Any, /, mode: str = "constant", constant_values: complex = 0) -> DNDarray:
    """Return `x` with `constant_values` before and after it along its axes. Local.

    pad_width: how many, as in NumPy: an int, a pair (before, after) for all axes, or one pair for each.

    Along the split axis the first rank gets those before, the last rank those after, and all others keep their
    counts. Raises ValueError for another mode, for widths that do not fit or are negative, TypeError for widths
    that are no ints.

    >>> import minisplit as ms
    >>> ms.pad(ms.ones(2, split=0), (1, 2), constant_values=7).tolist()
    [7.0, 1.0, 1.0, 7.0, 7.0]
    """
    if mode != "constant":
        raise ValueError(f"mode must be 'constant', got {mode!r}")
    x = as_dndarray(x)
    value = torch.full((), constant_values, dtype=x.dtype, device=x.device)
    shard, layout = x.larray, x.layout
    for axis, (before, after) in enumerate(_widths(pad_width, x.ndim)):
        counts, mine = list(layout.counts or ()), [before, after]
        if axis == layout.split:
            counts[0] += before
            counts[-1] += after
            mine = [before * (x.comm.rank == 0), after * (x.comm.rank == x.comm.size - 1)]
        layout = resized(layout, axis, layout.shape[axis] + before + after, counts)
        ends = [value.expand((*shard.shape[:axis], width, *shard.shape[axis + 1 :])) for width in mine]
        shard = torch.cat([ends[0], shard, ends[1]], axis)
    return fresh(DNDarray(shard, layout, x.comm), x)


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    given = np.asarray(pad_width)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"pad_width must be ints, got {pad_width!r}")
    if given.shape not in {(), (1,), (2,), (1, 2), (ndim, 2)} or (given < 0).any():
        raise ValueError(
            f"pad_width must be an int, (before, after), or {ndim} such pairs, none negative, got {pad_width!r}"
        )
    return [(int(before), int(after)) for before, after in np.broadcast_to(given, (ndim, 2))]


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which these shapes broadcast. Local. ValueError where they do not.

    >>> import minisplit as ms
    >>> ms.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    return broadcast([normalise_shape(shape) for shape in shapes]) if shapes else ()


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
    if broadcast([as_dndarray(x).shape, target]) != target:
        raise ValueError(
            f"an array of shape {x.shape} does not broadcast to {target}, which would have to be larger"
        )
    return _broadcast([x], target)[0]


def broadcast_arrays(*arrays: DNDarray) -> list[DNDarray]:
    """Return the arrays broadcast to one shape, and in one layout, as `minisplit.add` of them would have.

    Local or collective as that is. Raises ValueError for shapes that do not broadcast, and arrays on different
    communicators.

    >>> import minisplit as ms
    >>> x, y = ms.broadcast_arrays(ms.zeros((3, 1), split=0), ms.zeros(2))
    >>> x.shape, y.shape, y.split
    ((3, 2), (3, 2), 0)
    """
    checked = _checked(arrays, "broadcast_arrays") if arrays else []
    return _broadcast(checked, broadcast([x.shape for x in checked])) if checked else []


def meshgrid(*arrays: DNDarray, indexing: str = "xy") -> list[DNDarray]:
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
            raise ValueError(f"meshgrid needs 1-d arrays, but array {place} has the shape {x.shape}")
    places = list(range(len(arrays)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = 1, 0
    others = [[other for other in places if other != place] for place in places]
    return broadcast_arrays(*[with_axes(x, axes) for x, axes in zip(arrays, others, strict=True)])


def _checked(arrays: Any, name: str) -> list[DNDarray]:
    if isinstance(arrays, DNDarray) or not isinstance(arrays, Iterable):
        raise TypeError(f"{name} needs a sequence of DNDarrays, got {type(arrays).__name__}")
    checked = [as_dndarray(x, f"array {place}") for place, x in enumerate(arrays)]
    if not checked:
        raise ValueError(f"{name} needs at least one array, got none")
    check_one_communicator(checked)
    return checked


def _joined(arrays: Sequence[DNDarray], axis: int, joining: Joining) -> DNDarray:
    """The arrays joined along `axis`, once each is in the layout that it needs."""
    comm, shards = arrays[0].comm, [x.larray for x in arrays]
    ways = [(x.layout, need) for x, need in zip(arrays, joining.needed, strict=True)]
    moving = [place for place, (have, need) in enumerate(ways) if have != need]
    if moving:
        moved = move_each([shards[place] for place in moving], [ways[place] for place in moving], comm)
        for place, shard in zip(moving, moved, strict=True):
            shards[place] = shard
    return DNDarray(torch.cat(shards, axis), joining.result, comm)


def _broadcast(arrays: Sequence[DNDarray], shape: tuple[int, ...]) -> list[DNDarray]:
    """The arrays broadcast to `shape`, in one layout."""
    comm = arrays[0].comm
    layouts = (*(x.layout for x in arrays), Layout(shape, None, comm.size))
    meeting = meet(layouts, (*(x.larray.itemsize for x in arrays), 0))
    results = []
    for x, wanted in zip(arrays, meeting.needed, strict=False):
        shard = x.to_layout(wanted or x.layout).larray
        if (wanted or x.layout).split is None and meeting.result.split is not None:
            shard = shared(shard, comm)
        results.append(DNDarray(owned(shard.expand(meeting.result.lshape(comm.rank))), meeting.result, comm))
    return results


setattr(DNDarray, "repeat", repeat)  # noqa: B010
