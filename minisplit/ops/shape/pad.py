"""`pad`: elements before and after those of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import cat, halo_exchange
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.dtypes import as_element
from minisplit.ops.shape.layouts import extend_ends
from minisplit.ops.shape.reshape import without_aliasing

Indices = NDArray[np.int64]
Source = Callable[[Indices, int], Indices]


def _mirror(index: Indices, last: int, period: int) -> Indices:
    # The axis and its mirror image alternate for ever: `index` and `last - index` have one element.
    index = index % max(period, 1)
    return np.minimum(index, last - index)


# By mode, which index of an axis of that extent has the element for an index before or after it. Indices may be
# further away than the axis is long.
SOURCES: dict[str, Source] = {
    "edge": lambda index, extent: index.clip(0, extent - 1),
    # The mirror image shares its ends with the axis. In "symmetric" the ends occur in both.
    "reflect": lambda index, extent: _mirror(index, 2 * extent - 2, 2 * extent - 2),
    "symmetric": lambda index, extent: _mirror(index, 2 * extent - 1, 2 * extent),
    "wrap": lambda index, extent: index % extent,
}


def pad(x: DNDarray, /, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> DNDarray:
    """Return `x` with elements before and after it along its axes.

    Parameters
    ----------
    x : DNDarray
        The array.
    pad_width : int or sequence of int
        How many, as in NumPy: one number, a pair (before, after) for all axes, or a pair for each.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Which elements: "constant" those of `constant_values`, "edge" the first and last one, "reflect" and
        "symmetric" those of `x` in reverse, without and with the first and last one, "wrap" those of the other
        end.
    constant_values : number or sequence of number, default 0
        The elements for mode "constant": one number, a pair (before, after) for all axes, or a pair for each.

    Returns
    -------
    DNDarray
        The larger array, in new memory and split as `x`. Along the split axis the first rank gets the elements
        before `x`, the last rank gets those after it, and the other ranks keep their counts.

    Raises
    ------
    ValueError
        For another mode, if widths do not fit or are negative, or an axis has no elements to repeat.
    TypeError
        If the widths are no ints, or a constant is not a number, or complex for a real `x`.
    OverflowError
        If a constant is not in the range of the integers of `x`.

    Communication
    -------------
    Local for constants, and along axes that are not split. Otherwise collective: one exchange of the elements that
    the first and last rank need.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.pad(ms.ones(2, split=0), (1, 2), constant_values=7).tolist()
    [7.0, 1.0, 1.0, 7.0, 7.0]
    >>> ms.pad(ms.arange(3, split=0), 2, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    if mode not in {"constant", *SOURCES}:
        raise ValueError(f"mode must be one of constant, {', '.join(SOURCES)}, got {short_repr(mode)}")
    widths = _read_widths(pad_width, as_dndarray(x).ndim)
    for axis, pair in enumerate(widths):
        if mode != "constant" and any(pair) and not x.shape[axis]:
            raise ValueError(
                f"axis {axis} of shape {x.shape} has no elements for mode {short_repr(mode)}; use 'constant'"
            )
    constants = _read_constants(constant_values, x)
    result = x
    # One axis after the other, as NumPy does it: corners repeat what was added along the axes before.
    for axis, (before, after) in enumerate(widths):
        own = before, after
        if axis == x.split:
            own = before * (x.comm.rank == 0), after * (x.comm.rank == x.comm.size - 1)
        if mode == "constant":
            # One element, expanded: torch.cat copies it in any case.
            shapes = [(*result.lshape[:axis], width, *result.lshape[axis + 1 :]) for width in own]
            ends = [value.expand(shape) for value, shape in zip(constants[axis], shapes, strict=True)]
        else:
            ends = _repeat_elements(SOURCES[mode], result, axis, (before, after))
        shard = cat([ends[0], result.larray, ends[1]], axis)
        result = DNDarray(shard, extend_ends(result.layout, axis, before, after), x.comm)
    return without_aliasing(result, x)


def _repeat_elements(source: Source, x: DNDarray, axis: int, widths: tuple[int, int]) -> list[torch.Tensor]:
    """What this rank gets before and after its shard. Collective along the split axis: see `halo_exchange`."""
    shard, extent, start, comm = x.larray, x.shape[axis], 0, x.comm
    indices = [source(np.arange(-widths[0], 0), extent), source(np.arange(extent, extent + widths[1]), extent)]
    if axis == x.split:
        # All ranks know what the first and the last one need, so that no rank has to ask.
        nothing = indices[0][:0]
        needed = [[nothing, nothing] for _ in range(comm.size)]
        needed[0][0], needed[-1][1] = indices
        spans = [_span(np.concatenate(ends)) for ends in needed]
        shard, start, indices = halo_exchange(shard, x.layout, spans, comm), spans[comm.rank][0], needed[comm.rank]
    return [shard.index_select(axis, torch.from_numpy(index - start).to(shard.device)) for index in indices]


def _span(indices: Indices) -> tuple[int, int]:
    """The least index, and the one behind the greatest."""
    return (int(indices.min()), int(indices.max()) + 1) if indices.size else (0, 0)


def _read_constants(constant_values: Any, x: DNDarray) -> list[torch.Tensor]:
    """The elements (before, after) of each axis, as a tensor of two elements."""
    try:
        pairs = np.broadcast_to(np.asarray(constant_values, dtype=object), (x.ndim, 2))
    except ValueError:
        raise ValueError(
            f"constant_values must be a number, (before, after), or {x.ndim} such pairs, got "
            f"{short_repr(constant_values)}"
        ) from None
    numbers = [[as_element(number, x.dtype, "constant_values of pad") for number in pair] for pair in pairs]
    return [torch.tensor(pair, dtype=x.dtype, device=x.device) for pair in numbers]


def _read_widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
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
