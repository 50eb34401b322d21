"""Medians, quantiles and percentiles, by sorting: no rank gets all elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import all_reduce, redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.reductions.axes import ReducedLayout
from minisplit.ops.reductions.reduce import Axis, accumulation_dtype, check_ordered, plan_reduction
from minisplit.ops.shape.layouts import split_elsewhere
from minisplit.ops.sorting.sample_sort import sample_sort

Method = Literal["linear", "lower", "higher", "nearest", "midpoint"]
Quantiles = float | Sequence[float] | np.ndarray[Any, Any] | torch.Tensor | DNDarray
# From a place between elements the two elements to take, and how far from the first to the second.
Between = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]

# So many selections of torch.kthvalue take less time than sorting.
_FEW = 4
_METHODS: dict[str, Between] = {
    "linear": lambda at: (at.floor(), at.ceil(), at - at.floor()),
    "lower": lambda at: (at.floor(), at.floor(), torch.zeros_like(at)),
    "higher": lambda at: (at.ceil(), at.ceil(), torch.zeros_like(at)),
    "nearest": lambda at: (at.round(), at.round(), torch.zeros_like(at)),
    "midpoint": lambda at: (at.floor(), at.ceil(), torch.full_like(at, 0.5)),
}


def median(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """The median over an axis, a tuple of axes, or all (None): of an even number the mean of the middle two.

    NaN where there is a NaN. Otherwise as `minisplit.quantile` of 0.5: Local, collective, dtype and errors.

    >>> import minisplit as ms
    >>> ms.median(ms.array([4.0, 1.0, 3.0, 9.0], split=0)).item()
    3.5
    """
    return _quantiles(x, 0.5, axis, "linear", keepdims, "median")


def nanmedian(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """The median of what is not NaN over an axis, a tuple of axes, or all of them (None).

    NaN where there is nothing else. Local or collective as `minisplit.median`.

    >>> import minisplit as ms
    >>> ms.nanmedian(ms.array([4.0, float("nan"), 3.0], split=0)).item()
    3.5
    """
    return _quantiles(x, 0.5, axis, "linear", keepdims, "nanmedian")


def quantile(
    x: DNDarray, q: Quantiles, /, axis: Axis = None, *, method: Method = "linear", keepdims: bool = False
) -> DNDarray:
    """The quantiles `q`, from 0 to 1, over an axis, a tuple of axes, or all of them (None), as `numpy.quantile`.

    q: a number, or several, the same on all ranks; the axes of `q` come first in the result.
    method: what to take between two elements: "linear", "lower", "higher", "nearest" or "midpoint".

    NaN where there is a NaN. The result has the dtype of `x`, but torch's default for integers; halves are
    interpolated in float32. Local where the split axis stays: then the result is split along it, with the counts
    of `x`. Where that is reduced the result is replicated, and it is collective: two small messages and one
    exchange sort the elements (two exchanges for more than one row of them), or, where the axes that stay have an
    index for every rank, one exchange moves the split there; one message more gives the result, and of floating
    point numbers another counts NaNs.

    Raises ValueError for a `q` outside of 0 to 1, another method, or where there is no element, TypeError for
    complex numbers and anything but a DNDarray, IndexError for an axis out of range: all on every rank.

    >>> import minisplit as ms
    >>> ms.quantile(ms.arange(5, split=0), [0.25, 0.9], method="lower").tolist()
    [1.0, 3.0]
    """
    return _quantiles(x, q, axis, method, keepdims, "quantile")


def nanquantile(
    x: DNDarray, q: Quantiles, /, axis: Axis = None, *, method: Method = "linear", keepdims: bool = False
) -> DNDarray:
    """The quantiles of what is not NaN, as `numpy.nanquantile`.

    NaN where there is nothing else. Local or collective as `minisplit.quantile`.

    >>> import minisplit as ms
    >>> ms.nanquantile(ms.array([4.0, float("nan"), 3.0], split=0), 1).item()
    4.0
    """
    return _quantiles(x, q, axis, method, keepdims, "nanquantile")


def percentile(
    x: DNDarray, q: Quantiles, /, axis: Axis = None, *, method: Method = "linear", keepdims: bool = False
) -> DNDarray:
    """The percentiles `q`, from 0 to 100, as `numpy.percentile`. Local or collective as `minisplit.quantile`.

    >>> import minisplit as ms
    >>> ms.percentile(ms.arange(5, split=0), 50).item()
    2.0
    """
    return _quantiles(x, q, axis, method, keepdims, "percentile")


def _quantiles(x: DNDarray, q: Quantiles, axis: Axis, method: str, keepdims: bool, name: str) -> DNDarray:
    x, way = plan_reduction(x, axis, keepdims)
    check_ordered(x, way, name)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    wanted = _fractions(q, 100 if name == "percentile" else 1).to(x.device)
    rows, line = _as_rows(x, way)
    count = (~rows.isnan()).sum(1)
    if way.crosses and x.dtype.is_floating_point:
        count = all_reduce(count, x.comm)
    elif way.crosses:
        count = torch.full_like(count, way.count)
    # In each row, by quantile; where there is nothing but NaN, the place of a NaN.
    last = (count if name.startswith("nan") else torch.full_like(count, way.count))[:, None] - 1
    low, high, part = _METHODS[method](wanted.flatten() * last.clamp(min=0))
    picked = _picked(rows, line, torch.cat([low, high], 1).long(), x.comm)
    ends = picked.to(accumulation_dtype(x.dtype) if x.dtype.is_floating_point else torch.float64)
    found = _between(ends[:, : low.shape[1]], ends[:, low.shape[1] :], part.to(ends.dtype))
    if not name.startswith("nan"):
        found = torch.where(count[:, None] < way.count, torch.nan, found)
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    kept, more = way.result, tuple(wanted.shape)
    split = None if kept.split is None else kept.split + len(more)
    result = Layout((*more, *kept.shape), split, kept.ranks, kept.ragged)
    return DNDarray(found.T.to(dtype).reshape(result.lshape(x.comm.rank)), result, x.comm)


def _fractions(q: Quantiles, whole: int) -> torch.Tensor:
    """The wanted quantiles, as fractions in float64."""
    given = torch.as_tensor(q.numpy() if isinstance(q, DNDarray) else q, dtype=torch.float64)
    outside = given[~((given >= 0) & (given <= whole))]
    if len(outside):
        raise ValueError(f"q must be from 0 to {whole}, got {outside[0]}")
    return given / whole


def _as_rows(x: DNDarray, way: ReducedLayout) -> tuple[torch.Tensor, Layout | None]:
    """This rank's elements, a row for each element of the result, and the layout of rows that ranks share.

    In any order within a row, so that what a rank has of the array is what it has of the rows. Local.
    """
    kept = [axis for axis in range(x.ndim) if axis not in way.axes]
    rows = x.larray.permute((*kept, *way.axes))
    if not way.crosses:
        return rows.reshape(rows.numel() // way.count, way.count), None
    counts = tuple(n * (way.count // x.layout.extent) for n in x.counts or ())
    line = Layout((way.result.size, way.count), 1, x.comm.size, counts)
    return rows.reshape(line.lshape(x.comm.rank)), line


def _picked(rows: torch.Tensor, line: Layout | None, places: torch.Tensor, comm: Communication) -> torch.Tensor:
    """What stands at some places of each row once it is sorted. Collective where ranks share the rows."""
    if line is None:
        return _selected(rows, places)
    home = split_elsewhere(line, 1)
    if home is not None:
        mine = torch.sort(redistribute(rows, line, home, comm), dim=1).values
        part = Layout(tuple(places.shape), 0, comm.size)
        return redistribute(mine.gather(1, places[part.box(comm.rank)]), part, part.with_split(None), comm)
    run = sample_sort(rows, line, comm)
    numbers = (places + torch.arange(len(places), device=places.device)[:, None] * line.extent).flatten()
    start, stop = run.layout.span(comm.rank)
    held = ((numbers >= start) & (numbers < stop)).nonzero()[:, 0]
    found = run.values.new_zeros(len(numbers)).index_copy(0, held, run.values[numbers[held] - start])
    return all_reduce(found, comm).reshape(places.shape)


def _selected(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """What stands at some places of each row once it is sorted. Few places are found without sorting."""
    few = 0 < places.shape[1] <= _FEW and len(rows) and rows.dtype is not torch.bool
    if few and (places == places[0]).all():
        return torch.stack([rows.kthvalue(place + 1, 1).values for place in places[0].tolist()], 1)
    return torch.sort(rows, dim=1).values.gather(1, places)


def _between(low: torch.Tensor, high: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """From `low` a part of the way to `high`; also where that is infinite."""
    way = high - low
    weighted = torch.where(part > 0, low * (1 - part) + high * part, low)
    return torch.where(way.isfinite(), low + way * part, weighted)
