"""The makers of min, max, argmin and argmax: NaN is the greatest and the least, and the first of equals counts."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import named
from minisplit.ops.reductions.reduce import (
    ORDERED,
    Axis,
    Dims,
    Reduce,
    check_ordered,
    documentation,
    plan_reduction,
    reduce_shard,
)

End = Literal["min", "max"]
_LOWEST = torch.iinfo(torch.int64).min
HIGHEST = torch.iinfo(torch.int64).max
# torch's min and max know no unsigned integers but bytes.
_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


_INDICES = """

Indices, int64, along the axis, or in the array as one row. The first of equals counts; NaN before all."""


class ArgReduce(Protocol):
    """A search along one axis or all, as it is called."""

    def __call__(self, x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False) -> DNDarray: ...


def extreme(end: End, what: str, shown: object) -> Reduce:
    """Make min or max."""

    def operation(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
        x, way = plan_reduction(x, axis, keepdims)
        check_ordered(x, way, end)
        comm = x._comm if way.crosses else None

        def local(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
            return _found(shard, end, dims, keepdim, comm)

        found = reduce_shard(local, comparable(x._larray), way, keepdims)
        return DNDarray._wrap(_restored(found, x.dtype), way.result, x._comm)

    return named(operation, end, documentation(end, what, shown, more="\n\nNaN wins.", errors=ORDERED))


def arg_extreme(end: End, what: str, shown: object) -> ArgReduce:
    """Make argmin or argmax."""
    name = f"arg{end}"

    def operation(x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False) -> DNDarray:
        if isinstance(axis, tuple):
            raise TypeError(f"axis of {name} must be an int or None, got {axis}")
        x, way = plan_reduction(x, axis, keepdims)
        check_ordered(x, way, name)
        shard = comparable(x._larray.detach())
        shard = shard.to(torch.uint8) if shard.dtype is torch.bool else shard
        flat = shard.flatten() if axis is None else shard.movedim(way.axes[0], -1)
        if not way.crosses:
            found = _first(flat, end)
        else:
            found = x._comm.merge(_records(flat, end, way.axes if axis is not None else None, x), "first")
            found = found[..., 1].neg()
        shape = way.result.lshape(x._comm.rank)
        return DNDarray._wrap(found.reshape(shape), way.result, x._comm)

    return named(
        operation,
        name,
        documentation(name, what, shown, more=_INDICES, errors=ORDERED, over="an axis or all (None)"),
    )


def _found(shard: torch.Tensor, end: End, dims: Dims, keepdim: bool, comm: Communication | None) -> torch.Tensor:
    """The extremes of this shard, or of the shards of all ranks. Collective with `comm`."""
    if comm is None:
        return _reduce(shard, end, dims, keepdim)
    if not (shard.requires_grad and torch.is_grad_enabled()):
        return comm.allreduce(_part(shard, end, dims, keepdim), end)
    found: torch.Tensor = _Extreme.apply(shard, end, dims, keepdim, comm)  # type: ignore[no-untyped-call]
    return found


def _reduce(shard: torch.Tensor, end: End, dims: Dims, keepdim: bool) -> torch.Tensor:
    return (torch.amax if end == "max" else torch.amin)(shard, dims, keepdim)


def _part(shard: torch.Tensor, end: End, dims: Dims, keepdim: bool) -> torch.Tensor:
    """The extremes of a shard, which may be empty: then what every number is beyond."""
    reduced = {dim % shard.ndim for dim in dims}
    if any(shard.shape[dim] == 0 for dim in reduced):
        lengths = [1 if dim in reduced else n for dim, n in enumerate(shard.shape)]
        shard = shard.new_full(lengths, _bound(shard.dtype, lowest=end == "max"))
    return _reduce(shard, end, dims, keepdim)


def _bound(dtype: torch.dtype, lowest: bool) -> Any:
    if dtype is torch.bool:
        return not lowest
    if dtype.is_floating_point:
        return -torch.inf if lowest else torch.inf
    return torch.iinfo(dtype).min if lowest else torch.iinfo(dtype).max


class _Extreme(torch.autograd.Function):
    """The extremes over all ranks; the elements that have them share the gradient evenly, as torch has it."""

    @staticmethod
    def forward(
        ctx: Any, shard: torch.Tensor, end: End, dims: Dims, keepdim: bool, comm: Communication
    ) -> torch.Tensor:
        found = comm.allreduce(_part(shard, end, dims, True), end)
        ctx.save_for_backward(shard, found)
        ctx.comm, ctx.dims = comm, dims
        return found if keepdim else found.squeeze(dims)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        shard, found = ctx.saved_tensors
        has = (shard == found) | (shard.isnan() & found.isnan())
        with ctx.comm.taken_over():
            number = ctx.comm.allreduce(has.sum(ctx.dims, keepdim=True))
        gradient = all_reduce_gradient(gradients[0], ctx.comm).reshape(found.shape) / number
        return torch.where(has, gradient, 0), None, None, None, None


def _records(flat: torch.Tensor, end: End, axes: Dims | None, x: DNDarray) -> torch.Tensor:
    """Pairs of a number that grows with how extreme the found element is, and minus its global index."""
    if flat.shape[-1] == 0:
        nothing = torch.tensor([_LOWEST, -HIGHEST], device=flat.device)
        return nothing.expand(*flat.shape[:-1], 2)
    place = _first(flat, end)
    values = flat.gather(-1, place.unsqueeze(-1)).squeeze(-1)
    keys = order_keys(values)
    keys = torch.where(values.isnan(), HIGHEST, keys if end == "max" else ~keys)
    start = x._layout.span(x._comm.rank)[0]
    index = place + start if axes is not None else global_index(place, x._layout, x._comm.rank, start)
    return torch.stack([keys, -index], -1)


def _first(flat: torch.Tensor, end: End) -> torch.Tensor:
    return (torch.argmax if end == "max" else torch.argmin)(flat, -1)


def global_index(place: torch.Tensor, layout: Layout, rank: int, start: int) -> torch.Tensor:
    """From a place in the shard as one row the place in the array as one row."""
    split = layout.split or 0
    inner = 1
    for n in layout.shape[split + 1 :]:
        inner *= n
    mine = layout.lshape(rank)[split]
    outer, within = place // (mine * inner), place % (mine * inner)
    return outer * (layout.extent * inner) + start * inner + within


def order_keys(values: torch.Tensor) -> torch.Tensor:
    """Integers in the order of the values, except NaN."""
    if not values.dtype.is_floating_point:
        return values.to(torch.int64)
    bits = (values.to(torch.float64) + 0.0).view(torch.int64)  # -0.0 + 0.0 is 0.0
    return torch.where(bits < 0, bits ^ HIGHEST, bits)


def ordinal(values: torch.Tensor) -> torch.Tensor:
    """Integers in the order of real values: one for both zeros, and one for all NaNs, which are the greatest."""
    return torch.where(values.isnan(), HIGHEST, order_keys(values))


def comparable(shard: torch.Tensor) -> torch.Tensor:
    """Numbers in the order of the shard's, of a dtype that torch can compare."""
    if shard.dtype not in _UNSIGNED:
        return shard
    return shard.view(torch.int64) ^ _LOWEST if shard.dtype is torch.uint64 else shard.to(torch.int64)


def _restored(found: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What `comparable` was given."""
    if dtype not in _UNSIGNED:
        return found
    return (found ^ _LOWEST).view(dtype) if dtype is torch.uint64 else found.to(dtype)
