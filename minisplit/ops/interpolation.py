"""Interpolation between the points of a table, which every rank has whole unless it is large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

from minisplit.core import collectives
from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.ops.elementwise.apply import check_one_communicator, whole_operand
from minisplit.ops.shape.join import concat
from minisplit.ops.sorting.search import searchsorted
from minisplit.ops.sorting.sort import argsort

Table = Sequence[float] | np.ndarray[Any, Any] | torch.Tensor | DNDarray


def interp(
    x: DNDarray,
    /,
    xp: Table,
    fp: Table,
    left: complex | None = None,
    right: complex | None = None,
    period: float | None = None,
) -> DNDarray:
    """Interpolate linearly between the points of a table. It is `numpy.interp`.

    Parameters
    ----------
    x : DNDarray
        Where to evaluate. Any shape, split and counts.
    xp : sequence of float or DNDarray
        The places of the points, 1-d and ascending; in any order with a period. The same on all ranks.
    fp : sequence of number or DNDarray
        The values at the points, as many. They may be complex.
    left : number, optional
        The value below the first point. By default that at the first point.
    right : number, optional
        The value beyond the last point. By default that at the last point.
    period : float, optional
        The period of the function, to which the places are reduced. Then `left` and `right` do not matter.

    Returns
    -------
    DNDarray
        The values, in the layout of `x`. In the dtype to which torch promotes the dtypes of the three, or float64
        if that is an integer dtype.

    Raises
    ------
    ValueError
        If the points are not 1-d, not equally many or none, the period is 0, or the arrays are on different
        communicators.
    TypeError
        If `x` is not a DNDarray, or a place is complex.

    Communication
    -------------
    Local. If `xp` or `fp` is split, collective: one exchange gathers each of them. If one of two arrays is split
    and has more than 16 MiB, neither is gathered: the messages are those of `searchsorted`, and of indexing each
    of them twice by an array; with a period also those of sorting them.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.interp(ms.array([0.5, 2.5, 9.0], split=0), [0, 1, 3], [10.0, 20.0, 40.0]).tolist()
    [15.0, 35.0, 40.0]
    """
    as_dndarray(x)
    parts = _large_arrays(xp, fp)
    if parts is not None:
        check_one_communicator([x, *parts])
    table: tuple[Any, Any] = parts or (_read_table(xp, x, "xp"), _read_table(fp, x, "fp"))
    places, values = table
    if places.ndim != 1 or places.shape != values.shape or not places.shape[0]:
        shapes = f"{tuple(places.shape)} and {tuple(values.shape)}"
        raise ValueError(f"xp and fp must be 1-d and of one length, at least 1, got shapes {shapes}")
    if places.dtype.is_complex or x.dtype.is_complex:
        raise TypeError(f"interp needs real places, got {x.dtype} and {places.dtype}")
    if period == 0:
        raise ValueError("period must not be 0")
    dtype = reduce(torch.promote_types, [x.dtype, places.dtype, values.dtype])
    dtype = dtype if dtype.is_floating_point or dtype.is_complex else torch.float64
    at, period = x.larray.to(dtype.to_real()), None if period is None else abs(period)
    if period is not None:
        at = at % period
    find: Callable[..., _Points] = _find if parts is None else _find_in_parts
    points = find(DNDarray(at, x.layout, x.comm), *table, dtype, period)
    return DNDarray(_interpolate(at, points, left, right).to(dtype), x.layout, x.comm)


def _large_arrays(xp: Table, fp: Table) -> tuple[DNDarray, DNDarray] | None:
    """The table, if it is in two arrays of which one is split and too large to be gathered."""
    if not (isinstance(xp, DNDarray) and isinstance(fp, DNDarray)):
        return None
    is_large = any(each.split is not None and each.nbytes > collectives.RING_BYTES for each in (xp, fp))
    return (xp, fp) if is_large else None


def _read_table(table: Table, x: DNDarray, name: str) -> torch.Tensor:
    """All of a table on every rank. Collective for a split DNDarray."""
    # As an array of NumPy: in torch a list of floats is one of float32.
    given = table if isinstance(table, DNDarray | torch.Tensor) else np.asarray(table)
    return whole_operand(given, name, x, x.layout)


@dataclass(frozen=True, slots=True)
class _Points:
    """The points of a table before and after each place, and those at its ends."""

    low: torch.Tensor
    high: torch.Tensor
    value_low: torch.Tensor
    value_high: torch.Tensor
    ends: tuple[torch.Tensor, torch.Tensor]
    end_values: tuple[torch.Tensor, torch.Tensor]


def _find(
    x: DNDarray, places: torch.Tensor, values: torch.Tensor, dtype: torch.dtype, period: float | None
) -> _Points:
    """The points next to this rank's places, of a table that the rank has whole."""
    at, places, values = x._larray, places.to(dtype.to_real()), values.to(dtype)
    if period is not None:
        places, order = torch.sort(places % period, stable=True)
        values = values[order]
        places = torch.cat([places[-1:] - period, places, places[:1] + period])
        values = torch.cat([values[-1:], values, values[:1]])
    last = len(places) - 1
    before = torch.searchsorted(places.detach(), at.detach().contiguous(), right=True) - 1
    low, high = before.clamp(0, last), (before + 1).clamp(0, last)
    ends, end_values = (places[0], places[-1]), (values[0], values[-1])
    return _Points(places[low], places[high], values[low], values[high], ends, end_values)


def _find_in_parts(
    at: DNDarray, places: DNDarray, values: DNDarray, dtype: torch.dtype, period: float | None
) -> _Points:
    """The points next to this rank's places, of a table of which each rank has a part. Collective."""
    places, values = places.astype(dtype.to_real()), values.astype(dtype)
    if period is not None:
        places = places % period
        order = argsort(places, stable=True)
        places, values = places[order], values[order]
        places = concat([places[-1:] - period, places, places[:1] + period])
        values = concat([values[-1:], values, values[:1]])
    before, last = searchsorted(places, at, side="right") - 1, places.size - 1
    found = [
        table[each.clip(0, last)]._align(at._layout)._larray
        for table in (places, values)
        for each in (before, before + 1)
    ]
    # Each rank uses all of the ends for its own places.
    ends = [table[place]._larray for table in (places, values) for place in (0, -1)]
    if at._layout.split is not None:
        ends = [all_reduce_gradient(each, at._comm) for each in ends]
    return _Points(found[0], found[1], found[2], found[3], (ends[0], ends[1]), (ends[2], ends[3]))


def _interpolate(at: torch.Tensor, points: _Points, left: complex | None, right: complex | None) -> torch.Tensor:
    """The values at this rank's places."""
    low, high = points.value_low, points.value_high
    width = points.high - points.low
    # At the ends both are one point. A width of 1 there keeps NaN out of the gradient.
    distance, rise = (at - points.low) / torch.where(width == 0, 1, width), high - low
    # Next to an infinite value one of both is NaN, and at a point itself, or between two infinities, both may be.
    upward, downward = low + rise * distance, high - rise * (1 - distance)
    result = torch.where(upward.isnan(), downward, upward)
    is_value = upward.isnan() & ((at == points.low) | (low == high))
    result = torch.where(is_value, low, result)
    result = torch.where(at < points.ends[0], points.end_values[0] if left is None else left, result)
    result = torch.where(at > points.ends[1], points.end_values[1] if right is None else right, result)
    return torch.where(at.isnan(), torch.nan, result)
