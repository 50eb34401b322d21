"""Outputs that are reduced over the samples: in each chunk, then chunks pairwise, then over the ranks.

So the outputs of all samples are never there at once. The sums of two chunks next to each other are added, then
those of two pairs, and so on (Higham, "The accuracy of floating point summation", 1993): rounding errors grow with
the logarithm of the number of chunks, and that many partial sums are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from minisplit.core.collectives import (
    Collective,
    Gradients,
    Tensors,
    all_reduce,
    all_reduce_gradient,
    apply,
    cut_elements,
    join_elements,
)
from minisplit.core.communication.protocol import Communication
from minisplit.core.pytorch.dtypes import WIDER_HALVES, is_inexact
from minisplit.vmap.inputs.batch import Reduction


class ReducedOutput(NamedTuple):
    """An output that is reduced over the samples: its place among the outputs, how, and what it is in the end."""

    place: int
    how: Reduction
    dtype: torch.dtype
    shape: tuple[int, ...]
    requires_grad: bool

    @property
    def group(self) -> tuple[Literal["sum", "max"], torch.dtype]:
        """The outputs of one group go by one message: a mean is a sum, and a minimum a maximum of opposites."""
        if self.how in {"sum", "mean"}:
            return "sum", WIDER_HALVES.get(self.dtype, self.dtype)
        return "max", self.dtype

    def of_no_samples(self, device: torch.device) -> torch.Tensor:
        """What a rank without samples contributes."""
        kind, dtype = self.group
        shape = self.shape if kind == "sum" else (0, *self.shape)
        return torch.zeros(shape, dtype=dtype, device=device, requires_grad=self.requires_grad)


def result_dtype(how: Reduction, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a reduced output, of samples of this dtype: that of torch's function."""
    return torch.int64 if how == "sum" and not is_inexact(dtype) else dtype


def keeps_samples(how: Reduction, dtype: torch.dtype, traced: bool) -> bool:
    """Whether the outputs of all samples are kept: the gradient of an extreme is for those that have it."""
    return traced and how in {"max", "min"} and is_inexact(dtype)


def reduce_chunk(how: Reduction, outputs: torch.Tensor) -> torch.Tensor:
    """Reduce a chunk's outputs over the samples, which lie along axis 0. An extreme stays as one sample."""
    if how in {"max", "min"}:
        return (torch.amax if how == "max" else torch.amin)(outputs, 0, keepdim=True)
    if how == "mean" and not is_inexact(outputs.dtype):
        outputs.mean(0)  # raises torch's error
    dtype = result_dtype("sum", outputs.dtype)
    return outputs.sum(0, dtype=WIDER_HALVES.get(dtype, dtype))


_MERGE: dict[Reduction, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sum": torch.add,
    "mean": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}


class Pairwise:
    """Reduces what `reduce_chunk` gives of chunks that come one after the other.

    What is held is like a binary number: for each bit of the number of chunks that is 1 what as many of them
    give.
    """

    def __init__(self, how: Reduction) -> None:
        self.merge = _MERGE[how]
        self.parts: list[tuple[int, torch.Tensor]] = []  # the number of chunks, and what they give

    def add(self, part: torch.Tensor) -> None:
        """Take what the next chunk gives."""
        chunks = 1
        while self.parts and self.parts[-1][0] == chunks:
            part = self.merge(self.parts.pop()[1], part)
            chunks *= 2
        self.parts.append((chunks, part))

    def result(self) -> torch.Tensor:
        """What all chunks so far give, at least one."""
        *earlier, (_, total) = self.parts
        for _, part in reversed(earlier):
            total = self.merge(part, total)
        return total


