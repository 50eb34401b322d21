"""Elements counted by value. Each rank counts its own, and one allreduce adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core import collectives
from minisplit.core.array import DNDarray, as_dndarray, replicated
from minisplit.core.collectives import all_reduce
from minisplit.core.conversion import tensor_of_numbers
from minisplit.core.factories import number_of
from minisplit.core.layout import as_count
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.elementwise.comparison import greater_equal, less_equal, logical_and
from minisplit.ops.reductions.reduce import accumulation_dtype, sum_dtype
from minisplit.ops.shape.flip import flip
from minisplit.ops.sorting.bin_widths import check_rule, number_of_bins
from minisplit.ops.sorting.search import searchsorted

Edges = int | str | Sequence[float] | np.ndarray[Any, Any] | torch.Tensor | DNDarray


def histogram(
    x: DNDarray,
    /,
    bins: Edges = 10,
    range: tuple[float | DNDarray, float | DNDarray] | None = None,
    weights: DNDarray | None = None,
    density: bool = False,
) -> tuple[DNDarray, DNDarray]:
    """Count the elements of `x` in bins. It is `numpy.histogram`.

    Parameters
    ----------
    x : DNDarray
        The array.
    bins : int, str, sequence of float or DNDarray, default 10
        The number of bins, which are equally wide; or NumPy's rule that chooses the number: "auto", "fd", "doane",
        "scott", "stone", "rice", "sturges" or "sqrt"; or the edges of the bins, ascending. A bin has its left edge
        and not its right one, but the last bin has both.
    range : tuple of float or 0-d DNDarray, optional
        Where the first bin begins and the last one ends. By default at the least and the greatest element.
    weights : DNDarray, optional
        What each element counts, in the shape of `x`. By default 1.
    density : bool, default False
        Whether to divide by the number of all elements in the bins and by the widths of the bins.

    Returns
    -------
    hist : DNDarray
        The counts, int64, or the sums of the weights, in the dtype of `minisplit.sum` of them. Replicated.
    edges : DNDarray
        The edges, in the dtype of `x`, but float64 for integers. Replicated.

    Raises
    ------
    ValueError
        If edges descend, there is no bin, the range is not finite or descends, the weights have another shape, or
        there is no such rule.
    TypeError
        If the elements are complex numbers, which have no order, or weights are given with a rule.

    Communication
    -------------
    Local if `x` is replicated and has no split weights. Otherwise collective: one allreduce of the counts, and one
    before it for the range if no range is given. Weights in another layout take one exchange. Rules take the
    messages of `std` ("scott", "doane") or `quantile` ("fd", "auto"); "stone" counts the elements at least 100
    times.

    Examples
    --------
    >>> import minisplit as ms
    >>> hist, edges = ms.histogram(ms.arange(4, split=0), bins=2)
    >>> hist.tolist(), edges.tolist()
    ([2, 2], [0.0, 1.5, 3.0])
    """
    x, values = _align_weights(x, weights, "histogram")
    if isinstance(bins, str) and weights is not None:
        raise TypeError("weights do not go with a rule for the number of bins: give a number, or edges")
    if x.dtype.is_complex:
        raise TypeError(f"histogram needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    edges = _read_edges(x, bins, range)
    number = len(edges) - 1
    place, is_inside = _places(x, edges)
    # What is in no bin goes to one more, which is left out. To take it out first a GPU would have to say how much.
    place = torch.where(is_inside, place, number)
    hist = _count(place, None if values is None else values.flatten(), number + 1, x)[:number]
    if density:
        exact = hist.to(torch.promote_types(hist.dtype, edges.dtype))
        hist = exact / edges.diff() / exact.sum()
    return replicated(hist, x.comm), replicated(edges, x.comm)


def histogram2d(
    x: DNDarray,
    /,
    y: DNDarray,
    bins: Any = 10,
    range: Sequence[tuple[float, float] | None] | None = None,
    density: bool = False,
    weights: DNDarray | None = None,
) -> tuple[DNDarray, DNDarray, DNDarray]:
    """Count points of a plane in the cells of a grid. It is `numpy.histogram2d`.

    Parameters
    ----------
    x : DNDarray
        The first coordinates, 1-d.
    y : DNDarray
        The second ones, as many.
    bins : int, sequence of float or DNDarray, or a pair of these, default 10
        The bins along both axes, or along each, as those of `histogram`.
    range : pair of tuple of float, optional
        Where the bins of each axis begin and end, or None. By default at the least and the greatest coordinate.
    density : bool, default False
        Whether to divide by the number of all points in the cells and by the areas of the cells.
    weights : DNDarray, optional
        What each point counts. By default 1.

    Returns
    -------
    hist : DNDarray
        The counts, or sums of weights. The first axis is that of `x`, the second that of `y`. The dtype is
        float64, or that of the weights if it is wider. Replicated.
    x_edges, y_edges : DNDarray
        The edges along each axis. Replicated.

    Raises
    ------
    ValueError
        If the coordinates or weights are not 1-d and equally many, or the bins are none, as in `histogram`.
    TypeError
        If an argument is not a DNDarray, or its elements are complex numbers, which have no order.

    Communication
    -------------
    Local if all arrays are replicated. Otherwise collective: one allreduce of the counts, and one for each range
    that is not given. Coordinates and weights in another layout than `x` take one exchange each.

    Examples
    --------
    >>> import minisplit as ms
    >>> x, y = ms.array([0.0, 1.0, 1.0], split=0), ms.array([2.0, 2.0, 3.0], split=0)
    >>> ms.histogram2d(x, y, bins=2)[0].tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    if as_dndarray(x).ndim != 1 or as_dndarray(y, "y").shape != x.shape:
        raise ValueError(
            f"histogram2d needs coordinates that are 1-d and of one length, got {x.shape} and {y.shape}"
        )
    if x.dtype.is_complex or y.dtype.is_complex:
        raise TypeError(f"histogram2d needs numbers that have an order, got {x.dtype} and {y.dtype}")
    check_one_communicator([x, y])
    if x.split is None:
        x = x._align(y.layout)
    x, values = _align_weights(x, weights, "histogram2d")
    points = x, y._align(x.layout)
    is_pair = not isinstance(bins, (int, np.integer, str)) and len(bins) == 2
    edges = [
        _read_edges(point, one, part)
        for point, one, part in zip(points, bins if is_pair else (bins, bins), range or (None, None), strict=True)
    ]
    found = [_places(point, own) for point, own in zip(points, edges, strict=True)]
    shape = len(edges[0]) - 1, len(edges[1]) - 1
    number = shape[0] * shape[1]
    place = torch.where(found[0][1] & found[1][1], found[0][0] * shape[1] + found[1][0], number)
    hist = _count(place, None if values is None else values.flatten(), number + 1, x)[:number].reshape(shape)
    hist = hist.to(torch.promote_types(hist.dtype, torch.float64))
    if density:
        hist = hist / edges[0].diff()[:, None] / edges[1].diff() / hist.sum()
    return replicated(hist, x.comm), replicated(edges[0], x.comm), replicated(edges[1], x.comm)


