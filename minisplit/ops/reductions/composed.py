"""Functions made of reductions: weighted means, sums of exponentials, reductions without NaN, equality."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.apply import into
from minisplit.ops.elementwise.arithmetic import add, divide, multiply, subtract
from minisplit.ops.elementwise.comparison import equal, isclose, logical_and, logical_not, logical_or
from minisplit.ops.elementwise.exponentials import exp, log, sqrt
from minisplit.ops.elementwise.floating import isfinite, isnan
from minisplit.ops.elementwise.selection import where
from minisplit.ops.reductions.functions import all, any, max, mean, min, prod_over, sum
from minisplit.ops.reductions.masked import (
    Where,
    in_dtype,
    masked,
    masked_mean,
    masked_variance,
    selected,
    with_initial,
)
from minisplit.ops.reductions.moments import merge_ddof
from minisplit.ops.reductions.reduce import (
    Axis,
    Dims,
    accumulate,
    accumulation_dtype,
    check_inexact,
    check_ordered,
    plan_reduction,
    product,
    with_fractions,
)


def average(
    x: DNDarray, /, axis: Axis = None, *, weights: DNDarray | None = None, keepdims: bool = False
) -> DNDarray:
    """Compute the weighted mean along axes.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    weights : DNDarray, optional
        The weights: of the shape of `x`, or 1-d for one axis. By default all are equal.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The sums of `x * weights`, divided by the sums of the weights, in float64 for integers. The shape of `x`
        without the reduced axes. Split as `x`, with its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` or `weights` is not a DNDarray, or an axis is not an int.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or the weights have another shape, or are on another communicator.
    ZeroDivisionError
        If weights add up to 0.

    Communication
    -------------
    Local without weights where the split axis stays. Otherwise collective. With weights, if the split axis stays:
    one small allreduce, which looks for sums of 0. If the split axis is reduced: two allreduces, of the products
    and of the weights. If the weights have another layout than `x`, `multiply` moves them first.

    See Also
    --------
    mean : The mean without weights.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.average(ms.array([1.0, 4.0], split=0), weights=ms.array([2.0, 1.0])).item()
    2.0
    """
    x, reduced = plan_reduction(x, axis, keepdims)
    if weights is None:
        return mean(x, axis, keepdims=keepdims)
    if as_dndarray(weights, "weights").shape != x.shape:
        if weights.ndim != 1 or len(reduced.axes) != 1 or weights.shape[0] != x.shape[reduced.axes[0]]:
            raise ValueError(
                f"weights must have the shape of x, {x.shape}, or be 1-d for one axis of that length, "
                f"got shape {weights.shape} for axes {reduced.axes}"
            )
        weights = weights[(slice(None),) + (None,) * (x.ndim - 1 - reduced.axes[0])]
    products = multiply(x, weights)
    is_inexact = products.dtype.is_floating_point or products.dtype.is_complex
    dtype = products.dtype if is_inexact else torch.float64
    # In the shape of x, so that the weights are added up along the same axes: 1-d ones are broadcast.
    ones = DNDarray(torch.ones_like(x.larray, dtype=weights.dtype), x.layout, x.comm)
    weights, wide = multiply(weights, ones), accumulation_dtype(dtype)
    total, weight = (sum(each, axis, dtype=wide, keepdims=keepdims) for each in (products, weights))
    if equal(weight, 0).any().item():
        raise ZeroDivisionError("the weights of an average must not add up to 0")
    return astype(divide(total, weight), dtype, copy=False)


def logsumexp(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """Compute the logarithm of the sum of exponentials along axes.

    Parameters
    ----------
    x : DNDarray
        The exponents, which are real floating-point numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The logarithms, without overflow: the greatest element is subtracted first. -inf of no elements. The shape
        of `x` without the reduced axes. Split as `x`, with its counts, if its split axis stays, otherwise
        replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the dtype is not a real floating-point one.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces, of the greatest elements and of the
    sums.

    See Also
    --------
    logaddexp : The same of two arrays.

    Notes
    -----
    Halves are added up in float32, and rounded once.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.logsumexp(ms.array([0.0, 0.0], split=0)).item() > 0.69
    True
    """
    x, reduced = plan_reduction(x, axis, keepdims)
    check_inexact(x.dtype, "logsumexp")
    if not reduced.count:
        return log(sum(exp(x), axis, keepdims=keepdims))
    check_ordered(x, reduced, "logsumexp")
    y = astype(x, accumulation_dtype(x.dtype), copy=False)
    # The result does not depend on what is subtracted, and so has no gradient for it.
    peak = max(DNDarray(y.larray.detach(), y.layout, y.comm), axis, keepdims=True)
    # An infinite peak would give inf - inf, which is NaN.
    peak = where(isfinite(peak), peak, 0.0)
    result = log(sum(exp(subtract(y, peak)), axis, keepdims=keepdims))
    shard = peak.larray.reshape(reduced.result.lshape(x.comm.rank))
    return astype(add(result, DNDarray(shard, reduced.result, x.comm)), x.dtype, copy=False)


def nanmax(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Return the greatest element along axes that is not NaN.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    initial : number, optional
        The result where there is no element, and its bound elsewhere.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The greatest elements; NaN where there is nothing else. The shape of `x` without the reduced axes. Split as
        `x`, with its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the numbers are complex.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or there is no element to choose from.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces, one of the result, and one that tells
    where all elements are NaN; for integers only the first.

    See Also
    --------
    max : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanmax(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    3.0
    """
    return _extreme_without_nan(max, -inf, x, axis, keepdims, out, initial, where)


def nanmean(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    dtype: Dtype = None,
    out: DNDarray | None = None,
    where: Where = True,
) -> DNDarray:
    """Compute the mean along axes of the elements that are not NaN.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    dtype : torch.dtype, optional
        The dtype of the result. By default that of `x`, but float64 for bools and integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The means; NaN where there is not a number. The shape of `x` without the reduced axes. Split as `x`, with
        its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or `dtype` is one without fractions.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces, of the sums and of the numbers of
    elements.

    See Also
    --------
    mean : NaN where there is one.

    Notes
    -----
    Halves are added up in float32, and rounded once.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanmean(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    2.0
    """
    x = as_dndarray(x)
    dtype = sanitize_dtype(dtype) or with_fractions(x.dtype)
    check_inexact(dtype, "nanmean")
    return into(masked_mean(sum, x, _counting(x, where), axis, dtype, keepdims), out)


def nanmin(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Return the least element along axes that is not NaN.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    initial : number, optional
        The result where there is no element, and its bound elsewhere.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The least elements; NaN where there is nothing else. The shape of `x` without the reduced axes. Split as
        `x`, with its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the numbers are complex.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or there is no element to choose from.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces, one of the result, and one that tells
    where all elements are NaN; for integers only the first.

    See Also
    --------
    min : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanmin(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    1.0
    """
    return _extreme_without_nan(min, inf, x, axis, keepdims, out, initial, where)


def nanprod(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    dtype: Dtype = None,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Multiply the elements along axes that are not NaN.

    Parameters
    ----------
    x : DNDarray
        The factors. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    initial : number, optional
        The value before the first element.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The products; 1 where there is not a number. The shape of `x` without the reduced axes. Split as `x`, with
        its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or `dtype` no dtype.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the result, or one gather of the
    ranks' products where a gradient is required.

    See Also
    --------
    prod : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanprod(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    3.0
    """
    x = masked(x, where, 1)
    if initial is not None:
        return into(with_initial(nanprod, multiply, x, axis, keepdims, initial, {"dtype": dtype}), out)
    return into(accumulate(_nanprod, product, x, axis, dtype, keepdims), out)


def nanstd(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
    ddof: float | None = None,
    dtype: Dtype = None,
    out: DNDarray | None = None,
    where: Where = True,
) -> DNDarray:
    """Compute the standard deviation along axes of the elements that are not NaN.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    correction : float, default 0.0
        The sum of squared deviations is divided by the number of elements minus `correction`.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    ddof : float, optional
        NumPy's name of `correction`. Only one of both may be given.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but float64 for bools and
        integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The square roots of what `nanvar` gives. Split as `x`, with its counts, if its split axis stays, otherwise
        replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or an axis is not an int.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: three allreduces.

    See Also
    --------
    std : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanstd(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    1.0
    """
    variance = nanvar(x, axis, correction=correction, keepdims=keepdims, ddof=ddof, dtype=dtype, where=where)
    return sqrt(variance, out=out)


def nansum(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    dtype: Dtype = None,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Add up the elements along axes that are not NaN.

    Parameters
    ----------
    x : DNDarray
        The summands. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    initial : number, optional
        The value before the first element.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The sums; 0 where there is not a number. The shape of `x` without the reduced axes. Split as `x`, with its
        counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or `dtype` no dtype.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    See Also
    --------
    sum : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nansum(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    4.0
    """
    x = masked(x, where, 0)
    if initial is not None:
        return into(with_initial(nansum, add, x, axis, keepdims, initial, {"dtype": dtype}), out)
    return into(accumulate(_nansum, all_reduce, x, axis, dtype, keepdims), out)


def nanvar(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
    ddof: float | None = None,
    dtype: Dtype = None,
    out: DNDarray | None = None,
    where: Where = True,
) -> DNDarray:
    """Compute the variance along axes of the elements that are not NaN.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    correction : float, default 0.0
        The sum of squared deviations is divided by the number of elements minus `correction`.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    ddof : float, optional
        NumPy's name of `correction`. Only one of both may be given.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but float64 for bools and
        integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The means of the squared deviations from the mean; NaN where the divisor is not above 0. The shape of `x`
        without the reduced axes. Split as `x`, with its counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or an axis is not an int.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: three allreduces, of the numbers of elements, the sums
    and the squared deviations.

    See Also
    --------
    var : NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanvar(ms.array([1.0, float('nan'), 3.0], split=0)).item()
    1.0
    """
    x, correction = in_dtype(x, dtype), merge_ddof(correction, ddof)
    return into(masked_variance(sum, x, _counting(x, where), axis, correction, keepdims), out)


def ptp(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False, out: DNDarray | None = None) -> DNDarray:
    """Return the difference of the greatest and the least element along axes: peak to peak.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The differences; NaN where there is a NaN. Those of integers are in their dtype, as those of NumPy, modulo
        its range. The shape of `x` without the reduced axes. Split as `x`, with its counts, if its split axis
        stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the numbers are complex.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or there is no element to choose from.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces of the result.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.ptp(ms.array([1.0, 5.0, 3.0], split=0)).item()
    4.0
    """
    return subtract(max(x, axis, keepdims=keepdims), min(x, axis, keepdims=keepdims), out=out)


def _extreme_without_nan(
    extreme: Callable[..., DNDarray],
    fill: float,
    x: DNDarray,
    axis: Axis,
    keepdims: bool,
    out: DNDarray | None,
    initial: complex | None,
    mask: Where,
) -> DNDarray:
    """Return the extremes of an array in which NaN is replaced by `fill`, which loses to all numbers."""
    x = as_dndarray(x)
    if not x.dtype.is_floating_point or initial is not None:
        x = x if initial is None else masked(x, _counting(x, True), initial)
        return extreme(x, axis, keepdims=keepdims, out=out, initial=initial, where=mask)
    counts = _counting(x, mask)
    result = extreme(masked(x, counts, fill), axis, keepdims=keepdims)
    # Where all are NaN the result is `fill`, but so it is where all numbers are that.
    return into(where(any(counts, axis, keepdims=keepdims), result, nan), out)


def _counting(x: DNDarray, mask: Where) -> DNDarray:
    """Return where `x` is not NaN, and a mask is true."""
    is_number = logical_not(isnan(x))
    return is_number if mask is True else logical_and(is_number, selected(x, mask))


def _nansum(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Add up the elements of a shard that are not NaN."""
    return torch.sum(torch.where(shard.isnan(), 0, shard), dims, keepdim)


def _nanprod(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Multiply the elements of a shard that are not NaN."""
    return prod_over(torch.where(shard.isnan(), 1, shard), dims, keepdim)


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


def array_equal(x1: DNDarray, x2: DNDarray, /, equal_nan: bool = False) -> bool:
    """Return whether two arrays have the same shape and equal elements, for any dtypes and layouts.

    Parameters
    ----------
    x1, x2 : DNDarray
        The arrays to compare. Any shape, split and counts.
    equal_nan : bool, default False
        Whether NaN equals NaN.

    Returns
    -------
    bool
        Whether they are equal. The same on every rank.

    Raises
    ------
    TypeError
        If one of them is not a DNDarray.
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
    if x1.shape != x2.shape:
        return False
    is_equal = equal(x1, x2)
    return bool(all(logical_or(is_equal, logical_and(isnan(x1), isnan(x2))) if equal_nan else is_equal))
