"""Messages between pairs of ranks: chunks, staging buffers, and who sends to whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.collectives import redistribute_all
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.mpi import exchange

Comm = ms.Communication
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def letter(sender: int, receiver: int, shape: tuple[int, ...], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return (torch.arange(int(np.prod(shape))).reshape(shape) + 10 * sender + receiver).to(dtype)


def everybody_to_everybody(comm: Comm, shape: tuple[int, ...], strided: bool, device: str = "cpu") -> None:
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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (3, 1, 2), (0,), (2, 0)], ids=str)
def test_exchange(comm: Comm, shape: tuple[int, ...], strided: bool, device: str) -> None:
    everybody_to_everybody(comm, shape, strided, device)


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
    parts = list(exchange.split_into_chunks(whole, limit))
    assert all(part.is_contiguous() and 0 < part.numel() * 8 <= max(8, limit) for part in parts)
    assert torch.equal(
        torch.cat([part.reshape(-1) for part in parts]) if parts else whole.reshape(-1), whole.reshape(-1)
    )
    # Of another tensor of the same shape the same cuts.
    there = [
        part.shape for part in exchange.split_into_chunks(whole.expand(2, *shape).movedim(0, -1)[..., 0], limit)
    ]
    assert there == [part.shape for part in parts]


def test_only_some_ranks_exchange(comm: Comm, rank: int, size: int) -> None:
    if size == 1:
        comm.exchange([], [])
        return
    got = torch.zeros(4)
    for _ in range(3):  # ranks between run ahead: the count of exchanges keeps them apart
        comm.exchange([(size - 1, torch.ones(4))] if rank == 0 else [], [(0, got)] if rank == size - 1 else [])
        comm.exchange([], [])
    with agreement(comm, "checking"):
        assert torch.equal(got, torch.full((4,), float(rank == size - 1)))


def test_neighbours_in_a_ring_with_conjugate_and_negative_views(comm: Comm, rank: int, size: int) -> None:
    if size == 1:
        return
    after, before = (rank + 1) % size, (rank - 1) % size
    whole = torch.tensor([1 + 2j, 3 - 4j])
    for view in (lambda t: t.conj(), lambda t: t.conj().imag, lambda t: torch._neg_view(t.real.clone())):
        got = torch.empty_like(view(whole)).resolve_neg()
        comm.exchange([(after, view(whole + rank))], [(before, got)])
        with agreement(comm, "checking"):
            assert torch.equal(got, view(whole + before).clone())


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
