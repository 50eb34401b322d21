"""`x[key]` and `x[key] = value` on shards: what a rank selects or sets of its own, and what it asks of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from minisplit.core.collectives import all_reduce_gradient, all_to_all, broadcast, redistribute, reverse_ranks
from minisplit.core.communication.protocol import Communication
from minisplit.core.dtypes import ALL_DTYPES
from minisplit.core.indexing.gather import (
    Route,
    find_route,
    last_of_each,
    row_indices,
    row_numbers,
    rows_moved,
    rows_of_owner,
)
from minisplit.core.indexing.index_arrays import Group, Part, group_arrays, operand_shard, read_key, replicate
from minisplit.core.indexing.keys import GROUP, Result, Selection, result_of, window
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import is_large, warn_if_large

_SPREAD = (
    "an int selects what one rank has of the split axis, for all ranks. A slice leaves it there, and of an array "
    "that is split along another axis nothing moves"
)
_FETCHED = (
    "an array of integers selects indices of the split axis, which come from the ranks that have them. Slices and "
    "masks leave them there, and of an array that is split along another axis nothing moves"
)
_MIRRORED = (
    "backwards along the split axis, each rank's part goes to the rank opposite. Of an array that is split along "
    "another axis nothing moves"
)
# torch has not all of indexing for these dtypes, so their bits are taken for those of another.
_BITS = {
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
} | {dtype: torch.uint8 for dtype in ALL_DTYPES if str(dtype).startswith("torch.float8")}


def get(x: Part, key: Any, comm: Communication) -> Part:
    """What `x[key]` is, in memory of its own. See `DNDarray.__getitem__`."""
    dtype, x = x.shard.dtype, Part(_bits(x.shard), x.layout)
    selection, arrays = read_key(key, x, comm)
    group = group_arrays(selection, arrays, False, comm)
    result = result_of(selection, group.layout)
    if result.owner is not None:
        piece = _selected(x, selection, group, result, comm) if comm.rank == result.owner else x.shard
        warn_if_large(result.layout.size * x.shard.itemsize * (comm.size - 1), _SPREAD, comm)
        piece = broadcast(piece, result.layout.shape, result.owner, comm)
    elif _is_remote(group, x.layout):
        piece = _fetched(x, selection, group, result, comm)
    else:
        if x.layout.split is None and group.layout.split is not None:
            x = Part(all_reduce_gradient(x.shard, comm), x.layout)
        piece = _selected(x, selection, group, result, comm)
    shard, layout = _flipped(Part(piece, result.layout), result, comm)
    own = shard.clone(memory_format=torch.contiguous_format) if _overlap(shard, x.shard) else shard.contiguous()
    return Part(own if own.dtype == dtype else own.view(dtype), layout)


def put(x: Part, key: Any, value: Any, comm: Communication) -> None:
    """Do `x[key] = value`. See `DNDarray.__setitem__`."""
    selection, arrays = read_key(key, x, comm)
    group = group_arrays(selection, arrays, True, comm)
    result = result_of(selection, group.layout)
    value = _flipped(_value(value, x, result.layout.shape, comm), result, comm)
    x = Part(_bits(x.shard), x.layout)
    if result.owner is not None:
        value = _sent_to(result.owner, value, comm)
        if comm.rank != result.owner:
            return
    if not group.mine:
        _selected(x, selection, group, result, comm).copy_(operand_shard(value, result.layout, comm))
        return
    target, axes, labels = _rows_first(x, selection, group, comm.rank)
    if group.home:
        rows = _arranged(operand_shard(value, result.layout, comm), result.labels, labels)
        target[tuple(group.mine[axis] for axis in axes)] = rows
        return
    numbers, rows = _rows_to_set(x, value, group, result, axes, labels, comm)
    target[_local(numbers, axes, x.layout, comm.rank)] = rows


def _is_remote(group: Group, x: Layout) -> bool:
    """Whether the key's arrays may select what other ranks own."""
    return x.split in group.mine and not group.home and x.ranks > 1


