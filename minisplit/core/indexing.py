"""`x[key]` and `x[key] = value` on shards: what a rank selects or sets of its own, and what it asks of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from minisplit.core.communication import Communication
from minisplit.core.dtypes import ALL_DTYPES
from minisplit.core.fetching import (
    find_route,
    last_of_each,
    mirrored,
    numbered,
    owned,
    spread,
    travel,
    unnumbered,
)
from minisplit.core.gradients import shared
from minisplit.core.key_arrays import Group, Part, aligned, gathered, group_arrays, read_key
from minisplit.core.keys import GROUP, Selection
from minisplit.core.layout import Layout
from minisplit.core.movement import move

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
    group = group_arrays(selection, arrays, x.layout, False, comm)
    layout = selection.layout_with(x.layout, group.layout)
    owner = _owner(selection, group, x.layout)
    if owner is not None and comm.rank != owner:
        piece = x.shard.narrow(x.layout.split or 0, 0, 0)
    elif _is_remote(group, x.layout):
        piece = _fetched(x, selection, group, comm)
    else:
        if x.layout.split is None and group.layout.split is not None:
            x = Part(shared(x.shard, comm), x.layout)
        piece = _selected(x, selection, group, owner, comm.rank)
    if owner is not None:
        piece = spread(piece, layout.shape, owner, comm)
    shard, layout = _flipped(Part(piece, layout), selection, group, comm)
    own = shard.clone(memory_format=torch.contiguous_format) if _overlap(shard, x.shard) else shard.contiguous()
    return Part(own if own.dtype == dtype else own.view(dtype), layout)


def put(x: Part, key: Any, value: Any, comm: Communication) -> None:
    """Do `x[key] = value`. See `DNDarray.__setitem__`."""
    selection, arrays = read_key(key, x, comm)
    group = group_arrays(selection, arrays, x.layout, True, comm)
    layout = selection.layout_with(x.layout, group.layout)
    part = _flipped(_value(value, x, layout.shape, comm), selection, group, comm)
    x = Part(_bits(x.shard), x.layout)
    owner = _owner(selection, group, x.layout)
    if owner is not None:
        part = _sent_to(owner, part, comm)
        if comm.rank != owner:
            return
    if not group.mine:
        _selected(x, selection, group, owner, comm.rank).copy_(aligned(part, layout, comm))
        return
    target, _, order = _rows_first(x, selection, group, owner, comm.rank)
    if group.home:
        rows = _by_row(aligned(part, layout, comm), selection, group)
        target[tuple(group.mine[axis] for axis in order)] = rows
        return
    numbers, rows = _rows_to_set(x, part, selection, group, order, comm)
    start = x.layout.span(comm.rank)[0] if order[0] == x.layout.split else 0
    local = unnumbered(numbers, order, x.layout.shape, start)
    target[tuple(local[axis] for axis in order)] = rows


def _owner(selection: Selection, group: Group, x: Layout) -> int | None:
    """The rank that has all of the selection, where the key has an int for the split axis."""
    if x.split not in selection.ints or group.layout.split is not None:
        return None
    return int(np.searchsorted(x.offsets()[1:], selection.ints[x.split], side="right"))


def _is_remote(group: Group, x: Layout) -> bool:
    """Whether the key's arrays may select what other ranks own."""
    return x.split in group.mine and not group.home and x.ranks > 1


def _window(x: Part, selection: Selection, owner: int | None, rank: int) -> tuple[torch.Tensor, list[int]]:
    """What the ints and slices of the key select of the shard, as a view, and the axes that are left.

    An int for the split axis counts where there is an `owner`, which is this rank; else that axis stays.
    """
    key: list[int | slice] = []
    axes: list[int] = []
    for axis in range(x.layout.ndim):
        is_split = axis == x.layout.split
        if axis in selection.ints and (owner is not None or not is_split):
            key.append(selection.ints[axis] - (x.layout.span(rank)[0] if is_split else 0))
            continue
        key.append(selection.local(axis, x.layout, rank) if axis in selection.ranges else slice(None))
        axes.append(axis)
    return x.shard[tuple(key)], axes


def _selected(x: Part, selection: Selection, group: Group, owner: int | None, rank: int) -> torch.Tensor:
    """This rank's part of the result, all of it from its own shard; a view where the key has no arrays."""
    window, axes = _window(x, selection, owner, rank)
    shape, labels = group.layout.lshape(rank), _group_labels(group)
    if not group.mine:
        return _arranged(window.expand((*shape, *window.shape)), [*labels, *axes], selection, group)
    # torch's rule, in which ints have no part: arrays side by side are replaced in place, others go to the front.
    places = [place for place, axis in enumerate(axes) if axis in group.mine]
    front = places[0] if places[-1] - places[0] < len(places) else 0
    rest = [axis for axis in axes if axis not in group.mine]
    arrays = tuple(group.mine[axis].expand(shape) if axis in group.mine else slice(None) for axis in axes)
    return _arranged(window[arrays], [*rest[:front], *labels, *rest[front:]], selection, group)


