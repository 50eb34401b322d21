"""The arrays of a key: read, checked, and moved to the ranks that need them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.collectives import redistribute
from minisplit.core.communication.debug import debugging
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import encoded, short_repr
from minisplit.core.indexing.keys import Entry, Fancy, Selection, Slice, check_bounds, select
from minisplit.core.layout import Layout, layout_from_counts, operand_layout
from minisplit.core.performance_warning import warn_of_move

_INT64_MIN = torch.iinfo(torch.int64).min


class Part(NamedTuple):
    """An array as one rank has it: its shard, and the layout of the whole."""

    shard: torch.Tensor
    layout: Layout


# An array of a key, and the axis of the indexed array that it indexes: None for a lone True or False.
AxisIndex = tuple[int | None, Part]


@dataclass(frozen=True, slots=True, eq=False)
class IndexArrays:
    """The arrays of a key as integers, a part of them on each rank.

    layout: the shape to which they broadcast, and which part of it each rank works on.
    local: this rank's part of them, by axis of the indexed array. All have as many dimensions as `layout`.
    whole: all of them, where every rank has them all.
    is_aligned: each rank's part selects rows that it owns, each of them once. It then counts the split axis from
        the first index of the rank.
    """

    layout: Layout
    local: dict[int, torch.Tensor]
    whole: dict[int, torch.Tensor] | None
    is_aligned: bool = False


def read_key(key: Any, x: Part, comm: Communication) -> tuple[Selection, list[Part]]:
    """Return what `key` selects from `x`, and the arrays in it on the device of `x`.

    Local, but collective in debug mode. IndexError for what is no key, or does not fit the shape of `x`.
    """
    items = key if isinstance(key, tuple) and not isinstance(key, Part) else (key,)
    if debugging():
        text = encoded(", ".join(map(_describe_item, items)))
        comm.check_replicated(torch.tensor(list(text), dtype=torch.uint8), "a key")
    entries: list[Entry] = []
    arrays: list[Part] = []
    for item in items:
        entry = _read_item(item)
        if isinstance(entry, torch.Tensor):
            comm.check_replicated(entry, "an array in a key")
            entry = Part(entry, Layout(tuple(entry.shape), None, comm.size))
        if isinstance(entry, Part):
            is_mask = entry.shard.dtype is torch.bool
            dtype = torch.bool if is_mask else torch.int64
            arrays.append(Part(entry.shard.to(x.shard.device, dtype), entry.layout))
            entry = Fancy(entry.layout.shape if is_mask else None)
        entries.append(entry)
    return select(tuple(entries), x.layout), arrays


def distribute_arrays(selection: Selection, arrays: list[Part], writing: bool, comm: Communication) -> IndexArrays:
    """Move the arrays of a key to the ranks that need them, to read or to write what they select.

    Local where all are replicated, else collective. IndexError where an index is out of range, or the arrays do
    not broadcast.
    """
    x = selection.x
    if not arrays:
        return _no_arrays(comm.size)
    mask, axes = arrays[0], selection.fancy_axes[0]
    is_lone_mask = len(arrays) == 1 and mask.shard.dtype is torch.bool
    if is_lone_mask and x.split in axes[:1] and mask.layout.shape[0] == x.extent:
        # What a mask selects stays on the rank that owns it, so that no row moves.
        is_aligned = (mask.layout.split, mask.layout.ragged) == (0, x.ragged)
        aligned = mask.layout if is_aligned else Layout(mask.layout.shape, 0, comm.size, x.ragged)
        indices = operand_shard(mask, aligned, comm).nonzero(as_tuple=True)
        if mask.layout.split is None:
            bounds = pairwise(aligned.offsets().tolist())
            counts = torch.stack([mask.shard[start:stop].count_nonzero() for start, stop in bounds]).tolist()
        else:
            counts = comm.allgather_record(np.array([len(indices[0])]))[:, 0].tolist()
        layout = layout_from_counts(counts)
        return IndexArrays(layout, dict(zip(axes, indices, strict=True)), None, is_aligned=True)
    # Where a slice leaves the split axis cut, or a replicated array is written, every rank needs all arrays whole.
    needs_whole = writing if x.split is None else x.split in selection.ranges
    indexes: list[AxisIndex] = []
    for given, axes in zip(arrays, selection.fancy_axes, strict=True):
        array = replicate(given, comm) if needs_whole else given
        if array.shard.dtype is torch.bool:
            indexes += zip(axes or (None,), nonzero(array, comm), strict=True)
        else:
            indexes.append((axes[0], array))
    layout = _broadcast_layout(indexes, x, writing)
    checked = in_range(indexes, x.shape, comm)
    local = {axis: _pad(operand_shard(part, layout, comm), layout) for axis, part in checked.items()}
    if x.split in selection.ints and layout.split is not None:
        # Each rank asks the owner of this index for its part of the result, rather than all ranks for all of it.
        local[x.split] = _pad(torch.tensor(selection.ints[x.split], device=arrays[0].shard.device), layout)
    if layout.split is None or comm.size == 1:
        return IndexArrays(layout, local, local)
    is_known = all(part.layout.split is None for part in checked.values())
    whole = {axis: _pad(part.shard, layout) for axis, part in checked.items()} if is_known else None
    return IndexArrays(layout, local, whole)


def nonzero(mask: Part, comm: Communication) -> list[Part]:
    """Return where a mask is true: an array of indices for each axis, in row-major order. One for a 0-d mask.

    Collective where the mask is split, and the results are split then too: the mask is moved to be split along
    axis 0, where it is not, and the ranks' numbers of indices are gathered.
    """
    if mask.layout.split is None:
        indices = mask.shard.nonzero(as_tuple=True)
        layout = Layout((indices[0].numel(),), None, comm.size)
    else:
        rows = mask.layout.with_split(0)
        first, *others = operand_shard(mask, rows, comm).nonzero(as_tuple=True)
        layout = gather_counts(first.numel(), comm)
        indices = (first + rows.span(comm.rank)[0], *others)
    return [Part(index, layout) for index in indices]


def gather_counts(count: int, comm: Communication) -> Layout:
    """Return the layout of a 1-d array of which this rank has `count` elements. Collective: one allgather."""
    return layout_from_counts(comm.allgather_record(np.array([count]))[:, 0].tolist())


def operand_shard(part: Part, target: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's part of an operand that broadcasts to `target`: what broadcasts to the shard there.

    Collective where the operand is split otherwise than `target`, else a view.
    """
    layout = operand_layout(part.layout, target)
    if layout == part.layout:
        return part.shard
    if part.layout.split is None:
        return part.shard[layout.box(comm.rank)]
    warn_of_move(part.shard.itemsize, part.layout, layout, comm)
    return redistribute(part.shard, part.layout, layout, comm)


