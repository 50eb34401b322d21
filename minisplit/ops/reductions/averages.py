"""Weighted means, and logarithms of sums of exponentials."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.arithmetic import add, divide, multiply, subtract
from minisplit.ops.elementwise.exponentials import exp, log
from minisplit.ops.elementwise.floating import isfinite
from minisplit.ops.elementwise.selection import where
from minisplit.ops.reductions.functions import max, mean, sum
from minisplit.ops.reductions.reduce import Axis, accumulation_dtype, check_inexact, check_ordered, plan_reduction


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
        The sums of `x * weights`, divided by the sums of the weights. The shape of `x` without the reduced axes.
        Split as `x`, with its counts, where its split axis stays, else replicated.

    Raises
    ------
    TypeError
        If `x` or `weights` is no DNDarray, an axis is no int, or, without weights, the dtype has no fractions.
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or the weights have another shape, or are on another communicator.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: two allreduces, of the products and of the weights.
    Where the weights are split in another way than `x`, `multiply` moves them first.

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
    dtype = torch.result_type(products.larray, 1.0)
    # In the shape of x, so that the weights are added up along the same axes: 1-d ones are broadcast.
    ones = DNDarray(torch.ones_like(x.larray, dtype=weights.dtype), x.layout, x.comm)
    weights, wide = multiply(weights, ones), accumulation_dtype(dtype)
    total = sum(products, axis, dtype=wide, keepdims=keepdims)
    return astype(divide(total, sum(weights, axis, dtype=wide, keepdims=keepdims)), dtype, copy=False)


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
        of `x` without the reduced axes. Split as `x`, with its counts, where its split axis stays, else
        replicated.

    Raises
    ------
    TypeError
        If `x` is no DNDarray, an axis is no int, or the dtype is not a real floating-point one.
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
