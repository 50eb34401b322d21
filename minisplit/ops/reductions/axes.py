"""What reducing axes makes of a layout. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout


@dataclass(frozen=True, slots=True)
class ReducedLayout:
    """The axes that an operation reduces, counted from the front, the layout of its result, and what that takes.

    `crosses` is whether an element of the result is made from several ranks' elements, `count` how many it is made
    from.
    """

    axes: tuple[int, ...]
    result: Layout
    crosses: bool
    count: int


@lru_cache(maxsize=256)
def reduce_layout(layout: Layout, axes: tuple[int, ...], keepdims: bool) -> ReducedLayout:
    """What comes of an array of this layout when `axes`, in order, are reduced.

    >>> rows = Layout((4, 3, 2), 1, ranks=2)
    >>> reduced(rows, (0,), False).result, reduced(rows, (1,), True).result.shape
    (Layout(shape=(3, 2), split=0, ranks=2, ragged=None), (4, 1, 2))
    """
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(layout.shape) if keepdims or axis not in axes)
    split = layout.split
    count = math.prod(layout.shape[axis] for axis in axes)
    if split is None or split in axes:
        result = Layout(shape, None, layout.ranks)
        return ReducedLayout(axes, result, split is not None and layout.ranks > 1, count)
    place = split if keepdims else split - sum(axis < split for axis in axes)
    return ReducedLayout(axes, Layout(shape, place, layout.ranks, layout.ragged), False, count)
