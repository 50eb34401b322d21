"""One array out of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute_all
from minisplit.core.layout import normalise_axis
from minisplit.core.performance_warning import warn_if_large
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.apply import check_one_communicator, named
from minisplit.ops.shape.layouts import Joining, concat_layout
from minisplit.ops.shape.manipulation import ravel, with_dimensions
from minisplit.ops.shape.reshape import insert_axes

_JOINED = (
    "joined arrays go to their places in the result. Those that are split alike, along another axis than the one "
    "along which they are joined, stay where they are"
)

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
    arrays = check_arrays(arrays, "concat")
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    axis = normalise_axis(axis, arrays[0].ndim, "axis")
    first = arrays[0].shape
    for place, x in enumerate(arrays):
        if x.ndim != len(first) or x.shape[:axis] + x.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(
                f"joined arrays may differ along axis {axis} alone, but array 0 has shape {first} and array "
                f"{place} has {x.shape}"
            )
    itemsizes = tuple(x.larray.itemsize for x in arrays)
    return concat_as(arrays, axis, concat_layout(tuple(x.layout for x in arrays), axis, itemsizes))


def concatenate(arrays: Sequence[DNDarray], /, axis: int | None = 0) -> DNDarray:
    """Return the arrays joined along `axis`. Local or collective as `concat`, of which this is NumPy's name.

    >>> import minisplit as ms
    >>> ms.concatenate([ms.zeros((1, 3), split=1), ms.ones((2, 3), split=1)]).split
    1
    """
    return concat(arrays, axis=axis)


def append(x: DNDarray, values: DNDarray, /, axis: int | None = None) -> DNDarray:
    """Return `x` and after it `values`, joined along `axis`. Local or collective as `concat`, and with its errors.

    >>> import minisplit as ms
    >>> ms.append(ms.arange(2, split=0), ms.ones((1, 2), dtype=ms.arange(1).dtype)).tolist()
    [0, 1, 1, 1]
    """
    return concat([x, values], axis=axis)


def stack(arrays: Sequence[DNDarray], /, axis: int = 0) -> DNDarray:
    """Return arrays of one shape joined along a new axis, which stands at `axis` of the result.

    Local where the arrays are split alike, or replicated; else collective, as `concat`. Raises ValueError for
    shapes that differ, and what `concat` does.

    >>> import minisplit as ms
    >>> ms.stack([ms.zeros(3, split=0), ms.ones(3, split=0)], axis=1).shape
    (3, 2)
    """
    arrays = check_arrays(arrays, "stack")
    for place, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            raise ValueError(
                f"stacked arrays must have one shape, but array 0 has {arrays[0].shape}, array {place} {x.shape}"
            )
    return concat([insert_axes(x, axis) for x in arrays], axis=axis)


def _stacker(
    name: str, prepare: Callable[[DNDarray], DNDarray], axis_of: Callable[[int], int], what: str
) -> Joiner:
    """Make the function that joins arrays after it has prepared each."""

    def operation(arrays: Sequence[DNDarray], /) -> DNDarray:
        prepared = [prepare(x) for x in check_arrays(arrays, name)]
        return concat(prepared, axis=axis_of(prepared[0].ndim))

    doc = f"""Return the arrays joined {what}. Local or collective as `concat`, and with its errors.

    >>> import minisplit as ms
    >>> ms.{name}([ms.zeros(2, split=0), ms.ones(2, split=0)]).size
    4
    """
    return named(operation, name, doc)


def _column(x: DNDarray) -> DNDarray:
    return insert_axes(x, range(x.ndim, 2))


vstack = _stacker("vstack", partial(with_dimensions, ndim=2), lambda ndim: 0, "along axis 0, 1-d ones as rows")
hstack = _stacker(
    "hstack",
    partial(with_dimensions, ndim=1),
    lambda ndim: min(1, ndim - 1),
    "along axis 1, or 0 if they are 1-d",
)
dstack = _stacker("dstack", partial(with_dimensions, ndim=3), lambda ndim: 2, "along axis 2 of `atleast_3d`")
column_stack = _stacker("column_stack", _column, lambda ndim: 1, "along axis 1, 1-d ones as columns")


def check_arrays(arrays: Any, name: str) -> list[DNDarray]:
    """`arrays`, at least one, all DNDarrays on one communicator; TypeError or ValueError for others."""
    if isinstance(arrays, DNDarray) or not isinstance(arrays, Iterable):
        raise TypeError(f"{name} needs a sequence of DNDarrays, got {type(arrays).__name__}")
    checked = [as_dndarray(x, f"array {place}") for place, x in enumerate(arrays)]
    if not checked:
        raise ValueError(f"{name} needs at least one array, got none")
    check_one_communicator(checked)
    return checked


def concat_as(arrays: Sequence[DNDarray], axis: int, joining: Joining) -> DNDarray:
    """The arrays joined along `axis`, once each is in the layout that it needs."""
    comm, shards = arrays[0].comm, [x.larray for x in arrays]
    ways = [(x.layout, need) for x, need in zip(arrays, joining.needed, strict=True)]
    moving = [place for place, (have, need) in enumerate(ways) if have != need]
    if moving:
        warn_if_large(
            sum(elements_moved(*ways[place]) * shards[place].itemsize for place in moving), _JOINED, comm
        )
        moved = redistribute_all([shards[place] for place in moving], [ways[place] for place in moving], comm)
        for place, shard in zip(moving, moved, strict=True):
            shards[place] = shard
    return DNDarray(torch.cat(shards, axis), joining.result, comm)
