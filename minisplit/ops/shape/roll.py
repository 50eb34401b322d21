"""The elements of an array in another order along its axes."""

from __future__ import annotations

from collections.abc import Iterable

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import as_index, normalise_axes, normalise_axis
from minisplit.ops.shape.join import concat_as
from minisplit.ops.shape.layouts import Axes, concat_plan
from minisplit.ops.shape.manipulation import flip, permute_dims, ravel
from minisplit.ops.shape.reshape import reshape_to, without_aliasing


def flipud(x: DNDarray, /) -> DNDarray:
    """Return `x` run through backwards along axis 0. Local or collective as `flip`, and with its errors.

    >>> import minisplit as ms
    >>> ms.flipud(ms.arange(3, split=0)).tolist()
    [2, 1, 0]
    """
    return flip(x, 0)


def fliplr(x: DNDarray, /) -> DNDarray:
    """Return `x` run through backwards along axis 1. Local or collective as `flip`, and with its errors.

    >>> import minisplit as ms
    >>> ms.fliplr(ms.arange(4, split=0).reshape((2, 2))).tolist()
    [[1, 0], [3, 2]]
    """
    return flip(x, 1)


def rot90(x: DNDarray, /, k: int = 1, axes: Axes = (0, 1)) -> DNDarray:
    """Return `x` turned `k` times by 90 degrees, from the first of two axes to the second.

    Local or collective as `flip` of the axes that are run through backwards. Raises IndexError for an axis out of
    range, ValueError unless there are two.

    >>> import minisplit as ms
    >>> ms.rot90(ms.arange(4, split=0).reshape((2, 2))).tolist()
    [[1, 3], [0, 2]]
    """
    plane = normalise_axes(axes, as_dndarray(x).ndim, "axes")
    if len(plane) != 2:
        raise ValueError(f"rot90 turns from one axis to another, got axes {axes}")
    quarter = as_index(k, "k") % 4
    order = list(range(x.ndim))
    if quarter % 2:
        order[plane[0]], order[plane[1]] = plane[1], plane[0]
    backwards = {0: (), 1: plane[:1], 2: plane, 3: plane[1:]}[quarter]
    return flip(permute_dims(x, order), backwards)


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
        return reshape_to(roll(ravel(x), shift, axis=0), x.layout)
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
        return without_aliasing(result, x)
    at = x.layout.extent - across % x.layout.extent
    around = (slice(None),) * x.split
    parts = [result[(*around, slice(at, None))], result[(*around, slice(at))]]
    return concat_as(parts, x.split, concat_plan([part.layout for part in parts], x.split, x.layout))
