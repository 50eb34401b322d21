"""Interpolation between the points of a table, which every rank has whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.elementwise.apply import whole_operand

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
        The values, in the layout of `x`. In the dtype to which torch promotes those of the three, and float64
        where that is one of integers.

    Raises
    ------
    ValueError
        If the points are not 1-d, not equally many or none, the period is 0, or the arrays are on different
        communicators.
    TypeError
        If `x` is no DNDarray, or a place is complex.

    Communication
    -------------
    Local. If `xp` or `fp` is split, collective: one exchange gathers each of them.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.interp(ms.array([0.5, 2.5, 9.0], split=0), [0, 1, 3], [10.0, 20.0, 40.0]).tolist()
    [15.0, 35.0, 40.0]
    """
    as_dndarray(x)
    places, values = _read_table(xp, x, "xp"), _read_table(fp, x, "fp")
    if places.ndim != 1 or places.shape != values.shape or not len(places):
        shapes = f"{tuple(places.shape)} and {tuple(values.shape)}"
        raise ValueError(f"xp and fp must be 1-d and equally many, at least one, got shapes {shapes}")
    if places.is_complex() or x.dtype.is_complex:
        raise TypeError(f"interp needs real places, got {x.dtype} and {places.dtype}")
    if period == 0:
        raise ValueError("period must not be 0")
    dtype = reduce(torch.promote_types, [x.dtype, places.dtype, values.dtype])
    dtype = dtype if dtype.is_floating_point or dtype.is_complex else torch.float64
    real = dtype.to_real() if dtype.is_complex else dtype
    at, places, values = x.larray.to(real), places.to(real), values.to(dtype)
    if period is not None:
        period = abs(period)
        at, places = at % period, places % period
        places, order = torch.sort(places, stable=True)
        values = values[order]
        places = torch.cat([places[-1:] - period, places, places[:1] + period])
        values = torch.cat([values[-1:], values, values[:1]])
    return DNDarray(_interpolate(at, places, values, left, right), x.layout, x.comm)


def _read_table(table: Table, x: DNDarray, name: str) -> torch.Tensor:
    """All of a table on every rank. Collective for a split DNDarray."""
    # As an array of NumPy: in torch a list of floats is one of float32.
    given = table if isinstance(table, DNDarray | torch.Tensor) else np.asarray(table)
    return whole_operand(given, name, x, x.layout)


def _interpolate(
    at: torch.Tensor, places: torch.Tensor, values: torch.Tensor, left: complex | None, right: complex | None
) -> torch.Tensor:
    """The values at this rank's places."""
    last = len(places) - 1
    before = torch.searchsorted(places.detach(), at.detach().contiguous(), right=True) - 1
    low, high = before.clamp(0, last), (before + 1).clamp(0, last)
    width = places[high] - places[low]
    # At the ends both are one point. A width of 1 there keeps NaN out of the gradient.
    distance, rise = (at - places[low]) / torch.where(width == 0, 1, width), values[high] - values[low]
    # Next to an infinite value one of both is NaN, and at a point itself, or between two infinities, both may be.
    upward, downward = values[low] + rise * distance, values[high] - rise * (1 - distance)
    result = torch.where(upward.isnan(), downward, upward)
    is_value = upward.isnan() & ((at == places[low]) | (values[low] == values[high]))
    result = torch.where(is_value, values[low], result)
    result = torch.where(at < places[0], values[0] if left is None else left, result)
    result = torch.where(at > places[-1], values[-1] if right is None else right, result)
    return torch.where(at.isnan(), torch.nan, result).to(values.dtype)
