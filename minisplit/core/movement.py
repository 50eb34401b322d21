"""Moving shards: the one place where a transfer plan meets tensors and a communicator."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.communication import Communication
from minisplit.core.layout import Layout
from minisplit.core.transfer import plan


def move(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's shard under `dst` of the array whose shards under `src` are given. Collective.

    Always new memory. Each element that changes rank is sent once; a replicated source sends
    nothing. Autograd flows back by the reverse transfer, which is collective as well; the gradient of a
    replicated array counts as replicated.
    """
    if torch.is_grad_enabled() and shard.requires_grad:
        moved: torch.Tensor = _Move.apply(shard, src, dst, comm)  # type: ignore[no-untyped-call]
        return moved
    return _transfer(shard, src, dst, comm)


def _transfer(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    if src == dst:
        return shard.detach().clone(memory_format=torch.contiguous_format)
    out = torch.empty(dst.lshape(comm.rank), dtype=shard.dtype, device=shard.device)
    if dst.ndim == 0:
        return out.copy_(shard.detach())
    steps = plan(src, dst, comm.rank)
    source = shard.detach()
    send = {peer: source.narrow(steps.send.axis, start, length) for peer, start, length in steps.send}
    recv = {peer: out.narrow(steps.recv.axis, start, length) for peer, start, length in steps.recv}
    if comm.rank in recv:
        recv.pop(comm.rank).copy_(send.pop(comm.rank))
    comm.exchange(list(send.items()), list(recv.items()), (shard.dtype, src, "to", dst))
    return out


class _Move(torch.autograd.Function):
    """A transfer, and the reverse transfer of its gradient."""

    @staticmethod
    def forward(ctx: Any, shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
        ctx.reverse = (dst, src, comm)
        return _transfer(shard, src, dst, comm)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with ctx.reverse[2].taken_over():
            return move(gradient, *ctx.reverse), None, None, None
