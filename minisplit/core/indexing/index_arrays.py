"""The arrays in a key: read, checked, and brought to where they are needed."""

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
from minisplit.core.error_text import short_repr
from minisplit.core.indexing.keys import Entry, Fancy, Selection, Slice, check_bounds, select
from minisplit.core.layout import Layout, operand_layout
from minisplit.core.performance_warning import warn_of_move

# No other integer is smaller.
_LEAST = -(2**63)


class Part(NamedTuple):
    """An operand: this rank's shard, and the layout of the whole."""

    shard: torch.Tensor
    layout: Layout


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The arrays of a key as indices that broadcast to one shape.

    layout: that shape, and which part of it each rank deals with.
    mine: this rank's part of the indices, by axis of the indexed array; with as many dimensions as `layout`.
    whole: all of them, where every rank knows them.
    home: every rank's part selects rows that it owns, each once, and counts the split axis from its own first.
    """

    layout: Layout
    mine: dict[int, torch.Tensor]
    whole: dict[int, torch.Tensor] | None
    home: bool = False


def read_key(key: Any, x: Part, comm: Communication) -> tuple[Selection, list[Part]]:
    """What `key` selects from `x`, and the arrays in it, on the device of `x`.

    Local, but collective in debug mode. IndexError for what is no key, or does not fit the shape of `x`.
    """
    key = key if isinstance(key, tuple) and not isinstance(key, Part) else (key,)
    if debugging():
        text = ", ".join(map(_told, key)).encode()
        comm.check_replicated(torch.tensor(list(text), dtype=torch.uint8), "a key")
    entries: list[Entry] = []
    arrays: list[Part] = []
    for item in key:
        entry = _read(item)
        if isinstance(entry, torch.Tensor):
            comm.check_replicated(entry, "an array in a key")
            entry = Part(entry, Layout(tuple(entry.shape), None, comm.size))
        if not isinstance(entry, Part):
            entries.append(entry)
            continue
        shard, layout = entry
        is_mask = shard.dtype is torch.bool
        entries.append(Fancy(layout.shape if is_mask else None))
        arrays.append(Part(shard.to(x.shard.device, torch.bool if is_mask else torch.int64), layout))
    return select(tuple(entries), x.layout), arrays


def group_arrays(selection: Selection, arrays: list[Part], putting: bool, comm: Communication) -> Group:
    """Bring the arrays of a key to the ranks that need them.

    Local where all are replicated; else collective. IndexError where an index is out of range or the
    arrays do not broadcast.
    """
    x = selection.x
    if not arrays:
        return _no_group(comm.size)
    first, axes = arrays[0], selection.fancy[0]
    is_mask = len(arrays) == 1 and first.shard.dtype is torch.bool
    if is_mask and x.split in axes[:1] and first.layout.shape[0] == x.extent:
        return _home(first, axes, x, comm)
    # Where the split axis is not indexed by the key's arrays, every rank needs all of them for its rows.
    parted = not putting if x.split is None else x.split not in selection.ranges
    indices: list[tuple[int | None, Part]] = []
    for part, axes in zip(arrays, selection.fancy, strict=True):
        here = part if parted else replicate(part, comm)
        if part.shard.dtype is torch.bool:
            indices += zip(axes or (None,), _nonzero(here, comm), strict=True)
        else:
            indices.append((axes[0], here))
    layout = _group_layout(indices, x, putting, comm.size)
    return _grouped(in_range(indices, x.shape, comm), layout, selection, comm)


def operand_shard(part: Part, target: Layout, comm: Communication) -> torch.Tensor:
    """This rank's share of an operand that broadcasts to `target`, such that it broadcasts to the shard there.

    Collective where the operand is split otherwise than `target`; else a view.
    """
    wanted = operand_layout(part.layout, target)
    if wanted == part.layout:
        return part.shard
    if part.layout.split is None:
        return part.shard[wanted.box(comm.rank)]
    warn_of_move(part.shard.itemsize, part.layout, wanted, comm)
    return redistribute(part.shard, part.layout, wanted, comm)


def replicate(part: Part, comm: Communication) -> Part:
    """The whole operand on every rank. Collective where it is split."""
    whole = part.layout.with_split(None)
    return Part(operand_shard(part, whole, comm), whole)


def _told(item: Any) -> str:
    """What all ranks must have in common in one item of a key, but for the numbers in an array."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return f"{item.dtype} {tuple(item.shape)}"
    if isinstance(item, Part):
        return f"{item.shard.dtype} {item.layout}"
    plain = (int, np.integer, np.bool_, slice, EllipsisType, list, tuple, type(None))
    return repr(item) if isinstance(item, plain) else type(item).__name__


