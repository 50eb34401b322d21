"""What a key selects from an array of a given shape, and the layout of the selection.

This module is pure: it computes with integers, and knows neither torch nor MPI. Of an array in a key it knows
whether it is a mask, and the shape of the mask.

The axes of a selection have labels. The label of an axis of the indexed array is its number. New axes have the
labels `x.ndim`, `x.ndim + 1`, ... The arrays of a key broadcast to one shape, whose axes have the labels
`ARRAY_AXES`, `ARRAY_AXES - 1`, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import EllipsisType
from typing import NamedTuple

import numpy as np

from minisplit.core.layout import Layout, Offsets

ARRAY_AXES = -1
Labels = tuple[int, ...]


class Slice(NamedTuple):
    """A slice that can be hashed. Python's own can from 3.12 on."""

    start: int | None
    stop: int | None
    step: int | None


class Fancy(NamedTuple):
    """The place of an array in a key: a mask of this shape, or for None an array of integers."""

    mask: tuple[int, ...] | None = None

    @property
    def axes(self) -> int:
        """How many axes of the indexed array it indexes."""
        return 1 if self.mask is None else len(self.mask)


Entry = int | Slice | Fancy | EllipsisType | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a key selects from an array with the layout `x`.

    ints: the index, by axis, where the key has an int.
    ranges: the indices, by axis, where the key has a slice. They ascend, also for a negative step.
    reversed_axes: the axes whose step is negative.
    fancy_axes: the axes that each array of the key indexes.
    order: the labels of the result's axes in their order. `ARRAY_AXES` stands once, for all axes of that kind.
    """

    x: Layout
    ints: dict[int, int]
    ranges: dict[int, range]
    reversed_axes: tuple[int, ...]
    fancy_axes: tuple[tuple[int, ...], ...]
    order: Labels


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a selection, once it is known how the key's arrays broadcast, and how they are split.

    labels: the labels of its axes.
    layout: its layout before it is reversed. A slice leaves indices on the ranks that have them.
    reversed_axes: the axes along which it is to be reversed.
    owner: the rank that has all of it, where the key has an int for the split axis.
    """

    labels: Labels
    layout: Layout
    reversed_axes: tuple[int, ...]
    owner: int | None


# The three caches below serve the loops of a program, in which few keys and layouts recur. The keys of the first
# are the entries of a key and a layout, those of the others the selections that the first one keeps.


@lru_cache(maxsize=256)
def select(key: tuple[Entry, ...], x: Layout) -> Selection:
    """Read a key as NumPy does. IndexError where it does not fit the shape, ValueError for a step of 0.

    >>> s = select((Slice(None, None, -2), None, 1), Layout((5, 3), 0, ranks=2))
    >>> s.ranges, s.reversed_axes, s.ints, s.order
    ({0: range(0, 6, 2)}, (0,), {1: 1}, (0, 2, -1))
    """
    ints: dict[int, int] = {}
    ranges: dict[int, range] = {}
    reversed_axes: list[int] = []
    fancy_axes: list[tuple[int, ...]] = []
    order: list[int] = []
    # Where ints and arrays stand: in the key, and in the result.
    places: list[tuple[int, int]] = []
    axis, new = 0, x.ndim
    for place, entry in enumerate(_expand_ellipsis(key, x.shape)):
        if entry is None:
            order.append(new)
            new += 1
        elif isinstance(entry, Slice):
            ranges[axis] = range(*slice(*entry).indices(x.shape[axis]))
            if ranges[axis].step < 0:
                ranges[axis] = ranges[axis][::-1]
                reversed_axes.append(axis)
            order.append(axis)
            axis += 1
        elif isinstance(entry, Fancy):
            fancy_axes.append(_check_mask(entry, axis, x.shape))
            places.append((place, len(order)))
            axis += entry.axes
        elif isinstance(entry, int):
            check_bounds(entry, entry, axis, x.shape[axis])
            ints[axis] = entry % x.shape[axis]
            places.append((place, len(order)))
            axis += 1
    # NumPy's rule: the axes of the arrays replace what they index where arrays and ints stand side by side in the
    # key. Otherwise (x[[0, 1], :, 2], x[0, None, [1]]) no place is better than another, and they come first.
    adjacent = places and places[-1][0] - places[0][0] < len(places)
    order.insert(places[0][1] if adjacent else 0, ARRAY_AXES)
    return Selection(x, ints, ranges, tuple(reversed_axes), tuple(fancy_axes), tuple(order))


