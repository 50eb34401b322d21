"""Backward passes that begin at DNDarrays: `x.backward()`, and `torch.autograd.grad` and `backward` of arrays.

Gradients flow through the operations themselves. Here the ranks begin together, with the shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.pytorch.pytree import pytree

# A DNDarray or a tensor, which every rank has, or several of them.
Arrays = Any


def backward(
    tensors: Arrays,
    grad_tensors: Arrays = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Arrays = None,
) -> None:
    """Do what `torch.autograd.backward` does, with DNDarrays among the arguments. Collective."""
    outputs, gradients = _start(tensors, grad_tensors)
    torch.autograd.backward(outputs, gradients, retain_graph, create_graph, inputs=_shards(inputs))


def grad(
    outputs: Arrays,
    inputs: Arrays,
    grad_outputs: Arrays = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Do what `torch.autograd.grad` does, with DNDarrays among the arguments. Collective.

    The gradient of a DNDarray is one, in its layout.
    """
    if is_grads_batched:
        raise TypeError(
            "is_grads_batched is for tensors: with DNDarrays call torch.autograd.grad for each of the gradients, "
            "with retain_graph=True"
        )
    each = _several(inputs)
    shards, starts = _start(outputs, grad_outputs)
    found = torch.autograd.grad(
        shards,
        _shards(each),
        starts,
        retain_graph,
        create_graph,
        only_inputs,
        allow_unused,
        materialize_grads=materialize_grads,
    )
    return tuple([_like(x, gradient) for x, gradient in zip(each, found, strict=True)])


def _start(outputs: Arrays, gradients: Arrays) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Return the tensors of each output and of its gradient, if the ranks may begin. Collective."""
    outputs = _several(outputs)
    given = [None] * len(outputs) if gradients is None else _several(gradients)
    if len(given) != len(outputs):
        raise ValueError(f"there must be a gradient for each of {len(outputs)} outputs, got {len(given)}")
    starts = [
        _gradient(x, gradient) if isinstance(x, DNDarray) else gradient
        for x, gradient in zip(outputs, given, strict=True)
    ]
    for comm in dict.fromkeys(x._comm for x in outputs if isinstance(x, DNDarray)):
        _agree_on_requiring(outputs, comm)
    return _shards(outputs), starts


def _gradient(x: DNDarray, gradient: Any) -> torch.Tensor:
    """Return this rank's part of the gradient of `x`. Collective where it is given in another layout."""
    if gradient is None:
        if x.size != 1 or x.dtype.is_complex:
            raise RuntimeError(
                "a backward pass begins at a real array of one element, as x.sum() is, or at any array with a "
                f"gradient=, but the array is of {x.dtype} and shape {x.shape}"
            )
        # Where other ranks have the one element this is empty, and begins all the same: messages may follow.
        return torch.ones_like(x._larray)
    given = as_dndarray(gradient, "gradient")
    if given.shape != x.shape or given._comm is not x._comm:
        raise ValueError(
            f"gradient must have the array's shape {x.shape} and its communicator, got shape {given.shape} on "
            f"{'the same' if given._comm is x._comm else 'another'} communicator"
        )
    return given._align(x._layout)._larray


def _agree_on_requiring(outputs: Sequence[Any], comm: Communication) -> None:
    """Raise RuntimeError on all ranks if an output requires no gradient on some, which would not begin there."""
    lacking = [not getattr(x, "requires_grad", True) for x in outputs]
    agreed = comm.agree(np.array(lacking, dtype=np.int64))
    if agreed.any():
        which = "the array" if len(outputs) == 1 else f"output {agreed.argmax()}"
        raise RuntimeError(
            f"{which} requires no gradient, on one rank at least: what it was computed from requires none, or it "
            "was computed in torch.no_grad(). x.requires_grad_() asks for the gradient of x, on all ranks"
        )


def _like(x: Any, gradient: torch.Tensor | None) -> Any:
    """Return a gradient as what `x` is: in its layout, if that is a DNDarray."""
    if gradient is None or not isinstance(x, DNDarray):
        return gradient
    return DNDarray._wrap(gradient, x._layout, x._comm)


def _several(arrays: Arrays) -> tuple[Any, ...]:
    if isinstance(arrays, (DNDarray, torch.Tensor)) or not isinstance(arrays, Iterable):
        return (arrays,)
    return tuple(arrays)


def _shards(arrays: Arrays) -> Any:
    return pytree.tree_map_only(DNDarray, lambda x: x._larray, arrays)
