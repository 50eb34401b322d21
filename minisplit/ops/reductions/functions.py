"""Reductions, under the names of the Python Array API standard."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.ops.elementwise.apply import into
from minisplit.ops.elementwise.arithmetic import add, multiply
from minisplit.ops.elementwise.exponentials import sqrt
from minisplit.ops.elementwise.selection import maximum, minimum
from minisplit.ops.reductions.extremes import extreme
from minisplit.ops.reductions.masked import (
    Where,
    check_initial,
    in_dtype,
    masked,
    masked_mean,
    masked_variance,
    selected,
    with_initial,
)
from minisplit.ops.reductions.moments import merge_ddof, variance
from minisplit.ops.reductions.reduce import Axis, Dims, accumulate, check_inexact, product, reduce, with_fractions


def all(
    x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False, out: DNDarray | None = None, where: Where = True
) -> DNDarray:
    """Return whether all elements along axes are nonzero.

    Parameters
    ----------
    x : DNDarray
        The elements to test. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        Bools; true of no elements. The shape of `x` without the reduced axes. Split as `x`, with its counts, if
        its split axis stays, otherwise replicated.

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
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    See Also
    --------
    any : Whether one element is other than zero.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.all(ms.ones((2, 3), split=0)).item()
    True
    """
    return into(reduce(_all, product, masked(x, where, 1), axis, keepdims), out)


def any(
    x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False, out: DNDarray | None = None, where: Where = True
) -> DNDarray:
    """Return whether any element along axes is nonzero.

    Parameters
    ----------
    x : DNDarray
        The elements to test. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        Bools; false of no elements. The shape of `x` without the reduced axes. Split as `x`, with its counts, if
        its split axis stays, otherwise replicated.

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
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    See Also
    --------
    all : Whether all elements are other than zero.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.any(ms.zeros((2, 3), split=0)).item()
    False
    """
    return into(reduce(_any, all_reduce, masked(x, where, 0), axis, keepdims), out)


def count_nonzero(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """Count the nonzero elements along axes.

    Parameters
    ----------
    x : DNDarray
        The elements to count. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The numbers of elements, int64. The shape of `x` without the reduced axes. Split as `x`, with its counts,
        if its split axis stays, otherwise replicated.

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
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.count_nonzero(ms.ones((2, 3), split=0)).item()
    6
    """
    return reduce(_count_nonzero, all_reduce, x, axis, keepdims)


def max(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Return the greatest element along axes.

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
        The greatest elements; NaN where there is one. The shape of `x` without the reduced axes. Split as `x`,
        with its counts, if its split axis stays, otherwise replicated.

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
    Local where the split axis stays. Otherwise collective: one allreduce of the result. The backward pass sends
    one allreduce.

    See Also
    --------
    maximum : The greater elements of two arrays.
    argmax : The index of the greatest element.
    nanmax : The greatest element that is not NaN.

    Notes
    -----
    The elements that have the extreme share its gradient evenly, as in `torch.amax`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.max(ms.arange(6, split=0).reshape((2, 3)), axis=0).tolist()
    [3, 4, 5]
    """
    check_initial(initial, where, "max")
    if initial is not None:
        x = masked(x, where, initial)
        return into(with_initial(max, maximum, x, axis, keepdims, initial, {}), out)
    return into(extreme("max", x, axis, keepdims), out)


def mean(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    dtype: Dtype = None,
    keepdims: bool = False,
    out: DNDarray | None = None,
    where: Where = True,
) -> DNDarray:
    """Compute the mean along axes.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but float64 for bools and
        integers.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    where : DNDarray or bool, default True
        Bools, which broadcast with `x`: the elements that count.

    Returns
    -------
    DNDarray
        The means; NaN of no elements. The shape of `x` without the reduced axes. Split as `x`, with its counts, if
        its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or `dtype` no dtype, or one without fractions.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    See Also
    --------
    average : The mean with weights.
    nanmean : The mean of the elements that are not NaN.

    Notes
    -----
    Halves are added up in float32, and rounded once.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.mean(ms.arange(6.0, split=0).reshape((2, 3)), axis=1).tolist()
    [1.0, 4.0]
    """
    dtype = sanitize_dtype(dtype) or with_fractions(as_dndarray(x).dtype)
    check_inexact(dtype, "mean")
    if where is not True:
        return into(masked_mean(sum, x, selected(x, where), axis, dtype, keepdims), out)
    return into(accumulate(torch.sum, all_reduce, x, axis, dtype, keepdims, is_mean=True), out)


