"""Cross products and Kronecker products, which sum over no axis of two arrays."""

from __future__ import annotations

from functools import partial

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import apply_elementwise, check_one_communicator, operand_shard
from minisplit.ops.linalg.products import check_vectors
from minisplit.ops.shape.dimensions import insert_axes
from minisplit.ops.shape.layouts import without_axis


def cross(x1: DNDarray, x2: DNDarray, /, *, axis: int = -1) -> DNDarray:
    """Return the cross products of vectors of length 3.

    Parameters
    ----------
    x1 : DNDarray
        The first vectors.
    x2 : DNDarray
        The second vectors. The axes other than `axis` broadcast.
    axis : int, default -1
        The axis of the vectors in both arrays. It must count from the back if they differ in their number of
        dimensions.

    Returns
    -------
    DNDarray
        The cross products, of the broadcast shape. Split as the result of an elementwise function, but not along
        `axis`.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If vectors are not of length 3, shapes do not broadcast, or the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local where the layouts agree, or only one operand is split. Otherwise collective: one exchange
    for each operand that moves. An operand that is split along `axis` is split along its longest
    other axis first, by one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cross(ms.array([1, 0, 0], split=0), ms.array([0, 1, 0])).tolist()
    [0, 0, 1]
    """
    x1, x2, axis = check_vectors(x1, x2, axis, "cross")
    if x1.shape[axis] != 3:
        raise ValueError(f"cross needs vectors of length 3, got {x1.shape[axis]} along axis {axis} of {x1.shape}")
    operands = [x._align(without_axis(x.layout, x.ndim + axis)) for x in (x1, x2)]
    return apply_elementwise(partial(_cross_shards, axis), operands, "cross")


def _cross_shards(axis: int, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # Unlike torch.linalg.cross, this promotes dtypes and broadcasts axes that only one operand has.
    return a.roll(-1, axis) * b.roll(-2, axis) - a.roll(-2, axis) * b.roll(-1, axis)


def kron(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Return the Kronecker product: each element of `x1` times all of `x2`, side by side.

    Parameters
    ----------
    x1 : DNDarray
        The first array. The operand with fewer axes gets axes of extent 1 at the front.
    x2 : DNDarray
        The second array.

    Returns
    -------
    DNDarray
        The product, whose extents are the products of those of the operands. Split along the split axis of one
        operand: of the larger one, if both are split. If that is `x2`, the counts are the default ones.

    Raises
    ------
    ValueError
        If the operands are on different communicators.
    TypeError
        If an operand is not a DNDarray.

    Communication
    -------------
    Local if `x2` is replicated. Otherwise collective: one exchange for each split operand. The operand along which
    the result is not split is gathered. If the result is split as `x2`, each rank gets the indices of `x2` that
    its part of the result repeats.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.kron(ms.array([1, 10], split=0), ms.array([1, 2])).tolist()
    [1, 2, 10, 20]
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    check_one_communicator([x1, x2])
    ndim = max(x1.ndim, x2.ndim)
    left, right = insert_axes(x1, range(ndim - x1.ndim)), insert_axes(x2, range(ndim - x2.ndim))
    shape = tuple(n * m for n, m in zip(left.shape, right.shape, strict=True))
    if right.split is not None and (left.split is None or left.nbytes < right.nbytes):
        return _kron_split_as_right(left, right, Layout(shape, right.split, x1._comm.size))
    # An index of `x1` makes a block of as many indices as `x2` has, which is on the rank of that index.
    counts = left.counts and tuple(n * right.shape[left.split or 0] for n in left.counts)
    result = Layout(shape, left.split, x1._comm.size, counts)
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    return DNDarray(torch.kron(left.larray.to(dtype), _gather(right, result).to(dtype)), result, x1._comm)


def _gather(x: DNDarray, result: Layout) -> torch.Tensor:
    """Return a whole operand, all of which each rank uses for its shard. Collective if the operand is split."""
    return operand_shard(x, x.layout.with_split(None), result)


def _kron_split_as_right(left: DNDarray, right: DNDarray, result: Layout) -> DNDarray:
    """Return the Kronecker product in the layout `result`, whose split axis is that of `right`. Collective."""
    # Along the split axis, of extent m in `right`, index i of the result is the product of index i // m of `left`
    # and index i % m of `right`. Along the others it is a product of a column by a row.
    split, extent = right.split or 0, max(right.layout.extent, 1)
    indices = torch.arange(result.extent, device=right.device)
    repeated = right[(slice(None),) * split + (indices % extent,)]
    own = indices[result.box(right.comm.rank)[split]] // extent
    columns, rows = [], []
    for axis, (n, m) in enumerate(zip(left.shape, right.shape, strict=True)):
        columns += [len(own)] if axis == split else [n, 1]
        rows += [len(own)] if axis == split else [1, m]
    dtype = torch.promote_types(left.dtype, right.dtype)
    a = _gather(left, result).index_select(split, own).to(dtype).reshape(columns)
    b = repeated.larray.to(dtype).reshape(rows)
    return DNDarray((a * b).reshape(result.lshape(right.comm.rank)), result, right.comm)