def _read(item: Any) -> int | Slice | EllipsisType | Part | torch.Tensor | None:
    """One item of a key; an array, a mask and a lone bool as a Part or tensor of bools or integers."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return Slice(*(None if n is None else operator.index(n) for n in (item.start, item.stop, item.step)))
    array = item.shard if isinstance(item, Part) else _array(item)
    if array is None:
        return operator.index(item)
    if array.dtype.is_floating_point or array.dtype.is_complex:
        raise IndexError(f"an array in a key must be of integers or bools, got {array.dtype}")
    if array.ndim == 0 and array.dtype is not torch.bool:
        return int(array.item())
    return item if isinstance(item, Part) else array


def _array(item: Any) -> torch.Tensor | None:
    """`item` as a tensor; None for what is an int; IndexError for anything else."""
    if isinstance(item, torch.Tensor):
        return item.detach()
    if not isinstance(item, (bool, np.ndarray, np.generic, list, tuple, range)):
        if hasattr(item, "__index__"):
            return None
        raise IndexError(
            "a key must be ints, slices, Ellipsis, None and arrays of integers or bools, "
            f"got {short_repr(item)} of type {type(item).__name__}"
        )
    array = np.asarray(item)
    if array.dtype.kind == "b":
        return torch.from_numpy(array.copy())
    if array.dtype.kind in "iu" or (isinstance(item, list) and array.size == 0):
        return torch.from_numpy(array.astype(np.int64))
    raise IndexError(f"an array in a key must be of integers or bools, got {array.dtype}")


@lru_cache
def _no_group(ranks: int) -> Group:
    return Group(Layout((), None, ranks), {}, {})


def _home(mask: Part, axes: tuple[int, ...], x: Layout, comm: Communication) -> Group:
    """A lone mask whose first axis is the split one: what it selects stays where it is.

    No message for a replicated mask; else the mask is moved to where the array is, and counts are gathered.
    """
    here = operand_shard(mask, Layout(mask.layout.shape, 0, comm.size, x.ragged), comm)
    if mask.layout.split is None:
        bounds = pairwise(x.offsets().tolist())
        counts = torch.stack([mask.shard[start:stop].count_nonzero() for start, stop in bounds]).tolist()
    else:
        counts = _gathered_count(here, comm)
    indices = here.nonzero(as_tuple=True)
    layout = Layout((sum(counts),), 0, comm.size, tuple(counts))
    return Group(layout, dict(zip(axes, indices, strict=True)), None, home=True)


def _nonzero(mask: Part, comm: Communication) -> list[Part]:
    """Where a mask is true, as one array of indices per axis in row-major order; of a 0-d mask its truth alone.

    Collective for a split mask: it is split along its first axis, and counts are gathered.
    """
    if mask.layout.ndim == 0:
        return [Part(mask.shard.nonzero().sum(1), Layout((int(mask.shard),), None, comm.size))]
    layout = mask.layout if mask.layout.split is None else mask.layout.with_split(0)
    shard = operand_shard(mask, layout, comm)
    indices = shard.nonzero(as_tuple=True)
    if layout.split is None:
        result = Layout(tuple(indices[0].shape), None, comm.size)
    else:
        counts = _gathered_count(shard, comm)
        result = Layout((sum(counts),), 0, comm.size, tuple(counts))
        indices = (indices[0] + layout.span(comm.rank)[0], *indices[1:])
    return [Part(index, result) for index in indices]


def _gathered_count(mask: torch.Tensor, comm: Communication) -> list[int]:
    counts: list[int] = comm.allgather(np.array([int(mask.count_nonzero())]))[:, 0].tolist()
    return counts


def _group_layout(indices: list[tuple[int | None, Part]], x: Layout, putting: bool, ranks: int) -> Layout:
    """The common shape of the indices: split as an index is, or evenly where they index the split axis."""
    shapes = [part.layout.shape for _, part in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(
            f"the arrays of a key must broadcast to one shape, got {', '.join(map(str, shapes))}"
        ) from None
    first = next((axis for axis, extent in enumerate(shape) if extent != 1), 0)
    for _, part in indices:
        offset = len(shape) - part.layout.ndim
        if part.layout.split is not None and part.layout.extent == shape[offset + part.layout.split]:
            split = offset + part.layout.split
            # Of a row that is set twice the last value stays: the ranks' parts must be in row-major order.
            return (
                Layout(shape, first, ranks)
                if putting and split > first
                else Layout(shape, split, ranks, part.layout.ragged)
            )
    for axis, part in indices:
        if x.split is not None and axis == x.split:
            offset = len(shape) - part.layout.ndim
            varying = (offset + k for k, extent in enumerate(part.layout.shape) if extent != 1)
            return Layout(shape, first if putting else next(varying, first), ranks)
    return Layout(shape, None, ranks)


def in_range(
    indices: list[tuple[int | None, Part]], shape: tuple[int, ...], comm: Communication
) -> dict[int, Part]:
    """The indices counted from the front. IndexError on all ranks where one is out of range on any.

    Collective, one agreement, where any is split.
    """
    own = {axis: part for axis, part in indices if axis is not None}
    # The largest of `~index` is that of the lowest index; unlike `-index` there is one for every integer.
    bounds = np.full((len(own), 2), _LEAST)
    for record, (shard, _) in zip(bounds, own.values(), strict=True):
        if shard.numel():
            low, high = shard.aminmax()
            record[:] = ~int(low), int(high)
    if any(part.layout.split is not None for part in own.values()):
        bounds = comm.agree(bounds.reshape(-1)).reshape(-1, 2)
    counted = {}
    for (axis, (shard, layout)), (not_low, high) in zip(own.items(), bounds.tolist(), strict=True):
        low, extent = ~not_low, shape[axis]
        if low <= high:  # else there are no indices
            check_bounds(low, high, axis, extent)
        counted[axis] = Part(torch.where(shard < 0, shard + extent, shard) if low < 0 else shard, layout)
    return counted


def _grouped(indices: dict[int, Part], layout: Layout, selection: Selection, comm: Communication) -> Group:
    """The indices as a group: each rank's part, and all where every rank has them."""

    def padded(index: torch.Tensor) -> torch.Tensor:
        return index.reshape((1,) * (layout.ndim - index.ndim) + tuple(index.shape))

    split = selection.x.split
    known = all(part.layout.split is None for part in indices.values())
    mine = {axis: padded(operand_shard(part, layout, comm)) for axis, part in indices.items()}
    if split in selection.ints and layout.split is not None:
        device = next(iter(mine.values())).device
        mine[split] = padded(torch.tensor(selection.ints[split], device=device))
    whole = {axis: padded(part.shard) for axis, part in indices.items()} if known else None
    return Group(layout, mine, whole)
