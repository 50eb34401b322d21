"""Exponentials, logarithms and powers of each element.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, Operand
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.apply import binary, unary


def exp(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the exponential function of each element.

    Parameters
    ----------
    x : DNDarray
        The exponents. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The powers of e, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local.

    See Also
    --------
    expm1 : The same minus 1, precise near 0.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.exp(ms.array([0.0, 1.0], split=0)).tolist()
    [1.0, 2.7182817459106445]
    """
    return unary(torch.exp, x, out, where)


def exp2(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute 2 to the power of each element.

    Parameters
    ----------
    x : DNDarray
        The exponents. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The powers of 2, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.exp2(ms.array([-1, 0, 3], split=0)).tolist()
    [0.5, 1.0, 8.0]
    """
    return unary(torch.exp2, x, out, where)


def expm1(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute `exp(x) - 1` of each element, precisely even near 0.

    Parameters
    ----------
    x : DNDarray
        The exponents. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The powers of e, minus 1, in the layout of `x`. Bools and integers give torch's default floating-point
        dtype.

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
    >>> ms.expm1(ms.array([0.0, 1e-12], split=0)).tolist()
    [0.0, 9.999999960041972e-13]
    """
    # Not torch.expm1, which gives other zeros and infinities of complex numbers than the standard asks for.
    return unary(special_cases.expm1, x, out, where)


def log(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the natural logarithm of each element.

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
        The logarithms, in the layout of `x`: -inf of 0, NaN of negative real numbers. Bools and integers give
        torch's default floating-point dtype.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local.

    See Also
    --------
    log1p : The logarithm of `1 + x`, precise near 0.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.log(ms.array([1.0, 0.0], split=0)).tolist()
    [0.0, -inf]
    """
    return unary(torch.log, x, out, where)


def log10(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the logarithm to base 10 of each element.

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
        The logarithms, in the layout of `x`: -inf of 0, NaN of negative real numbers. Bools and integers give
        torch's default floating-point dtype.

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
    >>> ms.log10(ms.array([1.0, 100.0], split=0)).tolist()
    [0.0, 2.0]
    """
    return unary(torch.log10, x, out, where)


def log1p(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute `log(1 + x)` of each element, precisely even near 0.

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
        The logarithms, in the layout of `x`: -inf of -1, NaN of real numbers below. Bools and integers give
        torch's default floating-point dtype.

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
    >>> ms.log1p(ms.array([0.0, 1e-12], split=0)).tolist()
    [0.0, 9.999999960041972e-13]
    """
    return unary(special_cases.log1p, x, out, where)


def log2(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the logarithm to base 2 of each element.

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
        The logarithms, in the layout of `x`: -inf of 0, NaN of negative real numbers. Bools and integers give
        torch's default floating-point dtype.

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
    >>> ms.log2(ms.array([1, 8], split=0)).tolist()
    [0.0, 3.0]
    """
    return unary(torch.log2, x, out, where)


def logaddexp(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute the logarithm of the sum of the exponentials of two arrays.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The logarithms of the summands. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The logarithms of the sums, without overflow. The dtype is that of `result_type`. Split as one of the
        operands, as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools or integers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    logsumexp : The same along an axis.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logaddexp(ms.array([1000.0, 0.0], split=0), -1000.0).tolist()
    [1000.0, 0.0]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.logaddexp, "logaddexp", x1, x2, numbers=0, out=out, where=where)


def logaddexp2(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Compute the logarithm, to base 2, of the sum of the powers of 2 of two arrays.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The exponents. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        `log2(2**x1 + 2**x2)`, without overflow. The dtype is that of `result_type`. Split as one of the operands,
        as that for which the fewest bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are no floating-point numbers.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    See Also
    --------
    logaddexp : The same to base e.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logaddexp2(ms.array([2000.0, 0.0], split=0), 0.0).tolist()
    [2000.0, 1.0]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.logaddexp2, "logaddexp2", x1, x2, numbers=0, out=out, where=where)


def pow(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Raise the elements of an array to the powers in another.

    Parameters
    ----------
    x1 : DNDarray or number
        The bases.
    x2 : DNDarray or number
        The exponents. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The powers. The dtype is that of `result_type`. Split as one of the operands, as that for which the fewest
        bytes move.

    Raises
    ------
    TypeError
        If an operand is neither a DNDarray nor a number, or none is a DNDarray.
    ValueError
        If the shapes do not broadcast, or the operands are on different communicators.
    NotImplementedError
        If the elements are bools.
    RuntimeError
        If integers are raised to a negative number.

    Communication
    -------------
    Local where the operands have one layout, or one of them is replicated or a number. Otherwise collective: one
    exchange for each operand that is not split as the result, or that is split along an axis on which it is
    broadcast.

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.arange(4, split=0) ** 2).tolist()
    [0, 1, 4, 9]
    """
    return binary(torch.pow, "pow", x1, x2, out=out, where=where)


def reciprocal(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the reciprocal of each element.

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
        The reciprocals, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.reciprocal(ms.array([1, 2, 4], split=0)).tolist()
    [1.0, 0.5, 0.25]
    """
    return unary(torch.reciprocal, x, out, where)


def sqrt(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the square root of each element.

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
        The square roots, in the layout of `x`: NaN of negative real numbers. Bools and integers give torch's
        default floating-point dtype.

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
    >>> ms.sqrt(ms.array([4, 9], split=0)).tolist()
    [2.0, 3.0]
    """
    return unary(torch.sqrt, x, out, where)


def square(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the square of each element.

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
        The squares, in the layout of `x`. Those of bools are int64.

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
    >>> ms.square(ms.array([-2, 3], split=0)).tolist()
    [4, 9]
    """
    return unary(torch.square, x, out, where)