def bincount(x: DNDarray, /, weights: DNDarray | None = None, minlength: int = 0) -> DNDarray:
    """Count how often each integer from 0 to the greatest occurs. It is `numpy.bincount`.

    Parameters
    ----------
    x : DNDarray
        The array, 1-d, of bools or integers.
    weights : DNDarray, optional
        What each element counts, in the shape of `x`. By default 1.
    minlength : int, default 0
        The least length of the result.

    Returns
    -------
    DNDarray
        The counts, int64, or the sums of the weights, in the dtype of `minisplit.sum` of them. Replicated.

    Raises
    ------
    ValueError
        If an integer or `minlength` is negative, `x` is not 1-d, or the weights have another shape.
    TypeError
        If the elements are neither bools nor integers.

    Communication
    -------------
    Local if `x` is replicated and has no split weights. Otherwise collective: one small allreduce for the greatest
    integer, and one of the counts. Weights in another layout take one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.bincount(ms.array([3, 1, 3], split=0)).tolist()
    [0, 1, 0, 2]
    """
    x, values = _align_weights(x, weights, "bincount")
    if x.ndim != 1:
        raise ValueError(f"bincount counts in a 1-d array, got shape {x.shape}; use ravel() first")
    if x.dtype.is_floating_point or x.dtype.is_complex:
        raise TypeError(f"bincount counts bools and integers, got {x.dtype}; histogram counts other numbers")
    least = as_count(minlength, "minlength")
    shard = x.larray.to(torch.int64)
    low, high = _extremes(shard, x, (0, -1))
    if low < 0:
        raise ValueError(f"bincount counts integers from 0 on, got {low}")
    return replicated(_count(shard, values, max(int(high) + 1, least), x), x.comm)