def refuse_masked(value: Any) -> None:
    """Raise ValueError for a masked array of NumPy that has masked elements: they would turn up again."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"a masked array of shape {value.shape} has masked elements, which no tensor has: "
            "give filled(...), such as filled(numpy.nan)"
        )


def replicate(part: Part, comm: Communication) -> Part:
    """Return the whole array on every rank. Collective where it is split."""
    whole = part.layout.with_split(None)
    return Part(operand_shard(part, whole, comm), whole)


def in_range(indexes: list[AxisIndex], shape: tuple[int, ...], comm: Communication) -> dict[int, Part]:
    """Return the indices, by axis, counted from the front. IndexError on all ranks where any is out of range.

    Collective, by one agreement, where any is split.
    """
    by_axis = {axis: part for axis, part in indexes if axis is not None}
    # The ranks agree on maxima. The largest `~index` is that of the lowest index. `-index` would not do: that of
    # the lowest integer is beyond int64.
    bounds = np.full((len(by_axis), 2), _INT64_MIN)
    for record, (shard, _) in zip(bounds, by_axis.values(), strict=True):
        if shard.numel():
            low, high = shard.aminmax()
            record[:] = ~int(low), int(high)
    if any(part.layout.split is not None for part in by_axis.values()):
        bounds = comm.agree(bounds.reshape(-1)).reshape(-1, 2)
    checked = {}
    for (axis, (shard, layout)), (inverted_low, high) in zip(by_axis.items(), bounds.tolist(), strict=True):
        low, extent = ~inverted_low, shape[axis]
        if low <= high:  # else there are no indices
            check_bounds(low, high, axis, extent)
        # Without negative indices, as mostly, there is no copy.
        checked[axis] = Part(torch.where(shard < 0, shard + extent, shard) if low < 0 else shard, layout)
    return checked


# Key: the number of ranks, of which a program has few.
@lru_cache(maxsize=8)
def _no_arrays(ranks: int) -> IndexArrays:
    """The index arrays of a key without arrays."""
    return IndexArrays(Layout((), None, ranks), {}, {})


def _read_item(item: Any) -> Entry | Part | torch.Tensor:
    """Read one item of a key. An array, a mask and a lone bool become a Part or tensor of bools or integers."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return Slice(*[None if n is None else operator.index(n) for n in (item.start, item.stop, item.step)])
    refuse_masked(item)
    if isinstance(item, Part):
        array = item.shard
    elif isinstance(item, torch.Tensor):
        array = item.detach()
    elif isinstance(item, (bool, np.ndarray, np.generic, list, tuple, range)):
        given = np.asarray(item)
        # NumPy makes an array of floats of [].
        if given.dtype.kind not in "biu" and not (isinstance(item, list) and given.size == 0):
            raise IndexError(f"an array in a key must be of integers or bools, got {given.dtype}")
        array = torch.from_numpy(given.astype(np.bool_ if given.dtype.kind == "b" else np.int64))
    elif hasattr(item, "__index__"):
        return operator.index(item)
    else:
        raise IndexError(
            "a key must be ints, slices, Ellipsis, None and arrays of integers or bools, "
            f"got {short_repr(item)} of type {type(item).__name__}"
        )
    if array.dtype.is_floating_point or array.dtype.is_complex:
        raise IndexError(f"an array in a key must be of integers or bools, got {array.dtype}")
    if array.ndim == 0 and array.dtype is not torch.bool:
        return int(array.item())
    return item if isinstance(item, Part) else array


