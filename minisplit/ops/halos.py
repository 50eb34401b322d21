"""Shards with the elements around them, which other ranks have: `halo`, and functions of arrays by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_to_all, cat
from minisplit.core.communication.agreement import agreement
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_count, normalise_axes
from minisplit.core.pytorch.dtypes import as_element
from minisplit.ops.shape.layouts import slice_counts, with_extent
from minisplit.ops.shape.pad import SOURCES

Mode = Literal["valid", "constant", "edge", "reflect", "symmetric", "wrap"]
# Of a ghost cell beyond the ends that has a constant, and of none: no rank has such an index.
_CONSTANT, _NONE = -1, -2


def halo(
    x: DNDarray, /, width: Any, axis: Any = None, *, mode: Mode = "valid", constant_values: complex = 0
) -> torch.Tensor:
    """Return this rank's shard with its halo: the elements around it, which other ranks have (ghost cells).

    Parameters
    ----------
    x : DNDarray
        The array. Any split and counts.
    width : int or sequence of int
        How many indices before and after the shard: one number, a pair (before, after) for all axes, or a pair for
        each. It may be greater than the shards of neighbours.
    axis : int or tuple of int, optional
        The axes. By default all of them.
    mode : {"valid", "constant", "edge", "reflect", "symmetric", "wrap"}, default "valid"
        What lies beyond the ends of the array. "valid": nothing, so halos end there. The other modes are those of
        `minisplit.pad`; "wrap" makes an axis periodic.
    constant_values : number, default 0
        The elements for mode "constant".

    Returns
    -------
    torch.Tensor
        A tensor of this rank, in new memory. Gradients flow back to the ranks that have the elements.

    Raises
    ------
    IndexError
        If an axis is out of range.
    TypeError
        If `x` is not a DNDarray, a width is not an int, or the constant is not a number, or complex for a real
        `x`.
    ValueError
        If widths do not fit or are negative, for another mode, or if an axis has no elements to repeat.

    Communication
    -------------
    Local along axes that are not split. Along the split axis collective: one exchange of the halos.

    See Also
    --------
    map_halo : An array that a function of these tensors makes.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> rows = ms.halo(x, 1, mode="wrap")
    >>> rows.shape[0] == x.lshape[0] + 2
    True
    """
    widths = _widths(as_dndarray(x), width, axis)
    return _extend(x, widths, _checked_mode(x, widths, mode), constant_values, is_map=False)


def map_halo(
    f: Callable[[torch.Tensor], torch.Tensor],
    x: DNDarray,
    /,
    width: Any,
    axis: Any = None,
    *,
    mode: Mode = "valid",
    constant_values: complex = 0,
) -> DNDarray:
    """Call a function with each rank's shard and its halo, and return its results as an array: a stencil.

    Parameters
    ----------
    f : callable
        A function of a tensor. Its result has `before + after` fewer indices along `axis` than the tensor, as that
        of `lambda u: u[2:] - u[:-2]`. An element of the result must depend only on the elements around it, and the
        function must not communicate.
    x : DNDarray
        The array. Any split and counts.
    width : int or sequence of int
        How many indices before and after an element the function needs: one number, a pair (before, after) for
        all axes, or a pair for each. It may be greater than the shards of neighbours.
    axis : int or tuple of int, optional
        The axes. By default all of them.
    mode : {"valid", "constant", "edge", "reflect", "symmetric", "wrap"}, default "valid"
        What lies beyond the ends of the array. "valid": nothing, so the result is shorter by `before` and `after`.
        The other modes are those of `minisplit.pad`; "wrap" makes an axis periodic.
    constant_values : number, default 0
        The elements for mode "constant".

    Returns
    -------
    DNDarray
        The array, with the dtype that `f` returns, in the layout of `x`. In mode "valid" the first `before` and
        the last `after` indices of the whole array are missing.

    Raises
    ------
    IndexError
        If an axis is out of range.
    TypeError
        If `x` is not a DNDarray, a width is not an int, the constant is not a number, or `f` returns no tensor.
    ValueError
        If widths do not fit or are negative, for another mode, if an axis has no elements to repeat or too few for
        mode "valid", or if `f` returns another shape. What `f` raises on one rank is raised on all.

    Communication
    -------------
    Collective, for split arrays: one exchange of the halos if the split axis is among `axis`, and an agreement on
    the errors of `f`. Local for replicated ones.

    Notes
    -----
    If a rank has no index of the result, it calls `f` with the halos of another rank's index, and drops what `f`
    returns. So backward passes call the same collectives on all ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> u = ms.array([0.0, 0.0, 4.0, 0.0], split=0)
    >>> for _ in range(2):  # the heat equation on a ring
    ...     u = u + ms.map_halo(lambda u: u[2:] - 2 * u[1:-1] + u[:-2], u, 1, mode="wrap") / 4
    >>> u.tolist()
    [0.5, 1.0, 1.5, 1.0]
    """
    widths = _widths(as_dndarray(x), width, axis)
    mode = _checked_mode(x, widths, mode)
    layout = _valid_layout(x.layout, widths) if mode == "valid" else x.layout
    rows = _extend(x, widths, mode, constant_values, is_map=True)
    lost = [before + after for before, after in widths]
    needed = tuple(n - less for n, less in zip(rows.shape, lost, strict=True))

    def apply() -> torch.Tensor:
        result = f(rows)
        if not isinstance(result, torch.Tensor):
            raise TypeError(f"f must return a tensor, got {type(result).__name__}")
        if result.shape != needed:
            raise ValueError(
                f"f must return {lost} indices less along each axis than it gets: of shape {tuple(rows.shape)} "
                f"{needed}, got {tuple(result.shape)}"
            )
        return result

    if x.split is None:
        result = apply()
    else:
        with agreement(x.comm, "calling the function of map_halo"):
            result = apply()
    own = layout.lshape(x.comm.rank)
    # Ranks without an index have computed one.
    return DNDarray(reduce(lambda t, axis: t.narrow(axis, 0, own[axis]), range(x.ndim), result), layout, x.comm)


def sliding_window_view(x: DNDarray, /, window_shape: int | tuple[int, ...], axis: Any = None) -> DNDarray:
    """Return all windows of a given shape into an array. It is `numpy.lib.stride_tricks.sliding_window_view`.

    Parameters
    ----------
    x : DNDarray
        The array.
    window_shape : int or tuple of int
        The extent of a window along each axis of `axis`.
    axis : int or tuple of int, optional
        The axes along which windows slide. By default all of them.

    Returns
    -------
    DNDarray
        The windows. The axes of `x`, where the windows begin, come first, and the axes of the windows follow. An
        index of the split axis is on the rank that has it in `x`. The result takes as many times the memory of `x`
        as a window has elements.

    Raises
    ------
    IndexError
        If an axis is out of range.
    TypeError
        If `x` is not a DNDarray, or an extent is not an int.
    ValueError
        If there is not one extent for each axis, or a window is larger than the array, or empty.

    Communication
    -------------
    Local along axes that are not split. Along the split axis collective: one exchange, in which each rank gets the
    indices after its own.

    See Also
    --------
    map_halo : Compute with neighbours without storing the windows.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.sliding_window_view(ms.arange(4, split=0), 3).tolist()
    [[0, 1, 2], [1, 2, 3]]
    """
    axes = tuple(range(as_dndarray(x).ndim)) if axis is None else normalise_axes(axis, x.ndim)
    given = window_shape if isinstance(window_shape, tuple) else (window_shape,)
    window = [as_count(n, "every extent of window_shape") for n in given]
    if len(window) != len(axes):
        raise ValueError(f"window_shape must have an extent for each of {len(axes)} axes, got {window_shape}")
    if any(not 0 < n <= x.shape[each] for n, each in zip(window, axes, strict=True)):
        raise ValueError(f"windows of shape {window_shape} are empty, or do not fit into axes {axes} of {x.shape}")
    lengths = dict(zip(axes, window, strict=True))
    widths = [(0, lengths.get(each, 1) - 1) for each in range(x.ndim)]
    begins, rank = _valid_layout(x.layout, widths), x.comm.rank
    rows = _extend(x, widths, "valid", 0, is_map=True)
    for each, length in lengths.items():
        rows = rows.unfold(each, length, 1)
    if begins.split is not None:
        rows = rows.narrow(begins.split, 0, begins.lshape(rank)[begins.split])
    layout = Layout((*begins.shape, *window), begins.split, begins.ranks, begins.ragged)
    # With memory of its own, also where no window overlaps another one.
    return DNDarray(rows.clone(memory_format=torch.contiguous_format), layout, x.comm)


def _widths(x: DNDarray, width: Any, axis: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis of `x`, (0, 0) for those that are not in `axis`."""
    axes = tuple(range(x.ndim)) if axis is None else normalise_axes(axis, x.ndim)
    given = np.asarray(width)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"width must be ints, got {short_repr(width)}")
    if given.shape not in {(), (2,), (len(axes), 2)} or (given < 0).any():
        raise ValueError(
            f"width must be an int, (before, after), or {len(axes)} such pairs, none negative, got "
            f"{short_repr(width)}"
        )
    pairs = dict(zip(axes, np.broadcast_to(given, (len(axes), 2)).tolist(), strict=True))
    return [tuple(pairs.get(each, (0, 0))) for each in range(x.ndim)]


