"""Sorts of one rank's elements: by NumPy where its vectorised sort, or its merge of runs, is faster than torch's.

Equal elements keep their order, zeros of different signs too.
"""

from __future__ import annotations

import numpy as np
import torch

from minisplit.core.pytorch.transforms import is_followed

# Floats of at most 32 bits, which have room beside their place in an integer of 64. With so many elements or more
# that takes less time than torch's sort.
_SHORT, _PACKED = frozenset({torch.float16, torch.bfloat16, torch.float32}), 4096


def sort_values(x: torch.Tensor, dim: int, descending: bool = False) -> torch.Tensor:
    """The elements along a dimension in order. NaN is the greatest. Local."""
    if not _has_numpy(x):
        return sort_stable(x, dim, descending)[0]
    given = x.detach().resolve_neg()
    ordered = torch.from_numpy(np.sort(given.numpy(), axis=dim))
    ordered = ordered.flip(dim) if descending else ordered
    if x.dtype.is_floating_point:
        # NumPy's sort is not stable. That shows in zeros of both signs alone, so they are put in their order.
        is_zero = ordered == 0
        if is_zero.any():
            rows = given.movedim(dim, -1)
            ordered.movedim(dim, -1)[is_zero.movedim(dim, -1)] = rows[rows == 0]
    return ordered


def sort_stable(x: torch.Tensor, dim: int, descending: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The elements along a dimension in order, and their places. NaN is the greatest. Local.

    Gradients flow back to the elements.
    """
    if x.numel() < _PACKED or x.dtype not in _SHORT or not _is_plain(x.detach()):
        values, places = torch.sort(x, dim=dim, descending=descending, stable=True)
        return values, places
    # NumPy sorts integers of 64 bits. Their upper half is an integer in the order of the float, their lower half
    # its place. It takes a third of the time of torch's sort. Adding 0 leaves but one zero.
    given = x.detach().to(torch.float32) + 0.0
    bits = given.view(torch.int32)
    keys = torch.where(given.isnan(), 2**31 - 1, bits ^ (bits >> 31 & 2**31 - 1))
    keys = (~keys if descending else keys).to(torch.int64) << 32
    extent = x.shape[dim]
    keys |= torch.arange(extent).reshape([extent if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    keys.numpy().sort(axis=dim)
    places = keys.bitwise_and_(2**32 - 1)
    return x.gather(dim, places), places


def sort_runs(x: torch.Tensor, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort a tensor with one axis that consists of sorted runs, and return the order too. Local."""
    if not _has_numpy(x):
        return sort_stable(x, 0, descending)
    # NumPy's stable sort merges runs, in a quarter of the time of torch's. The last of equals is the first of a
    # reversed tensor.
    given = x.detach().resolve_neg().numpy()
    places = np.argsort(given[::-1] if descending else given, kind="stable")
    order = torch.from_numpy(len(places) - 1 - places[::-1] if descending else places)
    return x[order], order


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
            values, order = sort_stable(rows.gather(-1, places), -1, descending)
            return values, places.gather(-1, order)
    # One row as a tensor with one axis: of integers torch then makes a radix sort, in a third of the time.
    given = rows[0] if len(rows) == 1 else rows
    values, places = (part.reshape(rows.shape) for part in sort_stable(given, -1, descending))
    # clone: a view would keep the memory of all sorted elements.
    return (values, places) if keep >= rows.shape[-1] else (values[..., :keep].clone(), places[..., :keep].clone())


def _has_numpy(x: torch.Tensor) -> bool:
    """Whether NumPy can sort a tensor: it knows no bfloat16, and no derivatives."""
    return x.dtype is not torch.bfloat16 and _is_plain(x)


def _is_plain(x: torch.Tensor) -> bool:
    """Whether a tensor is in memory, and nothing follows what is computed of it."""
    return x.device.type == "cpu" and not is_followed(x)