def min(
    x: DNDarray,
    /,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    out: DNDarray | None = None,
    initial: complex | None = None,
    where: Where = True,
) -> DNDarray:
    """Return the least element along axes.

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
        The least elements; NaN where there is one. The shape of `x` without the reduced axes. Split as `x`, with
        its counts, if its split axis stays, otherwise replicated.

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
    Local where the split axis stays. Otherwise collective: one allreduce of the result. The backward pass sends
    one allreduce.

    See Also
    --------
    minimum : The lesser elements of two arrays.
    argmin : The index of the least element.
    nanmin : The least element that is not NaN.

    Notes
    -----
    The elements that have the extreme share its gradient evenly, as in `torch.amin`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.min(ms.arange(6, split=0).reshape((2, 3)), axis=0).tolist()
    [0, 1, 2]
    """
    check_initial(initial, where, "min")
    if initial is not None:
        x = masked(x, where, initial)
        return into(with_initial(min, minimum, x, axis, keepdims, initial, {}), out)
    return into(extreme("min", x, axis, keepdims), out)


def prod(
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
    """Multiply the elements along axes.

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
        The products; 1 of no elements. The shape of `x` without the reduced axes. Split as `x`, with its counts,
        if its split axis stays, otherwise replicated.

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
    nanprod : The product of the elements that are not NaN.

    Notes
    -----
    Halves are multiplied in float32, and rounded once.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.prod(ms.arange(1, 7, split=0).reshape((2, 3)), axis=0).tolist()
    [4, 10, 18]
    """
    x = masked(x, where, 1)
    if initial is not None:
        return into(with_initial(prod, multiply, x, axis, keepdims, initial, {"dtype": dtype}), out)
    return into(accumulate(prod_over, product, x, axis, dtype, keepdims), out)


def std(
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
    """Compute the standard deviation along axes.

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
        The square roots of the variances. The shape of `x` without the reduced axes. Split as `x`, with its
        counts, if its split axis stays, otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the correction is not a number.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of counts, means and squared deviations.

    See Also
    --------
    var : The variance, with notes on how it is computed.
    nanstd : The standard deviation of the elements that are not NaN.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.std(ms.array([1.0, 3.0], split=0)).item()
    1.0
    """
    x, correction = in_dtype(x, dtype), merge_ddof(correction, ddof)
    if where is not True:
        result = masked_variance(sum, x, selected(x, where), axis, correction, keepdims)
        return into(sqrt(result), out)
    return into(variance("std", x, axis, correction, keepdims), out)


def sum(
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
    """Add up the elements along axes.

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
        The sums; 0 of no elements. The shape of `x` without the reduced axes. Split as `x`, with its counts, if
        its split axis stays, otherwise replicated.

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
    cumulative_sum : The running sums.
    nansum : The sum of the elements that are not NaN.

    Notes
    -----
    Halves are added up in float32, and rounded once. Sums of unsigned integers are int64 as well, where the Python
    Array API standard asks for uint64: torch has no arithmetic of it. By `dtype=torch.uint64` they are exact
    modulo 2**64.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.sum(ms.arange(6, split=0).reshape((2, 3)), axis=0).tolist()
    [3, 5, 7]
    """
    x = masked(x, where, 0)
    if initial is not None:
        return into(with_initial(sum, add, x, axis, keepdims, initial, {"dtype": dtype}), out)
    return into(accumulate(torch.sum, all_reduce, x, axis, dtype, keepdims), out)


def var(
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
    """Compute the variance along axes.

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
        The means of the squared deviations from the mean, which are real; NaN or inf where the divisor is not
        above 0. The shape of `x` without the reduced axes. Split as `x`, with its counts, if its split axis stays,
        otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, an axis is not an int, or the correction is not a number.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of counts, means and squared deviations.

    See Also
    --------
    std : The square root of the variance.
    nanvar : The variance of the elements that are not NaN.

    Notes
    -----
    Over ranks, counts, means and sums of squared deviations are merged in float64, as in Chan, Golub, LeVeque:
    Algorithms for computing the sample variance, The American Statistician 37 (1983).

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.var(ms.array([1.0, 3.0], split=0)).item(), ms.var(ms.array([1.0, 3.0], split=0), correction=1).item()
    (1.0, 2.0)
    """
    x, correction = in_dtype(x, dtype), merge_ddof(correction, ddof)
    if where is not True:
        result = masked_variance(sum, x, selected(x, where), axis, correction, keepdims)
        return into(result, out)
    return into(variance("var", x, axis, correction, keepdims), out)


def _all(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Return whether all elements of a shard are other than zero."""
    # Not torch.all(shard): of bytes that would be bytes.
    return torch.all(shard != 0, dims, keepdim)


def _any(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Return whether an element of a shard is other than zero."""
    return torch.any(shard != 0, dims, keepdim)


def _count_nonzero(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Count the elements of a shard that are other than zero."""
    return torch.sum(shard != 0, dims, keepdim)


def prod_over(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    """Multiply the elements of a shard. torch.prod takes one axis."""
    # The last axis first: then the others keep their numbers.
    for dim in sorted(dims, reverse=True):
        shard = torch.prod(shard, dim, keepdim)
    return shard