def _window(x: Part, selection: Selection, group: Group, rank: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """What the ints, slices and new axes of the key select of the shard, as a view, and the labels of its axes."""
    key, labels = window(selection, rank, group.layout.split is not None)
    return x.shard[key], labels


def _selected(x: Part, selection: Selection, group: Group, result: Result, comm: Communication) -> torch.Tensor:
    """This rank's part of the result, all of it from its own shard; a view where the key has no arrays."""
    view, labels = _window(x, selection, group, comm.rank)
    shape, grouped = group.layout.lshape(comm.rank), _group_labels(group)
    if not group.mine:
        view = view.expand((*shape, *view.shape)) if shape else view
        return _arranged(view, (*grouped, *labels), result.labels)
    # torch's rule, in which ints have no part: arrays side by side are replaced in place, others go to the front.
    places = [place for place, label in enumerate(labels) if label in group.mine]
    front = places[0] if places[-1] - places[0] < len(places) else 0
    rest = [label for label in labels if label not in group.mine]
    key = tuple(group.mine[label].expand(shape) if label in group.mine else slice(None) for label in labels)
    return _arranged(view[key], (*rest[:front], *grouped, *rest[front:]), result.labels)


def _fetched(x: Part, selection: Selection, group: Group, result: Result, comm: Communication) -> torch.Tensor:
    """This rank's part of the result, from the shards of all. Collective."""
    view, axes, labels = _rows_first(x, selection, group, comm.rank)
    route = find_route(group.mine, group.whole, group.layout, x.layout, axes, comm)
    _warn_of_rows(route, view.shape[len(axes) :].numel() * view.itemsize, group, x.layout, comm)
    asked = view[_local(route.asked, axes, x.layout, comm.rank)]
    rows = all_to_all(asked, route.give, route.take, 0, comm, ("rows of", x.layout, "to", group.layout))
    rows = rows[route.inverse].reshape((*group.layout.lshape(comm.rank), *rows.shape[1:]))
    return _arranged(rows, labels, result.labels)


def _warn_of_rows(route: Route, size: int, group: Group, x: Layout, comm: Communication) -> None:
    """Warn if many rows, of `size` bytes each, are selected by an array of integers. Alike on all ranks."""
    moved = route.moved
    if moved is None and group.whole is not None and is_large(group.layout.size * size, comm):
        # All ranks know the indices, but each only its own route: counted where there may be reason to.
        moved = rows_moved(group.whole[x.split or 0], group.layout, x)
    warn_if_large((moved or 0) * size, _FETCHED, comm)


def _rows_first(
    x: Part, selection: Selection, group: Group, rank: int
) -> tuple[torch.Tensor, list[int], tuple[int, ...]]:
    """A view of the window whose first axes are those that arrays index; these axes, the split one first; and the
    labels of the selection with the axes of the group first.
    """
    view, labels = _window(x, selection, group, rank)
    axes = sorted(group.mine, key=lambda axis: (axis != x.layout.split, axis))
    rest = [label for label in labels if label not in group.mine]
    return _arranged(view, labels, (*axes, *rest)), axes, (*_group_labels(group), *rest)


def _local(numbers: torch.Tensor, axes: list[int], x: Layout, rank: int) -> tuple[torch.Tensor, ...]:
    """The key by which this rank finds numbered rows in what `_rows_first` returns."""
    start = x.span(rank)[0] if axes[0] == x.split else 0
    indices = row_indices(numbers, axes, x.shape, start)
    return tuple(indices[axis] for axis in axes)


def _rows_to_set(
    x: Part,
    value: Part,
    group: Group,
    result: Result,
    axes: list[int],
    labels: tuple[int, ...],
    comm: Communication,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the rows that this rank is to set, and their values, or the one value of all.

    Where the key has a row more than once, its last value counts. Collective where the key's
    arrays or the value are split.
    """
    first, ndim = result.labels.index(GROUP), group.layout.ndim
    is_one_row = all(extent == 1 for extent in value.layout.shape[first : first + ndim])
    is_remote = _is_remote(group, x.layout)
    route = None
    if is_remote and group.whole is not None and (is_one_row or value.layout.split is None):
        shape = group.layout.shape
        numbers, places = rows_of_owner(group.whole, group.layout, x.layout, axes, comm.rank)
        values = replicate(value, comm).shard
    else:
        shape = group.layout.lshape(comm.rank)
        numbers = row_numbers(group.mine, axes, x.layout.shape, shape)
        places = torch.unravel_index(torch.arange(len(numbers), device=numbers.device), shape)
        if is_remote:
            route = find_route(group.mine, group.whole, group.layout, x.layout, axes, comm)
        everywhere = is_remote and is_one_row
        values = replicate(value, comm).shard if everywhere else operand_shard(value, result.layout, comm)
    values = _arranged(values, result.labels, labels)
    if is_one_row:
        return route.asked if route else numbers, values[(0,) * ndim]
    last = last_of_each(numbers)
    rows = values.expand((*shape, *values.shape[ndim:]))[tuple(place[last] for place in places)]
    if route is None:
        return numbers[last], rows
    _warn_of_rows(route, rows.shape[1:].numel() * rows.itemsize, group, x.layout, comm)
    rows = all_to_all(rows, route.take, route.give, 0, comm, ("rows of", group.layout, "to", x.layout))
    last = last_of_each(route.asked)
    return route.asked[last], rows[last]


def _value(value: Any, x: Part, shape: tuple[int, ...], comm: Communication) -> Part:
    """The value for a selection of `shape`: of as many dimensions, of the dtype of `x`, in other memory.

    Local, but collective in debug mode and where a split value has more dimensions than the selection.
    """
    if not isinstance(value, Part):
        tensor = _tensor(value, x.shard)
        comm.check_replicated(tensor, "the assigned value")
        value = Part(tensor, Layout(tuple(tensor.shape), None, comm.size))
    if torch.is_grad_enabled() and (value.shard.requires_grad or (x.shard.requires_grad and x.shard.is_leaf)):
        raise RuntimeError(
            "x[key] = value needs an x that is no leaf requiring a gradient, and a value that requires none; "
            "use detach(), or torch.no_grad() around the assignment"
        )
    given, surplus = value.layout.shape, value.layout.ndim - len(shape)
    fitting = (1,) * surplus + shape[max(-surplus, 0) :]
    if any(n not in {1, extent} for n, extent in zip(given, fitting, strict=True)):
        raise ValueError(f"a value of shape {given} does not broadcast to the selection's shape {shape}")
    if value.layout.split is not None and value.layout.split < surplus:
        value = replicate(value, comm)
    shard, layout = value
    shard = shard.detach().to(x.shard.device, x.shard.dtype)
    shard = shard.clone() if _overlap(shard, x.shard) else shard
    split = None if layout.split is None else layout.split - surplus
    full = Layout((1,) * -surplus + given[max(surplus, 0) :], split, layout.ranks, layout.ragged)
    return Part(_bits(shard).reshape(full.lshape(comm.rank)), full)


def _sent_to(owner: int, value: Part, comm: Communication) -> Part:
    """The whole value on the rank `owner`. Collective where it is split."""
    if value.layout.split is None:
        return value
    counts = [value.layout.extent if rank == owner else 0 for rank in range(comm.size)]
    shard = redistribute(value.shard, value.layout, value.layout.with_counts(counts), comm)
    return Part(shard, value.layout.with_split(None))


def _tensor(value: Any, like: torch.Tensor) -> torch.Tensor:
    """A plain value as a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (bool, int, float, complex)):
        return torch.full((), value, dtype=like.dtype)
    if isinstance(value, (np.ndarray, np.generic)):
        # torch takes no other byte order, negative strides or read-only memory.
        array = np.asarray(value)
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    return torch.as_tensor(value, dtype=like.dtype)


def _bits(shard: torch.Tensor) -> torch.Tensor:
    other = _BITS.get(shard.dtype)
    return shard.view(other) if other else shard


def _group_labels(group: Group) -> tuple[int, ...]:
    return tuple(GROUP - axis for axis in range(group.layout.ndim))


def _arranged(part: torch.Tensor, labels: tuple[int, ...], wanted: tuple[int, ...]) -> torch.Tensor:
    """A view with the axes in the order of the `wanted` labels, given the labels that they have."""
    return part if labels == wanted else part.permute([labels.index(label) for label in wanted])


def _flipped(part: Part, result: Result, comm: Communication) -> Part:
    """The part run through backwards along the axes for which the key has a negative step. Its own inverse.

    Collective where that is the split axis: then a rank's rows go to the rank opposite.
    """
    shard, layout = part
    axes = [axis for axis in result.backwards if layout.shape[axis] > 1]
    if not axes:
        return part
    shard = shard.flip(axes)
    if layout.split not in axes or comm.size == 1:
        return Part(shard, layout)
    warn_if_large(layout.size * shard.itemsize, _MIRRORED, comm)
    return Part(reverse_ranks(shard, layout, comm), layout.with_counts((layout.counts or ())[::-1]))


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are in one piece of memory."""
    first, second = a.untyped_storage(), b.untyped_storage()
    return (
        a.device == b.device
        and first.data_ptr() < second.data_ptr() + second.nbytes()
        and second.data_ptr() < first.data_ptr() + first.nbytes()
    )
