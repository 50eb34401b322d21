"""Where results of shape operations are split, and with which counts. Layouts in and out: no tensors, no MPI."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from minisplit.core.layout import Layout, Offsets, as_index
from minisplit.core.transfer import elements_moved

# How much larger than the largest shard of an array the largest of its reshaped form may be, to save messages.
MAX_GROWTH = 1.25

Axes = int | Sequence[int]


def permute_layout(x: Layout, axes: tuple[int, ...]) -> Layout:
    """The layout of an array whose axis i is axis `axes[i]` of `x`."""
    shape = tuple(x.shape[axis] for axis in axes)
    return Layout(shape, None if x.split is None else axes.index(x.split), x.ranks, x.ragged)


def expanded(x: Layout, axes: Iterable[int], extent: int = 1) -> Layout:
    """The layout of `x` with more axes, which stand at `axes` of the result."""
    ndim = x.ndim + len(tuple(axes))
    kept = [axis for axis in range(ndim) if axis not in axes]
    shape = tuple(x.shape[kept.index(axis)] if axis in kept else extent for axis in range(ndim))
    return Layout(shape, None if x.split is None else kept[x.split], x.ranks, x.ragged)


def with_extent(x: Layout, axis: int, extent: int, counts: Sequence[int] | None = None) -> Layout:
    """The layout of `x` with another extent of one axis; `counts`, by default even, are for the split axis."""
    shape = (*x.shape[:axis], extent, *x.shape[axis + 1 :])
    given = None if counts is None else tuple(counts)
    return Layout(shape, x.split, x.ranks, given if axis == x.split else x.ragged)


def without_axis(x: Layout, *axes: int) -> Layout:
    """A layout of `x` that is not split along any of `axes`: itself, or evenly along the longest other axis.

    >>> without(Layout((4, 2, 3), 0, ranks=2), 0).split
    2
    """
    if x.split not in axes:
        return x
    others = [other for other in range(x.ndim) if other not in axes]
    return x.with_split(max(others, key=lambda other: x.shape[other]) if others else None)


def split_elsewhere(x: Layout, axis: int) -> Layout | None:
    """A layout of `x`, as of `without_axis`, in which all ranks work along a whole `axis`; None where some cannot.

    >>> aside(Layout((9, 2), 0, ranks=2), 0).split, aside(Layout((9, 2), 0, ranks=3), 0)
    (1, None)
    """
    if x.split != axis or x.ranks == 1:
        return x
    other = without_axis(x, axis)
    return other if other.split is not None and other.extent >= x.ranks else None


def diagonal_layout(x: Layout, offset: int, rows: int, columns: int) -> Layout:
    """The layout of the diagonals of `x` in two axes, along a new last axis: each rank has those of its part.

    >>> diagonal_layout(Layout((4, 3), 0, ranks=2), 0, 0, 1).counts
    (2, 1)
    """
    kept = [axis for axis in range(x.ndim) if axis not in (rows, columns)]
    start = max(-offset, 0), max(offset, 0)
    extent = max(min(x.shape[rows] - start[0], x.shape[columns] - start[1]), 0)
    shape = (*(x.shape[axis] for axis in kept), extent)
    if x.split not in (rows, columns):
        return Layout(shape, None if x.split is None else kept.index(x.split), x.ranks, x.ragged)
    first = start[x.split == columns]
    counts = np.diff(np.clip(x.offsets() - first, 0, extent))
    return Layout(shape, len(kept), x.ranks, tuple(counts.tolist()))


def infer_shape(shape: Any, size: int) -> tuple[int, ...]:
    """`shape` with its one -1 replaced by what `size` elements leave; ValueError where they do not fit."""
    extents = tuple(
        as_index(n, "every extent of a shape") for n in (shape if isinstance(shape, Iterable) else (shape,))
    )
    known = math.prod(n for n in extents if n != -1)
    if extents.count(-1) > 1 or any(n < -1 for n in extents):
        raise ValueError(f"extents must not be negative, but for one -1, got shape {extents}")
    if -1 in extents and known and size % known == 0:
        return tuple(size // known if n == -1 else n for n in extents)
    if -1 in extents:
        raise ValueError(
            f"an array of {size} elements does not fit shape {extents}: {size} is no multiple of {known}"
        )
    if known != size:
        raise ValueError(f"an array of {size} elements does not fit shape {extents}, which has {known}")
    return extents


def flat(x: Layout) -> Layout:
    """A split layout with two axes: those before the split one, and it with those after it."""
    axis = x.split or 0
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    counts = tuple(n * inner for n in x.counts or ())
    return Layout((outer, x.extent * inner), 1, x.ranks, counts)


def elements(x: Layout) -> Layout:
    """The same for any two split layouts that give each rank the same elements in row-major order: `flat`, but for
    what one rank has all of, of which any axis may be the split one.

    >>> elements(Layout((2, 3, 4), 1, ranks=2, ragged=(1, 2))) == elements(Layout((2, 6, 2), 1, 2, ragged=(2, 4)))
    True
    """
    if x.size == 0:
        return Layout((1, 0), 1, x.ranks)
    if x.extent in (x.counts or ()):
        return Layout((1, x.size), 1, x.ranks, tuple(x.size if n else 0 for n in x.counts or ()))
    return flat(x)


def fit(outer: int, other: int) -> bool:
    """Whether one exchange leads from one to another array with so many elements before their split axes."""
    return outer % other == 0 or other % outer == 0


@lru_cache(maxsize=256)
def elements_crossing(src: Layout, dst: Layout) -> int:
    """About how many elements change their rank where those of `src` come, in row-major order, to `dst`.

    0 where one of them is replicated: then the array is gathered or cut before its shape changes.
    """
    if src.split is None or dst.split is None or elements(src) == elements(dst):
        return 0
    have, need = flat(src), flat(dst)
    return elements_moved(have, need) if have.shape == need.shape else src.size - src.size // src.ranks


def boxes(start: int, stop: int, first: int, last: int, period: int) -> list[tuple[int, int, int, int]]:
    """The columns `first` to `last` of the elements `start` to `stop` of rows that are `period` long.

    At most three boxes, none empty: of the first row, whole rows, and the last row; as (row, row, column, column).

    >>> boxes(2, 9, 1, 3, 4)
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
    cut = [(low, high, max(left, first), min(right, last)) for low, high, left, right in parts]
    return [(low, high, left, right) for low, high, left, right in cut if low < high and left < right]


