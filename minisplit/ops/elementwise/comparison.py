"""Comparisons of arrays, element by element, and logical functions of truth values and of bits.

Tested in tests/ops/elementwise/test_comparison.py, and with all elementwise functions in test_apply.py.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, replicated
from minisplit.core.pytorch.dtypes import TORCH_INTS, nearest_float
from minisplit.ops.elementwise.apply import Torch, apply_elementwise, binary, check_bits, into, unary

_SWAPPED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}


def _compare_number(name: str, x1: Operand, x2: Operand) -> DNDarray:
    """Compare an array with a number, by their values: also with a number that the array's dtype does not have."""
    x, number = x1, x2
    if not isinstance(x, DNDarray):
        x, number, name = x2, x1, _SWAPPED.get(name, name)
    function = torch.eq if name == "equal" else getattr(torch, name)
    if not isinstance(x, DNDarray) or not isinstance(number, (int, float, complex, np.number, np.bool_)):
        return binary(function, name, x, number)  # which says what is wrong
    number = number.item() if isinstance(number, np.generic) else number
    dtype = x._larray.dtype
    is_inexact = dtype.is_floating_point or dtype.is_complex
    if not is_inexact and not isinstance(number, int):
        number = _as_integer(name, number)
    if not isinstance(number, int) or number in TORCH_INTS[dtype]:
        return binary(function, name, x, number, numbers=1)
    if is_inexact:
        return binary(function, name, x, nearest_float(number), numbers=1)
    if dtype is torch.uint64 and 0 <= number < 2**64:  # of which torch takes half as numbers
        return binary(function, name, x, replicated(torch.tensor(number, dtype=dtype, device=x.device), x._comm))
    return _same_answer(x, name, number > 0)


def _as_integer(name: str, number: complex) -> complex:
    """Return a number with which integers compare as with `number`: an int where there is one.

    torch would compare in float32, where 2**24 + 1 is 2**24.
    """
    is_order = name in _SWAPPED
    if isinstance(number, complex):
        if is_order or number.imag:
            return number if is_order else math.nan
        number = number.real
    if not math.isfinite(number):
        return number
    nearest = math.ceil(number) if name in {"less", "greater_equal"} else math.floor(number)
    # What is no integer equals none. NaN equals nothing.
    return nearest if is_order or nearest == number else math.nan


def _same_answer(x: DNDarray, name: str, is_greater: bool) -> DNDarray:
    """Return the comparison `name` with a number that is greater, or less, than all of the dtype of `x`."""
    answer = name == "not_equal" or name.startswith("less" if is_greater else "greater")
    return DNDarray._wrap(torch.full_like(x._larray, answer, dtype=torch.bool), x._layout, x._comm)


def equal(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 == x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.eq, "equal", x1, x2, out=out, where=where)
    return into(_compare_number("equal", x1, x2), out, where)


def greater(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 > x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.greater, "greater", x1, x2, out=out, where=where)
    return into(_compare_number("greater", x1, x2), out, where)


def greater_equal(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 >= x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.greater_equal, "greater_equal", x1, x2, out=out, where=where)
    return into(_compare_number("greater_equal", x1, x2), out, where)


