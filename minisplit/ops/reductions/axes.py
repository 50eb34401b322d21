"""What reducing axes makes of a layout. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minisplit.core.layout import Layout, normalise_axis


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


def normalise_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that `axis`, an int, a tuple of ints, or None for all, means, in order.

    Raises IndexError for one out of range, ValueError for one given twice, TypeError for anything else.

    >>> normalise_axes((-1, 0), 3)
    (0, 2)
    """
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, Iterable) else (axis,)
    axes = tuple(sorted(normalise_axis(one, ndim, "axis") for one in given))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {axis} names an axis of {ndim} dimensions more than once")
    return axes


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
