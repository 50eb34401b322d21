"""Sample sort: which of the ranks' sorted elements go to which rank, so that all get about as many.

Source: Li, Lu, Schaeffer, Shillington, Wong and Shi, "On the versatility of parallel sorting by regular sampling"
(1993). Each rank sorts its elements and contributes samples of them, evenly spaced. From all samples every rank
chooses the same splitters: rank r gets what lies between splitters r - 1 and r.

Elements are compared by keys of three int64: a row or the real part of a complex number, the value as an integer
in its order, and a number that tells equal elements apart. Without the third a value that occurs often would go to
one rank, since no splitter could divide it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.collectives import all_to_all
from minisplit.core.communication.debug import CollectiveError
from minisplit.core.communication.protocol import Communication, first_difference
from minisplit.core.layout import Layout
from minisplit.core.pytorch.transforms import outside_transforms, unwrap
from minisplit.ops.reductions.extremes import ordinal

# From places in this rank's sorted elements the keys of what stands there, as rows of three int64.
KeysAt = Callable[[torch.Tensor], torch.Tensor]

# The samples of each rank, or as many as there are ranks if that is more. With s samples no rank gets more than
# its share and one s-th of all elements. As many samples as ranks make that twice the share, the bound of the
# paper. 64 of them are a small message too (1.5 KiB), and a few ranks get nearly equal parts.
_SAMPLES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """How many elements this rank sends to and receives from each rank, and how many each rank has in the end."""

    send_counts: list[int]
    recv_counts: list[int]
    counts: tuple[int, ...]
    comm: Communication

    def exchange(self, elements: torch.Tensor) -> torch.Tensor:
        """Send one tensor of this rank's elements, and return what comes, in order of the ranks. Collective."""
        purpose = "sorted parts", self.counts
        return all_to_all(elements, self.send_counts, self.recv_counts, 0, self.comm, purpose)

    def exchange_back(self, elements: torch.Tensor) -> torch.Tensor:
        """Send back something for each element that came, in the order in which they came. Collective."""
        purpose = "back from", self.counts
        return all_to_all(elements, self.recv_counts, self.send_counts, 0, self.comm, purpose)


@dataclass(frozen=True, slots=True, eq=False)
class SortedRows:
    """This rank's part of sorted rows, one row after the other: values and, where asked for, ids.

    The id of an element is its number in the unsorted rows, counted row by row.
    """

    values: torch.Tensor
    ids: torch.Tensor
    layout: Layout


