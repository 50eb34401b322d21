"""What floating-point and complex numbers consist of: signs, parts, NaN and infinities.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

from functools import partial

import torch

from minisplit.core.array import DNDarray, Operand
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.apply import binary, unary


def angle(x: DNDarray, /, deg: bool = False) -> DNDarray:
    """Compute the argument of each element: the angle between it and the positive real axis.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    deg : bool, default False
        Whether the angles are in degrees, and not in radians.

    Returns
    -------
    DNDarray
        The angles, in the layout of `x`: from -pi to pi, of real numbers 0 or pi.

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
    >>> ms.angle(ms.array([1, 1j, -1], split=0), deg=True).tolist()
    [0.0, 90.0, 180.0]
    """
    angles = unary(torch.angle, x)
    return unary(torch.rad2deg, angles) if deg else angles


def conj(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the complex conjugate of each element.

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
        The numbers with the negated imaginary part, in the layout of `x` and in new memory.

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
    >>> ms.conj(ms.array([1 + 2j, 3 - 1j], split=0)).tolist()
    [(1-2j), (3+1j)]
    """
    # Not torch.conj, which shares memory with its argument.
    return unary(special_cases.conj, x, out, where)


def copysign(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return the numbers of one array with the signs of another array.

    Parameters
    ----------
    x1 : DNDarray or number
        The numbers.
    x2 : DNDarray or number
        The numbers that give the signs, also the signs of zeros. At least one of both is a DNDarray. The shapes
        broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The absolute values of `x1` with the signs of `x2`. The dtype is that of `result_type`. Bools and integers
        give torch's default floating-point dtype. Split as one of the operands, as that for which the fewest bytes
        move.

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
    >>> ms.copysign(ms.array([1.0, -2.0], split=0), -0.0).tolist()
    [-1.0, -2.0]
    """
    # numbers=1: torch takes a number in the second place only.
    return binary(torch.copysign, "copysign", x1, x2, numbers=1, out=out, where=where)


def imag(x: DNDarray, /) -> DNDarray:
    """Return the imaginary part of each element.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The imaginary parts, in the layout of `x` and in new memory. Zeros of real numbers.

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
    >>> ms.imag(ms.array([1 + 2j, 3 - 1j], split=0)).tolist()
    [2.0, -1.0]
    """
    return unary(special_cases.imag, x)


def iscomplex(x: DNDarray, /) -> DNDarray:
    """Return whether the imaginary part of each element is not 0.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        Bools, in the layout of `x`: all false for a real dtype.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local.

    See Also
    --------
    isreal : The opposite.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.iscomplex(ms.array([1 + 2j, 3 + 0j], split=0)).tolist()
    [True, False]
    """
    return unary(lambda shard: torch.isreal(shard).logical_not(), x)


def isfinite(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is a finite number.

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
        Bools, in the layout of `x`: whether the element is neither infinite nor NaN.

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
    >>> ms.isfinite(ms.array([1.0, float('inf'), -float('inf'), float('nan')], split=0)).tolist()
    [True, False, False, False]
    """
    return unary(torch.isfinite, x, out, where)


def isinf(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is infinite.

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
        Bools, in the layout of `x`: whether the element, or a part of it, is inf or -inf.

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
    >>> ms.isinf(ms.array([1.0, float('inf'), -float('inf'), float('nan')], split=0)).tolist()
    [False, True, True, False]
    """
    return unary(torch.isinf, x, out, where)


def isnan(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is NaN.

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
        Bools, in the layout of `x`: whether the element, or a part of it, is NaN.

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
    >>> ms.isnan(ms.array([1.0, float('inf'), -float('inf'), float('nan')], split=0)).tolist()
    [False, False, False, True]
    """
    return unary(torch.isnan, x, out, where)


def isneginf(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is -inf.

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
        Bools, in the layout of `x`.

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
    >>> ms.isneginf(ms.array([1.0, float('inf'), -float('inf'), float('nan')], split=0)).tolist()
    [False, False, True, False]
    """
    return unary(torch.isneginf, x, out, where)


def isposinf(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether each element is inf.

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
        Bools, in the layout of `x`.

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
    >>> ms.isposinf(ms.array([1.0, float('inf'), -float('inf'), float('nan')], split=0)).tolist()
    [False, True, False, False]
    """
    return unary(torch.isposinf, x, out, where)


def isreal(x: DNDarray, /) -> DNDarray:
    """Return whether the imaginary part of each element is 0.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        Bools, in the layout of `x`: all true for a real dtype.

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
    >>> ms.isreal(ms.array([1 + 2j, 3 + 0j], split=0)).tolist()
    [False, True]
    """
    return unary(torch.isreal, x)


def nan_to_num(
    x: DNDarray, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> DNDarray:
    """Replace NaN and infinities by numbers.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    nan : float, default 0.0
        What to put in place of NaN.
    posinf : float, optional
        What to put in place of inf. By default the greatest number of the dtype.
    neginf : float, optional
        What to put in place of -inf. By default the least number of the dtype.

    Returns
    -------
    DNDarray
        The numbers, in the layout of `x` and in new memory.

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
    >>> ms.nan_to_num(ms.array([float('nan'), 1.0], split=0), nan=7.0).tolist()
    [7.0, 1.0]
    """
    return unary(partial(torch.nan_to_num, nan=nan, posinf=posinf, neginf=neginf), x)


def nextafter(
    x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True
) -> DNDarray:
    """Return the next floating-point number after each element.

    Parameters
    ----------
    x1 : DNDarray or number
        The numbers.
    x2 : DNDarray or number
        The numbers in whose direction to go. At least one of both is a DNDarray. The shapes broadcast, as in
        NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The neighbours of the elements of `x1` towards those of `x2`. The dtype is that of `result_type`. Split as
        one of the operands, as that for which the fewest bytes move.

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

    Examples
    --------
    >>> import minisplit as ms
    >>> (ms.nextafter(ms.zeros(1, split=0), 1.0) > 0).tolist()
    [True]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.nextafter, "nextafter", x1, x2, numbers=0, out=out, where=where)


def real(x: DNDarray, /) -> DNDarray:
    """Return the real part of each element.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The real parts, in the layout of `x` and in new memory.

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
    >>> ms.real(ms.array([1 + 2j, 3 - 1j], split=0)).tolist()
    [1.0, 3.0]
    """
    return unary(special_cases.real, x)


def signbit(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Return whether the sign bit of each element is set.

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
        Bools, in the layout of `x`: true for negative numbers and for -0.0.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.
    NotImplementedError
        If the elements are complex.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.signbit(ms.array([-1.0, -0.0, 0.0], split=0)).tolist()
    [True, True, False]
    """
    return unary(torch.signbit, x, out, where)
