"""The maker of variances and standard deviations: one message, of counts, means and squared deviations."""

from __future__ import annotations

from functools import reduce
from math import inf, nan, prod
from typing import Any, Protocol

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import all_reduce, all_reduce_gradient
from minisplit.core.communication.protocol import Communication
from minisplit.core.communication.reduce_ops import moments
from minisplit.ops.elementwise.apply import named
from minisplit.ops.reductions.reduce import (
    INEXACT,
    Axis,
    Dims,
    accumulation_dtype,
    check_inexact,
    documentation,
    plan_reduction,
)

# Elements of a block, which is converted to float64.
BLOCK = 2**18


class Spread(Protocol):
    """A variance or standard deviation, as it is called."""

    def __call__(
        self, x: DNDarray, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False
    ) -> DNDarray: ...


_MORE = """

The squared deviations are divided by the number of elements minus `correction`: by 0 where that is negative.
Over ranks, counts, means and squared deviations are merged in float64."""


def variance(name: str, what: str, shown: object, *, is_root: bool = False) -> Spread:
    """Make the variance, or its root."""

    def operation(
        x: DNDarray, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False
    ) -> DNDarray:
        x, way = plan_reduction(x, axis, keepdims)
        check_inexact(x.dtype, name)
        if not isinstance(correction, (int, float)):
            raise TypeError(f"correction of {name} must be a number, got {type(correction).__name__}")
        shard, axes = x._larray.to(accumulation_dtype(x.dtype)), way.axes
        if not axes:
            shard, axes = shard.unsqueeze(-1), (x.ndim,)
        freedom = way.count - correction
        found = _across(shard, axes, freedom, way.count, x._comm) if way.crosses else _within(shard, axes, freedom)
        found = _root(found) if is_root else found
        kind = x.dtype.to_real() if x.dtype.is_complex else x.dtype
        return DNDarray._wrap(found.to(kind).reshape(way.result.lshape(x._comm.rank)), way.result, x._comm)

    return named(operation, name, documentation(name, what, shown, more=_MORE, errors=INEXACT))


def _within(shard: torch.Tensor, axes: Dims, freedom: float) -> torch.Tensor:
    """The variances of one shard."""
    if freedom > 0 and shard.numel():
        return torch.var(shard, axes, correction=prod(shard.shape[axis] for axis in axes) - freedom)
    # Of which torch warns.
    return (shard - shard.mean(axes, keepdim=True)).abs().square().sum(axes) / 0.0


def _across(shard: torch.Tensor, axes: Dims, freedom: float, count: int, comm: Communication) -> torch.Tensor:
    """The variances over the shards of all ranks. Collective."""
    found: torch.Tensor = _Variance.apply(shard, axes, freedom, count, comm)  # type: ignore[no-untyped-call]
    return found


def _root(variance: torch.Tensor) -> torch.Tensor:
    """The square root, with the gradient 0 of an array of equal numbers, as torch has it."""
    is_zero = variance == 0
    return torch.where(is_zero, variance, torch.where(is_zero, 1, variance).sqrt())


class _Variance(torch.autograd.Function):
    """Variances over all ranks, in float64."""

    @staticmethod
    def forward(
        ctx: Any, shard: torch.Tensor, axes: Dims, freedom: float, count: int, comm: Communication
    ) -> torch.Tensor:
        parts = torch.view_as_real(shard.resolve_conj()) if shard.is_complex() else shard
        merged = comm.merge(_records(parts, axes), "moments")
        mean, squares = merged[..., 1], merged[..., 2]
        if shard.is_complex():
            mean, squares = torch.complex(mean[..., 0], mean[..., 1]), squares.sum(-1)
        ctx.save_for_backward(shard, mean)
        ctx.of = axes, freedom, count, comm
        return squares.squeeze(axes) / max(freedom, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        shard, mean = ctx.saved_tensors
        axes, freedom, count, comm = ctx.of
        if torch.is_grad_enabled():  # for second derivatives, to which the mean belongs
            with comm.taken_over():
                mean = all_reduce_gradient(all_reduce(shard.sum(axes, keepdim=True), comm) / count, comm)
        gradient, deviations = all_reduce_gradient(gradients[0], comm).reshape(mean.shape), shard - mean
        slope = deviations * (2 / freedom) if freedom > 0 else torch.where(deviations == 0, nan, inf)
        return (gradient * slope).to(shard.dtype), None, None, None, None


def _records(parts: torch.Tensor, axes: Dims) -> torch.Tensor:
    """Count, mean and sum of squared deviations of a shard, along a new last axis, in float64."""
    room = torch.empty(min(parts.numel(), BLOCK), dtype=torch.float64, device=parts.device)
    if len(axes) == parts.ndim and parts.is_contiguous():
        return _block_by_block(parts.reshape(-1), (0,), room).reshape([1] * parts.ndim + [3])
    return _block_by_block(parts, axes, room)


def _block_by_block(parts: torch.Tensor, axes: Dims, room: torch.Tensor) -> torch.Tensor:
    """Records, from blocks that fit into a cache: float64 takes no more time there than what has to be read."""
    if parts.numel() <= BLOCK:
        return _block(parts, axes, room)
    shape = parts.shape
    results = prod(n for axis, n in enumerate(shape) if axis not in axes)
    outermost = next(axis for axis, n in enumerate(shape) if n > 1)
    if outermost in axes and results > BLOCK // 16:  # too many to merge for every few rows
        cut, pieces = max((n, axis) for axis, n in enumerate(shape) if axis not in axes)[1], 16 * results / BLOCK
    else:
        cut, pieces = outermost, parts.numel() / BLOCK
    blocks = torch.split(parts, max(1, int(shape[cut] / pieces)), cut)
    found = [_block_by_block(block, axes, room) for block in blocks]
    if cut not in axes:
        return torch.cat(found, cut)
    return torch.from_numpy(reduce(moments, [records.cpu().numpy() for records in found])).to(parts.device)


def _block(parts: torch.Tensor, axes: Dims, room: torch.Tensor) -> torch.Tensor:
    """Records of what is read at once. Counted from the first elements, so that equal numbers do not deviate."""
    if not parts.numel():
        shape = [1 if axis in axes else n for axis, n in enumerate(parts.shape)]
        return torch.zeros([*shape, 3], dtype=torch.float64)
    count = prod(parts.shape[axis] for axis in axes)
    first = parts[tuple(slice(1 if axis in axes else None) for axis in range(parts.ndim))].to(torch.float64)
    apart = room[: parts.numel()].view(parts.shape).copy_(parts).sub_(first)
    mean = apart.sum(axes, keepdim=True) / count
    squares = apart.sub_(mean).square_().sum(axes, keepdim=True)
    return torch.stack([torch.full_like(mean, count), mean.add_(first), squares], -1)
