"""Trigonometric and hyperbolic functions of each element.

Tested with all elementwise functions in tests/ops/elementwise/test_apply.py.
"""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, Operand
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.apply import binary, unary


def acos(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse cosine of each element.

    Parameters
    ----------
    x : DNDarray
        The cosines. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in radians, from 0 to pi, in the layout of `x`. Bools and integers give torch's default
        floating-point dtype.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local.

    Notes
    -----
    NaN of real numbers outside of -1 to 1. The sign of the imaginary part of a complex result at 0 is that of the
    Python Array API standard, where torch has the other.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.acos(ms.array([1.0], split=0)).tolist()
    [0.0]
    """
    # Not torch.acos, whose imaginary part has the wrong sign at a complex zero.
    return unary(special_cases.acos, x, out, where)


def acosh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse hyperbolic cosine of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic cosines. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic angles; NaN of real numbers below 1, in the layout of `x`. Bools and integers give torch's
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
    >>> ms.acosh(ms.array([1.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.acosh, x, out, where)


def asin(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse sine of each element.

    Parameters
    ----------
    x : DNDarray
        The sines. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in radians, from -pi/2 to pi/2; NaN of real numbers outside of -1 to 1, in the layout of `x`.
        Bools and integers give torch's default floating-point dtype.

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
    >>> ms.asin(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.asin, x, out, where)


def asinh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse hyperbolic sine of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic sines. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic angles, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.asinh(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.asinh, x, out, where)


def atan(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse tangent of each element.

    Parameters
    ----------
    x : DNDarray
        The tangents. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in radians, from -pi/2 to pi/2, in the layout of `x`. Bools and integers give torch's default
        floating-point dtype.

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
    >>> ms.atan(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.atan, x, out, where)


def atan2(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the angle between the positive first axis and each point of a plane.

    Parameters
    ----------
    x1 : DNDarray or number
        The second coordinates of the points.
    x2 : DNDarray or number
        The first coordinates of the points. At least one of both is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in radians, from -pi to pi: in the quadrant of the point, unlike the inverse tangent of `x1 /
        x2`. The dtype is that of `result_type`. Bools and integers give torch's default floating-point dtype.
        Split as one of the operands, as that for which the fewest bytes move.

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
    >>> ms.atan2(ms.array([0.0, 0.0], split=0), ms.array([1.0, -1.0])).tolist()
    [0.0, 3.1415927410125732]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.atan2, "atan2", x1, x2, numbers=0, out=out, where=where)


def atanh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the inverse hyperbolic tangent of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic tangents. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic angles; NaN of real numbers outside of -1 to 1, in the layout of `x`. Bools and integers
        give torch's default floating-point dtype.

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
    >>> ms.atanh(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.atanh, x, out, where)


def cos(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the cosine of each element.

    Parameters
    ----------
    x : DNDarray
        The angles, in radians. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The cosines, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.cos(ms.array([0.0], split=0)).tolist()
    [1.0]
    """
    return unary(torch.cos, x, out, where)


def cosh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the hyperbolic cosine of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic angles. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic cosines, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.cosh(ms.array([0.0], split=0)).tolist()
    [1.0]
    """
    return unary(torch.cosh, x, out, where)


def deg2rad(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Convert each element from degrees to radians.

    Parameters
    ----------
    x : DNDarray
        The angles, in degrees. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in radians, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.deg2rad(ms.array([0.0, 180.0], split=0)).tolist()
    [0.0, 3.1415927410125732]
    """
    return unary(torch.deg2rad, x, out, where)


def hypot(x1: Operand, x2: Operand, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the length of the hypotenuse for the legs in two arrays.

    Parameters
    ----------
    x1, x2 : DNDarray or number
        The legs of right triangles. At least one is a DNDarray. The shapes broadcast, as in NumPy.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The square roots of `x1**2 + x2**2`, without overflow in between. The dtype is that of `result_type`. Split
        as one of the operands, as that for which the fewest bytes move.

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
    >>> ms.hypot(ms.array([3.0, 5.0], split=0), ms.array([4.0, 12.0])).tolist()
    [5.0, 13.0]
    """
    # numbers=0: torch has this function for two tensors only.
    return binary(torch.hypot, "hypot", x1, x2, numbers=0, out=out, where=where)


def rad2deg(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Convert each element from radians to degrees.

    Parameters
    ----------
    x : DNDarray
        The angles, in radians. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The angles in degrees, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.rad2deg(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.rad2deg, x, out, where)


def sin(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the sine of each element.

    Parameters
    ----------
    x : DNDarray
        The angles, in radians. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The sines, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.sin(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.sin, x, out, where)


def sinc(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the normalised cardinal sine of each element, `sin(pi x) / (pi x)`.

    Parameters
    ----------
    x : DNDarray
        The arguments of the function. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The values of the function, 1 at 0, in the layout of `x`. Bools and integers give torch's default
        floating-point dtype.

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
    >>> ms.sinc(ms.array([0.0], split=0)).tolist()
    [1.0]
    """
    return unary(torch.sinc, x, out, where)


def sinh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the hyperbolic sine of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic angles. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic sines, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.sinh(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.sinh, x, out, where)


def tan(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the tangent of each element.

    Parameters
    ----------
    x : DNDarray
        The angles, in radians. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The tangents, in the layout of `x`. Bools and integers give torch's default floating-point dtype.

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
    >>> ms.tan(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(torch.tan, x, out, where)


def tanh(x: DNDarray, /, *, out: DNDarray | None = None, where: DNDarray | bool = True) -> DNDarray:
    """Compute the hyperbolic tangent of each element.

    Parameters
    ----------
    x : DNDarray
        The hyperbolic angles. Any shape, split and counts.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools: which results to write. The others stay as they are in `out`, and are 0 in a new array.

    Returns
    -------
    DNDarray
        The hyperbolic tangents, in the layout of `x`. Bools and integers give torch's default floating-point
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
    >>> ms.tanh(ms.array([0.0], split=0)).tolist()
    [0.0]
    """
    return unary(special_cases.tanh, x, out, where)
