"""What is made of reductions and elementwise functions: each costs the messages of the reductions in it."""

from __future__ import annotations

from math import inf, nan

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.elementwise.apply import named
from minisplit.ops.elementwise.functions import (
    abs,
    divide,
    exp,
    greater,
    isfinite,
    isnan,
    log,
    logical_not,
    multiply,
    sqrt,
    square,
    subtract,
    where,
)
from minisplit.ops.reductions import functions as reductions
from minisplit.ops.reductions.reduce import (
    ORDERED,
    Axis,
    Reduce,
    accumulation_dtype,
    check_inexact,
    check_ordered,
    documentation,
    plan_reduction,
)

_TWICE = "\n\nA second message tells where there is nothing but NaN."


def _without_nan(extreme: Reduce, name: str, fill: float) -> Reduce:
    """Make min or max of what is not NaN."""

    def operation(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
        x = as_dndarray(x)
        if not x.dtype.is_floating_point:
            return extreme(x, axis, keepdims=keepdims)
        gaps = isnan(x)
        found = extreme(where(gaps, fill, x), axis, keepdims=keepdims)
        return where(reductions.all(gaps, axis, keepdims=keepdims), nan, found)

    what = f"The {'least' if name == 'nanmin' else 'greatest'} element that is not NaN, or NaN,"
    return named(operation, name, documentation(name, what, 1.0, more=_TWICE, errors=ORDERED))


nanmax = _without_nan(reductions.max, "nanmax", -inf)
nanmin = _without_nan(reductions.min, "nanmin", inf)


def nanmean(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """The mean of what is not NaN over an axis, a tuple of axes, or all of them (None).

    NaN where there is nothing. Local or collective as `minisplit.mean`, but by two messages where the split axis
    is reduced. Raises what that does.

    >>> import minisplit as ms
    >>> ms.nanmean(ms.array([1.0, float("nan"), 3.0], split=0)).item()
    2.0
    """
    x = as_dndarray(x)
    check_inexact(x.dtype, "nanmean")
    total = reductions.nansum(x, axis, dtype=accumulation_dtype(x.dtype), keepdims=keepdims)
    return _cast(divide(total, reductions.sum(logical_not(isnan(x)), axis, keepdims=keepdims)), x.dtype)


def nanvar(x: DNDarray, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> DNDarray:
    """The variance of what is not NaN over an axis, a tuple of axes, or all of them (None).

    The squared deviations are divided by the number of elements minus `correction`; NaN where that is not above
    0. Local or collective as `minisplit.var`, but by three messages where the split axis is reduced. Raises what
    that does.

    >>> import minisplit as ms
    >>> ms.nanvar(ms.array([1.0, float("nan"), 3.0], split=0)).item()
    1.0
    """
    x, way = plan_reduction(x, axis, keepdims)
    check_inexact(x.dtype, "nanvar")
    gaps, real = isnan(x), x.dtype.to_real() if x.dtype.is_complex else x.dtype
    numbers = where(gaps, 0.0, _cast(x, accumulation_dtype(x.dtype)))
    count = reductions.sum(logical_not(gaps), axis, keepdims=True)
    mean = divide(reductions.sum(numbers, axis, keepdims=True), count)
    deviations = abs(where(gaps, 0.0, subtract(numbers, mean)))
    squares = reductions.sum(square(deviations), axis, keepdims=True)
    freedom = subtract(count, correction)
    found = where(greater(freedom, 0), divide(squares, freedom), nan)
    shape = way.result.lshape(x.comm.rank)
    return _cast(DNDarray(found.larray.reshape(shape), way.result, x.comm), real)


def nanstd(x: DNDarray, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> DNDarray:
    """The standard deviation of what is not NaN: the root of `nanvar`. Local or collective as that.

    >>> import minisplit as ms
    >>> ms.nanstd(ms.array([1.0, float("nan"), 3.0], split=0)).item()
    1.0
    """
    return sqrt(nanvar(x, axis, correction=correction, keepdims=keepdims))


def average(
    x: DNDarray, /, axis: Axis = None, *, weights: DNDarray | None = None, keepdims: bool = False
) -> DNDarray:
    """The weighted mean over an axis, a tuple of axes, or all of them (None); without weights the mean.

    The weights have the shape of `x`, or are a 1-d array for one axis. They align as in `minisplit.multiply`; then
    it is local where the split axis stays, and else collective, by two messages. Raises what `minisplit.sum` does,
    and ValueError for weights of another shape.

    >>> import minisplit as ms
    >>> ms.average(ms.array([1.0, 4.0], split=0), weights=ms.array([2.0, 1.0])).item()
    2.0
    """
    x, way = plan_reduction(x, axis, keepdims)
    if weights is None:
        return reductions.mean(x, axis, keepdims=keepdims)
    if as_dndarray(weights, "weights").shape != x.shape:
        if weights.ndim != 1 or len(way.axes) != 1 or weights.shape[0] != x.shape[way.axes[0]]:
            raise ValueError(
                f"weights must have the shape of x, {x.shape}, or be 1-d for one axis of that length, "
                f"got shape {weights.shape} for axes {way.axes}"
            )
        weights = weights[(slice(None),) + (None,) * (x.ndim - 1 - way.axes[0])]
    parts = multiply(x, weights)
    dtype = torch.result_type(parts.larray, 1.0)
    # So that it is summed over the same axes.
    weights = multiply(weights, _cast(DNDarray(torch.ones_like(x.larray), x.layout, x.comm), weights.dtype))
    whole = [reductions.sum(y, axis, dtype=accumulation_dtype(dtype), keepdims=keepdims) for y in (parts, weights)]
    return _cast(divide(*whole), dtype)


def logsumexp(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """The logarithm of the sum of exponentials over an axis, a tuple of axes, or all of them (None).

    Without overflow: the greatest element is taken out first. Local or collective as `minisplit.sum`, but by two
    messages where the split axis is reduced, and of real floating point numbers only: TypeError for others.

    >>> import minisplit as ms
    >>> ms.logsumexp(ms.array([1000.0, 1000.0], split=0)).item() - 1000 > 0.69
    True
    """
    x, way = plan_reduction(x, axis, keepdims)
    check_inexact(x.dtype, "logsumexp")
    if not way.count:
        return log(reductions.sum(exp(x), axis, keepdims=keepdims))
    check_ordered(x, way, "logsumexp")
    y = _cast(x, accumulation_dtype(x.dtype))
    still = DNDarray(y.larray.detach(), y.layout, y.comm)
    peak = reductions.max(still, axis, keepdims=True)
    peak = where(isfinite(peak), peak, 0.0)
    found = log(reductions.sum(exp(y - peak), axis, keepdims=keepdims))
    shape = way.result.lshape(x.comm.rank)
    return _cast(found + DNDarray(peak.larray.reshape(shape), way.result, x.comm), x.dtype)


def _cast(x: DNDarray, dtype: torch.dtype) -> DNDarray:
    return DNDarray(x.larray.to(dtype), x.layout, x.comm)