def reduce_over_ranks(
    tensors: Sequence[torch.Tensor],
    reductions: Sequence[ReducedOutput],
    samples: int,
    comm: Communication,
) -> list[torch.Tensor]:
    """Return the outputs with those that are reduced, of which each rank has the part of its samples, complete.

    `samples` is the number of all.

    Communication
    -------------
    Collective: one allreduce for each group of the reduced outputs; none on one rank, or without samples. The
    backward pass of sums is local, that of extremes is one allreduce.
    """
    complete = list(tensors)
    groups: dict[Any, list[ReducedOutput]] = {}
    for output in reductions:
        groups.setdefault(output.group, []).append(output)
    for (kind, _), outputs in groups.items():
        parts = [tensors[output.place] for output in outputs]
        if kind == "sum":
            totals = parts if comm.size == 1 or samples == 0 else _sum_over_ranks(parts, comm)
        else:
            found = apply(_Maxima(comm, tuple(output.how == "min" for output in outputs)), *parts)
            # Copies: the backward pass needs the extremes as they are, and an output may be changed in place.
            totals = [x.clone() if x.requires_grad else x for x in found]
        for output, total in zip(outputs, totals, strict=True):
            result = (total / samples if output.how == "mean" else total).to(output.dtype)
            # A node of several outputs requires a gradient of all, if of one.
            mixed = result.requires_grad and not output.requires_grad
            complete[output.place] = result.detach() if mixed else result
    return complete


def _sum_over_ranks(parts: Sequence[torch.Tensor], comm: Communication) -> Sequence[torch.Tensor]:
    """Add up the ranks' parts of several sums. Collective: one allreduce."""
    if len(parts) == 1:
        return [all_reduce(parts[0], comm)]
    return cut_elements(all_reduce(join_elements(parts), comm), parts)


@dataclass(frozen=True, slots=True)
class _Maxima(Collective):
    """The maxima over axis 0 of several tensors of one dtype, and over the ranks; minima where `opposite` says so.

    The axis may have any extent, also 0, on each rank. The backward pass is collective: one allreduce of counts.
    """

    comm: Communication
    opposite: tuple[bool, ...]

    keeps_tensors = True
    is_one = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        maxima = []
        for x, is_opposite in zip(tensors, self.opposite, strict=True):
            if len(x):
                maxima.append(_opposite(x.amin(0)) if is_opposite else x.amax(0))
            else:
                maxima.append(x.new_full(x.shape[1:], _lowest(x.dtype)))
        if self.comm.size > 1:
            maxima = cut_elements(self.comm.allreduce(join_elements(maxima), "max"), maxima)
        return [_opposite(x) if is_opposite else x for x, is_opposite in zip(maxima, self.opposite, strict=True)]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        tensors, extremes = kept[: len(self.opposite)], kept[len(self.opposite) :]
        # The samples that have the extreme, on all ranks, share its gradient, as in torch.amax. NaN does not equal
        # itself, but is the extreme where there is one.
        if self.comm.size > 1:
            gradients = cut_elements(all_reduce_gradient(join_elements(gradients), self.comm), gradients)
        have_it, counts = self._ties(tensors, extremes)
        return [
            torch.where(mask, gradient / count, 0)
            for mask, gradient, count in zip(have_it, gradients, counts, strict=True)
        ]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        have_it, counts = self._ties(kept[: len(self.opposite)], kept[len(self.opposite) :])
        totals: Tensors = [
            torch.where(mask, tangent, 0).sum(0) for mask, tangent in zip(have_it, tangents, strict=True)
        ]
        if self.comm.size > 1:
            totals = _sum_over_ranks(totals, self.comm)
        return [total / count for total, count in zip(totals, counts, strict=True)]

    def _ties(self, tensors: Tensors, extremes: Tensors) -> tuple[Tensors, Tensors]:
        """For each tensor, which samples have the extreme, and how many of all ranks do."""
        pairs = zip(tensors, extremes, strict=True)
        have_it = [(x == best) | (x.isnan() & best.isnan()) for x, best in pairs]
        counts = [mask.sum(0) for mask in have_it]
        return have_it, _sum_over_ranks(counts, self.comm) if self.comm.size > 1 else counts


def _opposite(x: torch.Tensor) -> torch.Tensor:
    """Numbers in the reverse order of these, without a loss; the inverse of itself."""
    return -x if x.is_floating_point() else ~x


def _lowest(dtype: torch.dtype) -> Any:
    """The lowest number of a dtype."""
    if dtype is torch.bool:
        return False
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