def _fetched(x: Part, selection: Selection, group: Group, comm: Communication) -> torch.Tensor:
    """This rank's part of the result, from the shards of all. Collective."""
    window, rest, order = _rows_first(x, selection, group, None, comm.rank)
    route = find_route(group.mine, group.whole, group.layout, x.layout, order, comm)
    local = unnumbered(route.asked, order, x.layout.shape, x.layout.span(comm.rank)[0])
    asked = window[tuple(local[axis] for axis in order)]
    rows = travel(asked, route.give, route.take, 0, comm, ("rows of", x.layout, "to", group.layout))
    result = rows[route.inverse].reshape((*group.layout.lshape(comm.rank), *rows.shape[1:]))
    return _arranged(result, [*_group_labels(group), *rest], selection, group)


def _rows_first(
    x: Part, selection: Selection, group: Group, owner: int | None, rank: int
) -> tuple[torch.Tensor, list[int], list[int]]:
    """The window with the axes first that arrays index; its other axes; these axes, the split one first."""
    window, axes = _window(x, selection, owner, rank)
    order = sorted(group.mine, key=lambda axis: (axis != x.layout.split, axis))
    rest = [axis for axis in axes if axis not in group.mine]
    return window.permute([axes.index(axis) for axis in [*order, *rest]]), rest, order


def _rows_to_set(
    x: Part, value: Part, selection: Selection, group: Group, order: list[int], comm: Communication
) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the rows that this rank is to set, and their values, or the one value of all.

    Where the key has a row more than once, its last value counts. Collective where the key's
    arrays or the value are split.
    """
    first, ndim = selection.place(GROUP, group.layout.ndim), group.layout.ndim
    is_one_row = all(extent == 1 for extent in value.layout.shape[first : first + ndim])
    is_remote = _is_remote(group, x.layout)
    route = None
    if is_remote and group.whole is not None and (is_one_row or value.layout.split is None):
        shape = group.layout.shape
        numbers, places = owned(group.whole, group.layout, x.layout, order, comm.rank)
        values = gathered(value, comm).shard
    else:
        shape = group.layout.lshape(comm.rank)
        numbers = numbered(group.mine, order, x.layout.shape, shape)
        places = torch.unravel_index(torch.arange(len(numbers), device=numbers.device), shape)
        if is_remote:
            route = find_route(group.mine, group.whole, group.layout, x.layout, order, comm)
        layout = selection.layout_with(x.layout, group.layout)
        values = gathered(value, comm).shard if is_remote and is_one_row else aligned(value, layout, comm)
    values = _by_row(values, selection, group)
    if is_one_row:
        return route.asked if route else numbers, values[(0,) * ndim]
    last = last_of_each(numbers)
    rows = values.expand((*shape, *values.shape[ndim:]))[tuple(place[last] for place in places)]
    if route is None:
        return numbers[last], rows
    rows = travel(rows, route.take, route.give, 0, comm, ("rows of", group.layout, "to", x.layout))
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
        value = gathered(value, comm)
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
    shard = move(value.shard, value.layout, value.layout.with_counts(counts), comm)
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


def _group_labels(group: Group) -> list[int]:
    """Labels for the axes of the group. The label of any other axis is its number in the indexed array."""
    return [GROUP - axis for axis in range(group.layout.ndim)]


def _arranged(part: torch.Tensor, labels: list[int], selection: Selection, group: Group) -> torch.Tensor:
    """A view with the axes as in the result, given the labels of those of `part`."""
    wanted: list[int | None] = []
    for item in selection.order:
        wanted += _group_labels(group) if item == GROUP else [item]
    key = tuple(None if label is None else slice(None) for label in wanted)
    return part.permute([labels.index(label) for label in wanted if label is not None])[key]


def _by_row(values: torch.Tensor, selection: Selection, group: Group) -> torch.Tensor:
    """A view of values arranged as the result: with the axes of the group first and without new ones."""
    ndim, order = group.layout.ndim, selection.order
    first = selection.place(GROUP, ndim)
    olds = [selection.place(item, ndim) for item in order if item not in {GROUP, None}]
    news = [k - 1 + ndim if k > order.index(GROUP) else k for k, item in enumerate(order) if item is None]
    places = [*range(first, first + ndim), *olds, *news]
    view = values.permute(places)
    for _ in news:
        view = view.squeeze(-1)
    return view


def _flipped(part: Part, selection: Selection, group: Group, comm: Communication) -> Part:
    """The part run through backwards along the axes for which the key has a negative step. Its own inverse.

    Collective where that is the split axis: then a rank's rows go to the rank opposite.
    """
    shard, layout = part
    places = (selection.place(axis, group.layout.ndim) for axis in selection.backwards)
    axes = [place for place in places if layout.shape[place] > 1]
    if not axes:
        return part
    shard = shard.flip(axes)
    if layout.split not in axes or comm.size == 1:
        return Part(shard, layout)
    return Part(mirrored(shard, layout, comm), layout.with_counts((layout.counts or ())[::-1]))


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are in one piece of memory."""
    first, second = a.untyped_storage(), b.untyped_storage()
    return (
        a.device == b.device
        and first.data_ptr() < second.data_ptr() + second.nbytes()
        and second.data_ptr() < first.data_ptr() + first.nbytes()
    )