def _describe_item(item: Any) -> str:
    """What debug mode compares of one item of a key: all but the elements of an array."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return f"{item.dtype} {tuple(item.shape)}"
    if isinstance(item, Part):
        return f"{item.shard.dtype} {item.layout}"
    plain = (int, np.integer, np.bool_, slice, EllipsisType, list, tuple, type(None))
    return repr(item) if isinstance(item, plain) else type(item).__name__


def _pad(index: torch.Tensor, layout: Layout) -> torch.Tensor:
    """A view of an index array with as many dimensions as the layout."""
    return index.reshape((1,) * (layout.ndim - index.ndim) + tuple(index.shape))


def _broadcast_layout(indexes: list[AxisIndex], x: Layout, writing: bool) -> Layout:
    """The shape to which arrays broadcast: split as one of them, or evenly where one indexes the split axis."""
    shapes = [part.layout.shape for _, part in indexes]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(
            f"the arrays of a key must broadcast to one shape, got {', '.join(map(str, shapes))}"
        ) from None
    first = next((axis for axis, extent in enumerate(shape) if extent != 1), 0)
    split, ragged = None, None
    for axis, (_, layout) in indexes:
        offset = len(shape) - layout.ndim
        # An array that is split stays where it is, unless it is the one that is repeated along its split axis.
        if layout.split is not None and layout.extent == shape[offset + layout.split]:
            split, ragged = offset + layout.split, layout.ragged
            break
        if split is None and axis is not None and axis == x.split:
            split = next((offset + k for k, extent in enumerate(layout.shape) if extent != 1), first)
    if writing and split is not None and split > first:
        # Of a row that is set twice the last value stays, so that the ranks' parts must be in row-major order.
        split, ragged = first, None
    return Layout(shape, split, x.ranks, ragged)