@lru_cache(maxsize=256)
def result_of(selection: Selection, arrays: Layout) -> Result:
    """Return the result of a selection, given the layout of the shape to which the key's arrays broadcast.

    >>> key = (2, Slice(None, None, -1))
    >>> result_of(select(key, Layout((4, 3), 0, ranks=2)), Layout((), None, ranks=2))
    Result(labels=(1,), layout=Layout(shape=(3,), split=None, ranks=2, ragged=None), reversed_axes=(0,), owner=1)
    """
    x = selection.x
    extents = {ARRAY_AXES - axis: extent for axis, extent in enumerate(arrays.shape)}
    array_axes = tuple(extents)
    extents |= {axis: len(indices) for axis, indices in selection.ranges.items()}
    labels: list[int] = []
    for label in selection.order:
        labels += array_axes if label == ARRAY_AXES else (label,)
    shape = tuple(extents.get(label, 1) for label in labels)
    layout, owner = Layout(shape, None, x.ranks), None
    if x.split in selection.ranges:
        counts = np.diff(_selected_offsets(selection.ranges[x.split], x))
        layout = Layout(shape, labels.index(x.split), x.ranks, tuple(counts.tolist()))
    elif arrays.split is not None:
        layout = Layout(shape, labels.index(ARRAY_AXES - arrays.split), x.ranks, arrays.ragged)
    elif x.split in selection.ints:
        # "right" passes over ranks without indices, which end where the rank before them does.
        owner = int(np.searchsorted(x.offsets()[1:], selection.ints[x.split], side="right"))
    return Result(tuple(labels), layout, tuple(map(labels.index, selection.reversed_axes)), owner)


@lru_cache(maxsize=256)
def shard_key(selection: Selection, rank: int, keep_split: bool) -> tuple[tuple[int | slice | None, ...], Labels]:
    """Return the key for what ints, slices and new axes select of the shard of `rank`, and the labels of its axes.

    keep_split: whether to leave the split axis whole where the key has an int for it.
    """
    x = selection.x
    labels = [label for label in selection.order if label >= x.ndim]
    key: list[int | slice | None] = [None] * len(labels)
    for axis in range(x.ndim):
        start = x.span(rank)[0] if axis == x.split else 0
        if axis in selection.ints and not (keep_split and axis == x.split):
            key.append(selection.ints[axis] - start)
            continue
        labels.append(axis)
        indices = selection.ranges.get(axis)
        if indices is not None and axis == x.split:
            first, last = _selected_offsets(indices, x)[rank : rank + 2].tolist()
            indices = indices[first:last]
        if indices is None:
            key.append(slice(None))
        else:
            key.append(slice(indices.start - start, indices.stop - start, indices.step) if indices else slice(0))
    return tuple(key), tuple(labels)


def check_bounds(lowest: int, highest: int, axis: int, extent: int) -> None:
    """IndexError unless `-extent <= lowest` and `highest < extent`."""
    for index in (highest, lowest):
        if not -extent <= index < extent:
            raise IndexError(f"index {index} is out of range for axis {axis} of length {extent}")


def _selected_offsets(indices: range, layout: Layout) -> Offsets:
    """Return where each rank's part of some ascending indices of the split axis starts, and their number."""
    before = -((indices.start - layout.offsets()) // indices.step)
    return np.clip(before, 0, len(indices))


def _expand_ellipsis(key: Sequence[Entry], shape: tuple[int, ...]) -> list[Entry]:
    """Return the key with full slices for an Ellipsis, or behind its end, so that it indexes every axis."""
    dots = [place for place, entry in enumerate(key) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"a key can have one Ellipsis (...), got {len(dots)}")
    rest = [entry for entry in key if not isinstance(entry, EllipsisType)]
    used = sum(entry.axes if isinstance(entry, Fancy) else entry is not None for entry in rest)
    if used > len(shape):
        raise IndexError(f"the key indexes {used} axes, but the array of shape {shape} has {len(shape)}")
    place = dots[0] if dots else len(rest)
    # An Ellipsis that stands for no axis stays: the arrays at its sides are not side by side, as in NumPy.
    slices: list[Entry] = [Slice(None, None, None)] * (len(shape) - used) or [...]
    return [*rest[:place], *slices, *rest[place:]]


def _check_mask(entry: Fancy, axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that an array indexes from `axis` on. IndexError for a mask of another shape than these."""
    axes = tuple(range(axis, axis + entry.axes))
    indexed = shape[axis : axis + entry.axes]
    # The standard allows an extent of 0 anywhere in a mask: it selects nothing. NumPy raises IndexError.
    if entry.mask is not None and not (
        len(entry.mask) == len(indexed) and all(n in {0, m} for n, m in zip(entry.mask, indexed, strict=True))
    ):
        raise IndexError(
            f"a mask of shape {entry.mask} does not fit axes {axis} to {axes[-1]} of an array of shape {shape}"
        )
    return axes
