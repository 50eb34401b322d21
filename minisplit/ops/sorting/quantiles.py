"""Medians, quantiles and percentiles, by sorting: no rank gets all elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import all_reduce, redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import into, whole_operand
from minisplit.ops.reductions.reduce import Axis, accumulation_dtype, check_ordered, plan_reduction
from minisplit.ops.shape.layouts import ReducedLayout, split_elsewhere
from minisplit.ops.sorting.local_sort import sort_values
from minisplit.ops.sorting.sample_sort import sample_sort

Method = Literal[
    "linear", "lower", "higher", "nearest", "midpoint", "inverted_cdf", "averaged_inverted_cdf",
    "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased", "normal_unbiased",
]  # fmt: skip
Quantiles = float | Sequence[float] | np.ndarray[Any, Any] | torch.Tensor | DNDarray

Place = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _between(at: torch.Tensor) -> Place:
    return at.floor(), at.floor() + 1, at - at.floor()


def _exactly(at: torch.Tensor) -> Place:
    return at, at, torch.zeros_like(at)


def _hyndman_fan(a: float, b: float) -> Callable[[torch.Tensor, torch.Tensor], Place]:
    return lambda n, q: _between(n * q + (a + q * (1 - a - b)) - 1)


def _ceil_unless(at: torch.Tensor, keeps: torch.Tensor) -> Place:
    """The place behind `at`, or `at` itself where it is an integer that is to be kept."""
    return _exactly(torch.where((at == at.floor()) & keeps, at, at.floor() + 1))


def _averaged(at: torch.Tensor) -> Place:
    low, high, part = _between(at)
    return low, high, torch.where(part == 0, 0.5, 1.0)


# By method, from the length n of a sorted row and the fraction q: the places of two elements, which may lie beside
# the row, and how far from the first to the second. Hyndman, Fan: Sample quantiles in statistical packages (1996).
_METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], Place]] = {
    "linear": lambda n, q: _between((n - 1) * q),
    "lower": lambda n, q: _exactly(((n - 1) * q).floor()),
    "higher": lambda n, q: _exactly(((n - 1) * q).ceil()),
    "nearest": lambda n, q: _exactly(((n - 1) * q).round()),
    "midpoint": lambda n, q: (((n - 1) * q).floor(), ((n - 1) * q).ceil(), torch.full_like(n * q, 0.5)),
    "inverted_cdf": lambda n, q: _ceil_unless(n * q - 1, torch.ones_like(n * q, dtype=torch.bool)),
    "averaged_inverted_cdf": lambda n, q: _averaged(n * q - 1),
    "closest_observation": lambda n, q: _ceil_unless(n * q - 1.5, (n * q - 1.5).floor() % 2 == 1),
    "interpolated_inverted_cdf": _hyndman_fan(0, 1),
    "hazen": _hyndman_fan(0.5, 0.5),
    "weibull": _hyndman_fan(0, 0),
    "median_unbiased": _hyndman_fan(1 / 3, 1 / 3),
    "normal_unbiased": _hyndman_fan(3 / 8, 3 / 8),
}
# So many calls of torch.kthvalue, each of which takes time in proportion to the row, take less than a sort.
_FEW = 4


def median(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False, out: DNDarray | None = None) -> DNDarray:
    """Return the median along axes.

    Of an even number of elements it is the mean of the middle two. It is NaN where there is a NaN.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The medians, in the dtype of `x`, or float64 for integers. Split as `x` if its split axis stays, otherwise
        replicated.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there is no element.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective, as `quantile`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.median(ms.array([4.0, 1.0, 3.0, 9.0], split=0)).item()
    3.5
    """
    return into(_quantiles(x, 0.5, axis, "linear", keepdims, "median"), out)


def nanmedian(
    x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False, out: DNDarray | None = None
) -> DNDarray:
    """Return the median of the elements that are not NaN along axes.

    It is NaN where there are no others.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The medians, in the dtype of `x`, or float64 for integers. Split as `x` if its split axis stays, otherwise
        replicated.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there is no element.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective, as `quantile`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanmedian(ms.array([4.0, float("nan"), 3.0], split=0)).item()
    3.5
    """
    return into(_quantiles(x, 0.5, axis, "linear", keepdims, "nanmedian"), out)


def quantile(
    x: DNDarray,
    /,
    q: Quantiles,
    axis: Axis = None,
    *,
    method: Method = "linear",
    keepdims: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return quantiles along axes.

    They are NaN where there is a NaN.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    q : float, sequence of float or DNDarray
        The quantiles, from 0 to 1. The same on all ranks.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    method : str, default "linear"
        What to return for a quantile that lies between two elements: "linear", "lower", "higher", "nearest" or
        "midpoint"; or one of NumPy's further methods: "inverted_cdf", "averaged_inverted_cdf",
        "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased" or
        "normal_unbiased".
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The quantiles, with the axes of `q` first. In the dtype of `x`, or float64 for integers.
        Split as `x` if its split axis stays, otherwise replicated.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If a quantile is not from 0 to 1, for another method, or if there is no element.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective. Where the axes that stay have an index for every rank,
    one exchange moves the split there, and one gathers the result. Otherwise sample sort: two small allgathers,
    one exchange (two for more than one row of elements), and one allreduce of the result. Floating point numbers
    take one more allreduce, which counts NaNs.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.quantile(ms.arange(5, split=0), [0.25, 0.9], method="lower").tolist()
    [1.0, 3.0]
    """
    return into(_quantiles(x, q, axis, method, keepdims, "quantile"), out)


