"""Comparisons of arrays, element by element, and logical functions of truth values and of bits.

Tested in tests/ops/elementwise/test_comparison.py, and with all elementwise functions in test_apply.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from minisplit.core.array import DNDarray, Operand
from minisplit.ops.elementwise.apply import apply_elementwise, binary, unary


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
    # numbers=1, as in all comparisons: torch takes a number in the second place only.
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


def bitwise_and(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compute AND of the bits of two arrays, as the operator `&` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The bits that both have. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are floating-point or complex numbers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(4, split=0) & 2).tolist()
    [0, 0, 2, 2]
    """
    return binary(torch.bitwise_and, "bitwise_and", x1, x2)


def bitwise_invert(x: DNDarray, /) -> DNDarray:
    """Invert the bits of each element, as the operator `~` does.

    Parameters
    ----------
    x : DNDarray
        The integers or bools. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The inverted bits, in the layout of `x`: of an integer `-1 - x`, of a bool the other one.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.
    NotImplementedError
        If the elements are floating-point or complex numbers.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> (~ms.arange(3, split=0)).tolist()
    [-1, -2, -3]
    """
    return unary(torch.bitwise_not, x)


def bitwise_left_shift(x1: Operand, x2: Operand, /) -> DNDarray:
    """Shift the bits of integers to the left, as the operator `<<` does.

    Parameters
    ----------
    x1 : DNDarray or number
        The integers.
    x2 : DNDarray or number
        By how many bits to shift. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The integers `x1 * 2**x2`. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are no integers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) << 2).tolist()
    [0, 4, 8]
    """
    return binary(torch.bitwise_left_shift, "bitwise_left_shift", x1, x2)


def bitwise_or(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compute OR of the bits of two arrays, as the operator `|` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The bits that one of both has. The dtype is that of `result_type`. Split as one of the operands, as that
        for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are floating-point or complex numbers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(4, split=0) | 2).tolist()
    [2, 3, 2, 3]
    """
    return binary(torch.bitwise_or, "bitwise_or", x1, x2)


def bitwise_right_shift(x1: Operand, x2: Operand, /) -> DNDarray:
    """Shift the bits of integers to the right, as the operator `>>` does.

    Parameters
    ----------
    x1 : DNDarray or number
        The integers.
    x2 : DNDarray or number
        By how many bits to shift. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The integers `x1 // 2**x2`. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are no integers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(6, split=0) >> 1).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    return binary(torch.bitwise_right_shift, "bitwise_right_shift", x1, x2)


def bitwise_xor(x1: Operand, x2: Operand, /) -> DNDarray:
    """Compute exclusive OR of the bits of two arrays, as the operator `^` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    DNDarray
        The bits that exactly one of both has. The dtype is that of `result_type`. Split as one of the operands, as
        that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are floating-point or complex numbers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(4, split=0) ^ 2).tolist()
    [2, 3, 0, 1]
    """
    return binary(torch.bitwise_xor, "bitwise_xor", x1, x2)


def logical_and(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return whether both of two elements are true.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.

    Returns
    -------
    DNDarray
        Bools. Split as one of the operands, as that for which the fewest bytes move.

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
    >>> ms.logical_and(ms.arange(3, split=0), 1).tolist()
    [False, True, True]
    """
    # numbers=0: torch has these functions for two tensors only.
    return binary(torch.logical_and, "logical_and", x1, x2, numbers=0)


def logical_not(x: DNDarray, /) -> DNDarray:
    """Return whether each element is false.

    Parameters
    ----------
    x : DNDarray
        The truth values: every number but 0 is true. Any shape, split and counts.

    Returns
    -------
    DNDarray
        Bools, in the layout of `x`.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logical_not(ms.array([0, 1, 2], split=0)).tolist()
    [True, False, False]
    """
    return unary(torch.logical_not, x)


def logical_or(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return whether one of two elements is true, or both.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.

    Returns
    -------
    DNDarray
        Bools. Split as one of the operands, as that for which the fewest bytes move.

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
    >>> ms.logical_or(ms.arange(3, split=0), 0).tolist()
    [False, True, True]
    """
    return binary(torch.logical_or, "logical_or", x1, x2, numbers=0)


def logical_xor(x1: Operand, x2: Operand, /) -> DNDarray:
    """Return whether exactly one of two elements is true.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.

    Returns
    -------
    DNDarray
        Bools. Split as one of the operands, as that for which the fewest bytes move.

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
    >>> ms.logical_xor(ms.arange(3, split=0), 1).tolist()
    [True, False, False]
    """
    return binary(torch.logical_xor, "logical_xor", x1, x2, numbers=0)
