"""Larger arrays of copies: whole arrays side by side, or each index several times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Offsets, as_index, normalise_axis
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.shape.axes import insert_axes
from minisplit.ops.shape.join import concat_as
from minisplit.ops.shape.layouts import Axes, concat_plan, repeat_counts, with_extent
from minisplit.ops.shape.reshape import ravel


def tile(x: DNDarray, /, reps: Axes) -> DNDarray:
    """Return copies of `x` side by side.

    Parameters
    ----------
    x : DNDarray
        The array. It gets axes of extent 1 at the front if it has fewer than `reps` has entries.
    reps : int or sequence of int
        The number of copies along each axis. It gets ones at the front if it has fewer entries than `x` has axes.

    Returns
    -------
    DNDarray
        The copies, in new memory. Split along the axis of `x`, with its counts if there is one copy along it, and
        with the default counts otherwise.

    Raises
    ------
    ValueError
        If a number is negative.

    Communication
    -------------
    Local where there is one copy along the split axis. Otherwise collective: one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.tile(ms.arange(2, split=0), (2, 2)).tolist()
    [[0, 1, 0, 1], [0, 1, 0, 1]]
    """
    given = tuple(reps) if isinstance(reps, Iterable) else (reps,)
    times = [as_index(n, "reps") for n in given]
    if any(n < 0 for n in times):
        raise ValueError(f"reps must not be negative, got {short_repr(given)}")
    # Both become as long as the longer one, by ones at the front.
    x = insert_axes(x, range(len(times) - as_dndarray(x).ndim))
    times = [1] * (x.ndim - len(times)) + times
    split = x.split
    # Copies along the split axis belong to other ranks, those along other axes to the same.
    if split is not None and times[split] != 1:
        x, times[split] = _tile_split_axis(x, times[split]), 1
    layout = x.layout
    for axis, n in enumerate(times):
        layout = with_extent(layout, axis, layout.shape[axis] * n, layout.counts)
    return DNDarray(x.larray.tile(times), layout, x.comm)


def _tile_split_axis(x: DNDarray, copies: int) -> DNDarray:
    """Copies of `x` side by side along its split axis, with the default counts. Collective: one exchange."""
    layout, axis = x.layout, x.layout.split or 0
    even = with_extent(layout, axis, layout.extent * copies)
    if copies == 0:
        return DNDarray(x.larray.narrow(axis, 0, 0), even, x.comm)
    if copies < x.comm.size:
        return concat_as([x] * copies, axis, concat_plan([layout] * copies, axis, even))
    # Each rank has at least one copy in its part, so it needs all of x, which a join would send several times.
    whole = all_reduce_gradient(x._align(layout.with_split(None)).larray, x.comm)
    index = torch.arange(*even.span(x.comm.rank), device=x.device) % max(layout.extent, 1)
    return DNDarray(whole.index_select(axis, index), even, x.comm)


def repeat(x: DNDarray, /, repeats: int | Sequence[int] | DNDarray, axis: int | None = None) -> DNDarray:
    """Repeat each index of an axis.

    Parameters
    ----------
    x : DNDarray
        The array.
    repeats : int, sequence of int or DNDarray
        How often: for all indices, or for each. The same on all ranks.
    axis : int, optional
        The axis. By default the elements are repeated in row-major order, as `ravel` returns them.

    Returns
    -------
    DNDarray
        The array, in new memory and split as `x`. Copies are on the rank of the index.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If the repeats are no ints.
    ValueError
        If they are negative, or there are neither one nor as many as indices.

    Communication
    -------------
    Local with an axis. Without an axis local or collective as `ravel`. A split `repeats` is gathered: one
    exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.repeat(ms.arange(3, split=0), [2, 0, 1]).tolist()
    [0, 0, 2]
    """
    x = ravel(x) if axis is None else as_dndarray(x)
    if isinstance(repeats, DNDarray):
        check_one_communicator([x, repeats])
    axis = normalise_axis(0 if axis is None else axis, x.ndim, "axis")
    times = _read_repeats(repeats, x.shape[axis])
    # All ranks know all repeats, and so the counts of all. A copy: torch warns of arrays that cannot be written.
    own = torch.from_numpy(times[x.layout.box(x.comm.rank)[axis]].copy()).to(x.device)
    counts = repeat_counts(x.layout, times) if axis == x.split else None
    layout = with_extent(x.layout, axis, int(times.sum()), counts)
    # How many come out a GPU need not be asked.
    repeated = x.larray.repeat_interleave(own, axis, output_size=layout.lshape(x.comm.rank)[axis])
    return DNDarray(repeated, layout, x.comm)


def _read_repeats(repeats: Any, extent: int) -> Offsets:
    """How often each of `extent` indices is to be repeated, as an array. Collective for a split DNDarray."""
    given = repeats.numpy() if isinstance(repeats, DNDarray) else np.asarray(repeats)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"repeats must be ints, got {short_repr(repeats)}")
    if given.ndim > 1 or given.size not in {1, extent}:
        raise ValueError(f"repeats must be one int, or {extent}, as the axis is long, got shape {given.shape}")
    if (given < 0).any():
        raise ValueError(f"repeats must not be negative, got {given.min()}")
    return np.broadcast_to(given.astype(np.int64), (extent,))
