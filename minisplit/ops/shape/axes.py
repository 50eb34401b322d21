"""The axes of an array: in another order, and those of extent 1, which come and go. The split goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import as_index, normalise_axes, normalise_axis
from minisplit.ops.shape.layouts import Axes, expand_layout, permute_layout, reduce_layout, reshape_layout
from minisplit.ops.shape.reshape import contiguous_clone, reshape_to, without_aliasing


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
        The array, in new memory. The split goes with its axis and keeps its counts.

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
        The array, in new memory. The split goes with its axis and keeps its counts.

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
        The transposed matrices, in new memory. The split goes with its axis and keeps its counts.

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
        The array, in new memory. The split goes with its axis and keeps its counts.

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
    """Return `x` with some axes moved to other places; the other axes keep their order.

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
        The array, in new memory. The split goes with its axis and keeps its counts.

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


def rollaxis(x: DNDarray, /, axis: int, start: int = 0) -> DNDarray:
    """Return `x` with one axis before another one. `moveaxis` is clearer.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int
        The axis to move.
    start : int, default 0
        Before which axis it is to stand, in the order of `x`.

    Returns
    -------
    DNDarray
        The array, in new memory. The split goes with its axis and keeps its counts.

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
    >>> ms.rollaxis(ms.zeros((2, 3, 4), split=0), 2).shape
    (4, 2, 3)
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    # It may also stand behind the last one, so that there is one place more than axes.
    place = start + x.ndim if as_index(start, "start") < 0 else start
    place = normalise_axis(place, x.ndim + 1, "start")
    return moveaxis(x, axis, place - (axis < place))


def of_matrices(x: Any) -> DNDarray:
    """`x` if it is a DNDarray of at least two dimensions. TypeError or ValueError if not."""
    array = as_dndarray(x)
    if array.ndim < 2:
        raise ValueError(f"matrices need at least 2 dimensions, got shape {array.shape}")
    return array


def expand_dims(x: DNDarray, /, axis: Axes = 0) -> DNDarray:
    """Return `x` with additional axes of extent 1.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int or sequence of int, default 0
        The places of the new axes in the result.

    Returns
    -------
    DNDarray
        The array, in new memory. The split goes with its axis and keeps its counts.

    Raises
    ------
    IndexError
        If a place is out of range.
    ValueError
        If a place is named twice.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> y = ms.expand_dims(ms.zeros((2, 3), split=1), (0, -1))
    >>> y.shape, y.split
    ((1, 2, 3, 1), 2)
    """
    return without_aliasing(insert_axes(as_dndarray(x), axis), x)


def atleast_1d(x: DNDarray, /) -> DNDarray:
    """Return `x`, or a 1-d array of its element if it has no axes.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        An array of at least one dimension, in new memory. Split as `x`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.atleast_1d(ms.array(7)).shape
    (1,)
    """
    return without_aliasing(expand_to(x, 1), x)


def atleast_2d(x: DNDarray, /) -> DNDarray:
    """Return `x` with axes of extent 1 up to two dimensions. A 1-d array becomes a row.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        An array of at least two dimensions, in new memory. The split goes with its axis.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.atleast_2d(ms.zeros(4, split=0)).shape
    (1, 4)
    """
    return without_aliasing(expand_to(x, 2), x)


def atleast_3d(x: DNDarray, /) -> DNDarray:
    """Return `x` with axes of extent 1 up to three dimensions.

    The axes stand where NumPy puts them: before and after that of a 1-d array, after those of a matrix.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        An array of at least three dimensions, in new memory. The split goes with its axis.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.atleast_3d(ms.zeros(4, split=0)).shape
    (1, 4, 1)
    """
    return without_aliasing(expand_to(x, 3), x)


def squeeze(x: DNDarray, /, axis: Axes | None = None) -> DNDarray:
    """Return `x` without axes of extent 1.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int or sequence of int, optional
        The axes to remove. By default all that have extent 1.

    Returns
    -------
    DNDarray
        The array, in new memory. The split goes with its axis. If the split axis is removed, the rank that has the
        elements keeps them, and the result is split along another axis. It is replicated if it has none.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis has another extent than 1.

    Communication
    -------------
    Local. If a split array has no axes afterwards, collective: one exchange of its element.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.squeeze(ms.zeros((1, 3, 1), split=1)).split
    0
    """
    ones = tuple(place for place, extent in enumerate(as_dndarray(x).shape) if extent == 1)
    axes = ones if axis is None else normalise_axes(axis, x.ndim)
    if not set(axes) <= set(ones):
        raise ValueError(f"squeeze takes away axes of extent 1, got axis {axes} of shape {x.shape}")
    layout = reduce_layout(x.layout, axes, keepdims=False).result
    if x.split in axes:
        # A split axis of extent 1 is on one rank. That rank keeps the elements, as in any reshape.
        layout = reshape_layout(x.layout, layout.shape)
    return without_aliasing(reshape_to(x, layout), x)


# The places at which NumPy adds axes to an array of so many dimensions, by the number that it is to have.
_NEW_AXES: dict[int, tuple[tuple[int, ...], ...]] = {1: ((0,),), 2: ((0, 1), (0,)), 3: ((0, 1, 2), (0, 2), (2,))}


def expand_to(x: Any, ndim: int) -> DNDarray:
    """`x` with axes of extent 1 up to `ndim` dimensions, where NumPy puts them, in the memory of `x`. Local."""
    return x if as_dndarray(x).ndim >= ndim else insert_axes(x, _NEW_AXES[ndim][x.ndim])


def insert_axes(x: DNDarray, axis: Axes) -> DNDarray:
    """`x` with axes of extent 1 at the places `axis` of the result, in the memory of `x`. Local."""
    # Places are counted in the result, so that -1 is the last one.
    number = len(tuple(axis)) if isinstance(axis, Iterable) else 1
    axes = normalise_axes(axis, x.ndim + number)
    layout = expand_layout(x.layout, axes)
    return DNDarray(x.larray.reshape(layout.lshape(x.comm.rank)), layout, x.comm)
