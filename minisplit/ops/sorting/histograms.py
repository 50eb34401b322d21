"""Counting by value: each rank counts its elements, one allreduce adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.layout import Layout, as_index
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.reductions.reduce import accumulation_dtype, sum_dtype
from minisplit.ops.sorting.search import searchsorted

Edges = int | Sequence[float] | np.ndarray[Any, Any] | torch.Tensor | DNDarray


def histogram(
    x: DNDarray,
    /,
    bins: Edges = 10,
    range: tuple[float, float] | None = None,
    weights: DNDarray | None = None,
    density: bool = False,
) -> tuple[DNDarray, DNDarray]:
    """How many elements of `x` are in each bin, and the edges of the bins, as `numpy.histogram`: both replicated.

    bins: how many, equally wide from end to end of `range`, by default the least and greatest element; or their
        edges, ascending. A bin has its left edge and not its right one, but the last has both.
    weights: what each element counts, in the shape of `x`.
    density: whether to divide by the number of all and the bins' widths.

    Counts are int64, of weights what `minisplit.sum` gives of them; edges have the dtype of `x`, but float64 for
    integers. Collective for a split array: an allreduce, and one before it for the range if that is not given;
    weights come to the layout of `x`, by one exchange if that is another.

    Raises ValueError for edges that descend, fewer than one bin, a range that is not finite or descends, weights
    of another shape, TypeError for complex numbers and anything but DNDarrays: all on every rank.

    >>> import minisplit as ms
    >>> hist, edges = ms.histogram(ms.arange(4, split=0), bins=2)
    >>> hist.tolist(), edges.tolist()
    ([2, 2], [0.0, 1.5, 3.0])
    """
    x, values = _with_weights(x, weights, "histogram")
    if x.dtype.is_complex:
        raise TypeError(f"histogram needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    edges = _edges(x, bins, range)
    sought = x.larray.detach().to(edges.dtype)
    number = len(edges) - 1
    place = torch.searchsorted(edges, sought.flatten(), right=True) - 1
    place[sought.flatten() == edges[-1]] = number - 1
    inside = ((place >= 0) & (place < number) & ~sought.flatten().isnan()).nonzero()[:, 0]
    hist = _summed(place[inside], None if values is None else values.flatten()[inside], number, x)
    if density:
        exact = hist.to(torch.promote_types(hist.dtype, edges.dtype))
        hist = exact / edges.diff() / exact.sum()
    return _replicated(hist, x), _replicated(edges, x)


def bincount(x: DNDarray, /, weights: DNDarray | None = None, minlength: int = 0) -> DNDarray:
    """How often each integer from 0 to the greatest occurs in a 1-d array, as `numpy.bincount`: replicated.

    weights: what each element counts, in the shape of `x`; then the result is what `minisplit.sum` gives of them.
    minlength: the least length of the result.

    int64. Collective for a split array: an allreduce, and a small one before it for the greatest; weights come to
    the layout of `x`, by one exchange if that is another. Raises ValueError for negative integers, another number
    of dimensions, weights of another shape, TypeError for other than bools and integers: all on every rank.

    >>> import minisplit as ms
    >>> ms.bincount(ms.array([3, 1, 3], split=0)).tolist()
    [0, 1, 0, 2]
    """
    x, values = _with_weights(x, weights, "bincount")
    if x.ndim != 1:
        raise ValueError(f"bincount counts in a 1-d array, got shape {x.shape}; use ravel() first")
    if x.dtype.is_floating_point or x.dtype.is_complex:
        raise TypeError(f"bincount counts bools and integers, got {x.dtype}; histogram counts other numbers")
    if (least := as_index(minlength, "minlength")) < 0:
        raise ValueError(f"minlength must not be negative, got {minlength}")
    shard = x.larray.to(torch.int64)
    low, high = _extremes(shard, x, (0, -1))
    if low < 0:
        raise ValueError(f"bincount counts integers from 0 on, got {low}")
    return _replicated(_summed(shard, values, max(int(high) + 1, least), x), x)


def digitize(x: DNDarray, /, bins: Edges, right: bool = False) -> DNDarray:
    """Which bin each element of `x` is in, as `numpy.digitize`: int64, with the layout of `x`.

    bins: edges, 1-d, ascending or descending. Bin i is between edges i-1 and i, of which it has the lesser one;
        with `right` the greater one. 0 and the number of edges mean before and after all.

    Local, but collective for split `bins`, which are gathered. Raises ValueError for edges that do neither ascend
    nor descend or are not 1-d, TypeError for complex numbers and anything but a DNDarray.

    >>> import minisplit as ms
    >>> ms.digitize(ms.arange(4, split=0), [1, 3]).tolist()
    [0, 1, 1, 2]
    """
    x = as_dndarray(x)
    edges = _whole(bins, x)
    steps = edges[1:] >= edges[:-1], edges[1:] <= edges[:-1]
    if not (steps[0].all() or steps[1].all()):
        raise ValueError("bins must ascend or descend, got edges that do both")
    ascends = bool(steps[0].all())
    found = searchsorted(_replicated(edges if ascends else edges.flip(0), x), x, side="left" if right else "right")
    return found if ascends else DNDarray(len(edges) - found.larray, found.layout, found.comm)


def bucketize(x: DNDarray, /, boundaries: Edges, *, right: bool = False) -> DNDarray:
    """Which bucket each element of `x` is in, as `torch.bucketize`: int64, with the layout of `x`.

    boundaries: 1-d, ascending. Bucket i has its right boundary, i, and not its left one; with `right` it is the
        other way round.

    Local, but collective for split `boundaries`, which are gathered. Raises what `minisplit.searchsorted` does.

    >>> import minisplit as ms
    >>> ms.bucketize(ms.arange(4, split=0), [1, 3]).tolist()
    [0, 0, 1, 1]
    """
    x = as_dndarray(x)
    return searchsorted(_replicated(_whole(boundaries, x), x), x, side="right" if right else "left")


def _with_weights(x: DNDarray, weights: DNDarray | None, name: str) -> tuple[DNDarray, torch.Tensor | None]:
    """`x`, and this rank's part of the weights; a replicated `x` is cut as they are."""
    x = as_dndarray(x)
    if weights is None:
        return x, None
    check_one_communicator([x, as_dndarray(weights, "weights")])
    if weights.shape != x.shape:
        raise ValueError(f"weights of {name} must have the shape of x, {x.shape}, got {weights.shape}")
    if x.split is None:
        x = x._align(weights.layout)
    return x, weights._align(x.layout).larray


