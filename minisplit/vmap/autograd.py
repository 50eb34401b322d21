"""How gradients cross a mapped call.

Autograd runs a backward pass only where a gradient arrives, which may differ between ranks: one without samples
runs no function, for one. But the moves of the inputs, reversed, are collective. So all inputs go into a call
through one node of the graph, and all outputs leave it with an edge to that node: where a gradient enters on
the outputs' side, every rank comes to the inputs' node, once, and after all of its function's own nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from minisplit.core.collectives import redistribute_all
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout


class Step(NamedTuple):
    """What happens to an array: the ranks' parts of it are added up if `add`, then it goes to another layout.

    `shared`: each rank then uses all of it for a part of a result, so that each has a part of its gradient.
    """

    src: Layout
    dst: Layout
    add: bool = False
    shared: bool = False

    def reversed(self) -> Step:
        """What happens to the gradient."""
        return Step(self.dst, self.src, self.shared, self.add)


def enter(
    shards: Sequence[torch.Tensor], steps: Sequence[Step], comm: Communication
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Take each shard's step, as part of autograd's graph; return a token for `leave`, and what became of them.

    Collective as the moves are; so is the backward pass. The ranks' shards must agree in whether they
    require gradients.
    """
    token, *entered = _Enter.apply(comm, tuple(steps), *shards)  # type: ignore[no-untyped-call]
    return token, entered


def leave(token: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """An output from which a backward pass comes to the node of the inputs, if by no other way. Local."""
    left: torch.Tensor = _Leave.apply(token, output)  # type: ignore[no-untyped-call]
    return left


class _Enter(torch.autograd.Function):
    """The steps of all inputs; in the backward pass their reverse for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, comm: Communication, steps: tuple[Step, ...], *shards: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.comm = comm
        ctx.steps = steps
        added = [comm.allreduce(x) if step.add else x for x, step in zip(shards, steps, strict=True)]
        moving = [i for i, step in enumerate(steps) if step.src != step.dst]
        ways = [(steps[i].src, steps[i].dst) for i in moving]
        moved = dict(zip(moving, redistribute_all([added[i] for i in moving], ways, comm), strict=True))
        results = [moved[i] if i in moved else _same(x) for i, x in enumerate(added)]
        ctx.mark_non_differentiable(*[x for x in results if not (x.is_floating_point() or x.is_complex())])
        return torch.zeros((), device=shards[0].device), *results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        steps = [ctx.steps[i].reversed() for i in wanted]
        token, *arrived = gradients
        found = [arrived[i] for i in wanted]
        if torch.is_grad_enabled():  # so that second derivatives find their way here on every rank, if on any
            found = [leave(token, gradient) for gradient in found]
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with ctx.comm.taken_over():
            _, found = enter(found, steps, ctx.comm)
        filled: list[Any] = [None] * len(ctx.steps)
        for i, gradient in zip(wanted, found, strict=True):
            filled[i] = gradient
        return None, None, *filled


class _Leave(torch.autograd.Function):
    """Nothing to an output, nor to its gradient, but a link to the inputs' node, also for second derivatives."""

    @staticmethod
    def forward(ctx: Any, token: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token)
        return _same(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (token,) = ctx.saved_tensors
        both = torch.zeros_like(token), gradients[0]
        return tuple(leave(token, each) for each in both) if torch.is_grad_enabled() else both


def _same(x: torch.Tensor) -> torch.Tensor:
    """The tensor itself, as autograd wants it: one of the same memory that is no view of it."""
    plain = x.detach().resolve_conj().resolve_neg()
    result: torch.Tensor = plain.new_empty(0).set_(plain)  # type: ignore[call-overload]
    return result
