"""The extremes of arrays and their indices. NaN is both the greatest and the least; the first of equals counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Collective, Gradients, Tensors, all_reduce, all_reduce_gradient, apply
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.reductions.reduce import (
    Axis,
    Dims,
    Local,
    check_ordered,
    plan_reduction,
    reduce_shard,
    with_axes,
)

End = Literal["min", "max"]
_EXTREMES: dict[End, Local] = {"min": torch.amin, "max": torch.amax}
_LOWEST = torch.iinfo(torch.int64).min
HIGHEST = torch.iinfo(torch.int64).max
# torch's min and max know no unsigned integers but bytes.
_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


def extreme(end: End, x: DNDarray, axis: Axis, keepdims: bool) -> DNDarray:
    """Return the least or the greatest elements along axes."""
    x, reduced = plan_reduction(x, axis, keepdims)
    check_ordered(x, reduced, end)
    if reduced.crosses or is_followed(x._larray):
        shard, axes = with_axes(comparable(x._larray), reduced)
        values = apply(_Extreme(x._comm, end, axes, reduced.crosses), shard)[0]
        values = values.reshape(reduced.result.lshape(x._comm.rank))
    else:
        values = reduce_shard(_EXTREMES[end], comparable(x._larray), reduced, keepdims)
    return DNDarray._wrap(_restore(values, x.dtype), reduced.result, x._comm)


@dataclass(frozen=True, slots=True)
class _Extreme(Collective):
    """The extremes of the shards of all ranks, or of this rank's alone, with reduced axes of extent 1.

    The backward pass of the former is collective: one allreduce of counts.
    """

    comm: Communication
    end: End
    dims: Dims
    crosses: bool

    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        (shard,) = tensors
        if any(shard.shape[dim] == 0 for dim in self.dims):
            # A rank without elements gives the bound of the dtype, which no element of another rank is beyond.
            lengths = [1 if dim in self.dims else n for dim, n in enumerate(shard.shape)]
            shard = shard.new_full(lengths, _bound(shard.dtype, is_lowest=self.end == "max"))
        values = _EXTREMES[self.end](shard, self.dims, True)
        return [self.comm.allreduce(values, self.end) if self.crosses else values]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        (gradient,) = gradients
        if self.crosses:
            gradient = all_reduce_gradient(gradient, self.comm)
        has_extreme, count = self._holders(kept)
        return [torch.where(has_extreme, gradient / count, 0)]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        has_extreme, count = self._holders(kept)
        total = torch.where(has_extreme, tangents[0], 0).sum(self.dims, keepdim=True)
        return [(all_reduce(total, self.comm) if self.crosses else total) / count]

    def _holders(self, kept: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Which elements have the extreme, and how many of all ranks do."""
        shard, values = kept
        # The elements that have the extreme share its gradient evenly, as in torch.max. NaN does not equal itself,
        # but is the extreme where there is one: by == alone, no element would get the gradient. torch.amax gives
        # NaN to all elements there, which is why it is not left to torch on one rank, either.
        has_extreme = (shard == values) | (shard.isnan() & values.isnan())
        count = has_extreme.sum(self.dims, keepdim=True)
        return has_extreme, all_reduce(count, self.comm) if self.crosses else count


def arg_extreme(end: End, x: DNDarray, axis: int | None, keepdims: bool) -> DNDarray:
    """Return the indices of the least or the greatest elements along an axis, or in the flattened array."""
    name = f"arg{end}"
    if isinstance(axis, tuple):
        raise TypeError(f"axis of {name} must be an int or None, got {short_repr(axis)}")
    x, reduced = plan_reduction(x, axis, keepdims)
    check_ordered(x, reduced, name)
    shard = comparable(x._larray.detach())
    # torch has no argmax of bools.
    shard = shard.to(torch.uint8) if shard.dtype is torch.bool else shard
    rows = shard.flatten() if axis is None else shard.movedim(reduced.axes[0], -1)
    if reduced.crosses:
        indices = x._comm.merge(_records(rows, end, x, is_flat=axis is None), "first")[..., 1].neg()
    else:
        indices = _first(rows, end)
    return DNDarray._wrap(indices.reshape(reduced.result.lshape(x._comm.rank)), reduced.result, x._comm)


