"""Fourier transforms along a split axis if its number of points has no factors for the six-step method.

The chirp-z method of L. I. Bluestein, "A linear filtering approach to the computation of discrete Fourier
transform", IEEE Trans. Audio Electroacoustics 18, 1970. With j * k = (j^2 + k^2 - (k - j)^2) / 2 a transform is a
convolution of the numbers by a chirp, which is made by three transforms of a number of points that has factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.fft.layouts import Kind, Stage, input_extent
from minisplit.ops.fft.six_step import (
    LocalTransform,
    expand,
    fit_split_axis,
    hermitian_weights,
    transform_split_axis,
)
from minisplit.ops.shape.layouts import with_extent


def transform_by_convolution(
    shard: torch.Tensor,
    stage: Stage,
    points: int,
    kind: Kind,
    sign: Literal[-1, 1],
    local: tuple[LocalTransform, LocalTransform],
    comm: Communication,
) -> torch.Tensor:
    """Return this rank's shard of the transform along the split axis, without a factor. `sign` is of the exponent.

    `local` are torch's transforms of sign -1 and 1, of which the latter divides. Collective: nine exchanges.
    """
    axis, (n1, n2) = stage.before.split or 0, stage.factors or (1, 1)
    taken, given, length = min(stage.before.extent, input_extent(points, kind)), stage.after.extent, n1 * n2
    shard, layout = fit_split_axis(shard, stage.before, taken, 1, comm)
    if kind == "real":
        shard = shard * expand(hermitian_weights(layout.span(comm.rank), points, shard), axis, shard.ndim)
    chirp = partial(_chirp, points=points, sign=sign, dtype=shard.dtype.to_complex(), device=shard.device)
    whole, line = with_extent(layout, axis, length), Layout((length,), 0, comm.size)
    forward = partial(transform_split_axis, kind="complex", sign=-1, local=local[0], comm=comm)
    # No name holds what is passed on: each is as large as the padded array.
    spectrum = forward(
        _filter(line.span(comm.rank), length, given, taken, chirp), replace(stage, before=line, after=line)
    )
    product = forward(
        shard * expand(chirp(torch.arange(*layout.span(comm.rank))), axis, shard.ndim),
        replace(stage, before=layout, after=whole),
    ) * expand(spectrum, axis, shard.ndim)
    del spectrum
    # The first numbers of the convolution are those that are asked for.
    result = transform_split_axis(product, replace(stage, before=whole), "complex", 1, local[1], comm)
    result = result * expand(chirp(torch.arange(*stage.after.span(comm.rank))), axis, shard.ndim)
    return result.real if kind == "real" else result


def _filter(
    span: tuple[int, int],
    length: int,
    given: int,
    taken: int,
    chirp: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The conjugate chirp by which numbers are convolved: at index i that of i, from the end on that of -i."""
    index = torch.arange(*span)
    values = chirp(torch.where(index < given, index, length - index)).conj().resolve_conj()
    is_used = (index < given) | (length - index < taken)
    return values.masked_fill_(~is_used.to(values.device), 0)


def _chirp(index: torch.Tensor, points: int, sign: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The roots of unity `exp(sign * pi * 1j * index**2 / points)`: of exact integers, in float64."""
    angle = (index * index).remainder_(2 * points).double().mul_(sign * math.pi / points)
    return torch.polar(torch.ones((), dtype=angle.dtype).expand_as(angle), angle).to(device, dtype)
