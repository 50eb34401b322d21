"""Fourier transforms along a split axis, without any rank having all of it.

The six-step method is that of D. H. Bailey, "FFTs in external or hierarchical memory", J.
Supercomputing 4, 1990. An axis of n1 * n2 points is a matrix. Its columns are transformed, multiplied
by twiddle factors, and then its rows are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.fft.layouts import Kind, Stage, input_extent
from minisplit.ops.shape.layouts import extend_ends, slice_counts, with_extent
from minisplit.ops.shape.reshape import reshape_to

# torch's complex transform of a shard along some axes, with so many points each.
LocalTransform = Callable[[torch.Tensor, tuple[int, ...], tuple[int, ...]], torch.Tensor]


def transform_split_axis(
    shard: torch.Tensor, stage: Stage, kind: Kind, sign: Literal[-1, 1], local: LocalTransform, comm: Communication
) -> torch.Tensor:
    """Return this rank's shard of the transform along the split axis. `sign` is that of the exponent.

    Collective: three exchanges. No rank has more than its part. Of "half" and "real" transforms the first and last
    exchange send only the half.
    """
    axis, (n1, n2) = stage.before.split or 0, stage.factors or (1, 1)
    n = n1 * n2
    shard, layout = fit_split_axis(shard, stage.before, min(stage.before.extent, input_extent(n, kind)), n2, comm)
    if kind == "real":
        shard = shard * expand(hermitian_weights(layout.span(comm.rank), n, shard), axis, shard.ndim)
    # Index i1 * n2 + i2 is row i1 and column i2. The rows that "real" transforms do not have are zeros, with which
    # torch pads the columns.
    matrix = Layout(
        (*layout.shape[:axis], layout.extent // n2, n2, *layout.shape[axis + 1 :]), axis + 1, layout.ranks
    )
    columns = local(reshape_to(DNDarray(shard, layout, comm), matrix).larray, (axis,), (n1,))
    del shard  # and others below: each is as large as the shard, or twice as large
    columns = columns * expand(_twiddle_factors(n1, matrix.span(comm.rank), n, sign, columns), axis, columns.ndim)
    matrix = with_extent(matrix, axis, n1)
    moved = redistribute(columns, matrix, matrix.with_split(axis), comm)
    del columns
    rows = local(moved, (axis + 1,), (n2,))
    del moved
    if kind == "real":
        rows = rows.real
    # Index k of the transform is in row k % n1 and column k // n1, so the transpose has them in order. Of a "half"
    # transform, or where not all is asked for, the first columns suffice.
    needed = -(-stage.after.extent // n1)
    rows = rows.narrow(axis + 1, 0, needed).transpose(axis, axis + 1)
    transposed = Layout((*layout.shape[:axis], needed, n1, *layout.shape[axis + 1 :]), axis + 1, layout.ranks)
    # The last rank gets the surplus of the last column, and cuts it off.
    longer = extend_ends(stage.after, axis, 0, needed * n1 - stage.after.extent)
    whole = reshape_to(DNDarray(rows, transposed, comm), longer).larray
    return whole.narrow(axis, 0, stage.after.lshape(comm.rank)[axis]).contiguous()


def fit_split_axis(
    shard: torch.Tensor, layout: Layout, extent: int, multiple: int, comm: Communication
) -> tuple[torch.Tensor, Layout]:
    """Cut the split axis to an extent, and pad it on the last rank with zeros up to a multiple. Local."""
    axis = layout.split or 0
    counts = list(slice_counts(layout, 0, extent))
    shard = shard.narrow(axis, 0, counts[comm.rank])
    padding = -extent % multiple
    if padding and comm.rank == comm.size - 1:
        zeros = shard.new_zeros((*shard.shape[:axis], padding, *shard.shape[axis + 1 :]))
        shard = torch.cat([shard, zeros], axis)
    counts[-1] += padding
    return shard, with_extent(layout, axis, extent + padding, counts)


def hermitian_weights(span: tuple[int, int], n: int, like: torch.Tensor) -> torch.Tensor:
    """Return how many of the n numbers each number of the half stands for.

    The second half is the mirror image of the first, conjugated. So the transform of the whole is
    the real part of the transform of the first half if its numbers count twice, but for the
    first, and the middle one of an even n.
    """
    index = torch.arange(*span, device=like.device)
    return torch.where((index == 0) | (2 * index == n), 1, 2).to(like.real.dtype)


def _twiddle_factors(rows: int, span: tuple[int, int], n: int, sign: int, like: torch.Tensor) -> torch.Tensor:
    """Return the n-th roots of unity by which a matrix is multiplied: root `row * column` for these columns.

    The angles come from exact integers, in float64. In float32 those of a large n would be wrong by more than the
    rounding of the transform.
    """
    # A root is the product of that of a coarse column and that of a fine one: a
    # product takes less time than a root.
    start, stop = span
    fine_columns = torch.arange(math.isqrt(stop - start) + 1, device=like.device)
    coarse_columns = torch.arange(start, stop, len(fine_columns), device=like.device)
    row = torch.arange(rows, device=like.device)[:, None]
    angles = [(row * column).double() * (sign * 2 * math.pi / n) for column in (coarse_columns, fine_columns)]
    coarse, fine = (torch.polar(torch.ones_like(angle), angle).to(like.dtype) for angle in angles)
    return (coarse[:, :, None] * fine[:, None]).flatten(1)[:, : stop - start]


def expand(factor: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """Return `factor` with more axes, so that its first one is multiplied along `axis` of an array."""
    return factor.reshape(*factor.shape, *(1,) * (ndim - axis - factor.ndim))