def _checked_mode(x: DNDarray, widths: list[tuple[int, int]], mode: Mode) -> Mode:
    if mode not in {"valid", "constant", *SOURCES}:
        raise ValueError(f"mode must be one of valid, constant, {', '.join(SOURCES)}, got {short_repr(mode)}")
    for axis, pair in enumerate(widths):
        if mode in SOURCES and any(pair) and not x.shape[axis]:
            raise ValueError(
                f"axis {axis} of shape {x.shape} has no elements for mode {short_repr(mode)}; use 'constant'"
            )
    return mode


def _valid_layout(layout: Layout, widths: list[tuple[int, int]]) -> Layout:
    """The layout of `layout` without the first and last indices of each axis. Those between stay on their rank."""
    whole = layout
    for axis, (before, after) in enumerate(widths):
        extent = layout.shape[axis] - before - after
        if extent < 0:
            raise ValueError(
                f"in mode 'valid' an axis needs {before} + {after} indices or more, but axis {axis} of "
                f"{whole.shape} has {whole.shape[axis]}"
            )
        counts = slice_counts(layout, before, extent) if axis == layout.split else None
        layout = with_extent(layout, axis, extent, counts)
    return layout


def _extend(
    x: DNDarray, widths: list[tuple[int, int]], mode: Mode, constant_values: complex, is_map: bool
) -> torch.Tensor:
    """This rank's shard with its halos along all axes. Collective if there is one along the split axis.

    With `is_map` there is an index of the result for each rank, and a halo around it.
    """
    constant = torch.tensor(
        as_element(constant_values, x.dtype, "constant_values"), dtype=x.dtype, device=x.device
    )
    rows = x.larray
    # Along the split axis first: then the messages have no halos of other axes.
    for axis in sorted(range(x.ndim), key=lambda axis: axis != x.split):
        before, after = widths[axis]
        if axis == x.split and (before or after or is_map):
            plan = _plan_halo(x.layout, x.comm.rank, before, after, mode, is_map)
            purpose = "halos of", x.layout, before, after, mode
            taken = rows.index_select(axis, torch.from_numpy(plan.sent).to(x.device))
            if not plan.is_local:
                taken = all_to_all(taken, plan.send_counts, plan.recv_counts, axis, x.comm, purpose)
        elif before or after:
            plan = _plan_halo(Layout((x.shape[axis],), 0, 1), 0, before, after, mode, is_map=False)
            taken = rows.index_select(axis, torch.from_numpy(plan.sent).to(x.device))
        else:
            continue
        shape = [*rows.shape[:axis], 1, *rows.shape[axis + 1 :]]
        taken = cat([taken, constant.expand(shape)], axis)
        ghosts = taken.index_select(axis, torch.from_numpy(plan.places).to(x.device))
        ends = (
            ghosts.narrow(axis, 0, plan.before),
            ghosts.narrow(axis, plan.before, len(plan.places) - plan.before),
        )
        rows = cat([ends[0], rows.narrow(axis, *plan.kept), ends[1]], axis)
    # A width of 0 is a halo too, in memory of its own.
    return rows.clone() if rows is x.larray else rows


