"""`resplit`, `balance` and `redistribute` as functions. The methods of `DNDarray` do the work."""

from __future__ import annotations

from collections.abc import Sequence

from minisplit.core.array import DNDarray, as_dndarray


def resplit(x: DNDarray, axis: int | None = None) -> DNDarray:
    """Return an array that is split along another axis, or gathered on every rank.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    axis : int, optional
        The axis along which the result is split. By default None: every rank gets the whole array.

    Returns
    -------
    DNDarray
        The same elements in memory of its own. Its counts follow the default rule, but an array that is split
        along `axis` already keeps its own.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If `x` is no DNDarray, or the axis is no int.

    Communication
    -------------
    Collective: one exchange of what changes its rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.resplit(ms.ones((2, 3), split=0), 1).split
    1
    """
    return as_dndarray(x).resplit(axis)


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
        If `x` is no DNDarray.

    Communication
    -------------
    Collective: one exchange of what changes its rank.

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
        The same elements in memory of its own.

    Raises
    ------
    ValueError
        If the counts are not one number per rank, are negative, or do not add up to the axis' extent, or if the
        array is replicated.
    TypeError
        If `x` is no DNDarray, or a count is no int.

    Communication
    -------------
    Collective: one exchange of what changes its rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.zeros(7, split=0)
    >>> ms.redistribute(x, x.counts[::-1]).counts == x.counts[::-1]
    True
    """
    return as_dndarray(x).redistribute(counts)
