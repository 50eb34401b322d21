"""Sorting. Along the split axis by sample sort, or with the split moved to another axis: no rank gets all."""

from __future__ import annotations

import math
from typing import Literal

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.core.pytorch.transforms import is_batched
from minisplit.ops.shape.layouts import split_elsewhere, with_extent
from minisplit.ops.shape.reshape import ravel, reshape_to
from minisplit.ops.sorting.local_sort import partial_sort, sort_stable, sort_values
from minisplit.ops.sorting.sample_sort import sample_sort

# Which of a sort's results: the elements, or their indices along the axis. What nobody asks for does not move.
Field = Literal["values", "indices"]


def sort(
    x: DNDarray,
    /,
    axis: int | None = -1,
    *,
    descending: bool = False,
    stable: bool = True,
    kind: str | None = None,
) -> DNDarray:
    """Sort the elements along an axis.

    NaN counts as the greatest element: it comes last, or first if `descending`. Equal elements, also zeros of
    different signs, keep their order even without `stable`, so the result is the same on any number of ranks.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int, default -1
        The axis. None for all elements, as one row.
    descending : bool, default False
        Whether the greatest element comes first.
    stable : bool, default True
        Whether equal elements keep their order. They always do.
    kind : str, optional
        NumPy's name of an algorithm, which changes nothing.

    Returns
    -------
    DNDarray
        The sorted elements, with the layout of `x`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective. Where another axis has an index for every rank the
    split is moved there and back: two exchanges. Otherwise sample sort: two small allgathers, one exchange (two
    for more than one dimension) that sorts, and one that restores the counts of `x`. On more than 64 ranks an
    allgather, two of them and an allreduce in each of a few rounds, and an all-to-all take the place of the two.

    Notes
    -----
    Sample sort is that of Li, Lu, Schaeffer, Shillington, Wong, Shi, "On the versatility of parallel sorting by
    regular sampling" (1993), and on more than 64 ranks that of Harsh, Kale and Solomonik, "Histogram sort with
    sampling" (2019). While it sorts, no rank has more than its share and a 64th of all elements, however often a
    value occurs, or twice its share on more than 64 ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.sort(ms.array([3, 1, 2], split=0), descending=True).tolist()
    [3, 2, 1]
    """
    x, axis = _check(*_flattened(x, axis), "sort")
    return _sort(x, axis, bool(descending), "values")


def argsort(
    x: DNDarray,
    /,
    axis: int | None = -1,
    *,
    descending: bool = False,
    stable: bool = True,
    kind: str | None = None,
) -> DNDarray:
    """Return the indices that sort the elements along an axis.

    The order is that of `sort`: of equal elements the first comes first, and NaN is the greatest.

    Parameters
    ----------
    x : DNDarray
        The array.
    axis : int, default -1
        The axis. None for all elements, as one row.
    descending : bool, default False
        Whether the greatest element comes first.
    stable : bool, default True
        Whether equal elements keep their order. They always do.
    kind : str, optional
        NumPy's name of an algorithm, which changes nothing.

    Returns
    -------
    DNDarray
        The indices along the axis, int64, with the layout of `x`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If the elements are complex numbers, which have no order.

    Communication
    -------------
    Local or collective as `sort`, except that sample sort takes three exchanges, of the elements and their
    indices.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.argsort(ms.array([3, 1, 2], split=0)).tolist()
    [1, 2, 0]
    """
    x, axis = _check(*_flattened(x, axis), "argsort")
    return _sort(DNDarray(x.larray.detach(), x.layout, x.comm), axis, bool(descending), "indices")


