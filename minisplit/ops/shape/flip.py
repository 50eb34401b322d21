"""The elements of an array in reverse order along axes, or shifted along them and around the end."""

from __future__ import annotations

from collections.abc import Iterable

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index, normalise_axes, normalise_axis
from minisplit.ops.shape.axes import swapaxes
from minisplit.ops.shape.join import concat_as
from minisplit.ops.shape.layouts import Axes, concat_plan
from minisplit.ops.shape.reshape import ravel, reshape_to, without_aliasing


def flip(x: DNDarray, /, axis: Axes | None = None) -> DNDarray:
    """Return `x` with its elements in reverse order along axes.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int or sequence of int, optional
        The axes to reverse. By default all of them.

    Returns
    -------
    DNDarray
        The array, split as `x`. If the split axis is reversed, so are the counts.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice.

    Communication
    -------------
    Local unless the split axis is reversed. Then collective: one exchange, in which the first rank and the last
    one swap their parts, the second and the last but one, and so on.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.flip(ms.arange(3, split=0)).tolist()
    [2, 1, 0]
    """
    axes = range(as_dndarray(x).ndim) if axis is None else normalise_axes(axis, x.ndim)
    # Indexing has all that this takes: the exchange between opposite ranks, the reversed counts and the gradient.
    return x[tuple(slice(None, None, -1 if place in axes else None) for place in range(x.ndim))]


def flipud(x: DNDarray, /) -> DNDarray:
    """Return `x` with its elements in reverse order along axis 0.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The array, split as `x`. If it is split along axis 0, its counts are reversed.

    Raises
    ------
    IndexError
        If `x` has no axes.

    Communication
    -------------
    Local unless `x` is split along axis 0. Then collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.flipud(ms.arange(3, split=0)).tolist()
    [2, 1, 0]
    """
    return flip(x, 0)


def fliplr(x: DNDarray, /) -> DNDarray:
    """Return `x` with its elements in reverse order along axis 1.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The array, split as `x`. If it is split along axis 1, its counts are reversed.

    Raises
    ------
    IndexError
        If `x` has fewer than two dimensions.

    Communication
    -------------
    Local unless `x` is split along axis 1. Then collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fliplr(ms.arange(4, split=0).reshape((2, 2))).tolist()
    [[1, 0], [3, 2]]
    """
    return flip(x, 1)


def rot90(x: DNDarray, /, k: int = 1, axes: Axes = (0, 1)) -> DNDarray:
    """Rotate `x` by multiples of 90 degrees in the plane of two axes.

    Parameters
    ----------
    x : DNDarray
        The array.
    k : int, default 1
        How many times 90 degrees.
    axes : sequence of int, default (0, 1)
        The plane. The rotation is from the first of the axes towards the second.

    Returns
    -------
    DNDarray
        The array, in new memory. The split goes with its axis.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there are not two axes.

    Communication
    -------------
    Local unless the rotation reverses the split axis. Then collective: one exchange, as `flip`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.rot90(ms.arange(4, split=0).reshape((2, 2))).tolist()
    [[1, 3], [0, 2]]
    """
    plane = normalise_axes(axes, as_dndarray(x).ndim, "axes")
    if len(plane) != 2:
        raise ValueError(f"rot90 turns from one axis to another, got axes {axes}")
    # 90 degrees are a swap of both axes, then a reversal of the first; 270 one of the second; 180 one of both.
    turns = as_index(k, "k") % 4
    # For 0 and 180 degrees an axis is swapped with itself, which copies: the result has memory of its own.
    swapped = swapaxes(x, plane[0], plane[turns % 2])
    return flip(swapped, ((), plane[:1], plane, plane[1:])[turns])


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
        The array, in new memory and with the layout of `x`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there are neither one shift nor as many as axes.

    Communication
    -------------
    Local along axes that are not split. Otherwise collective: one exchange. Without `axis`, if `x` is not split
    along axis 0, two more exchanges flatten `x` and restore its shape.

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
        raise ValueError(
            f"roll needs one shift for each axis, got shift {short_repr(shift)} and axis {short_repr(axis)}"
        )
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
