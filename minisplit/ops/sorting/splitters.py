"""The keys between which the ranks' parts of sorted elements lie, by samples: at once, on many ranks in rounds.

On up to 64 ranks by regular sampling: Li, Lu, Schaeffer, Shillington, Wong and Shi, "On the versatility of
parallel sorting by regular sampling" (1993). There each rank needs as many samples as there are ranks. On more
ranks each one gives about 4, all count how many elements are less than each of the samples, and go on between
those that are next to the places sought: Harsh, Kale and Solomonik, "Histogram sort with sampling" (SPAA 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication, Record
from minisplit.core.layout import Layout, layout_from_counts

# From places in this rank's sorted elements the keys of what stands there, as rows of three int64.
KeysAt = Callable[[torch.Tensor], torch.Tensor]

# On up to so many ranks each gives so many samples. No rank gets more than its share and a 64th of all elements,
# which is at most twice its share. They are a small message (1.5 KiB), and a few ranks get nearly equal parts.
FEW = 64
# On more ranks so many samples in a round for each, and so many of all at least. On 65,536 ranks they are 6 MiB.
# Where all elements are drawn alike, 1 splitter in 50 then needs a second round, and a third is rare.
PER_RANK, OF_ALL = 4, FEW**2
# In later rounds so many samples are enough for each bracket that is too wide. It has a rank's share of elements
# or more, so that a round takes 4 samples of it at least, on average. 32 rounds that all miss it do not happen.
PER_BRACKET, ROUNDS = 16, 32
# So many keys are made in a step of a search, or two for each splitter if that is more.
LOOKED_AT, _STRIDE = 2**10, 64
# Its multiples, without their integers, are spread evenly, any number of them: of all ranks, and of those next to
# one another.
_GOLDEN = (5**0.5 - 1) / 2


def sample_places(number: int, samples: int, device: torch.device) -> torch.Tensor:
    """The places of samples, in the middle of each of so many equal parts of a `number` of elements."""
    return (2 * torch.arange(samples, device=device) + 1) * number // (2 * samples)


def choose_splitters(numbers: NDArray[np.int64], samples: NDArray[np.int64]) -> Any:
    """The keys between which the ranks' parts lie, one less than ranks, from a row of sampled keys per rank.

    Each sample stands for as many elements as it was taken from: `numbers` of them on each rank.

    >>> keys = [[0, 1, 0, 0, 3, 0], [0, 2, 0, 0, 4, 0]]
    >>> choose_splitters(np.array([10, 10]), np.array(keys)).tolist()
    [[0, 3, 0]]
    """
    size, keys = len(numbers), samples.reshape(-1, 3)
    # np.lexsort takes the last key for the first one.
    order = np.lexsort(keys.T[::-1])
    ends = np.cumsum(np.repeat(numbers, len(keys) // size)[order])
    picks = np.searchsorted(ends, ends[-1] * np.arange(1, size) // size, side="right")
    return keys[order][picks.clip(max=len(keys) - 1)]


class Brackets:
    """For each splitter two sampled keys, the place sought between them: how many elements are less than each.

    The keys themselves are not needed. `low` and `high` have a row for the elements of all ranks, which is the
    same on all, and a row for those of this rank.

    Parameters
    ----------
    number : int
        How many elements this rank has.
    total : int
        How many all have.
    ranks : int
        How many ranks there are.
    """

    def __init__(self, number: int, total: int, ranks: int) -> None:
        self.targets = total * np.arange(1, ranks) // ranks
        self.low = np.zeros((2, ranks - 1), dtype=np.int64)
        self.high = np.repeat(np.array([[total], [number]]), ranks - 1, axis=1)
        # With both ends of its part no rank then gets more than twice its share.
        self.tolerance = total // (2 * ranks)

    def open(self) -> tuple[int, Record, Record]:
        """The brackets with no end near enough: how many elements they have, and where those of this rank are."""
        is_open = np.minimum(self.targets - self.low[0], self.high[0] - self.targets) > self.tolerance
        # Several splitters may be in one bracket.
        low, first = np.unique(self.low[0, is_open], return_index=True)
        high = self.high[:, is_open][:, first]
        return int((high[0] - low).sum()), self.low[1, is_open][first], high[1]

    def narrow(self, of_all: Record, own: Record) -> None:
        """Take in how many elements are less than each of some keys, in their order."""
        counts = np.stack([of_all, own])
        below = counts[:, (np.searchsorted(of_all, self.targets, side="right") - 1).clip(0)]
        above = counts[:, np.searchsorted(of_all, self.targets).clip(max=len(own) - 1)]
        self.low = np.where((self.low[0] < below[0]) & (below[0] <= self.targets), below, self.low)
        self.high = np.where((self.high[0] > above[0]) & (above[0] >= self.targets), above, self.high)

    def nearest(self) -> tuple[Record, Record]:
        """How many elements of all ranks, and of this one, are less than each splitter."""
        of_all, own = np.where(self.targets - self.low[0] <= self.high[0] - self.targets, self.low, self.high)
        return of_all, own


def cut_in_rounds(
    number: int, keys_at: KeysAt, numbers: Record, device: torch.device, comm: Communication
) -> tuple[Record, Record]:
    """How many elements of all ranks, and of this one, are less than each splitter, one less than ranks.

    No rank's part is more than twice its share, unless equal keys are: those of the set functions. Collective: two
    allgathers and an allreduce for each round, and an exchange of samples if some ranks have far more elements.
    """
    total = int(numbers.sum())
    brackets, most = Brackets(number, total, comm.size), max(PER_RANK * comm.size, OF_ALL)
    for turn in range(ROUNDS):
        left, starts, stops = brackets.open()
        if not left:
            break
        wanted = min(most, max(PER_BRACKET * len(starts), OF_ALL))
        shift = (comm.rank + 1 + turn * comm.size) * _GOLDEN % 1
        places = places_between(starts, stops, max(left / wanted, 1), shift)
        keys = keys_at(torch.from_numpy(places).to(device)).cpu() if len(places) else torch.zeros((0, 3)).long()
        keys = _in_order(_gather_keys(keys, comm)).to(device)
        if not len(keys):  # all ranks have missed the few that are left
            continue
        own = count_less(number, keys_at, keys).cpu()
        before = brackets.low[0], brackets.high[0]
        brackets.narrow(comm.allreduce(own).numpy(), own.numpy())
        # All keys were seen, or only equal ones are left.
        if left <= wanted or np.array_equal(before, (brackets.low[0], brackets.high[0])):
            break
    return brackets.nearest()


def places_between(starts: Record, stops: Record, step: float, shift: float) -> Record:
    """Places in ranges of places, `step` of these apart: the first after the part `shift` of a step."""
    ends = np.cumsum(stops - starts)
    own = int(ends[-1])
    numbers = ((np.arange(int(own / step) + 1) + shift) * step).astype(np.int64)
    numbers = np.arange(own) if step == 1 else numbers[numbers < own]
    ranges = np.searchsorted(ends, numbers, side="right")
    return numbers + (stops - ends)[ranges]


def count_less(number: int, keys_at: KeysAt, splitters: torch.Tensor) -> torch.Tensor:
    """How many of the sorted elements are less than each splitter, in order: searches, all at once."""
    # Keys of all elements would take three times their memory. So they are made where a search looks: at the ends
    # of several parts in each step, since steps take more time than few keys do.
    low = torch.zeros(len(splitters), 1, dtype=torch.int64, device=splitters.device)
    high, width = torch.full_like(low, number), number
    if len(splitters) > LOOKED_AT:
        # First some of them: the others lie between these.
        some = count_less(number, keys_at, splitters[::_STRIDE])
        low, high = (
            ends.repeat_interleave(_STRIDE)[: len(splitters), None]
            for ends in (some, torch.cat([some[1:], high[0]]))
        )
        width = int((high - low).max())
    while width and len(splitters):
        parts = min(max(LOOKED_AT // len(splitters), 2), width)
        step = -(-width // parts)
        places = low + torch.arange(step - 1, parts * step, step, device=low.device)
        keys = keys_at(places.flatten().clamp(max=number - 1)).reshape(*places.shape, 3)
        low = low + step * ((places < high) & _is_less(keys, splitters[:, None])).sum(1, keepdim=True)
        high, width = torch.minimum(high, low + step - 1), step - 1
    return low[:, 0]


def _is_less(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether keys in `a` are less than those in `b`, in lexicographic order."""
    first, second, third = (a < b).unbind(-1)
    same_first, same_second, _ = (a == b).unbind(-1)
    return first | (same_first & (second | (same_second & third)))


def _gather_keys(keys: torch.Tensor, comm: Communication) -> torch.Tensor:
    """The keys of all ranks. Collective: two allgathers, and an exchange where some ranks have far more."""
    counts = comm.allgather_record(np.array([len(keys)]))[:, 0]
    total = int(counts.sum())
    if counts.max() > 2 * -(-total // comm.size):
        # Each rank sends as many as the longest has, so that they are shared out first.
        given, even = layout_from_counts(counts.tolist(), (total, 3), 0), Layout((total, 3), 0, comm.size)
        keys = redistribute(keys, given, even, comm)
        counts = np.array(even.counts)
    record = np.zeros((int(counts.max()), 3), dtype=np.int64)
    record[: len(keys)] = keys.numpy()
    rows = comm.allgather_record(record.reshape(-1)).reshape(comm.size, -1, 3)
    return torch.from_numpy(rows[np.arange(len(record)) < counts[:, None]])


def _in_order(keys: torch.Tensor) -> torch.Tensor:
    """Keys in lexicographic order, by stable sorts from the last number of each to the first."""
    for column in (2, 1, 0):
        # torch's radix sort: np.lexsort takes ten times as long for a million.
        keys = keys[torch.sort(keys[:, column].contiguous(), stable=True).indices]
    return keys
