"""The elements of an array in another order along its axes."""

from __future__ import annotations

from collections.abc import Iterable

from minisplit.core.dndarray import DNDarray, as_dndarray
from minisplit.core.layout import as_index, normalise_axis
from minisplit.ops._reorder import fresh, reordered
from minisplit.ops._shape import Axes, joined_as
from minisplit.ops.joining import join_as
from minisplit.ops.manipulation import ravel


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
    return join_as(parts, x.split, joined_as([part.layout for part in parts], x.split, x.layout))
