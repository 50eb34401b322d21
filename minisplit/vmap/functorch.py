"""One `torch.vmap`: a function of one sample run on all samples of some tensors at once.

Made from the same parts of `torch._C._functorch` as `torch.vmap` itself, without its own handling of structures
and arguments, which for a small function takes longer than the function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._C import _functorch as functorch
from torch._functorch.vmap import lazy_load_decompositions  # type: ignore[attr-defined]

from minisplit.core import inside_vmap
from minisplit.vmap.batch import Axes
from minisplit.vmap.pytree import OutDims, Structure, flat_outputs
from minisplit.vmap.random import Source

Tensors = Sequence[torch.Tensor]
_NO_DRAWS: AbstractContextManager[None] = nullcontext()
lazy_load_decompositions()


class Mapped(NamedTuple):
    """Outputs of a mapped function, and how they lie in what it returned.

    `dims` has the mapped axis of each, None for one that is the same for every sample.
    """

    outputs: list[torch.Tensor]
    dims: Axes
    structure: Structure


@dataclass(frozen=True, slots=True)
class Task:
    """What is mapped: a function of tensors, the mapped axis of each, and where its outputs are to have it.

    `draws` is what its random functions draw from; they raise without.
    """

    func: Callable[..., Any]
    in_dims: Axes
    out_dims: OutDims
    draws: Source | None = None

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Map over all of that many samples, at least one, of which the first is local number `start`.

        Raises TypeError or ValueError where what the function returns is not made of tensors, or does not fit
        `out_dims`, and what the function raises.
        """
        inside = inside_vmap.begin()
        # "error" in any case: torch's own random functions would draw the same on every rank.
        level = functorch._vmap_increment_nesting(samples, "error")
        try:
            with _NO_DRAWS if self.draws is None else self.draws.drawing(start, samples, level):
                returned = self.func(
                    *[
                        x if dim is None else functorch._add_batch_dim(x, dim, level)
                        for x, dim in zip(tensors, self.in_dims, strict=True)
                    ]
                )
            leaves, structure = flat_outputs(returned)
            dims = self.out_dims.of(structure, leaves)
            outputs = [
                functorch._remove_batch_dim(x, level, samples, dim)
                if dim is not None and functorch.is_batchedtensor(x)
                else _same_for_all(i, x, dim, samples)
                for i, (x, dim) in enumerate(zip(leaves, dims, strict=True))
            ]
        finally:
            functorch._vmap_decrement_nesting()
            inside_vmap.end(inside)
        return Mapped(outputs, dims, structure)


def _same_for_all(index: int, x: torch.Tensor, dim: int | None, samples: int) -> torch.Tensor:
    """An output that is the same for every sample, repeated along `dim`; ValueError if it is not, for None."""
    if dim is not None:  # torch.vmap repeats along the first axis, whatever out_dims says
        return x.unsqueeze(dim).expand(*x.shape[:dim], samples, *x.shape[dim:])
    if functorch.is_batchedtensor(x):
        raise ValueError(
            f"out_dims is None for output {index}, so it must be the same for every sample, but it was computed "
            "from mapped inputs; give it an axis in out_dims"
        )
    return x
