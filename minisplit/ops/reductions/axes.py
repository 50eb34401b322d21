"""The layout of an array of which axes are reduced. Pure: no tensors, no MPI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout


@dataclass(frozen=True, slots=True)
class ReducedLayout:
    """What a reduction makes of a layout.

    Attributes
    ----------
    axes : tuple of int
        The reduced axes, counted from the front, in order.
    result : Layout
        The layout of the result.
    crosses : bool
        Whether an element of the result is made from elements of several ranks.
    count : int
        From how many elements each element of the result is made.
    """

    axes: tuple[int, ...]
    result: Layout
    crosses: bool
    count: int


# The key is all that the answer depends on. 256 entries are more than the different reductions in the loop of a
# program, and layouts are small.
@lru_cache(maxsize=256)
def reduce_layout(layout: Layout, axes: tuple[int, ...], keepdims: bool) -> ReducedLayout:
    """Return the layout of an array of this layout, of which `axes`, in order, are reduced.

    The result keeps split and counts where the split axis stays. Otherwise it is replicated.

    >>> rows = Layout((4, 3, 2), 1, ranks=2)
    >>> reduce_layout(rows, (0,), False).result, reduce_layout(rows, (1,), True).result.shape
    (Layout(shape=(3, 2), split=0, ranks=2, ragged=None), (4, 1, 2))
    """
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(layout.shape) if keepdims or axis not in axes)
    split = layout.split
    count = math.prod(layout.shape[axis] for axis in axes)
    if split is None or split in axes:
        result = Layout(shape, None, layout.ranks)
        return ReducedLayout(axes, result, split is not None and layout.ranks > 1, count)
    new_split = split if keepdims else split - sum(axis < split for axis in axes)
    return ReducedLayout(axes, Layout(shape, new_split, layout.ranks, layout.ragged), False, count)
