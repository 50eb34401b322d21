"""The layouts in which the operands of an elementwise operation are computed. Pure: no tensors, no MPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout, operand_layout
from minisplit.core.transfer import elements_moved


@dataclass(frozen=True, slots=True)
class LayoutPlan:
    """The layout of an operation's result, and what its operands need for it.

    Attributes
    ----------
    result : Layout
        The layout of the result.
    needed : tuple of Layout or None
        The layout that each operand must have. None where it has that already.
    """

    result: Layout
    needed: tuple[Layout | None, ...]

    def bytes_moved(self, layouts: Sequence[Layout], itemsizes: Sequence[int]) -> int:
        """Return how many bytes of operands of these layouts and bytes per element change their rank."""
        moves = zip(itemsizes, layouts, self.needed, strict=True)
        return sum(size * elements_moved(layout, needed or layout) for size, layout, needed in moves)


@dataclass(frozen=True, slots=True)
class Alignment(LayoutPlan):
    """A plan of an elementwise operation.

    Attributes
    ----------
    like : int or None
        The index of an operand whose layout is that of the result.
    messages : bool
        Whether ranks send messages, because a split operand needs another layout.
    """

    like: int | None
    messages: bool


# The keys of both caches are layouts, with the sizes of elements: all that the answer depends on. 256 entries are
# more than the different operations in the loop of a program, and layouts are small.
@lru_cache(maxsize=256)
def align(layouts: tuple[Layout, ...], itemsizes: tuple[int, ...]) -> Alignment:
    """Choose the layouts for operands of these layouts and bytes per element.

    The result is split as one of the operands is: as that for which the fewest bytes move, and the first of
    equals. Where that operand is broadcast along its split axis, the result has the default counts. It is
    replicated only if all operands are. ValueError for shapes that do not broadcast.

    >>> rows, columns = Layout((8, 1), 0, ranks=2), Layout((8, 4), 1, ranks=2)
    >>> align((rows, columns), (8, 8)).result == columns
    True
    """
    shape = broadcast_shape([layout.shape for layout in layouts])
    results = [_broadcast_layout(layout, shape) for layout in layouts if layout.split is not None]
    plans = [_align_to(layouts, result) for result in results or [Layout(shape, None, layouts[0].ranks)]]
    return min(plans, key=lambda plan: plan.bytes_moved(layouts, itemsizes))


@lru_cache(maxsize=256)
def align_in_place(operand: Layout, target: Layout) -> Alignment:
    """Return what an operand needs to change an array in place. ValueError where the result would be larger."""
    if broadcast_shape([target.shape, operand.shape]) != target.shape:
        raise ValueError(
            f"a change in place keeps the shape {target.shape}, but {operand.shape} would make the result larger"
        )
    return _align_to((operand,), target)


def _align_to(layouts: tuple[Layout, ...], result: Layout) -> Alignment:
    """Return what operands of these layouts need for a result of this layout."""
    needed = [operand_layout(layout, result) for layout in layouts]
    return Alignment(
        result,
        tuple(None if a == b else b for a, b in zip(layouts, needed, strict=True)),
        layouts.index(result) if result in layouts else None,
        any(a.split is not None and a != b for a, b in zip(layouts, needed, strict=True)),
    )


def broadcast_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape to which `shapes` broadcast, by NumPy's rule. ValueError where they do not.

    >>> broadcast_shape([(3, 1), (4,)])
    (3, 4)
    """
    ndim = max(map(len, shapes))
    columns = list(zip(*((1,) * (ndim - len(shape)) + shape for shape in shapes), strict=True))
    # Not the maximum: an axis of extents 0 and 1 has extent 0.
    result = tuple(next((n for n in extents if n != 1), 1) for extents in columns)
    for axis, extents in enumerate(columns):
        if not {1, result[axis]}.issuperset(extents):
            raise ValueError(
                f"shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"axis {axis - ndim} has extents {' and '.join(map(str, extents))}, which must be equal or 1"
            )
    return result


def _broadcast_layout(operand: Layout, shape: tuple[int, ...]) -> Layout:
    """Return the layout of a result of this shape that is split as the operand is."""
    axis = (operand.split or 0) + len(shape) - operand.ndim
    # Counts of an axis of extent 1 say nothing about an axis that is longer.
    return Layout(shape, axis, operand.ranks, operand.ragged if shape[axis] == operand.extent else None)
