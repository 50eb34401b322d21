"""Functions of torch that need whole matrices on a rank, and the layouts that give them.

A matrix is the last two axes of an array. The axes before them are batch axes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, operand_layout
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.elementwise.alignment import LayoutPlan, broadcast_shape
from minisplit.ops.reductions.reduce import check_inexact


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


# LAPACK has no arithmetic of these.
_HALVES = (torch.float16, torch.bfloat16, torch.complex32)


def apply_to_square(
    function: Callable[..., Any], x: DNDarray, name: str, *, may_fail: bool = False
) -> tuple[DNDarray, ...]:
    """Apply a function of torch to square matrices, as `apply_to_matrices`. First check that they are square."""
    return apply_to_matrices(function, as_matrices(x, name, square=True), name, may_fail=may_fail)


def apply_to_matrices(
    function: Callable[..., Any], x: DNDarray, name: str, *, may_fail: bool = True
) -> tuple[DNDarray, ...]:
    """Apply a function of torch to the matrices of `x`, having moved them to where each is whole.

    `may_fail` says whether the function may fail for one of the matrices, so that the ranks must agree on that.
    The results of the function, one tensor or several, have the batch axes in front.
    """
    layout, comm, batch = whole_matrices(x._layout), x._comm, x.ndim - 2
    shard = x._align(layout)._larray
    # Where every rank computes the same, all fail alike, and no agreement is needed.
    with agreement_on_shards(comm, name, layout) if may_fail else nullcontext():
        results = function(shard) if shard.numel() or not is_followed(shard) else _of_none(function, shard)
    arrays = []
    for part in results if isinstance(results, tuple) else (results,):
        result = Layout((*x.shape[:batch], *part.shape[batch:]), layout.split, layout.ranks, layout.ragged)
        array = DNDarray._wrap(part, result, comm)
        # Where every rank has all matrices, a result of the shape of `x` is split as `x`. The user chose that
        # split, and it takes no message.
        arrays.append(array._align(x._layout) if layout.split is None and result.shape == x.shape else array)
    return tuple(arrays)


def _of_none(function: Callable[..., Any], stack: torch.Tensor) -> Any:
    """What a function gives for a stack of no matrices, from that for an identity matrix.

    The gradient that torch has for no determinants does not depend on the matrices, and so the rank that has none
    would not come to the collective calls for the gradient of the gradient.
    """
    number = stack.shape[:-2].numel()
    identity = torch.eye(*stack.shape[-2:], dtype=stack.dtype, device=stack.device)
    results = function(torch.cat([stack.reshape(number, *stack.shape[-2:]), identity[None]]))
    parts = [
        part[:number].reshape((*stack.shape[:-2], *part.shape[1:]))
        for part in (results if isinstance(results, tuple) else (results,))
    ]
    return tuple(parts) if isinstance(results, tuple) else parts[0]


def of_finite(function: Callable[..., Any]) -> Callable[[torch.Tensor], Any]:
    """Return a function of singular values that refuses NaN and infinities.

    For infinities LAPACK fails or finds NaN, as it depends on the shape, which differs between a matrix and its R.
    """

    def checked(matrices: torch.Tensor) -> Any:
        if not matrices.isfinite().all():
            text = "singular values are of finite elements, got NaN or infinities"
            raise torch.linalg.LinAlgError(text)  # type: ignore[attr-defined]
        return function(matrices)

    return checked


def agreement_on_shards(comm: Communication, name: str, result: Layout) -> AbstractContextManager[None]:
    """Return an agreement if the ranks compute different shards of the result, so that one alone may fail."""
    if result.split is None:
        return nullcontext()
    if splits_matrices(result):
        return agreement(comm, f"computing {name}", name)
    start, stop = result.span(comm.rank)
    return agreement(comm, f"computing {name} for the indices {start} to {stop - 1} of axis {result.split}", name)


def as_matrices(x: DNDarray, name: str, argument: str = "x", *, square: bool = False) -> DNDarray:
    """Return `x` if its last two axes are matrices of a dtype that LAPACK knows. Otherwise raise an error."""
    x = as_dndarray(x, argument)
    if x.ndim < 2:
        raise ValueError(f"{name} needs matrices, along the last two axes, got {argument} of shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} needs square matrices, got {argument} of shape {x.shape}")
    check_precision(x.dtype, name)
    return x


def check_precision(dtype: torch.dtype, name: str) -> None:
    """Raise a TypeError unless LAPACK computes with numbers of this dtype."""
    check_inexact(dtype, name)
    if dtype in _HALVES:
        wider = torch.complex64 if dtype.is_complex else torch.float32
        raise TypeError(f"{name} has no half precision, got {dtype}; use x.astype({wider})")