def isclose(
    x1: Operand, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> DNDarray:
    """Return whether elements are equal within a tolerance.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
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


def less(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 < x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.less, "less", x1, x2, out=out, where=where)
    return into(_compare_number("less", x1, x2), out, where)


def less_equal(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 <= x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.less_equal, "less_equal", x1, x2, out=out, where=where)
    return into(_compare_number("less_equal", x1, x2), out, where)


def not_equal(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compare two arrays, element by element: whether `x1 != x2`.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        What to compare. At least one is a DNDarray. The shapes broadcast, as in NumPy. A number is compared by its
        value, also where the dtype of the array does not have it.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    if type(x1) is type(x2):
        return binary(torch.not_equal, "not_equal", x1, x2, out=out, where=where)
    return into(_compare_number("not_equal", x1, x2), out, where)


def _combine_bits(
    function: Torch, name: str, x1: Operand, x2: Operand, out: DNDarray | None, where: DNDarray | bool
) -> DNDarray:
    """Apply a function of bits. torch refuses what has none for the dtypes alone, and so on all ranks."""
    try:
        return binary(function, name, x1, x2, out=out, where=where)
    except (NotImplementedError, RuntimeError):
        check_bits(name, x1, x2)
        raise


def bitwise_and(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute AND of the bits of two arrays, as the operator `&` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The bits that both have. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, none is a DNDarray, or the elements are neither bools nor
        integers.
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
    >>> (ms.arange(4, split=0) & 2).tolist()
    [0, 0, 2, 2]
    """
    return _combine_bits(torch.bitwise_and, "bitwise_and", x1, x2, out, where)


def bitwise_invert(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Invert the bits of each element, as the operator `~` does.

    Parameters
    ----------
    x : DNDarray
        The integers or bools. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The inverted bits, in the layout of `x`: of an integer `-1 - x`, of a bool the other one.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or the elements are floating-point or complex numbers.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> (~ms.arange(3, split=0)).tolist()
    [-1, -2, -3]
    """
    check_bits("bitwise_invert", x)
    return unary(torch.bitwise_not, x, out, where)


def bitwise_left_shift(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Shift the bits of integers to the left, as the operator `<<` does.

    Parameters
    ----------
    x1 : DNDarray or number
        The integers.
    x2 : DNDarray or number
        By how many bits to shift. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The integers `x1 * 2**x2`. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, none is a DNDarray, or the elements are no integers.
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
    >>> (ms.arange(3, split=0) << 2).tolist()
    [0, 4, 8]
    """
    return _combine_bits(torch.bitwise_left_shift, "bitwise_left_shift", x1, x2, out, where)


def bitwise_or(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute OR of the bits of two arrays, as the operator `|` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The bits that one of both has. The dtype is that of `result_type`. Split as one of the operands, as that
        for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, none is a DNDarray, or the elements are neither bools nor
        integers.
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
    >>> (ms.arange(4, split=0) | 2).tolist()
    [2, 3, 2, 3]
    """
    return _combine_bits(torch.bitwise_or, "bitwise_or", x1, x2, out, where)


def bitwise_right_shift(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Shift the bits of integers to the right, as the operator `>>` does.

    Parameters
    ----------
    x1 : DNDarray or number
        The integers.
    x2 : DNDarray or number
        By how many bits to shift. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The integers `x1 // 2**x2`. The dtype is that of `result_type`. Split as one of the operands, as that for
        which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, none is a DNDarray, or the elements are no integers.
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
    >>> (ms.arange(6, split=0) >> 1).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    return _combine_bits(torch.bitwise_right_shift, "bitwise_right_shift", x1, x2, out, where)


def bitwise_xor(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute exclusive OR of the bits of two arrays, as the operator `^` does.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers or bools. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The bits that exactly one of both has. The dtype is that of `result_type`. Split as one of the operands, as
        that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, none is a DNDarray, or the elements are neither bools nor
        integers.
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
    >>> (ms.arange(4, split=0) ^ 2).tolist()
    [2, 3, 0, 1]
    """
    return _combine_bits(torch.bitwise_xor, "bitwise_xor", x1, x2, out, where)


def logical_and(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return whether both of two elements are true.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    return binary(torch.logical_and, "logical_and", x1, x2, numbers=0, out=out, where=where)


def logical_not(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is false.

    Parameters
    ----------
    x : DNDarray
        The truth values: every number but 0 is true. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        Bools, in the layout of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logical_not(ms.array([0, 1, 2], split=0)).tolist()
    [True, False, False]
    """
    return unary(torch.logical_not, x, out, where)


def logical_or(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return whether at least one of two elements is true.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    return binary(torch.logical_or, "logical_or", x1, x2, numbers=0, out=out, where=where)


def logical_xor(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return whether exactly one of two elements is true.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The truth values: every number but 0 is true. At least one is a DNDarray. The shapes broadcast, as in
        NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

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
    return binary(torch.logical_xor, "logical_xor", x1, x2, numbers=0, out=out, where=where)
