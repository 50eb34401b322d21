"""Elements before and after those of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import halo_exchange
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.ops.shape.layouts import with_extent
from minisplit.ops.shape.reshape import without_aliasing

Places = np.ndarray[Any, np.dtype[np.int64]]


def _reflected(place: Places, extent: int) -> Places:
    around = place % max(2 * (extent - 1), 1)
    return np.minimum(around, 2 * (extent - 1) - around)


def _mirrored(place: Places, extent: int) -> Places:
    around = place % (2 * extent)
    return np.minimum(around, 2 * extent - 1 - around)


# From where on an axis of that extent the elements at places before and after it come.
_SOURCES: dict[str, Callable[[Places, int], Places]] = {
    "edge": lambda place, extent: place.clip(0, extent - 1),
    "reflect": _reflected,
    "symmetric": _mirrored,
    "wrap": lambda place, extent: place % extent,
}


def pad(x: DNDarray, pad_width: Any, /, mode: str = "constant", constant_values: complex = 0) -> DNDarray:
    """Return `x` with elements before and after it along its axes.

    pad_width: how many, as in NumPy: an int, a pair (before, after) for all axes, or one pair for each.
    mode: "constant": `constant_values`; "edge": the first and last element; "reflect" and "symmetric": the
        elements in reverse, without and with the first and last one; "wrap": those of the other end.

    Along the split axis the first rank gets those before, the last rank those after, and all others keep their
    counts. Local for constants; in another mode collective along the split axis, by one exchange of what these two
    need.

    Raises ValueError for another mode, for widths that do not fit or are negative, and where an axis has no
    elements to be repeated; TypeError for widths that are no ints.

    >>> import minisplit as ms
    >>> ms.pad(ms.ones(2, split=0), (1, 2), constant_values=7).tolist()
    [7.0, 1.0, 1.0, 7.0, 7.0]
    >>> ms.pad(ms.arange(3, split=0), 2, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    if mode not in {"constant", *_SOURCES}:
        raise ValueError(f"mode must be one of constant, {', '.join(_SOURCES)}, got {mode!r}")
    widths = _widths(pad_width, as_dndarray(x).ndim)
    for axis, pair in enumerate(widths):
        if mode != "constant" and any(pair) and not x.shape[axis]:
            raise ValueError(f"axis {axis} of shape {x.shape} has no elements for mode {mode!r}; use 'constant'")
    value = torch.full((), constant_values, dtype=x.dtype, device=x.device)
    shard, layout = x.larray, x.layout
    for axis, (before, after) in enumerate(widths):
        counts, mine = list(layout.counts or ()), (before, after)
        if axis == layout.split:
            counts[0] += before
            counts[-1] += after
            mine = (before * (x.comm.rank == 0), after * (x.comm.rank == x.comm.size - 1))
        if mode == "constant":
            ends = [value.expand((*shard.shape[:axis], width, *shard.shape[axis + 1 :])) for width in mine]
        else:
            ends = _ends(_SOURCES[mode], shard, layout, axis, (before, after), x.comm)
        layout = with_extent(layout, axis, layout.shape[axis] + before + after, counts)
        shard = torch.cat([ends[0], shard, ends[1]], axis)
    return without_aliasing(DNDarray(shard, layout, x.comm), x)


def _ends(
    source: Callable[[Places, int], Places],
    shard: torch.Tensor,
    layout: Layout,
    axis: int,
    widths: tuple[int, int],
    comm: Communication,
) -> list[torch.Tensor]:
    """What this rank gets before and after its shard. Collective along the split axis: see `halo_exchange`."""
    extent = layout.shape[axis]
    places = [source(np.arange(-widths[0], 0), extent), source(np.arange(extent, extent + widths[1]), extent)]
    start = 0
    if axis == layout.split:
        needed = [[places[0]], *[[]] * (comm.size - 2), [places[1]]] if comm.size > 1 else [places]
        spans = [_span(np.concatenate([*ends, np.arange(0)])) for ends in needed]
        shard, start = halo_exchange(shard, layout, spans, comm), spans[comm.rank][0]
        nothing = np.arange(0)
        places = [places[0] if comm.rank == 0 else nothing, places[1] if comm.rank == comm.size - 1 else nothing]
    return [shard.index_select(axis, torch.from_numpy(place - start).to(shard.device)) for place in places]


def _span(places: Places) -> tuple[int, int]:
    return (int(places.min()), int(places.max()) + 1) if places.size else (0, 0)


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    given = np.asarray(pad_width)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"pad_width must be ints, got {short_repr(pad_width)}")
    if given.shape not in {(), (1,), (2,), (1, 2), (ndim, 2)} or (given < 0).any():
        raise ValueError(
            f"pad_width must be an int, (before, after), or {ndim} such pairs, none negative, got "
            f"{short_repr(pad_width)}"
        )
    return [(int(before), int(after)) for before, after in np.broadcast_to(given, (ndim, 2))]
