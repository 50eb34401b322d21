"""Messages between pairs in chunks and by staging buffers; `test_protocol.py` has what all engines give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exchanges import everybody_to_everybody

import minisplit as ms
from minisplit.core.collectives import redistribute_all
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.buffers import split_into_chunks
from minisplit.core.communication.mpi import exchange

Comm = ms.Communication


@pytest.mark.mpi
@pytest.mark.parametrize("limit", [1, 40, 64, 1000])
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("shape", [(3, 5), (1, 40), (2, 0, 3), (4, 2, 6)], ids=str)
def test_A6_an_exchange_goes_in_chunks(
    comm: Comm, monkeypatch: pytest.MonkeyPatch, limit: int, strided: bool, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(exchange, "CHUNK", limit)
    everybody_to_everybody(comm, shape, strided)


@pytest.mark.mpi
@pytest.mark.parametrize("limit", [24, 64, 200])
def test_several_arrays_in_one_exchange_of_chunks(
    comm: Comm, rank: int, size: int, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Contiguous pieces wait for those before them, which need a buffer, to be under way."""
    monkeypatch.setattr(exchange, "CHUNK", limit)
    whole = torch.arange(35 * 11).reshape(35, 11)
    layouts = [ms.Layout((35, 11), split, size) for split in (0, 1, None)]
    ways = [(src, dst) for src in layouts[:2] for dst in layouts] * 2
    shards = [whole[src.box(rank)] for src, _ in ways]
    for moved, (_, dst) in zip(redistribute_all(shards, ways, comm), ways, strict=True):
        with agreement(comm, "checking"):
            assert torch.equal(moved, whole[dst.box(rank)])


@pytest.mark.serial
@pytest.mark.parametrize("limit", [1, 8, 24, 100, 10**6])
@pytest.mark.parametrize("shape", [(), (3, 5), (1, 40), (2, 0, 3), (4, 2, 6)], ids=str)
def test_chunks(shape: tuple[int, ...], limit: int) -> None:
    whole = torch.arange(int(np.prod(shape)), dtype=torch.int64).reshape(shape)
    parts = list(split_into_chunks(whole, limit))
    assert all(part.is_contiguous() and 0 < part.numel() * 8 <= max(8, limit) for part in parts)
    assert torch.equal(
        torch.cat([part.reshape(-1) for part in parts]) if parts else whole.reshape(-1), whole.reshape(-1)
    )
    # Of another tensor of the same shape the same cuts.
    there = [part.shape for part in split_into_chunks(whole.expand(2, *shape).movedim(0, -1)[..., 0], limit)]
    assert there == [part.shape for part in parts]


@pytest.mark.mpi
@pytest.mark.several
def test_a_staging_buffer_is_used_again_for_its_own_dtype_only(
    comm: Comm, rank: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one of int8 an int64 would lose its high bits, in one of float32 a float64 its last ones."""
    monkeypatch.setattr(exchange, "CHUNK", 64)
    peers = [peer for peer in range(size) if peer != rank]
    # Each piece takes several chunks, which have fewer elements than the chunks before them.
    values = [
        torch.arange(150, dtype=torch.int8),
        torch.arange(40) + 2**40,
        torch.arange(70, dtype=torch.float32) + 0.5,
        torch.arange(40, dtype=torch.float64) / 3,
        torch.arange(70, dtype=torch.int8) - 9,
    ]

    def strided(whole: torch.Tensor) -> torch.Tensor:
        return torch.stack([whole, torch.zeros_like(whole)], 1)[:, 0]

    for order in (values, values[::-1]):
        recv = [(peer, strided(torch.zeros_like(whole))) for peer in peers for whole in order]
        comm.exchange([(peer, strided(whole + rank)) for peer in peers for whole in order], recv)
        with agreement(comm, "checking"):
            for (peer, received), whole in zip(recv, order * len(peers), strict=True):
                assert torch.equal(received, whole + peer)
