"""A global array that no rank holds yet: what a property test draws before there are ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
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
        """Return the DNDarray; this rank holds its part in new memory.

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
        # clone: ranks that are threads have one tensor, and each could change the part of another in place.
        shard = self.tensor.detach()[self.layout.box(chosen.rank)].clone()
        return DNDarray(shard.requires_grad_(self.tensor.requires_grad), self.layout, chosen)

    def __repr__(self) -> str:
        return f"Whole({source(self.tensor)}, {self.layout!r})"


def source(value: Any) -> str:
    """Return the expression that makes a value again, where `torch`, `numpy`, `inf` and `nan` are known.

    >>> import torch
    >>> source([torch.tensor([1, 2]), -0.0j])
    '[torch.tensor([1, 2], dtype=torch.int64), complex(-0.0, -0.0)]'
    """
    # `type`: of a subclass nobody knows how to make it.
    cls = type(value)
    if cls is torch.Tensor:
        # A list has no extent of 0 but at its end.
        made = f"tensor({source(value.tolist())}" if value.numel() else f"empty({tuple(value.shape)}"
        return f"torch.{made}, dtype={value.dtype}{', requires_grad=True' * value.requires_grad})"
    if cls is np.ndarray and value.dtype != object:
        return f"numpy.array({value.tolist()}, dtype={str(value.dtype)!r})"
    if cls is complex:
        # Its own repr has "nanj" in it, which no name is, and loses the sign of zeros.
        return f"complex({value.real}, {value.imag})"
    if cls is list:
        return f"[{', '.join(map(source, value))}]"
    if cls is tuple:
        return f"({', '.join(map(source, value))}{',' * (len(value) == 1)})"
    if cls is dict:
        return f"{{{', '.join(f'{key!r}: {source(item)}' for key, item in value.items())}}}"
    try:
        return repr(value)
    except Exception:  # it would hide the failure of the test
        return f"<{cls.__name__}>"
