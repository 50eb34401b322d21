"""Arithmetic of arrays: sums, products, quotients, remainders, signs, and whole numbers near each element.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

from functools import partial

import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.layout import as_index
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.apply import binary, divides_integers, unary


def abs(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the absolute value of each element.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The absolute values, in the layout of `x`. Those of complex numbers are real.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are bools.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.abs(ms.array([-2, 0, 3], split=0)).tolist()
    [2, 0, 3]
    """
    return unary(torch.abs, x, out, where)


def add(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Add two arrays, element by element.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The summands. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The sums. The dtype is that of `result_type`. Split as one of the operands, as that for which the fewest
        bytes move.

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
    result_type : The dtype of the result.

    Notes
    -----
    A 0-d array counts for the dtype as any other array, as the Python Array API standard has it. For torch it
    counts less.

    An int beside an array of integers must be in their range, as in NumPy 2: `uint8 + 300` is an OverflowError.
    This holds for all functions whose results have the dtype of the integers. Comparisons and functions that give
    floating-point numbers take any number.

    The result gets the layout of the operand for which the fewest bytes move, and the first of equals. This holds
    for all functions of several arrays.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) + 2).tolist()
    [2, 3, 4]
    """
    return binary(torch.add, "add", x1, x2, out=out, where=where)


def divide(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Divide two arrays, element by element.

    Parameters
    ----------
    x1 : DNDarray or number
        The dividends.
    x2 : DNDarray or number
        The divisors. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The quotients. The dtype is that of `result_type`. Bools and integers give torch's default floating-point
        dtype. Split as one of the operands, as that for which the fewest bytes move.

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
    floor_divide : Round the quotients down.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) / 2).tolist()
    [0.0, 0.5, 1.0]
    """
    return binary(torch.divide, "divide", x1, x2, out=out, where=where)


