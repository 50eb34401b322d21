"""The counts for which the fewest bytes of the inputs of a mapped call move. Integers only.

What moves is a sum over the bounds between neighbouring ranks, each a piecewise linear function of where that
bound lies. So the best bounds are found by dynamic programming over the positions where such a function can have
its largest value: the ends of the inputs' own parts, and positions that lie a multiple of the largest allowed
count from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from minisplit.core.layout import Layout

# Numbers of samples from the first one: where a rank's samples begin, or may begin.
Positions = NDArray[np.int64]
# Candidates for bounds times ranks, which take as many steps. Up to some 32 ranks, with a few inputs, all
# candidates fit. Beyond it fewer are tried, and more than the fewest bytes may move, rather than that planning
# takes seconds.
WORK = 2**18
_IMPOSSIBLE = -(2**62)


@dataclass(frozen=True, slots=True)
class Parts:
    """How many bytes of each sample of an input the ranks hold.

    Rank r holds `weights[r]` bytes of each sample from `starts[r]` to `stops[r]`. If the input is split along its
    mapped axis, these are the rank's own samples, else all samples.
    """

    weights: Positions
    starts: Positions
    stops: Positions

    def bytes_before(self, rank: int, positions: Positions) -> Positions:
        """Bytes that `rank` holds of the samples before each position, up to a constant."""
        return cast(Positions, positions.clip(self.starts[rank], self.stops[rank]) * self.weights[rank])

    def bytes_kept(self, offsets: Positions) -> int:
        """Bytes that need not move if rank r is to have the samples from `offsets[r]` to `offsets[r + 1]`."""
        common = np.minimum(self.stops, offsets[1:]) - np.maximum(self.starts, offsets[:-1])
        return int((common.clip(min=0) * self.weights).sum())


def parts_of(layout: Layout, axis: int, itemsize: int) -> Parts:
    """The parts of an input of this layout, which is not replicated, mapped along `axis`."""
    extent, offsets = layout.shape[axis], layout.offsets()
    weight = itemsize * (layout.size // extent if extent else 0)
    counts = np.diff(offsets)
    if layout.split == axis:
        return Parts(np.full_like(counts, weight), offsets[:-1], offsets[1:])
    weights = counts * (weight // layout.extent if layout.extent else 0)
    return Parts(weights, np.zeros_like(counts), np.full_like(counts, extent))


def cheapest_counts(extent: int, ranks: int, inputs: Sequence[Parts], most: int) -> tuple[int, ...] | None:
    """Counts of at most `most` samples per rank for which the fewest bytes of all inputs move; None: balanced.

    Of counts for which as few move, the more even. `most` is at least the largest of the balanced counts.

    >>> uneven = parts_of(Layout((8,), 0, ranks=2, ragged=(7, 1)), 0, itemsize=4)
    >>> cheapest_counts(8, 2, [uneven], most=6)
    (6, 2)
    """
    balanced = Layout((extent,), 0, ranks).offsets()
    # Of an input that is split along another axis these bounds give the last rank all samples, which costs no more
    # to try.
    own = [np.append(each.starts, extent) for each in inputs]
    candidates = [balanced, *(bounds for bounds in own if np.diff(bounds).max() <= most)]
    best = _best_offsets(extent, ranks, inputs, most, [balanced, *own])
    if best is not None:
        candidates.append(best)

    def cost(offsets: Positions) -> tuple[int, int]:
        return -sum(each.bytes_kept(offsets) for each in inputs), int(np.diff(offsets).max())

    # The first of equals: balanced counts win where they are as cheap and as even.
    chosen = min(candidates, key=cost)
    return None if chosen is balanced else tuple(np.diff(chosen).tolist())


def _best_offsets(
    extent: int, ranks: int, inputs: Sequence[Parts], most: int, known: Sequence[Positions]
) -> Positions | None:
    """The offsets for which most bytes stay, among those that lie at `_candidates`; None for too many ranks.

    Rank r that has the samples from a to b keeps bytes_before(r, b) - bytes_before(r, a). So the most that ranks 0
    to r can keep together, if the samples of r end at b, is bytes_before(r, b) plus the largest, over all a from b
    - most to b, of what ranks 0 to r - 1 can keep if they end at a, less bytes_before(r, a).
    """
    positions = _candidates(extent, ranks, most, known)
    if len(positions) * ranks > WORK:
        return None
    # `kept[i]`: the most bytes that the ranks so far can keep, if their samples end at `positions[i]`.
    kept = np.where(positions == 0, 0, _IMPOSSIBLE)
    first = np.searchsorted(positions, positions - most)
    best_starts = []
    for rank in range(ranks):
        before = np.zeros_like(positions)
        for each in inputs:
            before = before + each.bytes_before(rank, positions)
        value = np.where(kept > _IMPOSSIBLE, kept - before, _IMPOSSIBLE)
        starts = _argmax_of_windows(value, first)
        kept = np.where(value[starts] > _IMPOSSIBLE, value[starts] + before, _IMPOSSIBLE)
        best_starts.append(starts)
    # Back from the end: where the last rank begins, then where the one before it does, and so on.
    end = len(positions) - 1
    bounds = [end := int(starts[end]) for starts in reversed(best_starts)]
    return np.append(positions[bounds[::-1]], extent)


def _candidates(extent: int, ranks: int, most: int, known: Sequence[Positions]) -> Positions:
    """Where bounds may lie: the known ones, and as many multiples of `most` from them as `WORK` allows."""
    ends = np.unique(np.concatenate(known))
    steps = min(ranks, max(0, (WORK // ranks // len(ends) - 1) // 2))
    shifts = np.arange(-steps, steps + 1) * most
    positions = np.unique(np.add.outer(ends, shifts))
    return positions[(positions >= 0) & (positions <= extent)]


def _argmax_of_windows(values: Positions, first: Positions) -> Positions:
    """For each index i that of the largest value from `first[i]` to i, the last of equals.

    By a sparse table: `blocks[k][i]` is the index of the largest of the 2**k values from i on. A window is covered
    by two blocks, which may overlap, of the largest power of two that fits.
    """
    last = np.arange(len(values))
    level = np.log2(last - first + 1).astype(np.int64)

    def larger(left: Positions, right: Positions) -> Positions:
        return np.where(values[left] > values[right], left, right)

    blocks = [last]
    for k in range(level.max()):
        # Blocks that reach over the end lie in no window, so any value does for them.
        blocks.append(larger(blocks[k], blocks[k][np.minimum(last + 2**k, last[-1])]))
    table = np.stack(blocks)
    return larger(table[level, first], table[level, last - 2**level + 1])