@lru_cache(maxsize=256)
def reshape_layout(x: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of `x` in another shape of as many elements: the one for which the fewest bytes move.

    Nothing moves where the ranks' parts are whole indices of an axis of the result. Else their bounds go to the
    next whole index of an axis that has as many elements before it as the split one; but where a rank would have
    more than `MAX_GROWTH` times what the fullest had, or there is no such axis, the result is split evenly along
    its longest axis.

    >>> x = Layout((6, 4), 0, ranks=2)
    >>> reshaped(x, (3, 8)).counts, reshaped(x, (2, 3, 4)).split, reshaped(x.with_split(1), (24,)).split
    ((2, 1), 0, 0)
    """
    if x.split is None or not shape:
        return Layout(shape, None, x.ranks)
    if x.size == 0:
        return Layout(shape, shape.index(max(shape)), x.ranks)
    before = flat(x).shape[0]
    outers = [math.prod(shape[:axis]) for axis in range(len(shape))]
    choice = max(
        range(len(shape)), key=lambda axis: (min(shape[axis], x.ranks), fit(before, outers[axis]), shape[axis])
    )
    best = even = Layout(shape, choice, x.ranks)
    limit = max(MAX_GROWTH * _fullest([x]), _fullest([even]))
    least = (x.size + 1, True, True, 0)
    for axis, extent in enumerate(shape):
        outer, inner = outers[axis], math.prod(shape[axis + 1 :])
        source = flat(x) if outer == before else elements(x)
        if outer != source.shape[0]:
            continue
        counts = np.diff((source.offsets() + inner // 2) // inner)
        candidate = Layout(shape, axis, x.ranks, tuple(counts.tolist()))
        # Of equals one that is split as `x` is, else the longest axis.
        price = (elements_moved(source, flat(candidate)), outer != before, extent != x.extent, -extent)
        # An axis with an index for every rank may be as uneven as it is with the default counts.
        allowed = max(limit, _fullest([candidate.balanced()]) if extent >= x.ranks else 0)
        if _fullest([candidate]) <= allowed and price < least:
            best, least = candidate, price
    return best


@dataclass(frozen=True, slots=True)
class Joining:
    """The layout of arrays that are joined, and the layout that each needs for it."""

    result: Layout
    needed: tuple[Layout, ...]


@lru_cache(maxsize=256)
def concat_layout(layouts: tuple[Layout, ...], axis: int, itemsizes: tuple[int, ...]) -> Joining:
    """Choose the layout of arrays joined along `axis`, of these bytes per element: the fewest bytes are to move.

    It is split as one of the arrays is, the first of equals. Where that is along `axis`, the counts are the
    default ones; or those of the array, with what comes before and after it on the first and last rank, if thus
    no rank has more than the fullest had. It is replicated only if all are.

    >>> rows = Layout((4, 2), 0, ranks=2)
    >>> joined((rows, rows), 0, (4, 4)).needed[0].counts, joined((rows, rows), 1, (4, 4)).needed[0] == rows
    ((4, 0), True)
    """
    starts = np.cumsum([0, *(x.shape[axis] for x in layouts)]).tolist()
    shape = (*layouts[0].shape[:axis], starts[-1], *layouts[0].shape[axis + 1 :])
    candidates: list[Layout] = []
    for x, start in zip(layouts, starts, strict=False):
        if x.split == axis:
            candidates.append(Layout(shape, axis, x.ranks))
            counts = list(x.counts or ())
            counts[0] += start
            counts[-1] += starts[-1] - start - x.extent
            kept = Layout(shape, axis, x.ranks, tuple(counts))
            if _fullest([kept]) <= _fullest(layouts):
                candidates.append(kept)
        elif x.split is not None:
            candidates.append(Layout(shape, x.split, x.ranks, x.ragged))

    def bytes_moved(joining: Joining) -> int:
        pairs = zip(layouts, joining.needed, itemsizes, strict=True)
        return sum(size * elements_moved(have, need) for have, need, size in pairs)

    candidates = candidates or [Layout(shape, None, layouts[0].ranks)]
    return min((concat_plan(layouts, axis, result) for result in candidates), key=bytes_moved)


def concat_plan(layouts: Sequence[Layout], axis: int, result: Layout) -> Joining:
    """What the arrays need to be joined along `axis` in the layout `result`."""
    needed, start = [], 0
    for x in layouts:
        ragged = result.ragged
        if result.split == axis:
            inside = np.clip(result.offsets() - start, 0, x.shape[axis])
            ragged = tuple(np.diff(inside).tolist())
        needed.append(Layout(x.shape, result.split, x.ranks, ragged))
        start += x.shape[axis]
    return Joining(result, tuple(needed))


def summed(x: Layout, lengths: Offsets) -> tuple[int, ...]:
    """How many indices each rank has once index i of the split axis has become `lengths[i]` of them."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return tuple(np.diff(ends[x.offsets()]).tolist())


def _fullest(layouts: Sequence[Layout]) -> int:
    """The most elements that one rank has of all the arrays together."""
    held = np.zeros(layouts[0].ranks, dtype=np.int64)
    for x in layouts:
        held += x.size if x.split is None else np.diff(x.offsets()) * (x.size // max(x.extent, 1))
    return int(held.max())
