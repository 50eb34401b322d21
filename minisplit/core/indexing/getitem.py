"""`x[key]` on shards."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.collectives import all_reduce_gradient, all_to_all, broadcast
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.gather import find_route, local_rows
from minisplit.core.indexing.index_arrays import Part, distribute_arrays, read_key
from minisplit.core.indexing.keys import result_of
from minisplit.core.indexing.selection import Selected, as_bits, permute, reverse, share_memory
from minisplit.core.performance_warning import warn_if_large

_BROADCAST = (
    "an int selects what one rank has of the split axis, for all ranks. A slice leaves it there, and of an array "
    "that is split along another axis nothing moves"
)


def get(x: Part, key: Any, comm: Communication) -> Part:
    """Return `x[key]` in memory of its own. See `DNDarray.__getitem__`."""
    bits = as_bits(x.shard)
    selection, key_arrays = read_key(key, x, comm)
    arrays = distribute_arrays(selection, key_arrays, False, comm)
    result = result_of(selection, arrays.layout)
    selected = Selected(Part(bits, x.layout), selection, arrays, result, comm)
    if selected.crosses_ranks():
        piece = _gather_rows(selected)
    elif result.owner is None or comm.rank == result.owner:
        if x.layout.split is None and result.layout.split is not None:
            # Each rank uses a part of a replicated array, so that the ranks' gradients of it have to be added.
            selected = selected._replace(x=Part(all_reduce_gradient(bits, comm), x.layout))
        view, local_key, labels = selected.local_key()
        piece = permute(view[local_key], labels, result.labels)
    else:
        piece = bits
    if result.owner is not None:
        warn_if_large(result.layout.size * bits.itemsize * (comm.size - 1), _BROADCAST, comm)
        piece = broadcast(piece, result.layout.shape, result.owner, comm)
    shard, layout = reverse(Part(piece, result.layout), result, comm)
    # A view is copied: otherwise y = x[1:] would share memory, and y[0] = 1 would change x.
    shard = shard.clone(memory_format=torch.contiguous_format) if share_memory(shard, bits) else shard.contiguous()
    return Part(shard if shard.dtype is x.shard.dtype else shard.view(x.shard.dtype), layout)


def _gather_rows(selected: Selected) -> torch.Tensor:
    """This rank's part of the result, whose rows come from the ranks that own them. Collective: one exchange."""
    x, arrays, comm = selected.x, selected.arrays, selected.comm
    view, axes, labels = selected.rows_first()
    row_bytes = view.shape[len(axes) :].numel() * view.itemsize
    route = find_route(arrays, x.layout, axes, row_bytes, comm)
    asked = view[local_rows(route.asked, axes, x.layout, comm.rank)]
    purpose = ("rows of", x.layout, "to", arrays.layout)
    rows = all_to_all(asked, route.give, route.take, 0, comm, purpose)[route.inverse]
    return permute(
        rows.reshape((*arrays.layout.lshape(comm.rank), *rows.shape[1:])), labels, selected.result.labels
    )
