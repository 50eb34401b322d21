"""Moving shards: the one place where a transfer plan meets tensors and a communicator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from minisplit.core.communication.protocol import Communication, parcels
from minisplit.core.layout import Layout
from minisplit.core.transfer import TransferPlan, check_compatible, elements_moved, plan

Way = tuple[Layout, Layout]


def move(shard: torch.Tensor, src: Layout, dst: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's shard under `dst` of the array whose shards under `src` are given. Collective.

    Always new memory. Each element that changes rank is sent once; where none does, no message is
    sent. Autograd flows back by the reverse transfer, which is collective as well; the gradient of a
    replicated array counts as replicated.
    """
    return move_each([shard], [(src, dst)], comm)[0]


def move_each(shards: Sequence[torch.Tensor], ways: Sequence[Way], comm: Communication) -> Sequence[torch.Tensor]:
    """Move several arrays, each from one layout to another, in one exchange. Collective. See `move`.

    Autograd flows back in one exchange as well.
    """
    if torch.is_grad_enabled() and any(shard.requires_grad for shard in shards):
        moved: tuple[torch.Tensor, ...] = _Move.apply(ways, comm, *shards)  # type: ignore[no-untyped-call]
        return moved
    return move_all(shards, ways, comm)


def move_all(shards: Sequence[torch.Tensor], ways: Sequence[Way], comm: Communication) -> list[torch.Tensor]:
    """Move several arrays, each from one layout to another, in one exchange. Collective. See `move`.

    No gradient flows back.
    """
    moved: list[torch.Tensor] = []
    moving: list[tuple[torch.Tensor, torch.Tensor, TransferPlan]] = []
    for shard, (src, dst) in zip(shards, ways, strict=True):
        check_compatible(src, dst)
        source = shard.detach()
        if src == dst or comm.size == 1:
            moved.append(source.clone(memory_format=torch.contiguous_format))
            continue
        target = torch.empty(dst.lshape(comm.rank), dtype=shard.dtype, device=shard.device)
        moved.append(target)
        steps = plan(src, dst, comm.rank)
        if elements_moved(src, dst):
            moving.append((source, target, steps))
        else:
            parcels(source, target, steps)
    if len(moving) == 1:
        comm.transfer(*moving[0])
    elif moving:
        parts = [parcels(*move) for move in moving]
        send, recv = ([parcel for part in parts for parcel in part[side]] for side in (0, 1))
        purpose = [word for x, _, way in moving for word in (x.dtype, way.src, "to", way.dst)]
        comm.exchange(send, recv, purpose)
    return moved


class _Move(torch.autograd.Function):
    """Transfers, and the reverse transfers of their gradients."""

    @staticmethod
    def forward(
        ctx: Any, ways: Sequence[Way], comm: Communication, *shards: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.reverse = ([(dst, src) for src, dst in ways], comm)
        moved = move_all(shards, ways, comm)
        ctx.mark_non_differentiable(*[x for x in moved if not (x.is_floating_point() or x.is_complex())])
        return tuple(moved)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ways, comm = ctx.reverse
        wanted = [i for i in range(len(ways)) if ctx.needs_input_grad[i + 2]]
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with comm.taken_over():
            moved = iter(move_each([gradients[i] for i in wanted], [ways[i] for i in wanted], comm))
        return None, None, *[next(moved) if i in wanted else None for i in range(len(ways))]