@dataclass(frozen=True, slots=True, eq=False)
class _HaloPlan:
    """What a rank sends of its shard for halos, and how its own is made of what comes and a constant behind that.

    Attributes
    ----------
    sent : numpy.ndarray of int64
        Indices of the shard: those for rank 0, then those for rank 1 and so on.
    send_counts, recv_counts : list of int
        How many indices go to and come from each rank.
    places : numpy.ndarray of int64
        Where among what comes the indices before the shard are, then those after it. The constant is last.
    before : int
        How many indices come before the shard.
    kept : tuple of int
        Of the shard, which index is the first between them, and how many there are.
    is_local : bool
        Whether each rank has all that it needs.
    """

    sent: Any
    send_counts: list[int]
    recv_counts: list[int]
    places: Any
    before: int
    kept: tuple[int, int]
    is_local: bool


# Key: layouts and widths, of which the loop of a program has few. An entry has the indices of this rank's halos.
@lru_cache(maxsize=256)
def _plan_halo(layout: Layout, rank: int, before: int, after: int, mode: Mode, is_map: bool) -> _HaloPlan:
    extent, bounds = layout.extent, layout.offsets()
    low, high = bounds[:-1], bounds[1:]
    last = extent - 1
    if is_map and mode == "valid":
        # The indices that have all neighbours.
        low, high = low.clip(before, max(extent - after, before)), high.clip(before, max(extent - after, before))
        last -= after
    is_empty = low == high
    kept = int(low[rank] - bounds[rank]) * int(not is_empty[rank]), int(high[rank] - low[rank])
    if is_map:
        # Ranks that have none take the next one, or the last.
        low, high = (np.where(is_empty, end.clip(max=last), end) for end in (low, high))
    # A row for each rank, with one index more for those ranks.
    index = np.concatenate(
        [low[:, None] + np.arange(-before, 0), high[:, None] + np.arange(after + is_map)], axis=1
    )
    is_inside = (index >= 0) & (index < extent)
    source = SOURCES[mode](index, extent) if mode in SOURCES and extent else index
    owner = np.searchsorted(bounds, source, side="right") - 1
    if mode not in SOURCES or not extent:
        owner[~is_inside] = _NONE if mode == "valid" and not is_map else _CONSTANT
    if is_map:
        owner[~is_empty, -1] = _NONE
    is_mine, own = owner == rank, owner[rank]
    own_before = int((own[:before] != _NONE).sum())
    own = own[own != _NONE]
    came = np.flatnonzero(own >= 0)
    places = np.full(len(own), len(came))
    # What comes is in order of the ranks.
    places[came[np.argsort(own[came], kind="stable")]] = np.arange(len(came))
    return _HaloPlan(
        source[is_mine] - bounds[rank],
        is_mine.sum(1).tolist(),
        np.bincount(own[came], minlength=layout.ranks).tolist(),
        places,
        own_before,
        kept,
        bool(((owner < 0) | (owner == np.arange(layout.ranks)[:, None])).all()),
    )
