"""Variances and standard deviations: one message, of counts, means and sums of squared deviations.

The sums of two parts are merged as in Chan, Golub, LeVeque: Algorithms for computing the sample variance, The
American Statistician 37 (1983). A sum of squares minus the square of a sum would have no digit left far from zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, prod
from typing import Literal

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import Collective, Gradients, Tensors, all_reduce, all_reduce_gradient, apply
from minisplit.core.communication.protocol import Communication
from minisplit.core.communication.reduce_ops import fold
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.reductions.reduce import (
    Axis,
    Dims,
    accumulation_dtype,
    plan_reduction,
    with_axes,
    with_fractions,
)

# Elements of a block that is converted to float64: 2 MiB, which fit into a cache. With the whole shard converted
# at once `a.var()` of benchmarks/rows.py took 6 times as long as torch's (docs/performance.md).
BLOCK = 2**18


def variance(name: Literal["var", "std"], x: DNDarray, axis: Axis, correction: float, keepdims: bool) -> DNDarray:
    """Return the variances along axes, or their roots."""
    x, reduced = plan_reduction(x, axis, keepdims)
    if not isinstance(correction, (int, float)):
        raise TypeError(f"correction of {name} must be a number, got {type(correction).__name__}")
    dtype = with_fractions(x.dtype)
    shard, axes = with_axes(x._larray.to(accumulation_dtype(dtype)), reduced)
    freedom = reduced.count - correction
    if reduced.crosses:
        result = apply(_Variance(x._comm, axes, freedom, reduced.count), shard)[0]
    elif freedom > 0 and shard.numel():
        result = torch.var(shard, axes, correction=correction)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of a divisor of 0
            result = torch.var(shard, axes, correction=correction)
    if name == "std":
        result = _sqrt(result)
    dtype = dtype.to_real() if dtype.is_complex else dtype
    return DNDarray._wrap(result.to(dtype).reshape(reduced.result.lshape(x._comm.rank)), reduced.result, x._comm)


def merge_ddof(correction: float, ddof: float | None) -> float:
    """Return the correction of the divisor, by whichever name it was given. ValueError for both."""
    if ddof is None:
        return correction
    if correction != 0:
        raise ValueError(f"give correction or ddof, which are one thing, got {correction} and {short_repr(ddof)}")
    return ddof


def _sqrt(variance: torch.Tensor) -> torch.Tensor:
    """Return the square root, whose gradient at 0 is 0, as that of torch.std for equal numbers."""
    # That of torch.sqrt would be infinite. The inner `where` keeps it out of the product 0 * inf, which is NaN.
    is_zero = variance == 0
    return torch.where(is_zero, variance, torch.where(is_zero, 1, variance).sqrt())


@dataclass(frozen=True, slots=True)
class _Variance(Collective):
    """The variances of the shards of all ranks, and the means, which only the backward pass uses. In float64."""

    comm: Communication
    axes: Dims
    freedom: float
    count: int

    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        (shard,) = tensors
        # A complex number deviates in two parts, whose squared deviations add up.
        parts = torch.view_as_real(shard.resolve_conj()) if shard.is_complex() else shard
        merged = self.comm.merge(_records(parts, self.axes), "moments")
        mean, squares = merged[..., 1], merged[..., 2]
        if shard.is_complex():
            mean, squares = torch.complex(mean[..., 0], mean[..., 1]), squares.sum(-1)
        return [squares.squeeze(self.axes) / max(self.freedom, 0.0), mean]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        slope, mean = self._slope(kept)
        gradient = all_reduce_gradient(gradients[0], self.comm).reshape(mean.shape)
        return [(gradient * slope).to(slope.dtype)]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        (tangent,), (slope, _) = tangents, self._slope(kept)
        product = (slope.conj() * tangent).real if slope.is_complex() else slope * tangent
        mean = all_reduce(tangent.sum(self.axes, keepdim=True), self.comm) / self.count
        return [all_reduce(product.sum(self.axes), self.comm), mean]

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return [True, True]

    def _slope(self, kept: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """The derivative of the variance by each element, and the mean."""
        shard, _, mean = kept
        if is_followed(shard):
            # For second derivatives, which the mean has a part in: so it is computed once more, with its gradient.
            mean = all_reduce(shard.sum(self.axes, keepdim=True), self.comm) / self.count
            mean = all_reduce_gradient(mean, self.comm)
        deviations = shard - mean
        slope = deviations * (2 / self.freedom) if self.freedom > 0 else torch.where(deviations == 0, nan, inf)
        return slope.to(shard.dtype), mean


def _records(parts: torch.Tensor, axes: Dims) -> torch.Tensor:
    """Return count, mean and sum of squared deviations of a shard, along a new last axis, in float64."""
    # One buffer for all blocks: page faults of fresh ones took half of the time (docs/performance.md).
    buffer = torch.empty(min(parts.numel(), BLOCK), dtype=torch.float64, device=parts.device)
    if len(axes) == parts.ndim and parts.is_contiguous():
        return _records_of_blocks(parts.reshape(-1), (0,), buffer).reshape([1] * parts.ndim + [3])
    return _records_of_blocks(parts, axes, buffer)


def _records_of_blocks(parts: torch.Tensor, axes: Dims, buffer: torch.Tensor) -> torch.Tensor:
    """Return the records of a shard, which is read block by block."""
    if parts.numel() <= BLOCK:
        return _records_of_block(parts, axes, buffer)
    shape = parts.shape
    results = prod(n for axis, n in enumerate(shape) if axis not in axes)
    outermost = next(axis for axis, n in enumerate(shape) if n > 1)
    if outermost in axes and results > BLOCK // 16:
        # Blocks of whole rows would be few rows each, and every block has as many records to merge as there are
        # results. Blocks of columns need no merge.
        cut, pieces = max((n, axis) for axis, n in enumerate(shape) if axis not in axes)[1], 16 * results / BLOCK
    else:
        cut, pieces = outermost, parts.numel() / BLOCK
    blocks = torch.split(parts, max(1, int(shape[cut] / pieces)), cut)
    records = [_records_of_blocks(block, axes, buffer) for block in blocks]
    if cut not in axes:
        return torch.cat(records, cut)
    return fold(records, "moments")


def _records_of_block(parts: torch.Tensor, axes: Dims, buffer: torch.Tensor) -> torch.Tensor:
    """Return the records of a block that is read at once."""
    if not parts.numel():
        shape = [1 if axis in axes else n for axis, n in enumerate(parts.shape)]
        return torch.zeros([*shape, 3], dtype=torch.float64, device=parts.device)
    count = prod(parts.shape[axis] for axis in axes)
    # Deviations from the first elements: those of equal numbers are exactly 0, and small ones lose no digits.
    first = parts[tuple(slice(1 if axis in axes else None) for axis in range(parts.ndim))].to(torch.float64)
    deviations = buffer[: parts.numel()].view(parts.shape).copy_(parts).sub_(first)
    mean = deviations.sum(axes, keepdim=True) / count
    squares = deviations.sub_(mean).square_().sum(axes, keepdim=True)
    return torch.stack([torch.full_like(mean, count), mean.add_(first), squares], -1)