def sample_sort(
    rows: torch.Tensor,
    layout: Layout,
    comm: Communication,
    descending: bool = False,
    keep: int | None = None,
    with_ids: bool = False,
) -> SortedRows:
    """Sort each row of an array of two dimensions that is split along the second, or its first `keep` elements.

    Collective: two small allgathers and an exchange of the elements; one of ids too, if `with_ids`, with `keep`,
    or for more than one row. Gradients flow back to the elements.
    """
    number, extent = rows.shape[0], layout.extent
    with_ids = with_ids or number > 1 or keep is not None
    keep = extent if keep is None else keep
    values, places = partial_sort(rows, keep, descending)
    first = torch.arange(number, device=rows.device)[:, None] * extent + layout.span(comm.rank)[0]
    ids, values = (places + first).flatten(), values.flatten()
    plain, plain_ids = unwrap(values), unwrap(ids)

    def keys_at(places: torch.Tensor) -> torch.Tensor:
        keys, found = ordinal(plain.detach()[places]), plain_ids[places]
        return torch.stack([found // extent, ~keys if descending else keys, found], -1)

    # Where elements go has no derivative, and is decided by numbers in memory.
    with outside_transforms():
        kind = 2 + descending + 4 * (keep % 2**12)
        partition = partition_by_samples(len(plain), keys_at, kind, rows.device, comm)
    # What comes is in order of the ranks, so that a stable sort leaves equal elements in theirs.
    values, order = torch.sort(partition.exchange(values), descending=descending, stable=True)
    if with_ids:
        # Half as many bytes where int32 can count the elements.
        ids = partition.exchange(ids.to(torch.int32 if layout.size < 2**31 else torch.int64))[order]
    if number > 1:
        # They are sorted by value, and splitters divide rows: a stable sort by row leaves values in order within
        # each.
        by_row = torch.sort(ids // max(extent, 1), stable=True).indices
        values, ids = values[by_row], ids[by_row]
    length = sum(min(keep, count) for count in layout.counts or ())
    result = SortedRows(values, ids, Layout((number * length,), 0, comm.size, partition.counts))
    return _truncate_rows(result, length, keep, comm.rank) if number and keep < length else result


def partial_sort(rows: torch.Tensor, keep: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `keep` elements along the last axis in order, and their places; of equals the first. Local."""
    # torch.topk takes less time than a sort only where few elements are kept, and knows no bools.
    if 0 < keep <= rows.shape[-1] // 4 and rows.dtype is not torch.bool:
        last, places = torch.topk(rows, keep, largest=descending)
        last = last[..., -1:]
        is_among = (rows >= last) | rows.isnan() if descending else rows <= last
        # If other elements equal the last one, torch may have found any of them. Then all are sorted.
        if (is_among.sum(-1) == keep).all():
            places = places.sort(-1).values
            values, order = torch.sort(rows.gather(-1, places), descending=descending, stable=True)
            return values, places.gather(-1, order)
    values, places = torch.sort(rows, descending=descending, stable=True)
    # clone: a view would keep the memory of all sorted elements.
    return (values, places) if keep >= rows.shape[-1] else (values[..., :keep].clone(), places[..., :keep].clone())


def _truncate_rows(x: SortedRows, length: int, keep: int, rank: int) -> SortedRows:
    """The first `keep` of the `length` elements of each row. Local: all ranks know who has how many."""
    bounds = x.layout.offsets()
    kept = np.diff(bounds // length * keep + np.minimum(bounds % length, keep)).tolist()
    places = torch.arange(*x.layout.span(rank), device=x.values.device)
    own = (places % length < keep).nonzero()[:, 0]
    return SortedRows(x.values[own], x.ids[own], Layout((sum(kept),), 0, x.layout.ranks, tuple(kept)))


def partition_by_samples(
    number: int, keys_at: KeysAt, kind: int, device: torch.device, comm: Communication
) -> Partition:
    """Decide to which rank each of this rank's `number` sorted elements goes. Collective: two small allgathers.

    `kind`, below 2**14, says what is sorted how: CollectiveError on all ranks where they differ in it.
    """
    sampled = max(comm.size, _SAMPLES)
    # In the middle of each of so many equal parts.
    places = (2 * torch.arange(sampled, device=device) + 1) * number // (2 * sampled)
    samples = keys_at(places) if number else torch.zeros((sampled, 3), dtype=torch.int64)
    # The kind goes with the number: a further one would be lost among sorts that send other numbers of samples.
    records = comm.allgather_record(np.concatenate([[kind << 48 | number], samples.flatten().cpu().numpy()]))
    if (other := first_difference(records[:, 0] >> 48)) is not None:
        raise CollectiveError(
            f"rank {other} sorts in another direction than rank 0, or for another function: all ranks must make "
            "the same calls; MINISPLIT_DEBUG=1 names them"
        )
    records[:, 0] &= 2**48 - 1
    splitters = torch.from_numpy(choose_splitters(records[:, 0], records[:, 1:])).to(device)
    send_counts = np.diff([0, *_count_less(number, keys_at, splitters).tolist(), number])
    # Ranks must know what they receive. With it all know the counts of the result too.
    table = comm.allgather_record(send_counts)
    return Partition(send_counts.tolist(), table[:, comm.rank].tolist(), tuple(table.sum(0).tolist()), comm)


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


def _count_less(number: int, keys_at: KeysAt, splitters: torch.Tensor) -> torch.Tensor:
    """How many of the sorted elements are less than each splitter: binary searches, all at once."""
    # Keys of all elements would take three times their memory. So they are made where a search looks.
    low = torch.zeros(len(splitters), dtype=torch.int64, device=splitters.device)
    high = torch.full_like(low, number)
    for _ in range(number.bit_length()):
        middle = (low + high) // 2
        is_less = (middle < high) & _is_less(keys_at(middle.clamp(max=number - 1)), splitters)
        low, high = torch.where(is_less, middle + 1, low), torch.where(is_less, high, middle)
    return low


def _is_less(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether keys in `a` are less than those in `b`, in lexicographic order."""
    first, second, third = (a < b).unbind(-1)
    same_first, same_second, _ = (a == b).unbind(-1)
    return first | (same_first & (second | (same_second & third)))
