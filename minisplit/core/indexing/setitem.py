"""`x[key] = value` on shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from minisplit.core.collectives import all_reduce_gradient, all_to_all, redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.gather import find_route, local_rows, rows_of_rank
from minisplit.core.indexing.index_arrays import (
    Part,
    distribute_arrays,
    operand_shard,
    read_key,
    refuse_masked,
    replicate,
)
from minisplit.core.indexing.keys import ARRAY_AXES, result_of
from minisplit.core.indexing.selection import Selected, as_bits, permute, reverse, share_memory
from minisplit.core.layout import Layout, operand_layout
from minisplit.core.pytorch.dtypes import as_element, is_inexact
from minisplit.core.pytorch.transforms import is_followed


def put(x: Part, key: Any, value: Any, comm: Communication) -> None:
    """Do `x[key] = value`. See `DNDarray.__setitem__`."""
    # The ranks that set something would raise this alone.
    if x.shard.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            "x[key] = value needs an x that was not made in torch.inference_mode(); "
            "set a copy, minisplit.array(x), or use torch.no_grad() in its place"
        )
    selection, key_arrays = read_key(key, x, comm)
    arrays = distribute_arrays(selection, key_arrays, True, comm)
    result = result_of(selection, arrays.layout)
    # To set a selection that runs backwards is to set it with the reversed value.
    part = reverse(_read_value(value, x, result.layout.shape, comm), result, comm)
    if part.layout.split is None and x.layout.split is not None:
        # Each rank uses a part of what all have, and so has a part of the gradient only.
        part = Part(all_reduce_gradient(part.shard, comm), part.layout)
    if result.owner is not None:
        part = _move_to(result.owner, part, comm)
        if comm.rank != result.owner:
            # Nothing is set here, but for autograd: the backward pass of the value is collective, and of an x
            # that was saved for another it must fail on all ranks or on none.
            x.shard[:0] = part.shard[(slice(0),) * part.shard.ndim].sum()
            return
    selected = Selected(Part(as_bits(x.shard), x.layout), selection, arrays, result, comm)
    if arrays.local and not arrays.is_aligned:
        _set_rows(selected, part)
        return
    # Each rank sets elements of its own, and each of them once.
    view, local_key, labels = selected.local_key()
    view[local_key] = permute(_value_shard(part, result.layout, x, comm), result.labels, labels)


def _set_rows(selected: Selected, value: Part) -> None:
    """Set the rows that index arrays select. Collective where these or the value are split.

    An array may select a row more than once, and the last of its values stays, as in NumPy. torch does not promise
    which one stays, so that it gets each row once.
    """
    x, _, arrays, result, comm = selected
    view, axes, labels = selected.rows_first()
    first, ndim = result.labels.index(ARRAY_AXES), arrays.layout.ndim
    is_one_row = all(extent == 1 for extent in value.layout.shape[first : first + ndim])
    crosses = selected.crosses_ranks()
    # Where every rank has all indices and all values, it finds by itself what it is to set.
    is_known = arrays.whole is not None and (is_one_row or value.layout.split is None or not crosses)
    needs_whole = crosses and (is_known or is_one_row)
    target = result.layout.with_split(None) if needs_whole else result.layout
    rows = permute(_value_shard(value, target, x, comm), result.labels, labels)
    row_shape = rows.shape[ndim:]
    if is_one_row:
        rows = rows[(0,) * ndim]
    if is_known:
        numbers, places = rows_of_rank(arrays, x.layout, axes, comm.rank)
        if not is_one_row:
            numbers, last = _last_of_each(numbers)
            rows = rows.expand((*arrays.layout.shape, *row_shape))[tuple(place[last] for place in places)]
    else:
        row_bytes = 0 if is_one_row else row_shape.numel() * rows.itemsize
        route = find_route(arrays, x.layout, axes, row_bytes, comm)
        numbers, shape = route.asked, arrays.layout.lshape(comm.rank)
        if not is_one_row:
            _, last = _last_of_each(route.inverse)
            rows = rows.expand((*shape, *row_shape))[torch.unravel_index(last, shape)]
            purpose = ("rows of", arrays.layout, "to", x.layout)
            rows = all_to_all(rows, route.take, route.give, 0, comm, purpose)
            numbers, last = _last_of_each(numbers)
            rows = rows[last]
    if is_one_row and is_followed(rows):
        # A row that is set twice would count twice in the gradient.
        numbers = torch.unique(numbers)
    view[local_rows(numbers, axes, x.layout, comm.rank)] = rows


def _value_shard(value: Part, target: Layout, x: Part, comm: Communication) -> torch.Tensor:
    """This rank's part of the value of a selection in the layout `target`, see `operand_shard`."""
    shard = operand_shard(value, target, comm)
    is_gathered = value.layout.split is not None and operand_layout(value.layout, target).split is None
    return all_reduce_gradient(shard, comm) if is_gathered and x.layout.split is not None else shard


