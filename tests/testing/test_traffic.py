"""Counting calls and bytes."""

from __future__ import annotations

import torch

import minisplit as ms
from minisplit.testing import traffic


def test_calls_and_bytes_are_those_of_this_rank(comm: ms.Communication, size: int) -> None:
    x = ms.ones((4, 8), split=0)
    with traffic() as seen:
        x.resplit(1)
        comm.allreduce(torch.ones(2))
        with traffic(comm.split(0, comm.rank)) as other:
            pass
    x.resplit(1)
    assert seen.calls == ({"exchange": 1, "allreduce": 1, "split": 1} if size > 1 else {"split": 1})
    assert seen.collectives == (3 if size > 1 else 1)
    assert seen.messages_sent == size - 1  # each rank has columns for each
    total = int(comm.allreduce(torch.tensor(seen.bytes_sent)))
    kept = sum(rows * columns for rows, columns in zip(x.counts or (), x.resplit(1).counts or (), strict=True))
    assert total == (32 - kept) * 4
    assert other.collectives == 0
