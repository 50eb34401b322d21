"""Collectives: a redistribution gives new memory every time, and gradients find their way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core import collectives
from minisplit.core.collectives import (
    Collective,
    Tensors,
    all_reduce,
    all_reduce_gradient,
    all_to_all,
    apply,
    broadcast,
    halo_exchange,
    redistribute,
    redistribute_all,
    reverse_ranks,
)
from minisplit.core.communication.agreement import agreement

Comm = ms.Communication
SHAPE = (5, 6)


def layouts(size: int) -> dict[str, ms.Layout]:
    return {
        "rows": ms.Layout(SHAPE, 0, size),
        "columns": ms.Layout(SHAPE, 1, size),
        "rows on the last rank": ms.Layout(SHAPE, 0, size, (0,) * (size - 1) + (5,)),
        "ragged columns": ms.Layout(SHAPE, 1, size, (6,) if size == 1 else (1, *(0,) * (size - 2), 5)),
        "replicated": ms.Layout(SHAPE, None, size),
    }


NAMES = list(layouts(1))
WHOLE = torch.arange(30.0, dtype=torch.float64).reshape(SHAPE)
WEIGHTS = (WHOLE + 3).sin()


@pytest.mark.parametrize("dst", NAMES)
@pytest.mark.parametrize("src", NAMES)
def test_new_memory_even_where_nothing_moves(comm: Comm, src: str, dst: str) -> None:
    old, new = layouts(comm.size)[src], layouts(comm.size)[dst]
    shard = WHOLE[old.box(comm.rank)].clone()
    out = redistribute(shard, old, new, comm)
    with agreement(comm, "checking"):
        assert torch.equal(out, WHOLE[new.box(comm.rank)])
        assert out.is_contiguous()
        out.fill_(-1)
        assert torch.equal(shard, WHOLE[old.box(comm.rank)])
        assert not out.requires_grad


@pytest.mark.parametrize("dst", NAMES)
@pytest.mark.parametrize("src", NAMES)
def test_V23_gradients_arrive_in_the_layout_of_the_input(comm: Comm, src: str, dst: str) -> None:
    old, new = layouts(comm.size)[src], layouts(comm.size)[dst]
    shard = WHOLE[old.box(comm.rank)].clone().requires_grad_()
    out = (
        ms.DNDarray(shard, old, comm).to_layout(new).larray if old != new else redistribute(shard, old, new, comm)
    )
    (out * WEIGHTS[new.box(comm.rank)]).sum().backward()
    with agreement(comm, "checking"):
        assert shard.grad is not None
        assert torch.equal(shard.grad, WEIGHTS[old.box(comm.rank)])


def test_V23_gradients_of_several_moves(comm: Comm) -> None:
    x = ms.array(WHOLE, split=0)
    x.larray.requires_grad_()
    y = x.resplit(1).resplit(None).resplit(1).balance().resplit(0)
    (y.larray**3).sum().backward()
    with agreement(comm, "checking"):
        torch.testing.assert_close(x.larray.grad, 3 * x.larray.detach() ** 2)


def test_V23_second_derivatives(comm: Comm) -> None:
    x = ms.array(WHOLE, split=0)
    x.larray.requires_grad_()
    (first,) = torch.autograd.grad((x.resplit(1).larray ** 3).sum(), x.larray, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x.larray)
    with agreement(comm, "checking"):
        torch.testing.assert_close(second, 6 * x.larray.detach())


def test_V23_complex_gradients_and_expanded_ones(comm: Comm) -> None:
    z = torch.complex(WHOLE, -WHOLE)
    x = ms.array(z, split=0)
    x.larray.requires_grad_()
    y = x.resplit(1).larray
    (y * y.conj()).real.sum().backward()
    with agreement(comm, "checking"):
        torch.testing.assert_close(x.larray.grad, 2 * x.larray.detach())
    x.larray.grad = None
    x.resplit(1).larray.real.sum().backward()  # a gradient with stride 0
    with agreement(comm, "checking"):
        assert torch.equal(x.larray.grad, torch.ones_like(x.larray))


def test_V23_a_0d_array_and_an_empty_one(comm: Comm) -> None:
    for shape in ((), (0, 3)):
        layout = ms.Layout(shape, None, comm.size)
        shard = torch.ones(shape, requires_grad=True)
        redistribute(shard, layout, layout, comm).sum().backward()
        assert torch.equal(shard.grad, torch.ones(shape))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_no_graph_without_grad_mode(comm: Comm, context: Any) -> None:
    x = ms.array(WHOLE, split=0)
    x.larray.requires_grad_()
    with context():
        y = x.resplit(1)
        assert torch.equal(y.larray, WHOLE[y.layout.box(comm.rank)])
    assert not y.larray.requires_grad
    assert x.resplit(1).larray.requires_grad


def test_layouts_that_do_not_fit(comm: Comm, size: int, raises_alike: Any) -> None:
    with raises_alike(ValueError, match="a transfer keeps the shape and the number of ranks"):
        redistribute(WHOLE, ms.Layout(SHAPE, None, size), ms.Layout((6, 5), None, size), comm)


def weights_of(shape: tuple[int, ...], rank: int) -> torch.Tensor:
    """Weights that differ between ranks, for a sum of which the gradient is taken."""
    return torch.arange(1.0, 1 + math.prod(shape), dtype=torch.float64).reshape(shape) + 10 * rank


def test_a_sum_over_the_ranks_and_its_transpose(comm: Comm, rank: int, size: int) -> None:
    part = torch.full((3,), float(rank), dtype=torch.float64, requires_grad=True)
    total = all_reduce(part, comm)
    # The gradient of a replicated result is replicated: each rank's is the whole.
    (gradient,) = torch.autograd.grad((total * weights_of((3,), 0)).sum(), part)
    whole = torch.ones(3, dtype=torch.float64, requires_grad=True)
    # Each rank uses all of `whole`, and computes a part of the gradient.
    (sum_of_parts,) = torch.autograd.grad((all_reduce_gradient(whole, comm) * (rank + 1)).sum(), whole)
    with agreement(comm, "checking"):
        assert total.tolist() == [size * (size - 1) / 2] * 3
        assert gradient.tolist() == weights_of((3,), 0).tolist()
        assert sum_of_parts.tolist() == [size * (size + 1) / 2] * 3
    plain = torch.ones(3)
    assert all_reduce_gradient(plain, comm) is plain


def test_a_broadcast_and_its_gradient(comm: Comm, rank: int, size: int) -> None:
    for root in range(size):
        shape = (2, 2) if rank == root else (3,)  # what another rank passes does not matter
        piece = torch.full(shape, float(rank), dtype=torch.float64, requires_grad=True)
        whole = broadcast(piece, (2, 2), root, comm)
        (gradient,) = torch.autograd.grad((whole * weights_of((2, 2), 0)).sum(), piece)
        with agreement(comm, "checking"):
            assert whole.tolist() == [[root, root]] * 2
            wanted = weights_of((2, 2), 0) if rank == root else torch.zeros(3)
            assert gradient.tolist() == wanted.tolist()


@pytest.mark.parametrize("axis", [0, 1])
def test_an_all_to_all_and_its_gradient(comm: Comm, rank: int, size: int, axis: int) -> None:
    """Rank r sends r + 2 p indices, which are 10 r + p, to each rank p. Gradients go back the same way."""
    send, receive = [rank + 2 * peer for peer in range(size)], [peer + 2 * rank for peer in range(size)]
    index = torch.cat([torch.full((n,), 10.0 * rank + peer) for peer, n in enumerate(send)])
    blocks = torch.stack([index, -index], 1 - axis).double().requires_grad_()
    got = all_to_all(blocks, send, receive, axis, comm, ("a test",))
    (gradient,) = torch.autograd.grad((got * (rank + 1)).sum(), blocks)
    with agreement(comm, "checking"):
        wanted = torch.cat([torch.full((n,), 10.0 * peer + rank) for peer, n in enumerate(receive)])
        assert got.select(1 - axis, 0).tolist() == wanted.tolist()
        peers = torch.cat([torch.full((n,), peer + 1.0) for peer, n in enumerate(send)])
        assert gradient.select(1 - axis, 0).tolist() == peers.tolist()


@pytest.mark.serial
def test_no_views_are_made_for_ranks_that_get_nothing() -> None:
    """Of 65,536 ranks a halo has two, and views for all took most of a second."""
    counts = [0] * 65536
    counts[7], counts[9] = 2, 1
    pieces = collectives._pieces(torch.arange(6).reshape(2, 3), counts, 1)
    assert {rank: piece.tolist() for rank, piece in pieces.items()} == {7: [[0, 1], [3, 4]], 9: [[2], [5]]}
    assert collectives._pieces(torch.zeros(0, 3), counts, 1) == {}


def test_reversed_ranks(comm: Comm, rank: int, size: int) -> None:
    layout = ms.Layout((2 * size + 1,), 0, size)
    whole = torch.arange(2.0 * size + 1)
    for _ in range(2):  # also a second time, with another array
        got = reverse_ranks(whole[layout.box(rank)], layout, comm)
        assert got.tolist() == whole[layout.box(size - 1 - rank)].tolist()
        whole = whole + 1


def test_halos_and_their_gradient(comm: Comm, rank: int, size: int) -> None:
    extent = 3 * size
    layout = ms.Layout((extent, 2), 0, size)
    whole = torch.arange(2.0 * extent, dtype=torch.float64).reshape(extent, 2)
    for width in (0, 1, 4):
        spans = [(max(start - width, 0), min(start + 3 + width, extent)) for start in range(0, extent, 3)]
        shard = whole[layout.box(rank)].clone().requires_grad_()
        halo = halo_exchange(shard, layout, spans, comm)
        (gradient,) = torch.autograd.grad(halo.sum(), shard)
        with agreement(comm, "checking"):
            assert halo.tolist() == whole[slice(*spans[rank])].tolist()
            # An element has a gradient of 1 from each rank whose span it is in.
            used = [sum(start <= i < stop for start, stop in spans) for i in range(*layout.span(rank))]
            assert gradient[:, 0].tolist() == used


def test_only_what_requires_a_gradient_is_sent_back(comm: Comm, size: int) -> None:
    rows, columns = layouts(size)["rows"], layouts(size)["columns"]
    numbers = torch.arange(30).reshape(SHAPE)[rows.box(comm.rank)]
    shard = WHOLE[rows.box(comm.rank)].clone().requires_grad_()
    moved, integers = redistribute_all([shard, numbers], [(rows, columns)] * 2, comm)
    assert not integers.requires_grad
    (gradient,) = torch.autograd.grad(moved.sum(), shard)
    assert torch.equal(gradient, torch.ones_like(shard))


@dataclass(frozen=True, slots=True)
class Square(Collective):
    """The sum over the ranks of squares: not linear, so that its gradient needs the input."""

    comm: Comm
    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return [self.comm.allreduce(tensors[0] ** 2)]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Any) -> Tensors:
        return [2 * kept[0] * gradients[0]]


def test_a_collective_that_keeps_its_tensors(comm: Comm, rank: int, size: int) -> None:
    part = torch.full((2,), rank + 1.0, dtype=torch.float64, requires_grad=True)
    (total,) = apply(Square(comm), part)
    (first,) = torch.autograd.grad(total.sum(), part, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), part)
    with agreement(comm, "checking"):
        assert total.tolist() == [sum((r + 1) ** 2 for r in range(size))] * 2
        assert first.tolist() == [2.0 * (rank + 1)] * 2
        assert second.tolist() == [2.0] * 2


def all_on_last(extent: int, size: int) -> ms.Layout:
    return ms.Layout((extent, 3), 0, size, (*[0] * (size - 1), extent))


def gather(shard: torch.Tensor, layout: ms.Layout, comm: Comm) -> torch.Tensor:
    return redistribute(shard, layout, layout.with_split(None), comm)


# Functions of a tensor of shape (5, 3) that all ranks have, with a result that all have, by one collective each.
DIFFERENTIABLE: dict[str, Any] = {
    "redistribute": lambda x, comm: gather(
        redistribute(cut(x, comm), rows(comm), all_on_last(5, comm.size), comm), all_on_last(5, comm.size), comm
    ),
    "redistribute_all": lambda x, comm: gather(
        redistribute_all([cut(x, comm), cut(x**2, comm)], [(rows(comm), all_on_last(5, comm.size))] * 2, comm)[1],
        all_on_last(5, comm.size),
        comm,
    ),
    "all_reduce": lambda x, comm: all_reduce(cut(x, comm).sum(0) ** 2, comm),
    "all_reduce_gradient": lambda x, comm: all_reduce(
        cut(x, comm).sum(0) * all_reduce_gradient(x.sum(0), comm), comm
    ),
    "broadcast": lambda x, comm: broadcast(all_reduce_gradient(x, comm)[1:2], (1, 3), 0, comm) ** 2,
    "reverse_ranks": lambda x, comm: gather(
        reverse_ranks(cut(x, comm), rows(comm), comm) ** 2,
        rows(comm).with_counts((rows(comm).counts or ())[::-1]),
        comm,
    ),
    "halo_exchange": lambda x, comm: all_reduce(
        halo_exchange(cut(x, comm), rows(comm), [(0, 3)] * comm.size, comm).sum(0) ** 2, comm
    ),
    "scan": lambda x, comm: ms.cumulative_sum(ms.array(x, split=0), axis=0).resplit(None).larray,
    "products before": lambda x, comm: ms.cumulative_prod(ms.array(x, split=0), axis=0).resplit(None).larray,
    "extremes": lambda x, comm: ms.array(x, split=0).max(0).larray ** 2,
    "variances": lambda x, comm: ms.array(x, split=0).var(0).larray,
    "QR": lambda x, comm: ms.linalg.qr(ms.array(x, split=0))[1].larray,
    "Q": lambda x, comm: ms.linalg.qr(ms.array(x, split=0))[0].resplit(None).larray,
    "all to all": lambda x, comm: ms.sort(ms.array(x[:, 0], split=0)).resplit(None).larray ** 2,
    "rows": lambda x, comm: ms.array(x, split=0)[ms.array([4, 0, 4])].resplit(None).larray ** 2,
    "regroup": lambda x, comm: ms.reshape(ms.array(x, split=0), (3, 5)).resplit(None).larray ** 2,
}


def rows(comm: Comm) -> ms.Layout:
    return ms.Layout((5, 3), 0, comm.size)


def cut(x: torch.Tensor, comm: Comm) -> torch.Tensor:
    return redistribute(x, rows(comm).with_split(None), rows(comm), comm)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradcheck_of_each_collective(comm: Comm, name: str) -> None:
    """Numerical against analytical gradients, of first and second order, also for batches of gradients."""
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()

    def function(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = DIFFERENTIABLE[name](x, comm)
        return result

    assert torch.autograd.gradcheck(function, x, fast_mode=True, check_batched_grad=True)
    # By itself it draws the gradients that come in, which on each rank would be others.
    result = function(x)
    gradient = torch.linspace(-1, 2, result.numel(), dtype=x.dtype).reshape(result.shape).requires_grad_()
    assert torch.autograd.gradgradcheck(function, x, gradient, fast_mode=True)
