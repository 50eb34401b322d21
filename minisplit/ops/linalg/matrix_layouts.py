"""Layouts for functions that need each matrix whole on one rank. Layouts in, layouts out: no tensors, no MPI.

A matrix is the last two axes of an array. The axes before them are batch axes.
"""

from __future__ import annotations

from functools import lru_cache

from minisplit.core.layout import Layout, operand_layout
from minisplit.ops.elementwise.alignment import LayoutPlan, broadcast_shape


# Key: the layout. A loop calls with the same few layouts again and again; 256 are enough for large programs.
@lru_cache(maxsize=256)
def whole_matrices(x: Layout) -> Layout:
    """Return the layout of `x` in which no matrix is split.

    It is `x` itself where no matrix is split. Otherwise it is split evenly along the longest batch axis, if
    that has an index for every rank, and if not, it is replicated.

    >>> whole_matrices(Layout((6, 3, 3), 1, ranks=2)).split, whole_matrices(Layout((6, 3, 3), 1, ranks=8)).split
    (0, None)
    """
    if not splits_matrices(x):
        return x
    longest = max(range(x.ndim - 2), key=lambda axis: x.shape[axis], default=None)
    return x.with_split(None if longest is None or x.shape[longest] < x.ranks else longest)


def splits_matrices(x: Layout) -> bool:
    """Return whether the split axis is one of the last two."""
    return x.split is not None and x.split >= x.ndim - 2


def is_split_matrix(x: Layout) -> bool:
    """Return whether matrices are split, and there are too few of them to give each rank whole ones."""
    return splits_matrices(x) and whole_matrices(x).split is None


def split_longer_axis(x: Layout) -> Layout:
    """Return a layout of `x` that is split along the longer axis of the matrices, the rows of square ones."""
    return x.with_split(x.ndim - 2 + (x.shape[-2] < x.shape[-1]))


# Key: the layouts and element sizes of the operands. The size is that of `whole_matrices`.
@lru_cache(maxsize=256)
def align_solve(a: Layout, b: Layout, itemsizes: tuple[int, int]) -> LayoutPlan:
    """Choose the layouts in which the ranks solve `a @ x = b`, for which the fewest bytes move.

    The result is split along a batch axis: one along which an operand is split, or the longest one where a
    matrix is split and there are enough of them. Or it is split along the columns of `b`; then each rank needs
    all of `a`. If neither is possible, each rank solves all systems.

    >>> matrix = Layout((9, 9), 0, ranks=2)
    >>> align_solve(matrix, Layout((9, 5), 1, ranks=2), (8, 8)).result.split
    1
    """
    shape = (*broadcast_shape([a.shape[:-2], b.shape[:-2]]), *b.shape[-2:])
    results = _candidate_results(a, b, shape) or [Layout(shape, None, a.ranks)]
    return min(
        (_solve_plan(a, b, result) for result in results), key=lambda plan: plan.bytes_moved((a, b), itemsizes)
    )


def _candidate_results(a: Layout, b: Layout, shape: tuple[int, ...]) -> list[Layout]:
    ndim, candidates = len(shape), []
    for operand in (a, b):
        axis = (operand.split or 0) + ndim - operand.ndim
        if operand.split is not None and axis < ndim - 2 and shape[axis] == operand.extent:
            candidates.append(Layout(shape, axis, a.ranks, operand.ragged))
        elif splits_matrices(operand):
            batch_split = whole_matrices(Layout(shape, ndim - 1, a.ranks))
            candidates += [batch_split] if batch_split.split is not None else []
    if b.split == b.ndim - 1 or (b.split == b.ndim - 2 and shape[-1] >= b.ranks):
        candidates.append(Layout(shape, ndim - 1, a.ranks, b.ragged if b.split == b.ndim - 1 else None))
    return candidates


def _solve_plan(a: Layout, b: Layout, result: Layout) -> LayoutPlan:
    # The columns of `a` are not those of the result, so `operand_layout` does not know that all of `a` is
    # needed.
    by_columns = result.split == result.ndim - 1
    left = Layout(a.shape, None, a.ranks) if by_columns else operand_layout(a, result)
    return LayoutPlan(result, (left, operand_layout(b, result)))
