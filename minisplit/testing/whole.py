"""A global array that no rank holds yet: what a property test draws before there are ranks."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.layout import Layout


class Whole:
    """A global tensor and the layout to cut it by.

    The parameters are its attributes. Its `repr` makes it again, exactly.

    Parameters
    ----------
    tensor : torch.Tensor
        The global array.
    layout : Layout
        The layout of the DNDarray that `cut` returns. It has the shape of the tensor.

    Raises
    ------
    ValueError
        If the layout has another shape.

    Examples
    --------
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
        """Return the DNDarray of which this rank holds its part, in memory of its own.

        Parameters
        ----------
        comm : Communication, optional
            The communicator of the array. By default that in use.

        Returns
        -------
        DNDarray
            The array in the layout. It requires a gradient if the tensor does.

        Raises
        ------
        ValueError
            If the communicator does not have as many ranks as the layout.

        Communication
        -------------
        Local.
        """
        chosen = sanitize_comm(comm)
        if chosen.size != self.layout.ranks:
            raise ValueError(f"the layout is for {self.layout.ranks} ranks, but there are {chosen.size}")
        # clone: ranks that are threads share the tensor, and one could change the part of another in place.
        shard = self.tensor.detach()[self.layout.box(chosen.rank)].clone()
        return DNDarray(shard.requires_grad_(self.tensor.requires_grad), self.layout, chosen)

    def __repr__(self) -> str:
        return f"Whole({tensor_source(self.tensor)}, {self.layout!r})"


def tensor_source(tensor: torch.Tensor) -> str:
    """Return the expression that makes a tensor again, where `torch`, `inf` and `nan` are known.

    >>> import torch
    >>> tensor_source(torch.tensor([1, 2]))
    'torch.tensor([1, 2], dtype=torch.int64)'
    """
    # A list has no extent of 0 but at its end.
    source = f"tensor({_source(tensor.tolist())}" if tensor.numel() else f"empty({tuple(tensor.shape)}"
    return f"torch.{source}, dtype={tensor.dtype}{', requires_grad=True' * tensor.requires_grad})"


def _source(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_source, value))}]"
    if isinstance(value, complex):
        # Its own repr has "nanj" in it, which no name is, and loses the sign of zeros.
        return f"complex({value.real}, {value.imag})"
    return repr(value)