def _records(rows: torch.Tensor, end: End, x: DNDarray, is_flat: bool) -> torch.Tensor:
    """Return a pair for the extreme of each row: a number that grows with how extreme it is, and minus its index.

    The rank with the lexicographically greatest pair has the result: the most extreme element, and the first of
    equals. `is_flat` says whether the shard is one row; then the index is that of the flattened array.
    """
    if rows.shape[-1] == 0:
        # A rank without elements loses to every other pair.
        return torch.tensor([_LOWEST, -HIGHEST], device=rows.device).expand(*rows.shape[:-1], 2)
    place = _first(rows, end)
    values = rows.gather(-1, place.unsqueeze(-1)).squeeze(-1)
    keys = order_keys(values)
    keys = torch.where(values.isnan(), HIGHEST, keys if end == "max" else ~keys)
    start = x._layout.span(x._comm.rank)[0]
    index = global_index(place, x._layout, x._comm.rank, start) if is_flat else place + start
    return torch.stack([keys, -index], -1)


def _first(rows: torch.Tensor, end: End) -> torch.Tensor:
    """Return the index of the first extreme of each row."""
    return (torch.argmax if end == "max" else torch.argmin)(rows, -1)


def global_index(place: torch.Tensor, layout: Layout, rank: int, start: int) -> torch.Tensor:
    """Convert indices into the flattened shard, which begins at `start`, to indices into the flattened array."""
    split = layout.split or 0
    inner = prod(layout.shape[split + 1 :])
    count = layout.lshape(rank)[split]
    outer, within = place // (count * inner), place % (count * inner)
    return outer * (layout.extent * inner) + start * inner + within


def order_keys(values: torch.Tensor) -> torch.Tensor:
    """Return int64s in the order of the values. NaN has no place in it."""
    if not values.dtype.is_floating_point:
        return values.to(torch.int64)
    # The bits of positive floats are integers in their order. Those of negative ones are in the reverse order, and
    # are flipped but for the sign. -0.0 + 0.0 is 0.0: zeros of both signs must have one key, or else argmax of
    # [-0.0, 0.0] would be 1, where it is 0 in NumPy.
    bits = (values.to(torch.float64) + 0.0).view(torch.int64)
    return torch.where(bits < 0, bits ^ HIGHEST, bits)


def ordinal(values: torch.Tensor) -> torch.Tensor:
    """Return int64s in the order of real values: one for both zeros, and the greatest for all NaNs."""
    return torch.where(values.isnan(), HIGHEST, order_keys(values))


def comparable(shard: torch.Tensor) -> torch.Tensor:
    """Return numbers in the order of the shard's, of a dtype that torch can compare."""
    if shard.dtype not in _UNSIGNED:
        return shard
    # Flipping the first bit maps 0 to the least int64, and the greatest uint64 to the greatest.
    return shard.view(torch.int64) ^ _LOWEST if shard.dtype is torch.uint64 else shard.to(torch.int64)


def _restore(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Undo `comparable`."""
    if dtype not in _UNSIGNED:
        return values
    return (values ^ _LOWEST).view(dtype) if dtype is torch.uint64 else values.to(dtype)


def _bound(dtype: torch.dtype, is_lowest: bool) -> Any:
    """Return the lowest or the highest number of a dtype."""
    if dtype is torch.bool:
        return not is_lowest
    if dtype.is_floating_point:
        return -torch.inf if is_lowest else torch.inf
    return torch.iinfo(dtype).min if is_lowest else torch.iinfo(dtype).max
