"""What a key selects from an array of a given shape, and which layout the result has.

Integers only: arrays in a key are known here by the shapes of masks alone. No tensors, no MPI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import EllipsisType
from typing import NamedTuple

import numpy as np

from minisplit.core.layout import Layout, Offsets

# The label of the first axis of the common shape of the key's arrays; the next have `GROUP - 1`, `GROUP - 2` ...
GROUP = -1


class Slice(NamedTuple):
    """A slice as a value that has a hash, which those of Python have from 3.12 on."""

    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Fancy:
    """Stands for an array in a key: a mask of this shape, or for None an array of integers."""

    mask: tuple[int, ...] | None = None

    @property
    def axes(self) -> int:
        """How many axes of the array it indexes."""
        return 1 if self.mask is None else len(self.mask)


Entry = int | Slice | Fancy | EllipsisType | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a key selects from an array with the layout `x`.

    ints: the index, by axis, where the key has an int.
    ranges: the indices, by axis, where it has a slice; ascending, also for a negative step.
    backwards: the axes whose step is negative.
    fancy: the axes that each array of the key indexes.
    order: the axes of the result by their labels: an axis of the array has its number, new ones have `x.ndim`,
        `x.ndim + 1` ..., and `GROUP` stands for all those of the common shape of the key's arrays.
    """

    x: Layout
    ints: dict[int, int]
    ranges: dict[int, range]
    backwards: tuple[int, ...]
    fancy: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What comes of a selection, once the layout of the common shape of the key's arrays is known.

    labels: what its axes are, see `Selection`.
    layout: that of the ascending result. A slice leaves indices where they are.
    backwards: the axes that are to be run through backwards.
    owner: the rank that has all of it, where the key has an int for the split axis.
    """

    labels: tuple[int, ...]
    layout: Layout
    backwards: tuple[int, ...]
    owner: int | None


@lru_cache(maxsize=256)
def select(key: tuple[Entry, ...], x: Layout) -> Selection:
    """Read a key as NumPy does; IndexError where it does not fit the shape, ValueError for a step of 0.

    >>> s = select((Slice(None, None, -2), None, 1), Layout((5, 3), 0, ranks=2))
    >>> s.ranges, s.backwards, s.ints, s.order
    ({0: range(0, 6, 2)}, (0,), {1: 1}, (0, 2, -1))
    """
    ints: dict[int, int] = {}
    ranges: dict[int, range] = {}
    backwards: list[int] = []
    fancy: list[tuple[int, ...]] = []
    order: list[int] = []
    # The places of the key's ints and arrays, in the key and in the result.
    stands: list[tuple[int, int]] = []
    axis, new = 0, x.ndim
    for place, entry in enumerate(_filled(key, x.shape)):
        if entry is None:
            order.append(new)
            new += 1
        elif isinstance(entry, Slice):
            ranges[axis] = range(*slice(*entry).indices(x.shape[axis]))
            if ranges[axis].step < 0:
                ranges[axis] = ranges[axis][::-1]
                backwards.append(axis)
            order.append(axis)
            axis += 1
        elif isinstance(entry, Fancy):
            fancy.append(_checked_axes(entry, axis, x.shape))
            stands.append((place, len(order)))
            axis += entry.axes
        elif isinstance(entry, int):
            check_bounds(entry, entry, axis, x.shape[axis])
            ints[axis] = entry % x.shape[axis]
            stands.append((place, len(order)))
            axis += 1
    together = stands and stands[-1][0] - stands[0][0] < len(stands)
    order.insert(stands[0][1] if together else 0, GROUP)
    return Selection(x, ints, ranges, tuple(backwards), tuple(fancy), tuple(order))


@lru_cache(maxsize=256)
def result_of(selection: Selection, group: Layout) -> Result:
    """What comes of a selection, given the layout of the common shape of the key's arrays.

    >>> key = (2, Slice(None, None, -1))
    >>> result_of(select(key, Layout((4, 3), 0, ranks=2)), Layout((), None, ranks=2))
    Result(labels=(1,), layout=Layout(shape=(3,), split=None, ranks=2, ragged=None), backwards=(0,), owner=1)
    """
    x = selection.x
    extents = {GROUP - axis: extent for axis, extent in enumerate(group.shape)}
    grouped = tuple(extents)
    extents |= {axis: len(indices) for axis, indices in selection.ranges.items()}
    labels: list[int] = []
    for label in selection.order:
        labels += grouped if label == GROUP else (label,)
    shape = tuple(extents.get(label, 1) for label in labels)
    layout, owner = Layout(shape, None, x.ranks), None
    if x.split in selection.ranges:
        counts = np.diff(cuts(selection.ranges[x.split], x))
        layout = Layout(shape, labels.index(x.split), x.ranks, tuple(counts.tolist()))
    elif group.split is not None:
        layout = Layout(shape, labels.index(GROUP - group.split), x.ranks, group.ragged)
    elif x.split in selection.ints:
        owner = int(np.searchsorted(x.offsets()[1:], selection.ints[x.split], side="right"))
    return Result(tuple(labels), layout, tuple(map(labels.index, selection.backwards)), owner)


@lru_cache(maxsize=256)
def window(
    selection: Selection, rank: int, keep_split: bool
) -> tuple[tuple[int | slice | None, ...], tuple[int, ...]]:
    """The key for what the ints, slices and new axes select of the shard of `rank`, and the labels of its axes.

    keep_split: leave the split axis whole where the key has an int for it.
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
            first, last = cuts(indices, x)[rank : rank + 2].tolist()
            indices = indices[first:last]
        if indices is None:
            key.append(slice(None))
        else:
            key.append(slice(indices.start - start, indices.stop - start, indices.step) if indices else slice(0))
    return tuple(key), tuple(labels)


def cuts(indices: range, layout: Layout) -> Offsets:
    """How many of the ascending `indices` of the split axis come before each rank's part: `ranks + 1` numbers."""
    before = -((indices.start - layout.offsets()) // indices.step)
    return np.clip(before, 0, len(indices))


def check_bounds(lowest: int, highest: int, axis: int, extent: int) -> None:
    """IndexError unless `-extent <= lowest` and `highest < extent`."""
    for index in (highest, lowest):
        if not -extent <= index < extent:
            raise IndexError(f"index {index} is out of range for axis {axis} of length {extent}")


def _filled(key: Sequence[Entry], shape: tuple[int, ...]) -> list[Entry]:
    """The key with an entry for every axis: full slices for an Ellipsis, which stays where it stands for none."""
    dots = [place for place, entry in enumerate(key) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"a key can have one Ellipsis (...), got {len(dots)}")
    rest = [entry for entry in key if not isinstance(entry, EllipsisType)]
    used = sum(entry.axes if isinstance(entry, Fancy) else entry is not None for entry in rest)
    if used > len(shape):
        raise IndexError(f"the key indexes {used} axes, but the array of shape {shape} has {len(shape)}")
    place = dots[0] if dots else len(rest)
    fill: list[Entry] = [Slice(None, None, None)] * (len(shape) - used)
    return [*rest[:place], *(fill or [...]), *rest[place:]]


def _checked_axes(entry: Fancy, axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = tuple(range(axis, axis + entry.axes))
    indexed = shape[axis : axis + entry.axes]
    # The standard allows an extent of 0 anywhere in a mask: it selects nothing.
    if entry.mask is not None and not (
        len(entry.mask) == len(indexed) and all(n in {0, m} for n, m in zip(entry.mask, indexed, strict=True))
    ):
        raise IndexError(
            f"a mask of shape {entry.mask} does not fit axes {axis} to {axes[-1]} of an array of shape {shape}"
        )
    return axes
