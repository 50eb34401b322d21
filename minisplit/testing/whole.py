"""A global array that no rank holds yet: what a property test draws before there are ranks."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.layout import Layout


class Whole:
    """A global tensor and the layout to cut it by.

    `cut()` is this rank's DNDarray. Its `repr` makes it again, exactly.

    >>> import minisplit as ms, torch
    >>> x = ms.testing.Whole(torch.tensor([1, 2]), ms.Layout((2,), 0, ranks=2))
    >>> ms.testing.run(lambda: x.cut().larray.tolist(), ranks=2)
    [[1], [2]]
    """

    __slots__ = ("layout", "tensor")

    def __init__(self, tensor: torch.Tensor, layout: Layout) -> None:
        if tuple(tensor.shape) != layout.shape:
            raise ValueError(f"the tensor has shape {tuple(tensor.shape)}, but the layout is of {layout.shape}")
        self.tensor = tensor
        self.layout = layout

    def cut(self, comm: Communication | None = None) -> DNDarray:
        """Return the DNDarray of which this rank holds its part, in memory of its own. Local.

        ValueError where `comm`, the communicator in use by default, has not as many ranks as the layout.
        """
        chosen = sanitize_comm(comm)
        if chosen.size != self.layout.ranks:
            raise ValueError(f"the layout is for {self.layout.ranks} ranks, but there are {chosen.size}")
        shard = self.tensor.detach()[self.layout.box(chosen.rank)].clone()
        return DNDarray(shard.requires_grad_(self.tensor.requires_grad), self.layout, chosen)

    def __repr__(self) -> str:
        return f"Whole({source_of(self.tensor)}, {self.layout!r})"


def source_of(tensor: torch.Tensor) -> str:
    """The expression that makes a tensor again, where `torch`, `inf` and `nan` are known.

    >>> import torch
    >>> source_of(torch.tensor([1, 2]))
    'torch.tensor([1, 2], dtype=torch.int64)'
    """
    made = f"tensor({_source(tensor.tolist())}" if tensor.numel() else f"empty({tuple(tensor.shape)}"
    return f"torch.{made}, dtype={tensor.dtype}{', requires_grad=True' * tensor.requires_grad})"


def _source(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_source, value))}]"
    if isinstance(value, complex):  # whose own text loses signs, and has "nanj" in it
        return f"complex({value.real}, {value.imag})"
    return repr(value)
