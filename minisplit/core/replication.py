"""`replicate`: rank 0's values of a module, or of tensors, on all ranks."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.buffers import as_bytes
from minisplit.core.communication.debug import checksum
from minisplit.core.communication.protocol import Comm, first_difference, sanitize_comm
from minisplit.core.error_text import encoded, short_repr
from minisplit.core.pytorch.pytree import pytree

T = TypeVar("T")


def replicate(x: T, *, comm: Comm = None) -> T:
    """Return rank 0's values on all ranks. The parameters of a module are changed in place.

    Parameters
    ----------
    x : torch.nn.Module, tensor, NumPy array, number, or nested tuples, lists and dicts of them
        A value that differs between ranks, such as a network that was made without a seed. Its structure, shapes
        and dtypes are the same on all ranks.
    comm : Communication, optional
        The ranks. By default the communicator in use.

    Returns
    -------
    Module, tensor, NumPy array, number, or nested tuples, lists and dicts of them
        `x` with the values of rank 0. A module is the given module with new values in its parameters and buffers,
        so optimisers that have these parameters still work. Everything else is new.

    Raises
    ------
    ValueError
        If structures, shapes, dtypes or strings differ between ranks, or a DNDarray is split.
    TypeError
        If a leaf is of any other type, or a tensor is not dense.

    Communication
    -------------
    Collective: one allgather of 8 bytes, and one broadcast of all values together.

    See Also
    --------
    minisplit.random.seed : Make all ranks draw the same from the start.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> network = ms.replicate(torch.nn.Linear(3, 2))
    >>> ms.vmap(network).one(ms.ones((4, 3), split=0)).shape
    (4, 2)
    """
    comm = sanitize_comm(comm)
    leaves, spec = pytree.tree_flatten(x)
    tensors = [tensor for leaf in leaves for tensor in _tensors_of(leaf)]
    texts = [leaf if isinstance(leaf, str | bytes | None) else type(leaf).__name__ for leaf in leaves]
    kinds = [f"{each.dtype} {tuple(each.shape)}" for each in tensors]
    description = f"{spec} of {short_repr(texts)} with {', '.join(kinds)}"
    number = checksum(f"{spec} {texts} {kinds}")
    other = first_difference(comm.allgather_record(np.array([number])))
    if other is not None:
        first, differing = (comm.broadcast_bytes(encoded(description), root).decode() for root in (0, other))
        raise ValueError(
            f"replicate needs the same structure on all ranks: rank 0 has {first}, rank {other} {differing}"
        )
    parts = [as_bytes(each.detach().contiguous()).cpu() for each in tensors]
    whole = comm.broadcast(torch.cat(parts)) if parts else torch.empty(0, dtype=torch.uint8)
    values = [
        # A copy, as bytes of several dtypes lie one after the other, at places that no dtype may be read from.
        piece.clone().view(each.dtype).reshape(each.shape).to(each.device)
        for piece, each in zip(torch.split(whole, [part.numel() for part in parts]), tensors, strict=True)
    ]
    remaining = iter(values)
    results = [_with_values(leaf, [next(remaining) for _ in _tensors_of(leaf)]) for leaf in leaves]
    replicated: T = pytree.tree_unflatten(results, spec)
    return replicated


def _tensors_of(leaf: Any) -> list[torch.Tensor]:
    """The tensors that have a leaf's values."""
    if isinstance(leaf, torch.nn.Module):
        return [*leaf.parameters(), *leaf.buffers()]
    if isinstance(leaf, DNDarray):
        if leaf.split is not None:
            raise ValueError(
                f"replicate got an array split along {leaf.split}, of which ranks have parts: see resplit"
            )
        return [leaf.larray]
    if isinstance(leaf, torch.Tensor):
        if leaf.layout is not torch.strided or leaf.is_meta:
            raise TypeError(
                f"replicate needs dense tensors with values, got one that is {leaf.layout}, {leaf.device}"
            )
        return [leaf]
    if isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex):
        return [torch.from_numpy(np.array(leaf))]
    if leaf is None or isinstance(leaf, str | bytes):
        return []
    raise TypeError(f"replicate needs modules, tensors, NumPy arrays and numbers, got a {type(leaf).__name__}")


def _with_values(leaf: Any, values: list[torch.Tensor]) -> Any:
    """A leaf with other values."""
    if isinstance(leaf, torch.nn.Module):
        with torch.no_grad():
            for tensor, value in zip(_tensors_of(leaf), values, strict=True):
                tensor.copy_(value)
        return leaf
    if not values:
        return leaf
    (value,) = values
    if isinstance(leaf, DNDarray):
        return DNDarray(value.requires_grad_(leaf.requires_grad), leaf.layout, leaf.comm)
    if isinstance(leaf, torch.nn.Parameter):
        return torch.nn.Parameter(value, leaf.requires_grad)
    if isinstance(leaf, torch.Tensor):
        return value.requires_grad_(leaf.requires_grad)
    array = value.numpy()
    if isinstance(leaf, np.ndarray):
        return array
    return array[()] if isinstance(leaf, np.generic) else array.item()