def _last_of_each(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct numbers, which ascend, and the place of the last occurrence of each."""
    distinct, inverse = torch.unique(numbers, return_inverse=True)
    places = torch.arange(len(numbers), device=numbers.device)
    return distinct, torch.zeros_like(distinct).scatter_reduce(0, inverse, places, "amax")


def _read_value(value: Any, x: Part, shape: tuple[int, ...], comm: Communication) -> Part:
    """The value for a selection of `shape`: of as many dimensions, of the dtype of `x`, in other memory.

    Local, but collective in debug mode and where a split value has more dimensions than the selection.
    """
    if not isinstance(value, Part):
        tensor = _as_tensor(value, x.shard.dtype)
        comm.check_replicated(tensor, "the assigned value")
        value = Part(tensor, Layout(tuple(tensor.shape), None, comm.size))
    # As torch does, on all ranks and before any message.
    if torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad and tensor.is_leaf for tensor in (x.shard, x.shard._base)
    ):
        raise RuntimeError(
            "x[key] = value needs an x that is no leaf requiring a gradient, nor a view of one: "
            "set a copy, x.clone(), through which gradients flow back, or assign within torch.no_grad()"
        )
    # Axes of the value beyond those of the selection must have an extent of 1, as in NumPy.
    given, surplus = value.layout.shape, value.layout.ndim - len(shape)
    fitting = (1,) * surplus + shape[max(-surplus, 0) :]
    if any(n not in {1, extent} for n, extent in zip(given, fitting, strict=True)):
        raise ValueError(f"a value of shape {given} does not broadcast to the selection's shape {shape}")
    if value.layout.split is not None and value.layout.split < surplus:
        value = replicate(value, comm)
    shard, layout = value
    if not (is_followed(shard) and is_inexact(x.shard.dtype)):
        shard = shard.detach()
    shard = shard.to(x.shard.device, x.shard.dtype)
    # Otherwise x[1:] = x[:-1], as tensors, would read elements that it has set.
    shard = shard.clone() if share_memory(shard, x.shard) else shard
    split = None if layout.split is None else layout.split - surplus
    full = Layout((1,) * -surplus + given[max(surplus, 0) :], split, layout.ranks, layout.ragged)
    return Part(as_bits(shard).reshape(full.lshape(comm.rank)), full)


def _move_to(owner: int, value: Part, comm: Communication) -> Part:
    """The whole value on the rank `owner`. Collective where it is split."""
    if value.layout.split is None:
        return value
    # To move it costs one rank's memory; to replicate it would cost that of all, of which only one sets anything.
    counts = [value.layout.extent if rank == owner else 0 for rank in range(comm.size)]
    shard = redistribute(value.shard, value.layout, value.layout.with_counts(counts), comm)
    return Part(shard, value.layout.with_split(None))


def _as_tensor(value: Any, dtype: torch.dtype) -> torch.Tensor:
    """A plain value as a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (bool, int, float, complex)):
        return torch.full((), as_element(value, dtype, "the assigned value"), dtype=dtype)
    refuse_masked(value)
    if isinstance(value, (np.ndarray, np.generic)):
        # torch takes no other byte order, negative strides or read-only memory.
        array = np.asarray(value)
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    return torch.as_tensor(value, dtype=dtype)
