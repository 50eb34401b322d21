"""Skewness and kurtosis: the third and fourth moments of numbers about their mean, in units of their deviation.

Tested in tests/ops/test_all_operations.py.
"""

from __future__ import annotations

from math import nan

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.arithmetic import divide, multiply, subtract
from minisplit.ops.elementwise.exponentials import pow, square
from minisplit.ops.elementwise.selection import where
from minisplit.ops.reductions.functions import mean
from minisplit.ops.reductions.reduce import Axis, accumulation_dtype, plan_reduction, with_fractions


def skew(x: DNDarray, /, axis: Axis = None, *, unbiased: bool = True, keepdims: bool = False) -> DNDarray:
    """Compute the skewness along axes: the third moment about the mean, in units of the deviation.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    unbiased : bool, default True
        Whether to correct the bias of a sample, as Heat and pandas do. `scipy.stats.skew` does not by default.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The skewness; NaN where all numbers are equal, or less than three are there and the bias is corrected.
        The shape of `x` without the reduced axes. Split as `x`, with its counts, if its split axis stays,
        otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the numbers are complex.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: three allreduces of the result.

    See Also
    --------
    kurtosis : The fourth moment.

    Examples
    --------
    >>> import minisplit as ms
    >>> round(ms.skew(ms.array([1.0, 2.0, 6.0], split=0), unbiased=False).item(), 3)
    0.595
    """
    x, number, variance, deviations = _deviations(x, axis, "skew")
    third = mean(multiply(square(deviations), deviations), axis, keepdims=True)
    result = divide(third, pow(variance, 1.5))
    if unbiased:
        factor = (number * (number - 1)) ** 0.5 / (number - 2) if number > 2 else nan
        result = multiply(result, factor)
    return _finish(result, variance, x, axis, keepdims)


def kurtosis(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    unbiased: bool = True,
    fisher: bool = True,
    keepdims: bool = False,
) -> DNDarray:
    """Compute the kurtosis along axes: the fourth moment about the mean, in units of the deviation.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    unbiased : bool, default True
        Whether to correct the bias of a sample, as Heat and pandas do. `scipy.stats.kurtosis` does not by default.
    fisher : bool, default True
        Whether to subtract 3, the kurtosis of the normal distribution.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The kurtosis; NaN where all numbers are equal, or less than four are there and the bias is corrected.
        The shape of `x` without the reduced axes. Split as `x`, with its counts, if its split axis stays,
        otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the numbers are complex.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: three allreduces of the result.

    See Also
    --------
    skew : The third moment.

    Examples
    --------
    >>> import minisplit as ms
    >>> round(ms.kurtosis(ms.array([1.0, 2.0, 3.0, 9.0], split=0), unbiased=False).item(), 3)
    -0.798
    """
    x, number, variance, deviations = _deviations(x, axis, "kurtosis")
    fourth = mean(square(square(deviations)), axis, keepdims=True)
    result = divide(fourth, square(variance))
    if unbiased:
        scale = 1 / ((number - 2) * (number - 3)) if number > 3 else nan
        excess = subtract(multiply(result, number**2 - 1), 3 * (number - 1) ** 2)
        result = multiply(excess, scale)
    else:
        result = subtract(result, 3)
    return _finish(result if fisher else result + 3, variance, x, axis, keepdims)


def _deviations(x: DNDarray, axis: Axis, name: str) -> tuple[DNDarray, int, DNDarray, DNDarray]:
    """Return `x`, how many numbers are reduced to one, their variances, and the deviations, in a wide dtype."""
    if as_dndarray(x).dtype.is_complex:
        raise TypeError(f"{name} needs real numbers, got {x.dtype}; take abs() or real() first")
    wide = astype(x, accumulation_dtype(with_fractions(x.dtype)), copy=False)
    number = plan_reduction(x, axis, True)[1].count
    deviations = subtract(wide, mean(wide, axis, keepdims=True))
    return x, number, mean(square(deviations), axis, keepdims=True), deviations


def _finish(result: DNDarray, variance: DNDarray, x: DNDarray, axis: Axis, keepdims: bool) -> DNDarray:
    """Return results in the dtype of `x` and the shape that is asked for. Local."""
    layout = plan_reduction(x, axis, keepdims)[1].result
    shard = where(variance > 0, result, nan).larray.reshape(layout.lshape(x.comm.rank))
    return DNDarray(shard.to(with_fractions(x.dtype)), layout, x.comm)
