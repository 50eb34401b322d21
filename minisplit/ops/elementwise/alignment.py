"""Where the operands of an elementwise operation meet. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout, operand_layout
from minisplit.core.transfer import elements_moved


@dataclass(frozen=True, slots=True)
class Alignment:
    """The layout of an operation's result, and the layout that each operand needs for it: None for its own.

    `like` is the place of an operand that has the layout of the result, `messages` whether ranks must talk: an
    operand that is cut needs another layout.
    """

    result: Layout
    needed: tuple[Layout | None, ...]
    like: int | None
    messages: bool


@lru_cache(maxsize=256)
def align(layouts: tuple[Layout, ...], itemsizes: tuple[int, ...]) -> Alignment:
    """Choose where operands of these layouts and bytes per element meet.

    The result is cut as one of the operands is, the one for which the fewest bytes move, and the first of
    equals; where that operand is broadcast along its split axis, with the default counts. It is replicated
    only if all operands are. Raises ValueError for shapes that do not broadcast.

    >>> rows, columns = Layout((8, 1), 0, ranks=2), Layout((8, 4), 1, ranks=2)
    >>> meet((rows, columns), (8, 8)).result == columns
    True
    """
    shape = broadcast_shape([layout.shape for layout in layouts])
    candidates = [_spread(layout, shape) for layout in layouts if layout.split is not None]

    def bytes_moved(result: Layout) -> int:
        return sum(
            size * elements_moved(layout, operand_layout(layout, result))
            for layout, size in zip(layouts, itemsizes, strict=True)
        )

    result = min(candidates, key=bytes_moved, default=Layout(shape, None, layouts[0].ranks))
    return _meeting(layouts, result)


@lru_cache(maxsize=256)
def align_in_place(operand: Layout, target: Layout) -> Alignment:
    """The meeting in which an operand changes an array in place; ValueError where the result would be larger."""
    if broadcast_shape([target.shape, operand.shape]) != target.shape:
        raise ValueError(
            f"a change in place keeps the shape {target.shape}, but {operand.shape} would make the result larger"
        )
    return _meeting((operand,), target)


def _meeting(layouts: tuple[Layout, ...], result: Layout) -> Alignment:
    needed = [operand_layout(layout, result) for layout in layouts]
    return Alignment(
        result,
        tuple(None if a == b else b for a, b in zip(layouts, needed, strict=True)),
        layouts.index(result) if result in layouts else None,
        any(a.split is not None and a != b for a, b in zip(layouts, needed, strict=True)),
    )


def broadcast_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape to which `shapes` broadcast, by NumPy's rule; ValueError where they do not.

    >>> broadcast([(3, 1), (4,)])
    (3, 4)
    """
    ndim = max(map(len, shapes))
    columns = list(zip(*((1,) * (ndim - len(shape)) + shape for shape in shapes), strict=True))
    result = tuple(next((n for n in extents if n != 1), 1) for extents in columns)
    for axis, extents in enumerate(columns):
        if not {1, result[axis]}.issuperset(extents):
            raise ValueError(
                f"shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"axis {axis - ndim} has extents {' and '.join(map(str, extents))}, which must be equal or 1"
            )
    return result


def _spread(operand: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of a result of this shape that is cut as the operand is."""
    axis = (operand.split or 0) + len(shape) - operand.ndim
    return Layout(shape, axis, operand.ranks, operand.ragged if shape[axis] == operand.extent else None)
