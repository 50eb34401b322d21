"""Sample sort: which of the ranks' sorted elements go to which rank, so that all get about as many.

Each rank sorts its elements and contributes samples of them. From all samples every rank chooses the same
splitters (`minisplit.ops.sorting.splitters`): rank r gets what lies between splitters r - 1 and r.

Elements are compared by keys of three int64: a row or the real part of a complex number, the value as an integer
in its order, and a number that tells equal elements apart. Without the third a value that occurs often would go to
one rank, since no splitter could divide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from minisplit.core.collectives import all_to_all
from minisplit.core.communication.debug import CollectiveError
from minisplit.core.communication.protocol import Communication, Record, first_difference
from minisplit.core.layout import Layout
from minisplit.core.pytorch.transforms import outside_transforms, unwrap
from minisplit.ops.reductions.extremes import ordinal
from minisplit.ops.sorting.local_sort import partial_sort, sort_runs, sort_values
from minisplit.ops.sorting.splitters import (
    FEW,
    KeysAt,
    choose_splitters,
    count_less,
    cut_in_rounds,
    sample_places,
)


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

    Collective: what `partition_by_samples` is, and an exchange of the elements; one of ids too, if `with_ids`,
    with `keep`, or for more than one row. Gradients flow back to the elements.
    """
    number, extent, start = rows.shape[0], layout.extent, layout.span(comm.rank)[0]
    with_ids = with_ids or number != 1 or keep is not None
    keep = extent if keep is None else keep
    if with_ids:
        values, places = partial_sort(rows, keep, descending)
        first = torch.arange(number, device=rows.device)[:, None] * extent + start
        ids, values = (places + first).flatten(), values.flatten()
    else:
        # Equal elements are told apart by where they stand once they are sorted.
        ids, values = torch.empty(0, dtype=torch.int64), sort_values(rows[0], 0, descending)
    plain, plain_ids = unwrap(values), unwrap(ids)

    def keys_at(places: torch.Tensor) -> torch.Tensor:
        keys, found = ordinal(plain.detach()[places]), plain_ids[places] if with_ids else places + start
        return torch.stack([found // extent, ~keys if descending else keys, found], -1)

    # Where elements go has no derivative, and is decided by numbers in memory.
    with outside_transforms():
        kind = 2 + descending + 4 * (keep % 2**12)
        partition = partition_by_samples(len(plain), keys_at, kind, rows.device, comm)
    # What comes is in order of the ranks, so that a stable sort leaves equal elements in theirs.
    values = partition.exchange(values)
    if not with_ids:
        values = sort_values(values, 0, descending)
    else:
        values, order = sort_runs(values, descending)
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

    On more than 64 ranks an allgather, two of them and an allreduce in each of a few rounds, and an all-to-all.
    `kind`, below 2**14, says what is sorted how: CollectiveError on all ranks where they differ in it.
    """
    # The kind goes with the number: a further one would be lost among sorts that send other numbers of samples.
    first = kind << 48 | number
    if comm.size <= FEW:
        samples = (
            keys_at(sample_places(number, FEW, device)) if number else torch.zeros((FEW, 3), dtype=torch.int64)
        )
        records = comm.allgather_record(np.concatenate([[first], samples.flatten().cpu().numpy()]))
        numbers = _check_kinds(records[:, 0])
        splitters = torch.from_numpy(choose_splitters(numbers, records[:, 1:])).to(device)
        send_counts = np.diff([0, *count_less(number, keys_at, splitters).tolist(), number])
        # Ranks must know what they receive. With it all know the counts of the result too.
        table = comm.allgather_record(send_counts)
        return Partition(send_counts.tolist(), table[:, comm.rank].tolist(), tuple(table.sum(0).tolist()), comm)
    numbers = _check_kinds(comm.allgather_record(np.array([first]))[:, 0])
    below_of_all, below = cut_in_rounds(number, keys_at, numbers, device, comm)
    send_counts = np.diff(below, prepend=0, append=number)
    recv_counts = comm.alltoall_record(send_counts)
    counts = np.diff(below_of_all, prepend=0, append=numbers.sum())
    return Partition(send_counts.tolist(), recv_counts.tolist(), tuple(counts.tolist()), comm)


def _check_kinds(firsts: Record) -> Record:
    """How many elements the ranks have, from their first numbers. CollectiveError where they sort differently."""
    if (other := first_difference(firsts >> 48)) is not None:
        raise CollectiveError(
            f"rank {other} sorts in another direction than rank 0, or for another function: all ranks must make "
            "the same calls; MINISPLIT_DEBUG=1 names them"
        )
    return firsts & (2**48 - 1)
