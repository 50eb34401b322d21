"""Differences of neighbours along an axis, and sums over the gaps between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import halo_exchange
from minisplit.core.layout import as_index, normalise_axis
from minisplit.ops.elementwise.arithmetic import multiply
from minisplit.ops.reductions import functions as reductions
from minisplit.ops.shape.join import concat
from minisplit.ops.shape.layouts import with_extent


def diff(
    x: DNDarray,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: DNDarray | None = None,
    append: DNDarray | None = None,
) -> DNDarray:
    """Return the differences of neighbours along an axis, `n` times over: each time it is shorter by 1.

    Of bools whether they differ. prepend, append: arrays that `concat` puts before and after `x` first.

    Local, but along the split axis collective: one exchange, in which each rank gets the `n` indices that come
    after its own. The result is split as `x`, with its counts, but for the last `n` indices of all.

    Raises IndexError for an axis out of range, ValueError for a negative `n`, and what `concat` does.

    >>> import minisplit as ms
    >>> ms.diff(ms.array([1, 4, 9, 16], split=0)).tolist()
    [3, 5, 7]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    if as_index(n, "n") < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if prepend is not None or append is not None:
        x = concat([part for part in (prepend, x, append) if part is not None], axis=axis)
    return _of_neighbours(x, axis, min(n, x.shape[axis]), lambda rows, n: torch.diff(rows, n, axis))


def trapezoid(y: DNDarray, /, x: DNDarray | None = None, dx: float = 1.0, axis: int = -1) -> DNDarray:
    """Return the integral of `y` along an axis by the trapezoidal rule.

    The points are `dx` apart, or at `x`, of the shape of `y` or 1-d, for all. Local where `axis` is not the split
    axis; else collective: an exchange with neighbours and an allreduce, and what it takes to bring the points to
    where `y` is. Raises IndexError for an axis out of range, ValueError for points that do not fit.

    >>> import minisplit as ms
    >>> ms.trapezoid(ms.array([0.0, 1.0, 4.0], split=0), dx=2.0).item()
    6.0
    """
    axis = normalise_axis(axis, as_dndarray(y, "y").ndim, "axis")

    def middle(rows: torch.Tensor, n: int) -> torch.Tensor:
        return (rows.narrow(axis, n, rows.shape[axis] - n) + rows.narrow(axis, 0, rows.shape[axis] - n)) / 2

    if x is not None and as_dndarray(x).shape not in (y.shape, y.shape[axis : axis + 1]):
        raise ValueError(f"x must have shape {y.shape}, as y, or {y.shape[axis : axis + 1]}, got shape {x.shape}")
    heights = _of_neighbours(y, axis, min(1, y.shape[axis]), middle)
    if x is None:
        return reductions.sum(multiply(heights, dx), axis)
    widths = diff(x, axis=axis if x.ndim == y.ndim else 0)
    if x.ndim < y.ndim:
        widths = widths[(slice(None), *(None,) * (y.ndim - 1 - axis))]
    return reductions.sum(multiply(heights, widths), axis)


def _of_neighbours(
    x: DNDarray, axis: int, n: int, function: Callable[[torch.Tensor, int], torch.Tensor]
) -> DNDarray:
    """What a function makes of each index along an axis and the `n` that come after it."""
    layout, comm, extent = x.layout, x.comm, x.shape[axis] - n
    if layout.split != axis:
        return DNDarray(function(x.larray, n), with_extent(layout, axis, extent), comm)
    bounds = layout.offsets().clip(max=extent)
    counts = np.diff(bounds).tolist()
    spans = [
        (start, start + count + n if count else start)
        for start, count in zip(bounds.tolist(), counts, strict=False)
    ]
    rows = halo_exchange(x.larray, layout, spans, comm)
    result = with_extent(layout, axis, extent, counts)
    return DNDarray(function(rows, n if counts[comm.rank] else 0), result, comm)
