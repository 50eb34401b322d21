"""What a key selects from an array of a given shape, and which layout the result has.

Integers only: arrays in a key are known here by the shapes of masks alone. No tensors, no MPI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

from minisplit.core.layout import Layout, Offsets

# In `Selection.order`: where the common shape of the key's arrays goes.
GROUP = -1


@dataclass(frozen=True, slots=True)
class Fancy:
    """Stands for an array in a key: a mask of this shape, or for None an array of integers."""

    mask: tuple[int, ...] | None = None

    @property
    def axes(self) -> int:
        """How many axes of the array it indexes."""
        return 1 if self.mask is None else len(self.mask)


Entry = int | slice | Fancy | EllipsisType | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a key selects from an array of `shape`.

    ints: the index, by axis, where the key has an int.
    ranges: the indices, by axis, where it has a slice; ascending, also for a negative step.
    backwards: the axes whose step is negative.
    fancy: the axes that each array of the key indexes.
    order: what the axes of the result are: an axis of the array, None for a new one, or `GROUP` for all those of
        the common shape of the key's arrays.
    """

    shape: tuple[int, ...]
    ints: dict[int, int]
    ranges: dict[int, range]
    backwards: tuple[int, ...]
    fancy: tuple[tuple[int, ...], ...]
    order: tuple[int | None, ...]

    def shape_with(self, group: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result where the arrays of the key have the common shape `group`."""
        extents: list[int] = []
        for item in self.order:
            extents += group if item == GROUP else (1,) if item is None else (len(self.ranges[item]),)
        return tuple(extents)

    def place(self, item: int, group_ndim: int) -> int:
        """The axis of the result at which `item` of `order` begins."""
        before = self.order[: self.order.index(item)]
        return sum(group_ndim if other == GROUP else 1 for other in before)

    def layout_with(self, x: Layout, group: Layout) -> Layout:
        """The layout of the ascending result, given those of the array and of its arrays' common shape.

        A slice leaves indices where they are.
        """
        shape = self.shape_with(group.shape)
        if x.split in self.ranges:
            counts = tuple(np.diff(cuts(self.ranges[x.split], x)).tolist())
            return Layout(shape, self.place(x.split, group.ndim), x.ranks, counts)
        if group.split is None:
            return Layout(shape, None, x.ranks)
        return Layout(shape, self.place(GROUP, group.ndim) + group.split, x.ranks, group.ragged)

    def local(self, axis: int, x: Layout, rank: int) -> slice:
        """Those of `ranges[axis]` that `rank` holds under `x`, as a slice of its shard."""
        indices, start = self.ranges[axis], 0
        if axis == x.split:
            first, last = cuts(indices, x)[rank : rank + 2].tolist()
            indices, start = indices[first:last], x.span(rank)[0]
        return slice(indices.start - start, indices.stop - start, indices.step) if indices else slice(0)


def select(key: Sequence[Entry], shape: tuple[int, ...]) -> Selection:
    """Read a key as NumPy does; IndexError where it does not fit `shape`, ValueError for a step of 0.

    >>> s = select([slice(None, None, -2), None, 1], (5, 3))
    >>> s.ranges, s.backwards, s.ints, s.order
    ({0: range(0, 6, 2)}, (0,), {1: 1}, (0, None, -1))
    """
    ints: dict[int, int] = {}
    ranges: dict[int, range] = {}
    backwards: list[int] = []
    fancy: list[tuple[int, ...]] = []
    order: list[int | None] = []
    # The places of the key's ints and arrays, in the key and in the result.
    stands: list[tuple[int, int]] = []
    axis = 0
    for place, entry in enumerate(_filled(key, shape)):
        if entry is Ellipsis:
            continue
        if entry is None:
            order.append(None)
        elif isinstance(entry, slice):
            ranges[axis] = range(*entry.indices(shape[axis]))
            if ranges[axis].step < 0:
                ranges[axis] = ranges[axis][::-1]
                backwards.append(axis)
            order.append(axis)
            axis += 1
        elif isinstance(entry, Fancy):
            fancy.append(_checked_axes(entry, axis, shape))
            stands.append((place, len(order)))
            axis += entry.axes
        elif isinstance(entry, int):
            ints[axis] = _checked_int(entry, axis, shape)
            stands.append((place, len(order)))
            axis += 1
    together = stands and stands[-1][0] - stands[0][0] < len(stands)
    order.insert(stands[0][1] if together else 0, GROUP)
    return Selection(shape, ints, ranges, tuple(backwards), tuple(fancy), tuple(order))


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
    fill: list[Entry] = [slice(None)] * (len(shape) - used)
    return [*rest[:place], *(fill or [...]), *rest[place:]]


def _checked_int(index: int, axis: int, shape: tuple[int, ...]) -> int:
    check_bounds(index, index, axis, shape[axis])
    return index % shape[axis]


def _checked_axes(entry: Fancy, axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = tuple(range(axis, axis + entry.axes))
    indexed = shape[axis : axis + entry.axes]
    if entry.mask not in {None, indexed}:
        raise IndexError(
            f"a mask of shape {entry.mask} does not fit axes {axis} to {axes[-1]} of an array of shape {shape}"
        )
    return axes
