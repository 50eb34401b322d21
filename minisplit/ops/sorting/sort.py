"""Sorting: along the split axis by sample sort, or with the split moved to another axis; no rank gets all."""

from __future__ import annotations

import math

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.ops.shape.layouts import split_elsewhere, with_extent
from minisplit.ops.shape.reshape import reshape_to
from minisplit.ops.sorting.sample_sort import leading, sample_sort


def sort(x: DNDarray, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DNDarray:
    """Return `x` sorted along an axis, with the layout of `x`.

    NaN counts as the greatest: it comes last, or first if `descending`. Equal elements, of which signed zeros
    are two, keep their order, also without `stable`, so that the result is the same on any number of ranks.

    Local, but along the split axis collective: where another axis has an index for every rank the split is moved
    there and back, by two exchanges. Else each rank sorts its part and two small messages tell where the elements
    belong; one exchange (two for more than one dimension) brings them there, and one to the counts of `x`.

    Raises IndexError for an axis out of range, TypeError for complex numbers and anything but a DNDarray: all
    on every rank. Source: Li, Lu, Schaeffer, Shillington, Wong, Shi, "On the versatility of parallel sorting by
    regular sampling" (1993).

    >>> import minisplit as ms
    >>> ms.sort(ms.array([3, 1, 2], split=0), descending=True).tolist()
    [3, 2, 1]
    """
    x, axis = _checked(x, axis, "sort")
    return _along(x, axis, bool(descending), 0)


def argsort(x: DNDarray, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DNDarray:
    """Return the indices, int64, that sort `x` along an axis, with the layout of `x`.

    The first of equals comes first. Local or collective, and with the order and errors of `minisplit.sort`, but
    elements and indices travel to where they belong by two exchanges.

    >>> import minisplit as ms
    >>> ms.argsort(ms.array([3, 1, 2], split=0)).tolist()
    [1, 2, 0]
    """
    x, axis = _checked(x, axis, "argsort")
    return _along(DNDarray(x.larray.detach(), x.layout, x.comm), axis, bool(descending), 1)


def topk(
    x: DNDarray, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[DNDarray, DNDarray]:
    """Return the `k` greatest elements along an axis, or the least, and their indices, int64, as `torch.topk`.

    They come in order, the first of equals first, also without `sorted`. NaN counts as the greatest. Local, and
    split as `x`, but along the split axis collective: then the results are split along it with the default
    counts, and the messages are those of `minisplit.argsort` for `k` elements from each rank.

    Raises ValueError for a `k` that is negative or longer than the axis, IndexError for an axis out of range,
    TypeError for complex numbers, a `k` that is no int, and anything but a DNDarray.

    >>> import minisplit as ms
    >>> values, indices = ms.topk(ms.array([3, 1, 2], split=0), 2)
    >>> values.tolist(), indices.tolist()
    ([3, 2], [0, 2])
    """
    x, axis = _checked(x, axis, "topk")
    k = as_index(k, "k")
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k must be from 0 to {x.shape[axis]}, as axis {axis} of {x.shape} is long, got {k}")
    if x.split == axis and x.comm.size > 1:
        values, indices = _sampled(x, axis, bool(largest), k, (0, 1))
        return values, indices
    found = leading(x.larray.movedim(axis, -1), k, bool(largest))
    layout = with_extent(x.layout, axis, k, (k,))
    values, indices = (DNDarray(part.movedim(-1, axis).contiguous(), layout, x.comm) for part in found)
    return values, indices


def _checked(x: DNDarray, axis: int, name: str) -> tuple[DNDarray, int]:
    x = as_dndarray(x)
    if x.dtype.is_complex:
        raise TypeError(f"{name} needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    return x, normalise_axis(axis, x.ndim, "axis")


def _along(x: DNDarray, axis: int, descending: bool, which: int) -> DNDarray:
    """The elements (0) in order along an axis, or their indices (1)."""
    home = split_elsewhere(x.layout, axis)
    if home is None:
        return _sampled(x, axis, descending, None, (which,))[0]
    found = torch.sort(x._align(home).larray, dim=axis, descending=descending, stable=True)[which]
    return DNDarray(found, home, x.comm).to_layout(x.layout)


def _sampled(
    x: DNDarray, axis: int, descending: bool, keep: int | None, which: tuple[int, ...]
) -> tuple[DNDarray, ...]:
    """The same by sample sort along the split axis; or of the first `keep`, which get the default counts."""
    shard, comm = x.larray.movedim(axis, -1), x.comm
    before, extent = tuple(shard.shape[:-1]), x.shape[axis]
    line = Layout((math.prod(before), extent), 1, comm.size, x.counts)
    run = sample_sort(shard.reshape(line.lshape(comm.rank)), line, comm, descending, keep, numbered=1 in which)
    target = line if keep is None else Layout((line.shape[0], keep), 1, comm.size)

    def placed(found: torch.Tensor, are_ids: bool = False) -> DNDarray:
        part = reshape_to(DNDarray(found, run.layout, comm), target).larray
        part = part.to(torch.int64) % max(extent, 1) if are_ids else part
        part = part.reshape(*before, target.lshape(comm.rank)[1]).movedim(-1, axis)
        return DNDarray(part.contiguous(), with_extent(x.layout, axis, target.extent, target.counts), comm)

    return tuple(placed(run.ids, True) if one else placed(run.values) for one in which)
