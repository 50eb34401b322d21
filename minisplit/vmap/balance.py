"""The counts at which the inputs of a mapped call meet: those for which the fewest bytes move. Integers only.

What moves is a sum over the cuts between neighbouring ranks, each a piecewise linear function of where that cut
lies, so the best cuts are found by dynamic programming over the places where such a function can have its largest
value: the ends of the inputs' own parts, and places that lie a multiple of the largest allowed count from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from minisplit.core.layout import Layout

Places = NDArray[np.int64]
# Places for cuts times ranks. Beyond it fewer places are tried, and more than the fewest bytes may move.
WORK = 2**18
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class Held:
    """What the ranks hold of one input, in bytes per sample.

    `bounds` says where each rank's samples begin and end if the input is split along its mapped axis. Else it is
    None, and each rank holds a part of every sample: `parts` bytes, one number per rank.
    """

    weight: int
    bounds: Places | None = None
    parts: Places | None = None

    def kept(self, rank: int, places: Places) -> Places:
        """Bytes that `rank` holds of the samples before each place, counted from the first that it can have."""
        if self.bounds is not None:
            return cast(Places, places.clip(self.bounds[rank], self.bounds[rank + 1]) * self.weight)
        assert self.parts is not None
        return cast(Places, places * self.parts[rank])

    def stay(self, offsets: Places) -> int:
        """Bytes that need not move where rank r is to have the samples from `offsets[r]` to `offsets[r + 1]`."""
        if self.bounds is not None:
            common = np.minimum(self.bounds[1:], offsets[1:]) - np.maximum(self.bounds[:-1], offsets[:-1])
            return int(common.clip(min=0).sum()) * self.weight
        assert self.parts is not None
        return int((np.diff(offsets) * self.parts).sum())


def held(layout: Layout, axis: int, itemsize: int) -> Held:
    """What the ranks hold of an input of this layout, mapped along `axis`, which is not replicated."""
    extent = layout.shape[axis]
    weight = itemsize * (layout.size // extent if extent else 0)
    if layout.split == axis:
        return Held(weight, bounds=layout.offsets())
    counts = np.diff(layout.offsets())
    return Held(weight, parts=counts * (weight // layout.extent if layout.extent else 0))


def cheapest_counts(extent: int, ranks: int, inputs: Sequence[Held], most: int) -> tuple[int, ...] | None:
    """Counts of at most `most` samples per rank for which the fewest bytes of all inputs move; None: balanced.

    Of counts for which as few move, the more even. `most` is at least the largest of the balanced counts.

    >>> there = held(Layout((8,), 0, ranks=2, ragged=(7, 1)), 0, itemsize=4)
    >>> cheapest_counts(8, 2, [there], most=6)
    (6, 2)
    """
    balanced = Layout((extent,), 0, ranks).offsets()
    own = [each.bounds for each in inputs if each.bounds is not None]
    candidates = [balanced, *(bounds for bounds in own if np.diff(bounds).max() <= most)]
    best = _best_cuts(extent, ranks, inputs, most, [balanced, *own])
    if best is not None:
        candidates.append(best)

    def cost(offsets: Places) -> tuple[int, int]:
        return -sum(each.stay(offsets) for each in inputs), int(np.diff(offsets).max())

    chosen = min(candidates, key=cost)
    return None if chosen is balanced else tuple(np.diff(chosen).tolist())


def _best_cuts(
    extent: int, ranks: int, inputs: Sequence[Held], most: int, known: Sequence[Places]
) -> Places | None:
    """The offsets for which most bytes stay, among those whose cuts lie at `_places`."""
    places = _places(extent, ranks, most, known)
    if len(places) * ranks > WORK:
        return None
    # `stays[i]`: bytes that stay with the ranks so far, if the next cut is at `places[i]`.
    stays = np.where(places == 0, 0, _NEVER)
    window = _Window(places, most)
    came_from = []
    for rank in range(ranks):
        kept = np.sum([each.kept(rank, places) for each in inputs], axis=0) if inputs else np.zeros_like(places)
        lead = np.where(stays > _NEVER, stays - kept, _NEVER)
        earlier = window.largest(lead)
        stays = np.where(lead[earlier] > _NEVER, lead[earlier] + kept, _NEVER)
        came_from.append(earlier)
    at = len(places) - 1
    cuts = [at := int(earlier[at]) for earlier in reversed(came_from)]
    return np.append(places[cuts[::-1]], extent)


def _places(extent: int, ranks: int, most: int, known: Sequence[Places]) -> Places:
    """Where cuts may lie: at the known ones, and so many multiples of `most` away as `WORK` allows."""
    ends = np.unique(np.concatenate(known))
    steps = min(ranks, max(0, (WORK // ranks // len(ends) - 1) // 2))
    shifts = np.arange(-steps, steps + 1) * most
    places = np.unique(np.add.outer(ends, shifts))
    return places[(places >= 0) & (places <= extent)]


class _Window:
    """For each of some sorted places: those from `width` before it up to itself."""

    def __init__(self, places: Places, width: int) -> None:
        self.last = np.arange(len(places))
        self.first = np.searchsorted(places, places - width)
        # A window is covered by two blocks of the largest power of two that fits.
        self.level = np.log2(self.last - self.first + 1).astype(np.int64)

    def largest(self, values: Places) -> Places:
        """The place of the largest value within each window, the last of equals."""
        blocks = [self.last]
        while len(blocks[-1]) > 2 ** (len(blocks) - 1):
            lower = blocks[-1]
            left, right = lower[: -(2 ** (len(blocks) - 1))], lower[2 ** (len(blocks) - 1) :]
            blocks.append(np.where(values[left] > values[right], left, right))
        found = np.empty_like(self.last)
        for level in np.unique(self.level).tolist():
            here = np.flatnonzero(self.level == level)
            left, right = blocks[level][self.first[here]], blocks[level][self.last[here] - 2**level + 1]
            found[here] = np.where(values[left] > values[right], left, right)
        return found
