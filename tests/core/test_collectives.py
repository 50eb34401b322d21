"""Collectives: a redistribution gives new memory every time, and gradients find their way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core.collectives import redistribute
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
def test_gradients_arrive_in_the_layout_of_the_input(comm: Comm, src: str, dst: str) -> None:
    old, new = layouts(comm.size)[src], layouts(comm.size)[dst]
    shard = WHOLE[old.box(comm.rank)].clone().requires_grad_()
    out = (
        ms.DNDarray(shard, old, comm).to_layout(new).larray if old != new else redistribute(shard, old, new, comm)
    )
    (out * WEIGHTS[new.box(comm.rank)]).sum().backward()
    with agreement(comm, "checking"):
        assert shard.grad is not None
        assert torch.equal(shard.grad, WEIGHTS[old.box(comm.rank)])


def test_gradients_of_several_moves(comm: Comm) -> None:
    x = ms.array(WHOLE, split=0)
    x.larray.requires_grad_()
    y = x.resplit(1).resplit(None).resplit(1).balance().resplit(0)
    (y.larray**3).sum().backward()
    with agreement(comm, "checking"):
        torch.testing.assert_close(x.larray.grad, 3 * x.larray.detach() ** 2)


def test_second_derivatives(comm: Comm) -> None:
    x = ms.array(WHOLE, split=0)
    x.larray.requires_grad_()
    (first,) = torch.autograd.grad((x.resplit(1).larray ** 3).sum(), x.larray, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x.larray)
    with agreement(comm, "checking"):
        torch.testing.assert_close(second, 6 * x.larray.detach())


def test_complex_gradients_and_expanded_ones(comm: Comm) -> None:
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


def test_a_0d_array_and_an_empty_one(comm: Comm) -> None:
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