def digitize(x: DNDarray, /, bins: Edges, right: bool = False) -> DNDarray:
    """Return which bin each element of `x` is in. It is `numpy.digitize`.

    Parameters
    ----------
    x : DNDarray
        The array.
    bins : sequence of float or DNDarray
        The edges, 1-d, ascending or descending. Bin i is between edges i - 1 and i. Bin 0 is before all edges, and
        the last bin after them.
    right : bool, default False
        Whether a bin has the greater one of its edges. By default it has the lesser one.

    Returns
    -------
    DNDarray
        The number of the bin, int64, with the layout of `x`.

    Raises
    ------
    ValueError
        If the edges neither ascend nor descend, or are not 1-d.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local unless the edges are split. Then collective: one exchange that gathers them. Of more than 16 MiB an
    exchange and two allreduces tell whether they ascend, descending ones are flipped, and `searchsorted` follows.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.digitize(ms.arange(4, split=0), [1, 3]).tolist()
    [0, 1, 1, 2]
    """
    x = as_dndarray(x)
    if isinstance(bins, DNDarray) and bins.ndim == 1 and bins.nbytes > collectives.RING_BYTES:
        check_one_communicator([x, bins])
        edges = bins.detach()
    else:
        edges = replicated(_gather_edges(bins, x), x.comm)
    before, after = edges[:-1], edges[1:]
    ascends, descends = greater_equal(after, before).all().item(), less_equal(after, before).all().item()
    if not (ascends or descends):
        raise ValueError("bins must ascend or descend, got edges that do both")
    # Between descending edges bins are counted from the other end.
    found = searchsorted(edges if ascends else flip(edges), x, side="left" if right else "right")
    return found if ascends else DNDarray(edges.size - found.larray, found.layout, found.comm)


def bucketize(x: DNDarray, /, boundaries: Edges, *, right: bool = False) -> DNDarray:
    """Return which bucket each element of `x` is in. It is `torch.bucketize`.

    Parameters
    ----------
    x : DNDarray
        The array.
    boundaries : sequence of float or DNDarray
        The boundaries, 1-d and ascending. Bucket i is between boundaries i - 1 and i.
    right : bool, default False
        Whether a bucket has its left boundary. By default it has its right one.

    Returns
    -------
    DNDarray
        The number of the bucket, int64, with the layout of `x`.

    Raises
    ------
    ValueError
        If the boundaries are not 1-d.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local unless the boundaries are split. Then collective, with the messages of `searchsorted`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.bucketize(ms.arange(4, split=0), [1, 3]).tolist()
    [0, 0, 1, 1]
    """
    x = as_dndarray(x)
    if not isinstance(boundaries, DNDarray) or boundaries.ndim != 1:
        boundaries = replicated(_gather_edges(boundaries, x), x.comm)
    return searchsorted(boundaries, x, side="right" if right else "left")


