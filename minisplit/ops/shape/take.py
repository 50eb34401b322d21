"""Elements by their indices along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.indexing.index_arrays import Part, in_range
from minisplit.core.layout import normalise_axis
from minisplit.ops.elementwise.alignment import align, broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator, operand_shard
from minisplit.ops.shape.layouts import with_extent


def take(x: DNDarray, indices: DNDarray | torch.Tensor | Sequence[int], /, *, axis: int | None = None) -> DNDarray:
    """Return what `x` has at `indices` along an axis, which only a 1-d array need not name.

    indices: integers, from -extent on, in an array of any layout, or the same on all ranks in a tensor, NumPy
        array or list; in several dimensions their axes take the place of `axis`.

    Local where that is not the split axis, and the indices are replicated. Else collective: see `x[indices]`,
    which this is along one axis, for the messages and for how the result is split.

    Raises ValueError without an axis for other than 1-d arrays, IndexError for an axis or an index out of range
    and for indices that are no integers: all on every rank.

    >>> import minisplit as ms
    >>> ms.take(ms.arange(6, split=0).reshape((2, 3)), [-1, 0], axis=1).tolist()
    [[2, 0], [5, 3]]
    """
    if axis is None and as_dndarray(x).ndim != 1:
        raise ValueError(f"take needs an axis, except for 1-d arrays, got shape {x.shape}")
    axis = normalise_axis(0 if axis is None else axis, as_dndarray(x).ndim, "axis")
    dtype = str(_dtype(indices))
    if "bool" in dtype:
        raise IndexError("indices must be integers, got bools; x[mask] takes what a mask selects")
    if "float" in dtype or "complex" in dtype:
        raise IndexError(f"indices must be integers, got {dtype}")
    return x[(*(slice(None),) * axis, indices)]


def take_along_axis(x: DNDarray, indices: DNDarray, /, *, axis: int = -1) -> DNDarray:
    """Return, for each of `indices`, what `x` has there along an axis, and at the same place along all others.

    The shapes broadcast but for that axis, which has the extent of the indices in the result.

    Local where `axis` is not the split axis of `x` and both are cut alike, or one is replicated; split indices
    take one small message, in which ranks agree that all are in range. Else collective, and the result is split
    as one of the two: the one for which the fewest bytes move. Along the split axis each rank gets what it needs
    from its owners, once: see `x[indices]`.

    Raises ValueError for shapes that do not fit, IndexError for an axis or an index out of range and for
    indices that are no integers: all on every rank.

    >>> import minisplit as ms
    >>> x, order = ms.array([[3, 1, 2], [4, 6, 5]], split=0), ms.array([[1, 2, 0], [0, 2, 1]])
    >>> ms.take_along_axis(x, order, axis=1).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    x, indices = as_dndarray(x), as_dndarray(indices, "indices")
    check_one_communicator([x, indices])
    axis = normalise_axis(axis, x.ndim, "axis")
    if indices.dtype is torch.bool or indices.dtype.is_floating_point or indices.dtype.is_complex:
        raise IndexError(f"indices must be integers, got {indices.dtype}")
    if indices.ndim != x.ndim:
        raise ValueError(f"indices must have as many dimensions as x, got shapes {indices.shape} and {x.shape}")
    one = with_extent(x.layout.with_split(None) if x.split == axis else x.layout, axis, 1)
    broadcast_shape([one.shape, with_extent(indices.layout.with_split(None), axis, 1).shape])
    if x.split == axis:
        places = [torch.arange(n).reshape(-1, *(1,) * (x.ndim - 1 - place)) for place, n in enumerate(x.shape)]
        return x[(*places[:axis], indices, *places[axis + 1 :])]
    inside = in_range([(axis, Part(indices.larray.to(torch.int64), indices.layout))], x.shape, x.comm)[axis]
    row = max(x.shape[axis], 1) * x.larray.itemsize
    meeting = align((one, indices.layout), (row, inside.shard.itemsize))
    wanted, index_wanted = meeting.needed
    if wanted is not None:
        wanted = x.layout.with_split(None) if wanted.split == axis else with_extent(wanted, axis, x.shape[axis])
    shard = operand_shard(x, wanted, meeting.result)
    index = operand_shard(DNDarray(*inside, x.comm), index_wanted, meeting.result)
    return DNDarray(torch.take_along_dim(shard, index, axis), meeting.result, x.comm)


def _dtype(indices: Any) -> Any:
    if hasattr(indices, "dtype"):
        return indices.dtype
    array = np.asarray(indices)
    return array.dtype if array.size else None
