"""The Fourier transform along a split axis of which every rank keeps a part.

The six-step method (D. H. Bailey, "FFTs in external or hierarchical memory", J. Supercomputing 4, 1990): an
axis of n1 * n2 numbers as a matrix, of which first columns, then rows are transformed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.fft.layouts import Kind, Stage, inputs, outputs
from minisplit.ops.shape.layouts import with_extent
from minisplit.ops.shape.reshape import reshape_to

# torch's transform of complex numbers along some axes of a shard, with so many points each.
Local = Callable[[torch.Tensor, tuple[int, ...], tuple[int, ...]], torch.Tensor]


def along(
    shard: torch.Tensor, stage: Stage, kind: Kind, turn: Literal[-1, 1], local: Local, comm: Communication
) -> torch.Tensor:
    """This rank's part of the transform along the split axis. Collective: three exchanges.

    No rank has more than its part. Of "half" and "real" transforms only the half travels in the first and last
    exchange. turn: the sign in the exponent.
    """
    axis, (n1, n2) = stage.have.split or 0, stage.factors or (1, 1)
    n = n1 * n2
    shard, layout = _fitted(shard, stage.have, min(stage.have.extent, inputs(n, kind)), n2, comm)
    if kind == "real":
        shard = shard * _shaped(_weights(layout.span(comm.rank), n, shard), axis, shard.ndim)
    rows = layout.extent // n2
    matrix = Layout((*layout.shape[:axis], rows, n2, *layout.shape[axis + 1 :]), axis + 1, layout.ranks)
    columns = local(reshape_to(DNDarray(shard, layout, comm), matrix).larray, (axis,), (n1,))
    columns = columns * _shaped(_twiddles(n1, matrix.span(comm.rank), n, turn, columns), axis, columns.ndim)
    matrix = with_extent(matrix, axis, n1)
    by_row = matrix.with_split(axis)
    found = local(redistribute(columns, matrix, by_row, comm), (axis + 1,), (n2,))
    if kind == "real":
        found = found.real
    needed = -(-outputs(n, kind) // n1)
    found = found.narrow(axis + 1, 0, needed).transpose(axis, axis + 1)
    turned = Layout((*layout.shape[:axis], needed, n1, *layout.shape[axis + 1 :]), axis + 1, layout.ranks)
    result = stage.result
    *others, final = result.counts or ()
    surplus = needed * n1 - result.extent
    longer = with_extent(result, axis, needed * n1, (*others, final + surplus))
    whole = reshape_to(DNDarray(found, turned, comm), longer).larray
    return whole.narrow(axis, 0, result.lshape(comm.rank)[axis]).contiguous()


def _fitted(
    shard: torch.Tensor, layout: Layout, kept: int, multiple: int, comm: Communication
) -> tuple[torch.Tensor, Layout]:
    """The first `kept` indices of the split axis, and zeros after them up to a multiple, on the last rank."""
    axis = layout.split or 0
    counts = np.diff(layout.offsets().clip(max=kept)).tolist()
    shard = shard.narrow(axis, 0, counts[comm.rank])
    more = -kept % multiple
    if more and comm.rank == comm.size - 1:
        shard = torch.cat([shard, shard.new_zeros((*shard.shape[:axis], more, *shard.shape[axis + 1 :]))], axis)
    counts[-1] += more
    return shard, with_extent(layout, axis, kept + more, counts)


def _weights(span: tuple[int, int], n: int, like: torch.Tensor) -> torch.Tensor:
    """How many numbers of the whole each one of the half stands for; the real part of their transform is right."""
    index = torch.arange(*span, device=like.device)
    return torch.where((index == 0) | (2 * index == n), 1, 2).to(like.real.dtype)


def _twiddles(rows: int, span: tuple[int, int], n: int, turn: int, like: torch.Tensor) -> torch.Tensor:
    """The roots of unity between the two transforms: root `row * column` of n, for all rows and these columns.

    As products of few, of every so many columns and of those between, since a product takes less time than a root.
    """
    start, stop = span
    between = torch.arange(math.isqrt(stop - start) + 1, device=like.device)
    some = torch.arange(start, stop, len(between), device=like.device)
    row = torch.arange(rows, device=like.device)[:, None]
    angles = [(row * column).double() * (turn * 2 * math.pi / n) for column in (some, between)]
    coarse, fine = (torch.polar(torch.ones_like(angle), angle).to(like.dtype) for angle in angles)
    return (coarse[:, :, None] * fine[:, None]).flatten(1)[:, : stop - start]


def _shaped(factor: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """`factor`, of which the first axis stands at `axis`, to be multiplied with an array of `ndim` dimensions."""
    return factor.reshape(*factor.shape, *(1,) * (ndim - axis - factor.ndim))
