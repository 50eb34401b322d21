"""The axes of an array in another order. Local: the split goes with its axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import normalise_axes, normalise_axis
from minisplit.ops.shape.layouts import Axes, permute_layout
from minisplit.ops.shape.reshape import contiguous_clone


def permute_dims(x: DNDarray, /, axes: Sequence[int]) -> DNDarray:
    """Return `x` with its axes in another order.

    Parameters
    ----------
    x : DNDarray
        The array.
    axes : sequence of int
        For each axis of the result which axis of `x` it is.

    Returns
    -------
    DNDarray
        The array, in memory of its own. The split goes with its axis and keeps its counts.

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.
    IndexError
        If an axis is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> y = ms.permute_dims(ms.zeros((2, 3, 4), split=0), (2, 0, 1))
    >>> y.shape, y.split
    ((4, 2, 3), 1)
    """
    x = as_dndarray(x)
    order = normalise_axes(axes, x.ndim, "axes")
    if len(order) != x.ndim:
        raise ValueError(f"axes must name each axis of shape {x.shape} once, got {order}")
    # A copy: y = permute_dims(x) would otherwise change with x.add_(1), as no result of minisplit does.
    return DNDarray(contiguous_clone(x.larray.permute(order)), permute_layout(x.layout, order), x.comm)


def transpose(x: DNDarray, /, axes: Sequence[int] | None = None) -> DNDarray:
    """Return `x` with its axes in another order, by default the reverse one.

    Parameters
    ----------
    x : DNDarray
        The array.
    axes : sequence of int, optional
        For each axis of the result which axis of `x` it is. By default the axes are reversed.

    Returns
    -------
    DNDarray
        The array, in memory of its own. The split goes with its axis and keeps its counts.

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.
    IndexError
        If an axis is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.transpose(ms.zeros((2, 3), split=0)).split
    1
    """
    return permute_dims(x, range(as_dndarray(x).ndim)[::-1] if axes is None else axes)


def matrix_transpose(x: DNDarray, /) -> DNDarray:
    """Return `x` with its last two axes swapped.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them.

    Returns
    -------
    DNDarray
        The transposed matrices, in memory of their own. The split goes with its axis and keeps its counts.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.matrix_transpose(ms.zeros((5, 2, 3), split=2)).shape
    (5, 3, 2)
    """
    return swapaxes(of_matrices(x), -2, -1)


def swapaxes(x: DNDarray, /, axis1: int, axis2: int) -> DNDarray:
    """Return `x` with two axes swapped.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis1 : int
        One of the axes.
    axis2 : int
        The other one.

    Returns
    -------
    DNDarray
        The array, in memory of its own. The split goes with its axis and keeps its counts.

    Raises
    ------
    IndexError
        If an axis is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.swapaxes(ms.zeros((2, 3, 4), split=0), 0, 2).split
    2
    """
    order = list(range(as_dndarray(x).ndim))
    first, second = normalise_axis(axis1, x.ndim, "axis1"), normalise_axis(axis2, x.ndim, "axis2")
    order[first], order[second] = second, first
    return permute_dims(x, order)


def moveaxis(x: DNDarray, /, source: Axes, destination: Axes) -> DNDarray:
    """Return `x` with some axes at other places, and the others in their order.

    Parameters
    ----------
    x : DNDarray
        The array.
    source : int or sequence of int
        The axes to move.
    destination : int or sequence of int
        The place of each of them in the result.

    Returns
    -------
    DNDarray
        The array, in memory of its own. The split goes with its axis and keeps its counts.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice, or there are not as many destinations as sources.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.moveaxis(ms.zeros((2, 3, 4), split=0), 0, -1).shape
    (3, 4, 2)
    """
    old = normalise_axes(source, as_dndarray(x).ndim, "source")
    new = normalise_axes(destination, x.ndim, "destination")
    if len(old) != len(new):
        raise ValueError(f"moveaxis needs as many sources as destinations, got {source} and {destination}")
    # In order of the destinations: what is inserted later does not move what is there.
    order = [axis for axis in range(x.ndim) if axis not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        order.insert(place, axis)
    return permute_dims(x, order)


def of_matrices(x: Any) -> DNDarray:
    """`x` if it is a DNDarray of at least two dimensions. TypeError or ValueError if not."""
    array = as_dndarray(x)
    if array.ndim < 2:
        raise ValueError(f"matrices need at least 2 dimensions, got shape {array.shape}")
    return array
