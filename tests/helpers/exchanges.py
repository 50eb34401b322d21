"""Exchanges in which each rank writes to each other one."""

from __future__ import annotations

import numpy as np
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement


def letter(sender: int, receiver: int, shape: tuple[int, ...], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return (torch.arange(int(np.prod(shape))).reshape(shape) + 10 * sender + receiver).to(dtype)


def everybody_to_everybody(
    comm: ms.Communication, shape: tuple[int, ...], strided: bool, device: str = "cpu"
) -> None:
    """Each rank writes to each other one; what arrives is compared on the spot."""
    peers = [peer for peer in range(comm.size) if peer != comm.rank]

    def placed(values: torch.Tensor) -> torch.Tensor:
        if not strided:
            return values.to(device)
        room = torch.zeros((*(2 * n for n in values.shape[::-1]),), dtype=values.dtype, device=device)
        view = room[tuple(slice(None, None, 2) for _ in values.shape)].permute(*reversed(range(values.ndim)))
        return view.copy_(values)

    send = [(peer, placed(letter(comm.rank, peer, shape))) for peer in peers]
    recv = [(peer, placed(torch.full(shape, -1))) for peer in peers]
    comm.exchange(send, recv)
    with agreement(comm, "checking"):
        for peer, got in recv:
            assert torch.equal(got.cpu(), letter(peer, comm.rank, shape))
        for peer, kept in send:
            assert torch.equal(kept.cpu(), letter(comm.rank, peer, shape))
