"""The layouts of results of shape operations and reductions. Pure: layouts in, layouts out, no tensors, no MPI."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from minisplit.core.layout import Layout, Offsets, as_index
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.alignment import LayoutPlan

# How much larger the largest shard may become by `reshape`, to save messages. Any factor bounds the memory. With 1
# nearly no reshaped array could keep its elements where they are, since bounds are rounded to whole indices.
MAX_GROWTH = 1.25

Axes = int | Sequence[int]


def permute_layout(x: Layout, axes: tuple[int, ...]) -> Layout:
    """The layout of an array whose axis i is axis `axes[i]` of `x`."""
    shape = tuple(x.shape[axis] for axis in axes)
    return Layout(shape, None if x.split is None else axes.index(x.split), x.ranks, x.ragged)


def expand_layout(x: Layout, axes: Iterable[int]) -> Layout:
    """The layout of `x` with axes of extent 1 more, which stand at `axes` of the result.

    >>> expand_layout(Layout((4, 3), 0, ranks=2), (0, 2))
    Layout(shape=(1, 4, 1, 3), split=1, ranks=2, ragged=None)
    """
    shape, split = list(x.shape), x.split
    for axis in sorted(axes):
        shape.insert(axis, 1)
        if split is not None and axis <= split:
            split += 1
    return Layout(tuple(shape), split, x.ranks, x.ragged)


def with_extent(x: Layout, axis: int, extent: int, counts: Sequence[int] | None = None) -> Layout:
    """The layout of `x` with another extent of one axis. `counts`, by default even, are for the split axis."""
    shape = (*x.shape[:axis], extent, *x.shape[axis + 1 :])
    if axis == x.split:
        return Layout(shape, axis, x.ranks, None if counts is None else tuple(counts))
    return Layout(shape, x.split, x.ranks, x.ragged)


def extend_ends(x: Layout, axis: int, before: int, after: int) -> Layout:
    """The layout of `x` with more indices before and after those of an axis: on the first and the last rank."""
    counts = list(x.counts or (0,))
    counts[0] += before
    counts[-1] += after
    return with_extent(x, axis, x.shape[axis] + before + after, counts)


def slice_counts(x: Layout, start: int, extent: int) -> tuple[int, ...]:
    """The counts of `extent` indices of the split axis from `start` on, where each stays on its rank."""
    return tuple(np.diff(np.clip(x.offsets() - start, 0, extent)).tolist())


def without_axis(x: Layout, *axes: int) -> Layout:
    """A layout of `x` that is not split along any of `axes`: itself, or evenly along the longest other axis.

    >>> without_axis(Layout((4, 2, 3), 0, ranks=2), 0).split
    2
    """
    if x.split not in axes:
        return x
    others = [other for other in range(x.ndim) if other not in axes]
    return x.with_split(max(others, key=lambda other: x.shape[other]) if others else None)


def split_elsewhere(x: Layout, axis: int) -> Layout | None:
    """The layout of `without_axis` if it gives each rank something; None where it leaves ranks without work.

    >>> split_elsewhere(Layout((9, 2), 0, ranks=2), 0).split, split_elsewhere(Layout((9, 2), 0, ranks=3), 0)
    (1, None)
    """
    if x.split != axis or x.ranks == 1:
        return x
    other = without_axis(x, axis)
    return other if other.split is not None and other.extent >= x.ranks else None


def diagonal_layout(x: Layout, offset: int, rows: int, columns: int) -> Layout:
    """The layout of the diagonals of `x` in two axes, along a new last axis. Each element stays on its rank.

    >>> diagonal_layout(Layout((4, 3), 0, ranks=2), 0, 0, 1).counts
    (2, 1)
    """
    kept = [axis for axis in range(x.ndim) if axis not in (rows, columns)]
    start = max(-offset, 0), max(offset, 0)
    extent = max(min(x.shape[rows] - start[0], x.shape[columns] - start[1]), 0)
    shape = (*(x.shape[axis] for axis in kept), extent)
    if x.split not in (rows, columns):
        return Layout(shape, None if x.split is None else kept.index(x.split), x.ranks, x.ragged)
    # Of the ranks' rows or columns those that the diagonal crosses.
    return Layout(shape, len(kept), x.ranks, slice_counts(x, start[x.split == columns], extent))


def infer_shape(shape: Any, size: int) -> tuple[int, ...]:
    """`shape` with its one -1 replaced, so that it has `size` elements. ValueError where they do not fit."""
    given = shape if isinstance(shape, Iterable) else (shape,)
    extents = tuple(as_index(n, "every extent of a shape") for n in given)
    known = math.prod(n for n in extents if n != -1)
    if extents.count(-1) > 1 or any(n < -1 for n in extents):
        raise ValueError(f"extents must not be negative, except one -1, got shape {extents}")
    if -1 in extents:
        if not known or size % known:
            raise ValueError(
                f"an array of {size} elements does not fit shape {extents}: {size} is no multiple of {known}"
            )
        return tuple(size // known if n == -1 else n for n in extents)
    if known != size:
        raise ValueError(f"an array of {size} elements does not fit shape {extents}, which has {known}")
    return extents


def merge_axes(x: Layout) -> Layout:
    """The layout of `x` as a matrix: the axes before the split one are merged, and the split one with those after.

    >>> merge_axes(Layout((2, 3, 4), 1, ranks=2))
    Layout(shape=(2, 12), split=1, ranks=2, ragged=(8, 4))
    """
    axis = x.split or 0
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return Layout((outer, x.extent * inner), 1, x.ranks, tuple(n * inner for n in x.counts or ()))


def canonical_layout(x: Layout) -> Layout:
    """A layout that is equal for any two split arrays in which each rank has the same elements in row-major order.

    >>> two, three = Layout((2, 6), 1, ranks=2, ragged=(2, 4)), Layout((2, 3, 2), 1, ranks=2, ragged=(1, 2))
    >>> canonical_layout(two) == canonical_layout(three)
    True
    """
    if x.size == 0:
        return Layout((1, 0), 1, x.ranks)
    if x.extent in (x.counts or ()):
        # One rank has all. Along which axis it has all makes no difference.
        return Layout((1, x.size), 1, x.ranks, tuple(x.size if n else 0 for n in x.counts or ()))
    return merge_axes(x)


def needs_one_exchange(outer: int, other: int) -> bool:
    """Whether one exchange reshapes an array. The arguments are the numbers of elements before its split axes."""
    return outer % other == 0 or other % outer == 0


# Of this and the two caches below the keys are what an operation is given (layouts, a shape), so that a program's
# loop asks again for the few that it had. An entry is some numbers, or layouts of all ranks' counts.


@lru_cache(maxsize=256)
def elements_reshaped(src: Layout, dst: Layout) -> int:
    """About how many elements change their rank where those of `src` come, in row-major order, to `dst`.

    0 where one of them is replicated: then the array is gathered or cut before its shape changes.
    """
    if src.split is None or dst.split is None or canonical_layout(src) == canonical_layout(dst):
        return 0
    before, after = merge_axes(src), merge_axes(dst)
    if before.shape == after.shape:
        return elements_moved(before, after)
    # A guess that costs nothing, for a warning: each rank keeps its share of what it has.
    return src.size - src.size // src.ranks


def column_boxes(start: int, stop: int, first: int, last: int, period: int) -> list[tuple[int, int, int, int]]:
    """The columns `first` to `last` of the elements `start` to `stop` of a matrix with rows of length `period`.

    These are at most three boxes, (row, row, column, column), none of them empty: a part of the first row, whole
    rows, and a part of the last row.

    >>> column_boxes(2, 9, 1, 3, 4)
    [(0, 1, 2, 3), (1, 2, 1, 3)]
    """
    head, tail = start // period, stop // period
    if head == tail:
        parts = [(head, head + 1, start % period, stop % period)]
    else:
        whole = head + (start % period > 0)
        parts = [
            (head, whole, start % period, period),
            (whole, tail, 0, period),
            (tail, tail + 1, 0, stop % period),
        ]
    found = [(low, high, max(left, first), min(right, last)) for low, high, left, right in parts]
    return [(low, high, left, right) for low, high, left, right in found if low < high and left < right]


@lru_cache(maxsize=256)
def reshape_layout(x: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of `x` in another shape of as many elements. `minisplit.reshape` documents the rule.

    >>> x = Layout((6, 4), 0, ranks=2)
    >>> reshape_layout(x, (3, 8)).counts, reshape_layout(x, (2, 3, 4)).split
    ((2, 1), 0)
    >>> reshape_layout(x.with_split(1), (24,)).split
    0
    """
    if x.split is None or not shape:
        return Layout(shape, None, x.ranks)
    if x.size == 0:
        return Layout(shape, shape.index(max(shape)), x.ranks)
    before = merge_axes(x).shape[0]
    outers = [math.prod(shape[:axis]) for axis in range(len(shape))]

    def preference(axis: int) -> tuple[int, bool, int]:
        # An axis that is shorter than the number of ranks leaves ranks without elements.
        return min(shape[axis], x.ranks), needs_one_exchange(before, outers[axis]), shape[axis]

    even = Layout(shape, max(range(len(shape)), key=preference), x.ranks)
    limit = max(MAX_GROWTH * _largest_part(x), _largest_part(even))
    costs: dict[Layout, tuple[int, bool, bool, int]] = {}
    for axis, extent in enumerate(shape):
        source = merge_axes(x) if outers[axis] == before else canonical_layout(x)
        if outers[axis] != source.shape[0]:
            continue
        inner = math.prod(shape[axis + 1 :])
        # Rounded to the nearest index, so that as little as possible goes to a neighbour.
        counts = np.diff((source.offsets() + inner // 2) // inner)
        candidate = Layout(shape, axis, x.ranks, tuple(counts.tolist()))
        # An axis with an index for every rank may be as uneven as it is with the default counts.
        allowed = max(limit, _largest_part(candidate.balanced()) if extent >= x.ranks else 0)
        if _largest_part(candidate) <= allowed:
            moved = elements_moved(source, merge_axes(candidate))
            # Of candidates that move as much, the one that is split as `x` is, else along the longest axis.
            costs[candidate] = moved, outers[axis] != before, extent != x.extent, -extent
    return min(costs, key=costs.__getitem__, default=even)


@lru_cache(maxsize=256)
def concat_layout(layouts: tuple[Layout, ...], axis: int, itemsizes: tuple[int, ...]) -> LayoutPlan:
    """Plan to join arrays of these layouts and bytes per element along `axis`, so that the fewest bytes move.

    `minisplit.concat` documents the rule.

    >>> rows = Layout((4, 2), 0, ranks=2)
    >>> concat_layout((rows, rows), 0, (4, 4)).needed[0].counts
    (4, 0)
    >>> concat_layout((rows, rows), 1, (4, 4)).needed[0] == rows
    True
    """
    starts = np.cumsum([0, *(x.shape[axis] for x in layouts)]).tolist()
    shape = (*layouts[0].shape[:axis], starts[-1], *layouts[0].shape[axis + 1 :])
    candidates: list[Layout] = []
    for x, start in zip(layouts, starts, strict=False):
        if x.split == axis:
            candidates.append(Layout(shape, axis, x.ranks))
            # Or `x` stays, and the first and last rank get what is before and after it: rows appended to a long
            # array would otherwise shift all bounds of it.
            kept = extend_ends(x, axis, start, starts[-1] - start - x.extent)
            if _largest_part(kept) <= _largest_part(*layouts):
                candidates.append(kept)
        elif x.split is not None:
            candidates.append(Layout(shape, x.split, x.ranks, x.ragged))

    candidates = candidates or [Layout(shape, None, layouts[0].ranks)]
    plans = [concat_plan(layouts, axis, result) for result in candidates]
    return min(plans, key=lambda plan: plan.bytes_moved(layouts, itemsizes))


def concat_plan(layouts: Sequence[Layout], axis: int, result: Layout) -> LayoutPlan:
    """Plan to join arrays of these layouts along `axis` in the layout `result`."""
    needed, start = [], 0
    for x in layouts:
        counts = slice_counts(result, start, x.shape[axis]) if result.split == axis else result.ragged
        needed.append(Layout(x.shape, result.split, x.ranks, counts))
        start += x.shape[axis]
    return LayoutPlan(result, tuple(needed))


def repeat_counts(x: Layout, repeats: Offsets) -> tuple[int, ...]:
    """The counts once index i of the split axis is there `repeats[i]` times."""
    ends = np.concatenate([[0], np.cumsum(repeats)])
    return tuple(np.diff(ends[x.offsets()]).tolist())


def _largest_part(*layouts: Layout) -> int:
    """The number of elements of the rank that has the most of all the arrays together."""
    parts = np.zeros(layouts[0].ranks, dtype=np.int64)
    for x in layouts:
        parts += x.size if x.split is None else np.diff(x.offsets()) * (x.size // max(x.extent, 1))
    return int(parts.max())


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
