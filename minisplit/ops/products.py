"""Products of arrays: `matmul`, and what is made of it."""

from __future__ import annotations

import torch

from minisplit.core.dndarray import DNDarray, as_dndarray
from minisplit.core.gradients import total
from minisplit.core.layout import Layout
from minisplit.ops._make import brought, check_one_communicator, operator, reflected
from minisplit.ops._products import meet_product

# In these torch rounds each product; over ranks they are added up in float32 and rounded once.
_NARROW = (torch.float16, torch.bfloat16)


def matmul(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Matrix product of two arrays; leading axes are batches and broadcast, as in NumPy; `x1 @ x2`.

    A 1-d operand is a row on the left, a column on the right, and its axis is left out of the result.
    Local where the operands' layouts allow it: batches that are cut alike, rows of `x1` by a replicated `x2`, a
    replicated `x1` by columns of `x2`. Else collective: of the ways to share out the work the one that sends the
    fewest bytes (`minisplit.ops._products`); the result is split along the rows, columns or batch axis that
    ranks share out, and replicated where they share out the inner axis. dtypes are torch's.

    Raises ValueError for shapes that do not fit, 0-d arrays and operands on different communicators, TypeError for
    what is no DNDarray, and torch's error for dtypes that differ: all on every rank.

    >>> import minisplit as ms
    >>> a, b = ms.ones((6, 2), split=0), ms.ones((2, 3))
    >>> ms.matmul(a, b).split, (a @ b).shape
    (0, (6, 3))
    """
    x1, x2 = as_dndarray(x1, "x1"), as_dndarray(x2, "x2")
    if not x1.ndim or not x2.ndim:
        raise ValueError(f"matmul needs at least one dimension, got shapes {x1.shape} and {x2.shape}")
    check_one_communicator([x1, x2])
    left = _as_matrix(x1, 0) if x1.ndim == 1 else x1
    right = _as_matrix(x2, 1) if x2.ndim == 1 else x2
    made = torch.matmul(left._larray.new_empty((0, 0)), right._larray.new_empty((0, 0)))  # torch's errors
    way = meet_product(left._layout, right._layout, (left._larray.itemsize, right._larray.itemsize), made.itemsize)
    wanted = [None if x._layout == layout else layout for x, layout in ((left, way.left), (right, way.right))]
    a, b = brought(left, wanted[0], way.result), brought(right, wanted[1], way.result)
    if way.summed and made.dtype in _NARROW:
        product = total(torch.matmul(a.float(), b.float()), x1._comm).to(made.dtype)
    elif way.summed:
        product = total(torch.matmul(a, b), x1._comm)
    else:
        product = torch.matmul(a, b)
    result = DNDarray._wrap(product, way.result, x1._comm)
    if x1.ndim == 1:
        result = _without(result, result.ndim - 2)
    return _without(result, result.ndim - 1) if x2.ndim == 1 else result


def _as_matrix(x: DNDarray, axis: int) -> DNDarray:
    """A vector as a matrix with an axis of length 1 before or after its own."""
    layout = x._layout
    shape = (1, *layout.shape) if axis == 0 else (*layout.shape, 1)
    split = None if layout.split is None else 1 - axis
    return DNDarray._wrap(x._larray.unsqueeze(axis), Layout(shape, split, layout.ranks, layout.ragged), x._comm)


def _without(x: DNDarray, axis: int) -> DNDarray:
    """`x` without an axis of length 1, replicated if it was cut along that."""
    layout = x._layout
    if layout.split == axis:
        x = x.to_layout(layout.with_split(None))
        layout = x._layout
    split = None if layout.split is None else layout.split - (layout.split > axis)
    shape = (*layout.shape[:axis], *layout.shape[axis + 1 :])
    return DNDarray._wrap(x._larray.squeeze(axis), Layout(shape, split, layout.ranks, layout.ragged), x._comm)


DNDarray.__matmul__ = operator(matmul)  # type: ignore[method-assign, arg-type]
DNDarray.__rmatmul__ = reflected(matmul)  # type: ignore[method-assign, arg-type]