def _places(x: DNDarray, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In which bin each element of this rank is, and whether it is in one."""
    elements, number = x.larray.detach().to(edges.dtype).flatten(), len(edges) - 1
    place = torch.searchsorted(edges, elements, right=True) - 1
    place = torch.where(elements == edges[-1], number - 1, place)  # the last bin has its right edge
    return place, (place >= 0) & (place < number) & ~elements.isnan()


def _align_weights(x: DNDarray, weights: DNDarray | None, name: str) -> tuple[DNDarray, torch.Tensor | None]:
    """`x`, and this rank's part of the weights in the layout of `x`. A replicated `x` is split as they are."""
    x = as_dndarray(x)
    if weights is None:
        return x, None
    check_one_communicator([x, as_dndarray(weights, "weights")])
    if weights.shape != x.shape:
        raise ValueError(f"weights of {name} must have the shape of x, {x.shape}, got {weights.shape}")
    if x.split is None:
        x = x._align(weights.layout)
    return x, weights._align(x.layout).larray


def _count(place: torch.Tensor, weights: torch.Tensor | None, number: int, x: DNDarray) -> torch.Tensor:
    """How often each place below `number` occurs on all ranks, or the sums of its weights. One allreduce."""
    if weights is None and place.device.type == "cpu":
        part, dtype = torch.bincount(place, minlength=number), torch.int64
    elif weights is None:  # bincount would ask a GPU for the greatest place
        part, dtype = place.new_zeros(number).index_add(0, place, torch.ones_like(place)), torch.int64
    else:
        dtype = sum_dtype(weights.dtype, None)
        # Not torch.bincount, which has no gradient of its weights.
        part = torch.zeros(number, dtype=accumulation_dtype(dtype), device=x.device)
        part = part.index_add(0, place, weights.to(part.dtype))
    return (all_reduce(part, x.comm) if x.split is not None else part).to(dtype)


def _extremes(shard: torch.Tensor, x: DNDarray, default: tuple[float, float]) -> tuple[float, float]:
    """The least and the greatest element of all ranks, or the default where there is none. One allreduce."""
    if not x.size:
        return default
    # Both in one message, as the maximum of minus the one and of the other. A rank without elements contributes
    # numbers that are less than any: of integers one more than the least, as the least has no negative.
    is_floating = shard.dtype.is_floating_point
    nothing = -torch.inf if is_floating else torch.iinfo(shard.dtype).min + 1
    ends = torch.full((2,), nothing, dtype=shard.dtype, device=x.device)
    if shard.numel():
        ends = torch.stack([-shard.min(), shard.max()])
    if x.split is not None:
        ends = x.comm.allreduce(ends, "max")
    return -ends[0].item(), ends[1].item()


def _read_edges(x: DNDarray, bins: Edges, range: tuple[float | DNDarray, float | DNDarray] | None) -> torch.Tensor:
    """The edges of a histogram's bins, in the dtype in which elements are compared with them."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.float64
    if isinstance(bins, str):
        check_rule(bins)
    elif not isinstance(bins, (int, np.integer)):
        edges = _gather_edges(bins, x)
        edges = edges.to(torch.promote_types(edges.dtype, dtype))
        if len(edges) < 2:
            raise ValueError(f"bins must be an int, or at least two edges, got {len(edges)}")
        ascends = edges[1:] >= edges[:-1]
        if not ascends.all():
            first = int(ascends.logical_not().nonzero()[0])
            raise ValueError(f"bins must be edges that ascend, got {edges[first]} before {edges[first + 1]}")
        return edges
    elif bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    ends = range or _extremes(x.larray.detach().to(torch.float64), x, (0.0, 1.0))
    low, high = (number_of(end, "an end of range") for end in ends)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"range must be finite and ascend, got {low} to {high}; give range=(low, high)")
    spread = high - low
    # As NumPy: one value is in the middle of a range of length 1.
    if low == high:
        low, high = low - 0.5, high + 0.5
    if isinstance(bins, str):
        if range is not None:
            x = x[logical_and(greater_equal(x, low), less_equal(x, high))]
            ends = _extremes(x.larray.detach().to(torch.float64), x, (0.0, 0.0))
            spread = ends[1] - ends[0]
        bins = number_of_bins(bins, x, (low, high), spread, lambda bins: histogram(x, bins, (low, high))[0].larray)
    # NumPy's, whose last bits may differ from torch's: an element on an edge is to be in the same bin.
    return torch.from_numpy(np.linspace(low, high, int(bins) + 1)).to(x.device, dtype)


def _gather_edges(edges: Edges, x: DNDarray) -> torch.Tensor:
    """All the edges, on every rank. Collective for a split DNDarray."""
    if isinstance(edges, DNDarray):
        check_one_communicator([x, edges])
        whole = edges._align(edges.layout.with_split(None)).larray.detach()
    else:
        whole = tensor_of_numbers(edges, "edges", device=x.device)
    if whole.ndim != 1:
        raise ValueError(f"edges must be 1-d, got shape {tuple(whole.shape)}")
    return whole
