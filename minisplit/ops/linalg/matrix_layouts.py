"""Where matrices are, for functions that need each whole. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout, operand_layout
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.alignment import broadcast_shape


@lru_cache(maxsize=256)
def whole_matrices(x: Layout) -> Layout:
    """The layout in which the ranks share out the matrices of `x`, which are its last two axes.

    Itself where no matrix is cut. Else evenly along the longest batch axis, if that has an index for every rank,
    and if not, all on every rank.

    >>> whole(Layout((6, 3, 3), 1, ranks=2)).split, whole(Layout((6, 3, 3), 1, ranks=8)).split
    (0, None)
    """
    if not cuts_matrices(x):
        return x
    batch = range(x.ndim - 2)
    longest = max(batch, key=lambda axis: x.shape[axis], default=None)
    return x.with_split(None if longest is None or x.shape[longest] < x.ranks else longest)


def cuts_matrices(x: Layout) -> bool:
    """Whether the split axis is one of the last two."""
    return x.split is not None and x.split >= x.ndim - 2


def is_split_matrix(x: Layout) -> bool:
    """Whether the ranks have parts of the same matrices and cannot share these out."""
    return cuts_matrices(x) and whole_matrices(x).split is None


def lengthwise(x: Layout) -> Layout:
    """Cut along the longer axis of the matrices, rows if they are square: itself where that is its split."""
    return x.with_split(x.ndim - 2 + (x.shape[-2] < x.shape[-1]))


@dataclass(frozen=True, slots=True)
class Solving:
    """The layouts of the solutions of linear systems, of the matrices and of the right-hand sides."""

    result: Layout
    left: Layout
    right: Layout


@lru_cache(maxsize=256)
def align_solve(a: Layout, b: Layout, itemsizes: tuple[int, int]) -> Solving:
    """Choose how ranks share out the systems `a @ x = b`: the fewest bytes are to move.

    By a batch axis, as an operand is cut along one, or evenly where a matrix is cut and there are enough; or by
    the columns of `b`, for which each rank needs all of `a`. Where there is neither, all ranks solve all.

    >>> matrix = Layout((9, 9), 0, ranks=2)
    >>> meet_solve(matrix, Layout((9, 5), 1, ranks=2), (8, 8)).result.split
    1
    """
    shape = (*broadcast_shape([a.shape[:-2], b.shape[:-2]]), *b.shape[-2:])
    ways = [_solving(a, b, result) for result in _results(a, b, shape)]

    def bytes_moved(way: Solving) -> int:
        return itemsizes[0] * elements_moved(a, way.left) + itemsizes[1] * elements_moved(b, way.right)

    return min(ways, key=bytes_moved, default=_solving(a, b, Layout(shape, None, a.ranks)))


def _results(a: Layout, b: Layout, shape: tuple[int, ...]) -> list[Layout]:
    ndim, found = len(shape), []
    for operand in (a, b):
        axis = (operand.split or 0) + ndim - operand.ndim
        if operand.split is not None and axis < ndim - 2 and shape[axis] == operand.extent:
            found.append(Layout(shape, axis, a.ranks, operand.ragged))
        elif cuts_matrices(operand):
            spread = whole_matrices(Layout(shape, ndim - 1, a.ranks))
            found += [spread] if spread.split is not None else []
    if b.split == b.ndim - 1 or (b.split == b.ndim - 2 and shape[-1] >= b.ranks):
        found.append(Layout(shape, ndim - 1, a.ranks, b.ragged if b.split == b.ndim - 1 else None))
    return found


def _solving(a: Layout, b: Layout, result: Layout) -> Solving:
    by_columns = result.split == result.ndim - 1
    left = Layout(a.shape, None, a.ranks) if by_columns else operand_layout(a, result)
    return Solving(result, left, operand_layout(b, result))
