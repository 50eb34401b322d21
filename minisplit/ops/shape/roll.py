"""`roll`: the elements of an array shifted along axes, and around the end."""

from __future__ import annotations

from collections.abc import Iterable

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import as_index, normalise_axis
from minisplit.ops.shape.join import concat_as
from minisplit.ops.shape.layouts import Axes, concat_plan
from minisplit.ops.shape.reshape import ravel, reshape_to, without_aliasing


def roll(x: DNDarray, /, shift: Axes, axis: Axes | None = None) -> DNDarray:
    """Shift the elements of `x` along axes, and those beyond the end back to the beginning.

    Parameters
    ----------
    x : DNDarray
        The array.
    shift : int or sequence of int
        How far: index i goes to i + shift. One for all axes, or one for each.
    axis : int or sequence of int, optional
        The axes. The shifts of one that is named twice add up. By default the elements are shifted in row-major
        order, as one row.

    Returns
    -------
    DNDarray
        The array, in memory of its own and with the layout of `x`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there are neither one shift nor as many as axes.

    Communication
    -------------
    Local along axes that are not split. Otherwise collective: one exchange, and without `axis` two more if `x` is
    split along another axis than 0, which make it a row and back.

    Examples
    --------
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
    # torch takes no axes for all of them.
    shard = x.larray.roll(tuple(total.values()), tuple(total)) if total else x.larray
    result = DNDarray(shard, x.layout, x.comm)
    if x.split is None or across % max(x.layout.extent, 1) == 0:
        return without_aliasing(result, x)
    # Along the split axis the array is cut in two, which change places: a join in the layout of x, one exchange.
    start = x.layout.extent - across % x.layout.extent
    before = (slice(None),) * x.split
    parts = [result[(*before, slice(start, None))], result[(*before, slice(start))]]
    return concat_as(parts, x.split, concat_plan([part.layout for part in parts], x.split, x.layout))
