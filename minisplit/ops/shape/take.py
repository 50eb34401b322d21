"""Elements by their indices along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.error_text import short_repr
from minisplit.core.indexing.index_arrays import Part, in_range
from minisplit.core.layout import normalise_axis
from minisplit.ops.elementwise.alignment import align, broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator, into, operand_shard
from minisplit.ops.shape.layouts import with_extent
from minisplit.ops.shape.reshape import ravel


def take(
    x: DNDarray,
    /,
    indices: DNDarray | torch.Tensor | Sequence[int],
    axis: int | None = None,
    *,
    out: DNDarray | None = None,
    mode: str = "raise",
) -> DNDarray:
    """Return the elements of `x` at indices of an axis, as `x[indices]` does along that axis.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices : DNDarray, torch.Tensor, numpy.ndarray or sequence of int
        The indices, which count from the end if they are negative. A DNDarray of any layout; anything else the
        same on all ranks.
    axis : int, optional
        The axis. By default all elements count, as one row.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.
    mode : {"raise", "wrap", "clip"}, default "raise"
        What an index means that is out of range: an error, the remainder of a division by the extent, or the
        nearest index that is in range.

    Returns
    -------
    DNDarray
        The array with the axes of `indices` in place of `axis`. Split as `x[indices]`.

    Raises
    ------
    ValueError
        For another mode.
    IndexError
        If the axis or an index is out of range, or the indices are no integers.

    Communication
    -------------
    Local if `axis` is not the split axis and the indices are replicated. Otherwise collective: one exchange, of
    the elements along the split axis, or of split indices along another one. If both are split along the axis, one
    agreement, one allgather and two exchanges.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.take(ms.arange(6, split=0).reshape((2, 3)), [-1, 0], axis=1).tolist()
    [[2, 0], [5, 3]]
    """
    x = ravel(x) if axis is None and as_dndarray(x).ndim != 1 else as_dndarray(x)
    axis = normalise_axis(0 if axis is None else axis, x.ndim, "axis")
    # NumPy takes an empty list for one of float64: it is one of integers here.
    array = indices if hasattr(indices, "dtype") or not np.size(indices) else np.asarray(indices)
    dtype = str(getattr(array, "dtype", None))
    # x[mask] and x[1.0] mean something else, or nothing: here both are mistakes.
    if "bool" in dtype:
        raise IndexError("indices must be integers, got bools; x[mask] takes what a mask selects")
    if "float" in dtype or "complex" in dtype:
        raise IndexError(f"indices must be integers, got {dtype}")
    if mode not in {"raise", "wrap", "clip"}:
        raise ValueError(f"mode of take must be 'raise', 'wrap' or 'clip', got {short_repr(mode)}")
    if mode != "raise" and x.shape[axis]:
        array = indices if isinstance(indices, DNDarray) else torch.as_tensor(np.asarray(indices))
        last = x.shape[axis] - 1
        indices = array % (last + 1) if mode == "wrap" else array.clip(0, last)
    return into(x[(*(slice(None),) * axis, indices)], out)


def take_along_axis(x: DNDarray, /, indices: DNDarray, axis: int = -1) -> DNDarray:
    """Return the elements of `x` at indices of one axis that depend on the place along the other axes.

    With `axis=1` element (i, j) of the result is `x[i, indices[i, j]]`.

    Parameters
    ----------
    x : DNDarray
        The array.
    indices : DNDarray
        The indices, which count from the end if they are negative. Its shape and that of `x` broadcast, except
        along the axis.
    axis : int, default -1
        The axis.

    Returns
    -------
    DNDarray
        The elements, as many along the axis as there are indices. Split as `x` or as `indices`, so that the fewest
        bytes move.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the arrays are on different communicators.
    IndexError
        If the axis or an index is out of range, or the indices are no integers.

    Communication
    -------------
    Local where `axis` is not the split axis of `x` and the indices are replicated. Otherwise collective: split
    indices take an agreement that all are in range, and one exchange if they are split along another axis than
    `x`. Along the split axis one exchange of the elements, and for split indices one allgather and one exchange
    before it.

    Examples
    --------
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
    # The layout of x with one index along the axis: its split is that of the result, as far as x decides on it.
    one = with_extent(x.layout.with_split(None) if x.split == axis else x.layout, axis, 1)
    broadcast_shape([one.shape, with_extent(indices.layout.with_split(None), axis, 1).shape])
    if x.split == axis:
        # An index for each axis, which all broadcast: the general indexing finds the owners of the elements.
        others = [torch.arange(n).reshape(-1, *(1,) * (x.ndim - 1 - place)) for place, n in enumerate(x.shape)]
        return x[(*others[:axis], indices, *others[axis + 1 :])]
    checked = in_range([(axis, Part(indices.larray.to(torch.int64), indices.layout))], x.shape, x.comm)[axis]
    itemsizes = max(x.shape[axis], 1) * x.larray.itemsize, checked.shard.itemsize
    alignment = align((one, indices.layout), itemsizes)
    needed, index_needed = alignment.needed
    if needed is not None:
        # That of x with its whole axis in place of the one index.
        needed = x.layout.with_split(None) if needed.split == axis else with_extent(needed, axis, x.shape[axis])
    shard = operand_shard(x, needed, alignment.result)
    index = operand_shard(DNDarray(*checked, x.comm), index_needed, alignment.result)
    return DNDarray(torch.take_along_dim(shard, index, axis), alignment.result, x.comm)


def compress(
    condition: DNDarray | Sequence[bool], x: DNDarray, /, axis: int | None = None, *, out: DNDarray | None = None
) -> DNDarray:
    """Return the indices of an axis for which a condition is true.

    Parameters
    ----------
    condition : DNDarray or sequence of bool
        A bool for each index, 1-d. Indices beyond its end are left out.
    x : DNDarray
        The array.
    axis : int, optional
        The axis. By default `x` is flattened.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The elements at these indices. Selected elements stay on their ranks: the result is split as `x`, with
        other counts along the axis.

    Raises
    ------
    ValueError
        If the condition is not 1-d.
    IndexError
        If the axis is out of range, or too short.
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local if `x` and the condition are replicated. Otherwise collective, as `x[mask]` along that axis; without an
    axis as `ravel` before it.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.compress([True, False, True], ms.arange(3, split=0)).tolist()
    [0, 2]
    """
    x, axis = (
        (ravel(x), 0) if axis is None else (as_dndarray(x), normalise_axis(axis, as_dndarray(x).ndim, "axis"))
    )
    mask = condition != 0 if isinstance(condition, DNDarray) else np.asarray(condition, dtype=bool)
    if mask.ndim != 1:
        raise ValueError(f"condition must be 1-d, got shape {mask.shape}")
    before = (slice(None),) * axis
    part = x if len(mask) >= x.shape[axis] else x[(*before, slice(len(mask)))]
    return into(part[(*before, mask)], out)


def extract(condition: DNDarray, x: DNDarray, /) -> DNDarray:
    """Return the elements for which a condition is true.

    Parameters
    ----------
    condition : DNDarray
        The condition. Nonzero elements are true. As many elements as `x`.
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The elements, 1-d, in row-major order.

    Raises
    ------
    IndexError
        If the numbers of elements differ.
    TypeError
        If an argument is not a DNDarray.

    Communication
    -------------
    Local if both arrays are replicated. Otherwise collective, as `x[mask]`; with `ravel` of both before it if the
    shapes differ.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> ms.extract(x > 1, x).tolist()
    [2, 3]
    """
    mask = as_dndarray(condition, "condition") != 0
    return x[mask] if mask.shape == as_dndarray(x).shape else ravel(x)[ravel(mask)]
