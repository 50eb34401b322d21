"""What each rank sends and receives when an array goes from one layout to another, as data.

One rule serves every redistribution: intersect the box that a rank holds with the boxes of all ranks in the other
layout, and send each overlap once. This module is pure: it plans for any number of ranks in one process, without
tensors and without MPI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from minisplit.core.layout import Layout


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The parts of one rank's shard that overlap the ranks' boxes in another layout, in order of these ranks.

    Piece `i` goes to the rank `peers[i]`, or comes from it. It is the whole shard along every axis but one: along
    `axis` it begins at the local index `starts[i]` and is `lengths[i]` long.
    """

    axis: int
    peers: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    elements_per_index: int

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.peers.tolist(), self.starts.tolist(), self.lengths.tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.peers)

    def elements_off(self, rank: int) -> int:
        """Return the number of elements that go to, or come from, other ranks than `rank`."""
        return int(self.lengths[self.peers != rank].sum()) * self.elements_per_index


@dataclass(frozen=True, slots=True, eq=False)
class TransferPlan:
    """What `rank` sends to and receives from every rank, itself included, between two layouts.

    `plan(dst, src, rank)` is the reverse transfer.
    """

    src: Layout
    dst: Layout
    rank: int
    send: Pieces
    recv: Pieces
    # The shapes of the rank's shards under `src` and `dst`: each transfer looks at them, and a plan is made once.
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    @property
    def messages_sent(self) -> int:
        """The number of other ranks to which this one sends."""
        return int((self.send.peers != self.rank).sum())

    @property
    def elements_sent(self) -> int:
        """The number of elements that this rank sends to others."""
        return self.send.elements_off(self.rank)


# Key: two layouts, and the rank. There are few entries, since one has an array entry for each rank.
@lru_cache(maxsize=64)
def plan(src: Layout, dst: Layout, rank: int) -> TransferPlan:
    """Plan the transfer from `src` to `dst` for one rank.

    A replicated source sends nothing: every rank cuts its part from what it has. ValueError unless both layouts
    have one shape and one number of ranks.

    >>> p = plan(Layout((4, 4), 0, ranks=2), Layout((4, 4), 1, ranks=2), rank=0)
    >>> [(peer, p.send.axis, start, length) for peer, start, length in p.send]
    [(0, 1, 0, 2), (1, 1, 2, 2)]
    >>> p.elements_sent
    4
    """
    check_compatible(src, dst)
    if src.split is None:
        # Any rank could send any part: so none does.
        pieces = _overlaps(src, dst, rank, only_own=True), _overlaps(dst, dst, rank, only_own=True)
    else:
        pieces = _overlaps(src, dst, rank), _overlaps(dst, src, rank)
    return TransferPlan(src, dst, rank, *pieces, src.lshape(rank), dst.lshape(rank))


def check_compatible(src: Layout, dst: Layout) -> None:
    """Raise ValueError unless an array can go from `src` to `dst`."""
    if (src.shape, src.ranks) != (dst.shape, dst.ranks):
        raise ValueError(
            "a transfer keeps the shape and the number of ranks, "
            f"got {src.shape} on {src.ranks} and {dst.shape} on {dst.ranks}"
        )


# Key: two layouts. The choice of the cheapest of several layouts asks this for each of them, at every call.
@lru_cache(maxsize=256)
def elements_moved(src: Layout, dst: Layout) -> int:
    """Return the number of elements that change their rank in the transfer from `src` to `dst`, over all ranks.

    >>> elements_moved(Layout((6,), 0, ranks=2, ragged=(5, 1)), Layout((6,), 0, ranks=2))
    2
    """
    check_compatible(src, dst)
    if src.split is None or src == dst or src.size == 0:
        return 0
    if dst.split is None:
        # Each element goes to all ranks but the one that has it.
        return src.size * (src.ranks - 1)
    old, new = src.offsets(), dst.offsets()
    if src.split == dst.split:
        kept = np.minimum(old[1:], new[1:]) - np.maximum(old[:-1], new[:-1])
        return (src.extent - int(kept.clip(min=0).sum())) * (src.size // src.extent)
    # A rank keeps where its rows and its columns cross.
    kept = np.diff(old) * np.diff(new)
    return src.size - int(kept.sum()) * (src.size // (src.extent * dst.extent))


def _overlaps(held: Layout, other: Layout, rank: int, only_own: bool = False) -> Pieces:
    """The parts of the shard of `rank` under `held` that lie in each rank's box under `other`, or in its own."""
    shard = held.lshape(rank)
    axis, start = other.split or 0, 0
    if other.split is None:
        low, lengths = np.zeros(held.ranks, np.int64), np.full(held.ranks, shard[0] if shard else 1)
    else:
        start, stop = held.span(rank) if axis == held.split else (0, held.shape[axis])
        bounds = other.offsets()
        low = np.maximum(bounds[:-1], start)
        lengths = np.minimum(bounds[1:], stop) - low
    peers = np.flatnonzero(lengths > 0) if math.prod(shard) else np.arange(0)
    if only_own:
        peers = peers[peers == rank]
    per_index = math.prod(shard[:axis]) * math.prod(shard[axis + 1 :])
    return Pieces(axis, peers, low[peers] - start, lengths[peers], per_index)