def topk(
    x: DNDarray, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[DNDarray, DNDarray]:
    """Return the greatest elements along an axis, or the least, and their indices.

    They come in order, and of equal elements the first comes first. NaN counts as the greatest.

    Parameters
    ----------
    x : DNDarray
        The array.
    k : int
        How many elements.
    axis : int, default -1
        The axis.
    largest : bool, default True
        Whether the greatest elements are returned, or the least.
    sorted : bool, default True
        Whether they come in order. They always do.

    Returns
    -------
    values : DNDarray
        The elements. Split as `x`, along `axis` with the default counts.
    indices : DNDarray
        Their indices along the axis, int64, in the same layout.

    Raises
    ------
    ValueError
        If `k` is negative or greater than the extent of the axis.
    IndexError
        If the axis is out of range.
    TypeError
        If the elements are complex numbers, which have no order, or `k` is not an int.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective, by sample sort of `k` elements from each rank: two
    small allgathers and four exchanges.

    Examples
    --------
    >>> import minisplit as ms
    >>> values, indices = ms.topk(ms.array([3, 1, 2], split=0), 2)
    >>> values.tolist(), indices.tolist()
    ([3, 2], [0, 2])
    """
    x, axis = _check(x, axis, "topk")
    k = as_index(k, "k")
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k must be from 0 to {x.shape[axis]}, as axis {axis} of {x.shape} is long, got {k}")
    if x.split == axis and x.comm.size > 1:
        values, indices = _sort_split_axis(x, axis, bool(largest), k, ("values", "indices"))
        return values, indices
    found = partial_sort(x.larray.movedim(axis, -1), k, bool(largest))
    layout = with_extent(x.layout, axis, k, (k,))
    values, indices = (DNDarray(part.movedim(-1, axis).contiguous(), layout, x.comm) for part in found)
    return values, indices


def sort_both(x: DNDarray, axis: int, descending: bool) -> tuple[DNDarray, DNDarray]:
    """Return the sorted elements and their indices, by one sort. Collective as `sort`."""
    x, axis = _check(x, axis, "sort")
    layout = split_elsewhere(x.layout, axis)
    if layout is None:
        values, indices = _sort_split_axis(x, axis, descending, None, ("values", "indices"))
        return values, indices
    found = sort_stable(x._align(layout).larray, axis, descending)
    values, indices = (DNDarray(part, layout, x.comm).to_layout(x.layout) for part in found)
    return values, indices


def _flattened(x: DNDarray, axis: int | None) -> tuple[DNDarray, int]:
    """Return an array and the axis along which to sort it: for None all elements, and axis 0."""
    return (ravel(x), 0) if axis is None else (x, axis)


def _check(x: DNDarray, axis: int, name: str) -> tuple[DNDarray, int]:
    """`x`, whose elements must have an order, and the axis counted from the front."""
    x = as_dndarray(x)
    if x.dtype.is_complex:
        raise TypeError(f"{name} needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    return x, normalise_axis(axis, x.ndim, "axis")


def _sort(x: DNDarray, axis: int, descending: bool, field: Field) -> DNDarray:
    """Sort along an axis, in the layout of `x`."""
    layout = split_elsewhere(x.layout, axis)
    if layout is None:
        return _sort_split_axis(x, axis, descending, None, (field,))[0]
    shard = x._align(layout).larray
    found = sort_values(shard, axis, descending) if field == "values" else sort_stable(shard, axis, descending)[1]
    return DNDarray(found, layout, x.comm).to_layout(x.layout)


def _sort_split_axis(
    x: DNDarray, axis: int, descending: bool, keep: int | None, fields: tuple[Field, ...]
) -> list[DNDarray]:
    """Sort along the split axis by sample sort; or find the first `keep` elements, with the default counts."""
    if is_batched(x.larray):
        return _sort_gathered(x, axis, descending, keep, fields)
    shard, comm, extent = x.larray.movedim(axis, -1), x.comm, x.shape[axis]
    batch = tuple(shard.shape[:-1])
    rows = Layout((math.prod(batch), extent), 1, comm.size, x.counts)
    sorted_rows = sample_sort(
        shard.reshape(rows.lshape(comm.rank)), rows, comm, descending, keep, "indices" in fields
    )
    target = rows if keep is None else Layout((rows.shape[0], keep), 1, comm.size)
    layout = with_extent(x.layout, axis, target.extent, target.counts)
    results = []
    for field in fields:
        part = sorted_rows.values if field == "values" else sorted_rows.ids
        part = reshape_to(DNDarray(part, sorted_rows.layout, comm), target).larray
        if field == "indices":
            # Only now int64: ids are sent as int32 where they can be.
            part = part.to(torch.int64) % max(extent, 1)
        part = part.reshape(*batch, target.lshape(comm.rank)[1]).movedim(-1, axis)
        results.append(DNDarray(part.contiguous(), layout, comm))
    return results


def _sort_gathered(
    x: DNDarray, axis: int, descending: bool, keep: int | None, fields: tuple[Field, ...]
) -> list[DNDarray]:
    """Do `_sort_split_axis` where `torch.vmap` is around: each rank gets all, and keeps its part of the result.

    Within it sample sort would need as many elements of each call of the batch to go from one rank to another.
    """
    extent = x.shape[axis] if keep is None else keep
    layout = with_extent(
        x.layout, axis, extent, x.counts if keep is None else Layout((keep,), 0, x.comm.size).counts
    )
    whole = torch.sort(x._align(x.layout.with_split(None)).larray, dim=axis, descending=descending, stable=True)
    return [
        DNDarray(
            redistribute(getattr(whole, field).narrow(axis, 0, extent), layout.with_split(None), layout, x.comm),
            layout,
            x.comm,
        )
        for field in fields
    ]
