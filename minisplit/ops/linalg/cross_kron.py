"""Products that sum over no axis of two arrays, and powers of matrices: `cross`, `kron`, `matrix_power`."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import apply_elementwise, check_one_communicator, operand_shard
from minisplit.ops.linalg.products import along
from minisplit.ops.shape.layouts import without_axis
from minisplit.ops.shape.reshape import insert_axes


def cross(x1: DNDarray, x2: DNDarray, /, *, axis: int = -1) -> DNDarray:
    """Cross products of the vectors of length 3 along `axis` of two arrays; other axes broadcast.

    axis: of both arrays, counted from the back; from the front only where they have as many dimensions.

    Local or collective as an elementwise function; but an array that is split along `axis` is split along its
    longest other axis first, by one exchange. Raises ValueError for other vectors and shapes that do not
    broadcast, IndexError for an axis out of range, and what an elementwise function does.

    >>> import minisplit as ms
    >>> ms.cross(ms.array([1, 0, 0], split=0), ms.array([0, 1, 0])).tolist()
    [0, 0, 1]
    """
    x1, x2, axis = along(x1, x2, axis, "cross")
    if x1.shape[axis] != 3:
        raise ValueError(f"cross needs vectors of length 3, got {x1.shape[axis]} along axis {axis} of {x1.shape}")

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        first, second = a.roll(-1, axis) * b.roll(-2, axis), a.roll(-2, axis) * b.roll(-1, axis)
        return first - second

    return apply_elementwise(
        function, [x._align(without_axis(x.layout, x.ndim + axis)) for x in (x1, x2)], "cross"
    )


def kron(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Kronecker product: each element of `x1`, times all of `x2`, side by side.

    The one with fewer axes gets more, of extent 1, at the front. The result is split as one operand. Where that is
    `x1`, `x2` is gathered. Where it is `x2`, since `x1` is replicated, or smaller and gathered, each rank gets the
    indices of `x2` that its part of the result repeats, and the counts are the default ones. Local where `x2` is
    replicated, else collective. Raises what `matmul` does.

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
        return _kron_of_split(left, right, Layout(shape, right.split, x1._comm.size))
    counts = left.counts and tuple(n * right.shape[left.split or 0] for n in left.counts)
    result = Layout(shape, left.split, x1._comm.size, counts)
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    whole = operand_shard(right, None if right.split is None else right.layout.with_split(None), result)
    return DNDarray(torch.kron(left.larray.to(dtype), whole.to(dtype)), result, x1._comm)


def _kron_of_split(left: DNDarray, right: DNDarray, result: Layout) -> DNDarray:
    """The product in the layout `result`, which is split as `right` is: `left` is gathered. Collective."""
    split, extent = right.split or 0, right.layout.extent
    indices = torch.arange(result.extent, device=right.device)
    some = right[(slice(None),) * split + (indices % max(extent, 1),)]
    mine = indices[result.box(right.comm.rank)[split]] // max(extent, 1)
    whole = operand_shard(left, None if left.split is None else left.layout.with_split(None), result)
    shapes: list[list[int]] = [[], []]
    for axis, (n, m) in enumerate(zip(left.shape, right.shape, strict=True)):
        shapes[0] += [len(mine)] if axis == split else [n, 1]
        shapes[1] += [len(mine)] if axis == split else [1, m]
    dtype = torch.promote_types(left.dtype, right.dtype)
    factors = whole.index_select(split, mine), some.larray
    a, b = (factor.to(dtype).reshape(shape) for factor, shape in zip(factors, shapes, strict=True))
    return DNDarray((a * b).reshape(result.lshape(right.comm.rank)), result, right.comm)
