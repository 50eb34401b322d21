"""Elements before and after those of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from minisplit.core.dndarray import DNDarray, as_dndarray
from minisplit.ops._reorder import fresh
from minisplit.ops._shape import resized


def pad(x: DNDarray, pad_width: Any, /, mode: str = "constant", constant_values: complex = 0) -> DNDarray:
    """Return `x` with `constant_values` before and after it along its axes. Local.

    pad_width: how many, as in NumPy: an int, a pair (before, after) for all axes, or one pair for each.

    Along the split axis the first rank gets those before, the last rank those after, and all others keep their
    counts. Raises ValueError for another mode, for widths that do not fit or are negative, TypeError for widths
    that are no ints.

    >>> import minisplit as ms
    >>> ms.pad(ms.ones(2, split=0), (1, 2), constant_values=7).tolist()
    [7.0, 1.0, 1.0, 7.0, 7.0]
    """
    if mode != "constant":
        raise ValueError(f"mode must be 'constant', got {mode!r}")
    x = as_dndarray(x)
    value = torch.full((), constant_values, dtype=x.dtype, device=x.device)
    shard, layout = x.larray, x.layout
    for axis, (before, after) in enumerate(_widths(pad_width, x.ndim)):
        counts, mine = list(layout.counts or ()), [before, after]
        if axis == layout.split:
            counts[0] += before
            counts[-1] += after
            mine = [before * (x.comm.rank == 0), after * (x.comm.rank == x.comm.size - 1)]
        layout = resized(layout, axis, layout.shape[axis] + before + after, counts)
        ends = [value.expand((*shard.shape[:axis], width, *shard.shape[axis + 1 :])) for width in mine]
        shard = torch.cat([ends[0], shard, ends[1]], axis)
    return fresh(DNDarray(shard, layout, x.comm), x)


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    given = np.asarray(pad_width)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"pad_width must be ints, got {pad_width!r}")
    if given.shape not in {(), (1,), (2,), (1, 2), (ndim, 2)} or (given < 0).any():
        raise ValueError(
            f"pad_width must be an int, (before, after), or {ndim} such pairs, none negative, got {pad_width!r}"
        )
    return [(int(before), int(after)) for before, after in np.broadcast_to(given, (ndim, 2))]
