"""Convolution."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch.nn.functional import conv1d, pad

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient, halo_exchange
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.shape.layouts import with_extent

Mode = Literal["full", "same", "valid"]


def convolve(a: DNDarray, v: DNDarray, /, mode: Mode = "full") -> DNDarray:
    """Return the convolution of two 1-d arrays: at k the sum over j of `a[k - j] * v[j]`.

    mode: "full": wherever they overlap; "same": the middle of that, as long as the longer one; "valid": where
        all of the shorter one overlaps.

    The result is split as the longer one: with its counts, but that the last rank has what "full" adds, and
    "valid" lacks the last ones. Local where that is replicated; else collective: one exchange, in which each rank
    gets from its neighbours what is missing, and one more that gathers the shorter one if that is split.

    Raises ValueError for what is not 1-d or has no elements, another mode, and arrays on different communicators,
    and torch's error for a dtype that it refuses.

    >>> import minisplit as ms
    >>> ms.convolve(ms.array([1.0, 2.0, 3.0], split=0), ms.array([1.0, 1.0])).tolist()
    [1.0, 3.0, 5.0, 3.0]
    """
    check_one_communicator([as_dndarray(a, "a"), as_dndarray(v, "v")])
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ValueError(f"convolve needs 1-d arrays that have elements, got shapes {a.shape} and {v.shape}")
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be 'full', 'same' or 'valid', got {mode!r}")
    long, short = (a, v) if a.size >= v.size else (v, a)
    reach, comm = short.size - 1, long.comm
    first, length = {
        "full": (0, long.size + reach),
        "same": (reach // 2, long.size),
        "valid": (reach, long.size - reach),
    }[mode]
    dtype = torch.promote_types(a.dtype, v.dtype)
    one = torch.ones((1, 1, 1), dtype=dtype, device=long.device)
    conv1d(one, one)  # torch's errors
    kernel = short._align(short.layout.with_split(None)).larray
    rows, layout = long.larray, with_extent(long.layout, 0, length)
    start, stop = 0, length
    if long.split is not None:
        kernel = all_reduce_gradient(kernel, comm)
        bounds = long.layout.offsets()[:-1].clip(max=length)
        layout = layout.with_counts(np.diff(bounds, append=length).tolist())
        needed = [_needed(*span, first, reach, long.size) for span in map(layout.span, range(comm.size))]
        rows = halo_exchange(rows, long.layout, [span[:2] for span in needed], comm)
        start, stop = layout.span(comm.rank)
    before, after = _needed(start, stop, first, reach, long.size)[2:]
    # A rank without a part computes one too, so that gradients, which are collective, reach it.
    rows = pad(rows.to(dtype), (before, after if start < stop else short.size))
    found = conv1d(rows[None, None], kernel.to(dtype).flip(0)[None, None])
    return DNDarray(found[0, 0, : stop - start], layout, comm)


def _needed(start: int, stop: int, first: int, reach: int, extent: int) -> tuple[int, int, int, int]:
    """From where to where an array is needed for these indices of the result; how many zeros go around it."""
    if start == stop:
        return 0, 0, 0, 0
    low, high = start + first - reach, stop + first
    return max(low, 0), min(high, extent), max(-low, 0), max(high - extent, 0)