def _summed(place: torch.Tensor, weights: torch.Tensor | None, number: int, x: DNDarray) -> torch.Tensor:
    """How often each place from 0 to below `number` occurs on all ranks, or the sums of its weights."""
    if weights is None:
        part, dtype = torch.bincount(place, minlength=number), torch.int64
    else:
        dtype = sum_dtype(weights.dtype, None)
        part = torch.zeros(number, dtype=accumulation_dtype(dtype), device=x.device)
        part = part.index_add(0, place, weights.to(part.dtype))
    return (all_reduce(part, x.comm) if x.split is not None else part).to(dtype)


def _extremes(shard: torch.Tensor, x: DNDarray, default: tuple[float, float]) -> tuple[float, float]:
    """The least and the greatest element of all ranks, by one message; the default where there is none."""
    if not x.size:
        return default
    bound = torch.finfo(shard.dtype).min if shard.dtype.is_floating_point else torch.iinfo(shard.dtype).min + 1
    ends = torch.full(
        (2,), -torch.inf if shard.dtype.is_floating_point else bound, dtype=shard.dtype, device=x.device
    )
    if shard.numel():
        ends = torch.stack([-shard.min(), shard.max()])
    if x.split is not None:
        ends = x.comm.allreduce(ends, "max")
    return -ends[0].item(), ends[1].item()


def _edges(x: DNDarray, bins: Edges, range: tuple[float, float] | None) -> torch.Tensor:
    """The edges of a histogram's bins, in the dtype in which elements are compared with them."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.float64
    if not isinstance(bins, (int, np.integer)):
        edges = _whole(bins, x)
        edges = edges.to(torch.promote_types(edges.dtype, dtype))
        if len(edges) < 2:
            raise ValueError(f"bins must be an int, or at least two edges, got {len(edges)}")
        if not (edges[1:] >= edges[:-1]).all():
            first = int((edges[1:] >= edges[:-1]).logical_not().nonzero()[0])
            raise ValueError(f"bins must be edges that ascend, got {edges[first]} before {edges[first + 1]}")
        return edges
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    low, high = range or _extremes(x.larray.detach().to(torch.float64), x, (0.0, 1.0))
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"range must be finite and ascend, got {low} to {high}; give range=(low, high)")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return torch.from_numpy(np.linspace(low, high, int(bins) + 1)).to(x.device, dtype)


def _whole(edges: Edges, x: DNDarray) -> torch.Tensor:
    """Edges that every rank has all of, 1-d."""
    if isinstance(edges, DNDarray):
        check_one_communicator([x, edges])
        whole = edges._align(edges.layout.with_split(None)).larray.detach()
    else:
        whole = torch.as_tensor(edges, device=x.device)
    if whole.ndim != 1:
        raise ValueError(f"edges must be 1-d, got shape {tuple(whole.shape)}")
    return whole


def _replicated(whole: torch.Tensor, x: DNDarray) -> DNDarray:
    return DNDarray(whole, Layout(tuple(whole.shape), None, x.comm.size), x.comm)
