"""`resplit`, `balance` and `redistribute` as functions. The methods of `DNDarray` do the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute_all
from minisplit.core.pytorch.pytree import pytree

# An array, or a structure of them.
T = TypeVar("T")


def resplit(x: T, axis: int | None = None) -> T:
    """Return an array, or each array of a tree, split along another axis or gathered on every rank.

    Parameters
    ----------
    x : DNDarray, or nested tuples, lists and dicts of them
        The array, or arrays on one communicator. Any shape, split and counts.
    axis : int, optional
        The axis along which the result is split. By default None: every rank gets the whole array.

    Returns
    -------
    DNDarray, or nested tuples, lists and dicts of them
        The same elements in new memory. Counts follow the default rule, but an array that is split along `axis`
        already keeps its own.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If `x` is not a DNDarray, or the axis is not an int.
    ValueError
        If the arrays are on different communicators.

    Communication
    -------------
    Collective: one exchange of the elements that change their rank, for all arrays together.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.resplit(ms.ones((2, 3), split=0), 1).split
    1
    >>> ms.resplit({"weight": ms.ones((4, 3), split=0)})["weight"].split is None
    True
    """
    if isinstance(x, DNDarray):
        return x.resplit(axis)  # type: ignore[return-value]  # T is DNDarray
    leaves, spec = pytree.tree_flatten(x)
    arrays = list(map(as_dndarray, leaves))
    if any(each.comm is not arrays[0].comm for each in arrays):
        raise ValueError("the arrays of a structure must be on one communicator, which the exchange is on")
    layouts = [each._split_along(axis) for each in arrays]
    pairs = [(each.layout, layout) for each, layout in zip(arrays, layouts, strict=True)]
    moved = redistribute_all([each.larray for each in arrays], pairs, arrays[0].comm) if arrays else []
    results = [DNDarray(each, layout, arrays[0].comm) for each, layout in zip(moved, layouts, strict=True)]
    resplit: T = pytree.tree_unflatten(results, spec)
    return resplit


def balance(x: DNDarray) -> DNDarray:
    """Return an array with the default counts: the first `n % size` ranks hold one index more than the others.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The same elements in memory of its own, split along the same axis.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Collective: one exchange of the elements that change their rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.balance(ms.array([1.0, 2.0], is_split=0)).is_balanced()
    True
    """
    return as_dndarray(x).balance()


def redistribute(x: DNDarray, counts: Sequence[int]) -> DNDarray:
    """Return an array with other counts along the same split axis.

    Parameters
    ----------
    x : DNDarray
        The array. Split, with any counts.
    counts : sequence of int
        How many indices of the split axis each rank is to hold.

    Returns
    -------
    DNDarray
        The same elements in new memory.

    Raises
    ------
    ValueError
        If the counts are not one number per rank, are negative, or do not add up to the axis' extent, or if the
        array is replicated.
    TypeError
        If `x` is not a DNDarray, or a count is not an int.

    Communication
    -------------
    Collective: one exchange of the elements that change their rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.zeros(7, split=0)
    >>> ms.redistribute(x, x.counts[::-1]).counts == x.counts[::-1]
    True
    """
    return as_dndarray(x).redistribute(counts)