def nanquantile(
    x: DNDarray,
    /,
    q: Quantiles,
    axis: Axis = None,
    *,
    method: Method = "linear",
    keepdims: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return quantiles of the elements that are not NaN along axes.

    They are NaN where there are no others.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    q : float, sequence of float or DNDarray
        The quantiles, from 0 to 1. The same on all ranks.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    method : str, default "linear"
        What to return for a quantile that lies between two elements: "linear", "lower", "higher", "nearest" or
        "midpoint"; or one of NumPy's further methods: "inverted_cdf", "averaged_inverted_cdf",
        "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased" or
        "normal_unbiased".
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The quantiles, as those of `quantile`.

    Raises
    ------
    IndexError, ValueError, TypeError
        Where `quantile` does.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective, as `quantile`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanquantile(ms.array([4.0, float("nan"), 3.0], split=0), 1).item()
    4.0
    """
    return into(_quantiles(x, q, axis, method, keepdims, "nanquantile"), out)


def nanpercentile(
    x: DNDarray,
    /,
    q: Quantiles,
    axis: Axis = None,
    *,
    method: Method = "linear",
    keepdims: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return percentiles of the elements that are not NaN along axes.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    q : float, sequence of float or DNDarray
        The percentiles, from 0 to 100. The same on all ranks.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    method : str, default "linear"
        What to return for one that lies between two elements. See `quantile`.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The percentiles, as `nanquantile` returns quantiles.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If a percentile is not from 0 to 100, for another method, or if there is no element.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective, as `quantile`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanpercentile(ms.array([1.0, float('nan'), 3.0], split=0), 50).item()
    2.0
    """
    return into(_quantiles(x, q, axis, method, keepdims, "nanpercentile"), out)


def percentile(
    x: DNDarray,
    /,
    q: Quantiles,
    axis: Axis = None,
    *,
    method: Method = "linear",
    keepdims: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return percentiles along axes.

    They are NaN where there is a NaN.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    q : float, sequence of float or DNDarray
        The percentiles, from 0 to 100. The same on all ranks.
    axis : int or tuple of int, optional
        The axes to reduce. By default all of them.
    method : {"linear", "lower", "higher", "nearest", "midpoint"}, default "linear"
        What to return for a percentile that lies between two elements.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The percentiles, as the quantiles of `quantile`.

    Raises
    ------
    IndexError, ValueError, TypeError
        Where `quantile` does.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective, as `quantile`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.percentile(ms.arange(5, split=0), 50).item()
    2.0
    """
    return into(_quantiles(x, q, axis, method, keepdims, "percentile"), out)


def _quantiles(x: DNDarray, q: Quantiles, axis: Axis, method: str, keepdims: bool, name: str) -> DNDarray:
    """Compute what the function of this name returns: a name with "nan" skips NaNs, "percentile" is in percent."""
    x, plan = plan_reduction(x, axis, keepdims)
    check_ordered(x, plan, name)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {short_repr(method)}")
    fractions = _read_fractions(q, 100 if "percentile" in name else 1, x, plan.result)
    is_floating, skips_nan = x.dtype.is_floating_point, name.startswith("nan")
    rows, layout = _as_rows(x, plan)
    count = (~rows.isnan()).sum(1)
    if plan.crosses:
        count = all_reduce(count, x.comm) if is_floating else torch.full_like(count, plan.count)
    # In each row, by quantile. Sorted NaNs come last: where there is nothing else, place 0 has one.
    length = (count if skips_nan else torch.full_like(count, plan.count))[:, None].clamp(min=1)
    first, second, part = _METHODS[method](length, fractions.flatten())
    low, high = (torch.minimum(place.clamp(min=0), length - 1) for place in (first, second))
    picked = _pick(rows, layout, torch.cat([low, high], 1).long(), x.comm)
    ends = picked.to(accumulation_dtype(x.dtype) if is_floating else torch.float64)
    found = _interpolate(ends[:, : low.shape[1]], ends[:, low.shape[1] :], part.to(ends.dtype))
    if not skips_nan:
        found = torch.where(count[:, None] < plan.count, torch.nan, found)
    # NumPy's order of axes: those of q come first.
    kept, more = plan.result, tuple(fractions.shape)
    split = None if kept.split is None else kept.split + len(more)
    result = Layout((*more, *kept.shape), split, kept.ranks, kept.ragged)
    found = found.T.to(x.dtype if is_floating else torch.float64)
    return DNDarray(found.reshape(result.lshape(x.comm.rank)), result, x.comm)


def _read_fractions(q: Quantiles, whole: int, x: DNDarray, result: Layout) -> torch.Tensor:
    """The quantiles as fractions of `whole`, in float64."""
    given = whole_operand(q, "q", x, result, torch.float64)
    outside = given[~((given >= 0) & (given <= whole))]
    if len(outside):
        raise ValueError(f"q must be from 0 to {whole}, got {outside[0]}")
    return given / whole


def _as_rows(x: DNDarray, plan: ReducedLayout) -> tuple[torch.Tensor, Layout | None]:
    """This rank's elements, a row for each element of the result, and the layout of rows that ranks share.

    Local: the elements of a row are in any order, so that each rank has of the rows what it has of the array.
    """
    kept = [axis for axis in range(x.ndim) if axis not in plan.axes]
    rows = x.larray.permute((*kept, *plan.axes))
    if not plan.crosses:
        return rows.reshape(rows.numel() // plan.count, plan.count), None
    counts = tuple(n * (plan.count // x.layout.extent) for n in x.counts or ())
    layout = Layout((plan.result.size, plan.count), 1, x.comm.size, counts)
    return rows.reshape(layout.lshape(x.comm.rank)), layout


def _pick(rows: torch.Tensor, layout: Layout | None, places: torch.Tensor, comm: Communication) -> torch.Tensor:
    """What stands at some places of each row once it is sorted. Collective where ranks share the rows."""
    if layout is None:
        return _select(rows, places)
    by_rows = split_elsewhere(layout, 1)
    if by_rows is not None:
        own = sort_values(redistribute(rows, layout, by_rows, comm), 1)
        part = Layout(tuple(places.shape), 0, comm.size)
        return redistribute(own.gather(1, places[part.box(comm.rank)]), part, part.with_split(None), comm)
    found = sample_sort(rows, layout, comm)
    numbers = (places + torch.arange(len(places), device=places.device)[:, None] * layout.extent).flatten()
    start, stop = found.layout.span(comm.rank)
    is_own = ((numbers >= start) & (numbers < stop)).nonzero()[:, 0]
    # Each place is on one rank, all others add a zero.
    picked = found.values.new_zeros(len(numbers)).index_copy(0, is_own, found.values[numbers[is_own] - start])
    return all_reduce(picked, comm).reshape(places.shape)


def _select(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """What stands at some places of each row once it is sorted. Few places are found without sorting. Local."""
    # torch.kthvalue takes one place for all rows, which differ where NaNs are skipped, and no bools. The host has
    # to know the places, for which it would have to wait for a GPU.
    is_few = 0 < places.shape[1] <= _FEW and len(rows) and rows.dtype is not torch.bool
    if is_few and places.device.type == "cpu" and (places == places[0]).all():
        return torch.stack([rows.kthvalue(place + 1, 1).values for place in places[0].tolist()], 1)
    return sort_values(rows, 1).gather(1, places)


def _interpolate(low: torch.Tensor, high: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """From `low` a part of the distance to `high`."""
    distance = high - low
    # Next to an infinite element the distance is infinite or NaN: half-way from 1 to infinity is infinity.
    between = torch.where(part > 0, low * (1 - part) + high * part, low)
    weighted = torch.where(part < 1, between, high)
    return torch.where(distance.isfinite(), low + distance * part, weighted)
