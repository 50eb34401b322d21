"""Gradients through a mapped call. That they are those of torch, in any layout: `test_properties.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import assert_close, assert_equal

Comm = ms.Communication


def all_on(rank: int, extent: int, comm: Comm) -> list[int]:
    return [extent if r == rank % comm.size else 0 for r in range(comm.size)]


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def loss(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(w @ x).sum() * y


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("owner", [None, 0, -1])
def test_V23_gradcheck(comm: Comm, owner: int | None, chunk_size: int | None) -> None:
    """Numerical against analytical gradients, of first and second order, of tensors that all ranks have."""

    def whole_call(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        a = ms.asarray(x, split=1)
        b = ms.asarray(y, split=0)
        if owner is not None:
            b = b.redistribute(all_on(owner, 4, comm))
        (out,) = ms.vmap(loss, in_dims=(1, 0), chunk_size=chunk_size)(a, b, w=ms.asarray(w))
        return out.resplit(None).larray

    given = [values(*shape).requires_grad_() for shape in ((2, 4), (4,), (2, 2))]
    assert torch.autograd.gradcheck(whole_call, given)
    assert torch.autograd.gradgradcheck(whole_call, given)


@pytest.mark.parametrize("grow", [lambda x, w: x * w, lambda x, w: w.expand(2)], ids=["from both", "from one"])
def test_V23_outputs_that_depend_on_some_inputs_only(comm: Comm, grow: Any) -> None:
    """A backward pass makes the same collective calls on all ranks, also on those without samples."""
    x = ms.array(values(3), split=0).redistribute(all_on(0, 3, comm))
    y = ms.array(values(3, 2), split=0)
    w = ms.array(values(1))
    for array in (x, y, w):
        array.larray.requires_grad_()
    first, second, third = ms.vmap(lambda a, b, v: (grow(a, v), b.sum(), torch.ones(2)), max_imbalance=9.0)(
        x, y, w
    )
    assert not third.larray.requires_grad
    first.larray.sum().backward()
    assert_equal(ms.DNDarray(w.larray.grad, w.layout, comm), _wanted(grow, w.numpy(), values(3)))
    second.larray.sum().backward()
    assert_equal(ms.DNDarray(y.larray.grad, y.layout, comm), torch.ones(3, 2, dtype=torch.float64))


def _wanted(grow: Any, w: Any, x: torch.Tensor) -> torch.Tensor:
    weight = torch.from_numpy(w).requires_grad_()
    torch.vmap(grow, (0, None))(x, weight).sum().backward()
    assert weight.grad is not None
    return weight.grad


def test_V23_a_training_step(comm: Comm) -> None:
    """A parameter dict, replicated, through vmap and an optimizer: the same on all ranks as in one process."""
    x, y = values(7, 3), values(7)
    params = {"w": torch.ones(3, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}

    def squared(a: torch.Tensor, t: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
        return (p["w"] @ a + p["b"] - t) ** 2

    arrays = {name: ms.array(value) for name, value in params.items()}
    for array in arrays.values():
        array.larray.requires_grad_()
    optimizer = torch.optim.SGD([array.larray for array in arrays.values()], lr=0.1)
    a, t = ms.array(x, split=0), ms.array(y, split=0).redistribute(all_on(-1, 7, comm))
    for _ in range(3):
        optimizer.zero_grad()
        (losses,) = ms.vmap(squared)(a, t, p=arrays)
        (losses.larray.sum() / len(y)).backward()
        optimizer.step()
        gradient = torch.func.grad(lambda p: torch.vmap(squared, (0, 0, None))(x, y, p).mean())(params)
        params = {name: params[name] - 0.1 * gradient[name] for name in params}
    for name, array in arrays.items():
        assert_close(ms.DNDarray(array.larray.detach(), array.layout, comm), params[name])


def test_V23_parameters_of_a_module_as_keywords_get_the_whole_gradient(comm: Comm) -> None:
    net = torch.nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        net.weight[:] = values(2, 3)
        net.bias[:] = 0.0
    x = ms.array(values(5, 3), split=0).redistribute(all_on(-1, 5, comm))

    def far(x: torch.Tensor, parameters: dict[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return (torch.func.functional_call(net, parameters, (x,)) ** 2).sum() * scale

    (out,) = ms.vmap(far)(x, parameters=dict(net.named_parameters()), scale=torch.tensor(2.0))
    out.sum().larray.backward()
    expected = torch.autograd.grad(2 * (net(values(5, 3)) ** 2).sum(), list(net.parameters()))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_outputs_may_be_changed_in_place(comm: Comm) -> None:
    x = ms.ones((4, 2), split=0)
    x.larray.requires_grad_()
    (y,) = ms.vmap(lambda a: a * 3)(x)
    y += 1
    y.larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, comm), torch.full((4, 2), 3.0))


def test_no_graph_is_made_without_gradients(comm: Comm) -> None:
    x = ms.ones((4, 2), split=0)
    x.larray.requires_grad_()
    with torch.no_grad():
        (y,) = ms.vmap(lambda a: a * 3)(x)
    assert not y.larray.requires_grad
    (z,) = ms.vmap(lambda a: a.detach() * 3)(x)
    assert not z.larray.requires_grad


def test_integers_beside_what_requires_a_gradient(comm: Comm) -> None:
    x, i = ms.ones(5, split=0), ms.arange(5, split=0).redistribute(all_on(0, 5, comm))
    x.larray.requires_grad_()
    y, j = ms.vmap(lambda a, k: (a * k, k + 1))(x, i)
    y.larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, comm), torch.arange(5.0))
    assert j.tolist() == [1, 2, 3, 4, 5]
