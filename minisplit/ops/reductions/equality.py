"""Whether arrays are alike as a whole."""

from __future__ import annotations

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.ops.elementwise.comparison import equal, isclose
from minisplit.ops.reductions.functions import all


def allclose(
    x1: Operand, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Return whether all elements are equal within a tolerance.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    rtol : float, default 1e-05
        The tolerance in relation to `x2`.
    atol : float, default 1e-08
        The absolute tolerance.
    equal_nan : bool, default False
        Whether NaN is close to NaN.

    Returns
    -------
    bool
        Whether `|x1 - x2| <= atol + rtol * |x2|` for all elements. The same on every rank.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.

    Communication
    -------------
    Collective: one allreduce, and the messages of `isclose` where the layouts differ. Local where both are
    replicated.

    See Also
    --------
    isclose : The same for each element.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.allclose(ms.ones(2, split=0), 1.000001)
    True
    """
    return bool(all(isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)))


def array_equal(x1: DNDarray, x2: DNDarray, /) -> bool:
    """Return whether two arrays have one shape and equal elements, whatever their dtypes and layouts.

    Parameters
    ----------
    x1, x2 : DNDarray
        The arrays to compare. Any shape, split and counts.

    Returns
    -------
    bool
        Whether they are equal. The same on every rank. NaN equals nothing.

    Raises
    ------
    TypeError
        If one of them is no DNDarray.
    ValueError
        If they have one shape, but are on different communicators.

    Communication
    -------------
    Collective: one allreduce, and an exchange where the layouts differ. Local where the shapes differ, or both
    arrays are replicated.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.array_equal(ms.ones(2, split=0), ms.ones(2)), ms.array_equal(ms.ones(2), ms.ones(3))
    (True, False)
    """
    as_dndarray(x1, "x1")
    as_dndarray(x2, "x2")
    # The shapes first: those that broadcast are not equal for it.
    return x1.shape == x2.shape and bool(all(equal(x1, x2)))
