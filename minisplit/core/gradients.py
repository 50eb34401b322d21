"""How gradients cross ranks where a replicated array is used for a result that is cut."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.communication.protocol import Communication


def shared(whole: torch.Tensor, comm: Communication) -> torch.Tensor:
    """`whole`, which is the same on all ranks and of whose gradient each rank computes a part. Local.

    The backward pass adds up the ranks' parts, so that the gradient is replicated too; it is collective.
    """
    if not (whole.requires_grad and torch.is_grad_enabled()):
        return whole
    result: torch.Tensor = _Shared.apply(whole, comm)  # type: ignore[no-untyped-call]
    return result


def total(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """The sum of the ranks' parts, which is the same on all of them. Collective.

    The gradient of a replicated array counts as replicated, so the backward pass sends nothing.
    """
    if not (part.requires_grad and torch.is_grad_enabled()):
        return comm.allreduce(part)
    result: torch.Tensor = _Total.apply(part, comm)  # type: ignore[no-untyped-call]
    return result


class _Shared(torch.autograd.Function):
    """Nothing, and the sum over the ranks of its gradient."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, comm: Communication) -> torch.Tensor:
        ctx.comm = comm
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return total(gradients[0], ctx.comm), None


class _Total(torch.autograd.Function):
    """The sum over the ranks, and nothing to its gradient, which is the same on all of them."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, comm: Communication) -> torch.Tensor:
        ctx.comm = comm
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with comm.taken_over():
            return comm.allreduce(part)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return shared(gradients[0], ctx.comm), None
