"""The elements of an array in reverse order along axes."""

from __future__ import annotations

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import as_index, normalise_axes
from minisplit.ops.shape.layouts import Axes
from minisplit.ops.shape.transpose import swapaxes


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
        The array, in memory of its own. The split goes with its axis.

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
