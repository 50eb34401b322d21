"""Comparisons of two arrays, element by element.

Tested in tests/ops/elementwise/test_comparison.py, and with all elementwise functions in test_apply.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from minisplit.core.array import DNDarray, Operand
from minisplit.ops.elementwise.apply import apply_elementwise, binary


def equal(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 == x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements are equal. NaN equals nothing. Split as one of the operands, as that for which
        the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) == 1).tolist()
    [False, True, False]
    """
    return binary(torch.eq, "equal", x1, x2, numbers=1)


def greater(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 > x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements of `x1` are greater. Split as one of the operands, as that for which the fewest
        bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) > 1).tolist()
    [False, False, True]
    """
    return binary(torch.greater, "greater", x1, x2, numbers=1)


def greater_equal(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 >= x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements of `x1` are greater or equal. Split as one of the operands, as that for which
        the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) >= 1).tolist()
    [False, True, True]
    """
    return binary(torch.greater_equal, "greater_equal", x1, x2, numbers=1)


def isclose(
    x1: Operand, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> DNDarray:
    """Return whether elements are equal within a tolerance.

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
    DNDarray
        Bools: whether `|x1 - x2| <= atol + rtol * |x2|`. Split as one of the operands, as that for which the
        fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    allclose : Whether all elements are close.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.isclose(ms.ones(2, split=0), 1.000001).tolist()
    [True, True]
    """
    close = partial(_isclose, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return apply_elementwise(close, (x1, x2), "isclose", takes_numbers=False)


def _isclose(x1: torch.Tensor, x2: torch.Tensor, **tolerances: Any) -> torch.Tensor:
    """Return `torch.isclose`, which takes tensors of one dtype only, of any two."""
    dtype = torch.result_type(x1, x2)
    return torch.isclose(x1.to(dtype), x2.to(dtype), **tolerances)


def less(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 < x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements of `x1` are less. Split as one of the operands, as that for which the fewest
        bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) < 1).tolist()
    [True, False, False]
    """
    return binary(torch.less, "less", x1, x2, numbers=1)


def less_equal(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 <= x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements of `x1` are less or equal. Split as one of the operands, as that for which the
        fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) <= 1).tolist()
    [True, True, False]
    """
    return binary(torch.less_equal, "less_equal", x1, x2, numbers=1)


def not_equal(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 != x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        Bools: whether the elements differ. NaN differs from everything. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) != 1).tolist()
    [True, False, True]
    """
    return binary(torch.not_equal, "not_equal", x1, x2, numbers=1)