def floor_divide(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Divide two arrays and round down, element by element.

    Parameters
    ----------
    x1 : DNDarray or number
        The dividends.
    x2 : DNDarray or number
        The divisors. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The greatest whole numbers that are not above the quotients. The dtype is that of `result_type`. Split as
        one of the operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools or complex.
    RuntimeError
        If integers are divided by zero, on any rank.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast. Integers divided by an array of integers, or by 0, take one more allreduce, by which the ranks agree
    on whether one of them met a zero.

    Notes
    -----
    Of infinities the results are those of the Python Array API standard, where torch has NaN: inf // 2 is inf, 1
    // -inf is -0.0.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(-3, 3, split=0) // 2).tolist()
    [-2, -1, -1, 0, 0, 1]
    """
    # A zero divisor raises on the ranks that meet it. Without an agreement the others would go on alone.
    return binary(
        special_cases.floor_divide, "floor_divide", x1, x2, may_fail=divides_integers, out=out, where=where
    )


def divmod(x1: Operand, x2: Operand, /) -> tuple[DNDarray, DNDarray]:
    """Divide two arrays and round down, element by element, and return the remainders as well.

    Parameters
    ----------
    x1 : DNDarray or number
        The dividends.
    x2 : DNDarray or number
        The divisors. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.

    Returns
    -------
    quotients : DNDarray
        What `floor_divide` gives.
    remainders : DNDarray
        What `remainder` gives, in the same layout.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools or complex.
    RuntimeError
        If integers are divided by zero, on any rank.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast. Twice: for the quotients and for the remainders, each as `floor_divide`.

    Examples
    --------
    >>> import minisplit as ms
    >>> quotients, remainders = ms.divmod(ms.arange(-3, 3, split=0), 2)
    >>> quotients.tolist(), remainders.tolist()
    ([-2, -1, -1, 0, 0, 1], [1, 0, 1, 0, 1, 0])
    """
    return floor_divide(x1, x2), remainder(x1, x2)


def fmod(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the remainders of divisions that round towards zero.

    Parameters
    ----------
    x1 : DNDarray or number
        The dividends.
    x2 : DNDarray or number
        The divisors. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The remainders, with the signs of the dividends. The dtype is that of `result_type`. Split as one of the
        operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools or complex.
    RuntimeError
        If integers are divided by zero, on any rank.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast. Integers divided by an array of integers, or by 0, take one more allreduce, by which the ranks agree
    on whether one of them met a zero.

    See Also
    --------
    remainder : Remainders with the signs of the divisors.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fmod(ms.array([-3, 3], split=0), 2).tolist()
    [-1, 1]
    """
    # numbers=1: torch takes a number in the second place only.
    return binary(torch.fmod, "fmod", x1, x2, numbers=1, may_fail=divides_integers, out=out, where=where)


def gcd(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the greatest common divisor of two arrays, element by element.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The greatest common divisors, which are not negative. The dtype is that of `result_type`. Split as one of
        the operands, as that for which the fewest bytes move.

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

    See Also
    --------
    lcm : The least common multiple.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.gcd(ms.array([12, 18, 0], split=0), 8).tolist()
    [4, 2, 8]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.gcd, "gcd", x1, x2, numbers=0, out=out, where=where)


def heaviside(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute the Heaviside step function.

    Parameters
    ----------
    x1 : DNDarray or number
        The arguments of the function.
    x2 : DNDarray or number
        The values of the function at 0. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        0 where `x1` is negative, `x2` where it is 0, 1 where it is positive. The dtype is that of `result_type`.
        Split as one of the operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.heaviside(ms.array([-2.0, 0.0, 3.0], split=0), 0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    return binary(special_cases.heaviside, "heaviside", x1, x2, numbers=0, out=out, where=where)


def lcm(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the least common multiple of two arrays, element by element.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The integers. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The least common multiples, which are not negative. The dtype is that of `result_type`. Split as one of the
        operands, as that for which the fewest bytes move.

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

    See Also
    --------
    gcd : The greatest common divisor.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.lcm(ms.array([12, 18, 0], split=0), 8).tolist()
    [24, 72, 0]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.lcm, "lcm", x1, x2, numbers=0, out=out, where=where)


def multiply(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Multiply two arrays, element by element.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The factors. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The products. The dtype is that of `result_type`. Split as one of the operands, as that for which the
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
    matmul : The product of matrices.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) * 2).tolist()
    [0, 2, 4]
    """
    return binary(torch.multiply, "multiply", x1, x2, out=out, where=where)


def modf(x: DNDarray, /) -> tuple[DNDarray, DNDarray]:
    """Divide each element into a fraction and a whole number.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    fraction : DNDarray
        The part after the point, with the sign of the element; 0 for infinities. In the layout of `x`.
    whole : DNDarray
        The part before the point, in the same dtype and layout.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    RuntimeError
        If the elements are complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> fraction, whole = ms.modf(ms.array([2.5, -0.25], split=0))
    >>> fraction.tolist(), whole.tolist()
    ([0.5, -0.25], [2.0, -0.0])
    """
    fraction = unary(special_cases.modf_fraction, x)
    return fraction, unary(lambda shard: torch.trunc(shard).to(fraction.dtype), x)


def negative(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Negate each element.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The numbers with the other sign, in the layout of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    RuntimeError
        If the elements are bools.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.negative(ms.array([-2, 0, 3], split=0)).tolist()
    [2, 0, -3]
    """
    return unary(torch.negative, x, out, where)


def positive(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Copy each element, as the operator `+x` does.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The same numbers, in the layout of `x` and in new memory.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    RuntimeError
        If the elements are bools.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.positive(ms.array([-2, 0, 3], split=0)).tolist()
    [-2, 0, 3]
    """
    return unary(special_cases.positive, x, out, where)


def remainder(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute the remainders of divisions that round down, as the operator `%` does.

    Parameters
    ----------
    x1 : DNDarray or number
        The dividends.
    x2 : DNDarray or number
        The divisors. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The remainders, with the signs of the divisors. The dtype is that of `result_type`. Split as one of the
        operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools or complex.
    RuntimeError
        If integers are divided by zero, on any rank.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast. Integers divided by an array of integers, or by 0, take one more allreduce, by which the ranks agree
    on whether one of them met a zero.

    See Also
    --------
    fmod : Remainders with the signs of the dividends.

    Notes
    -----
    A remainder of zero has the sign of the divisor, as the Python Array API standard has it.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(-3, 3, split=0) % 2).tolist()
    [1, 0, 1, 0, 1, 0]
    """
    return binary(special_cases.remainder, "remainder", x1, x2, may_fail=divides_integers, out=out, where=where)


def sign(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return the sign of each element.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        -1, 0 or 1, in the layout of `x`. Of a complex number the number of absolute value 1 in its direction, or
        0; of NaN NaN.

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
    >>> ms.sign(ms.array([-2.5, 0.0, 3.0], split=0)).tolist()
    [-1.0, 0.0, 1.0]
    """
    # Not torch.sign, which takes no complex numbers.
    return unary(special_cases.sgn, x, out, where)


def subtract(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Subtract two arrays, element by element.

    Parameters
    ----------
    x1 : DNDarray or number
        The minuends.
    x2 : DNDarray or number
        The subtrahends. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The differences. The dtype is that of `result_type`. Split as one of the operands, as that for which the
        fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    RuntimeError
        If the elements are bools.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(3, split=0) - 2).tolist()
    [-2, -1, 0]
    """
    return binary(torch.subtract, "subtract", x1, x2, out=out, where=where)


def ceil(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Round each element up.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The least whole numbers that are not below, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ceil(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 1.0, 2.0]
    """
    return unary(torch.ceil, x, out, where)


def fix(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Round each element towards zero, under NumPy's name for `trunc`.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The nearest whole numbers towards zero, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    See Also
    --------
    trunc : The same.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fix(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 0.0, 2.0]
    """
    return unary(torch.fix, x, out, where)


def floor(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Round each element down.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The greatest whole numbers that are not above, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.floor(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-2.0, 0.0, 2.0]
    """
    return unary(torch.floor, x, out, where)


def round(
    x: DNDarray, /, decimals: int = 0, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Round each element to the nearest whole number, or to a number of decimals.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    decimals : int, default 0
        How many decimals stay. -1 is to tens.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The nearest whole numbers, in the layout of `x` and with the dtype of `x`. Of two that are equally near it
        is the even one.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or `decimals` no int.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.round(ms.array([-1.5, 0.2, 2.5], split=0)).tolist()
    [-2.0, 0.0, 2.0]
    """
    if as_index(decimals, "decimals") == 0:
        return unary(torch.round, x, out, where)
    if as_dndarray(x).dtype.is_floating_point:
        return unary(partial(torch.round, decimals=decimals), x, out, where)
    # torch rounds no integers to tens.
    return unary(partial(_round_integers, decimals), x, out, where)


def _round_integers(decimals: int, shard: torch.Tensor) -> torch.Tensor:
    """Return integers rounded to a power of ten, of two that are equally near to the even one."""
    whole = torch.round(shard)  # raises for bools and complex numbers
    if decimals > 0:
        return whole
    # No int64 is as far as 10**19 from 0.
    step = 10 ** min(-decimals, 19)
    return torch.round(whole.double() / step).to(whole.dtype) * step if step < 2**63 else torch.zeros_like(whole)


def trunc(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Round each element towards zero.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The nearest whole numbers towards zero, in the layout of `x` and with the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are bools or complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.trunc(ms.array([-1.5, 0.2, 2.0], split=0)).tolist()
    [-1.0, 0.0, 2.0]
    """
    return unary(torch.trunc, x, out, where)
