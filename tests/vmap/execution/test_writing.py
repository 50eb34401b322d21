"""Functions that write into tensors which they make: the most reported complaint about torch.vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import assert_close

Comm = ms.Communication
CAPTURED = torch.arange(3.0)


def rows(v: torch.Tensor) -> torch.Tensor:
    y, s = torch.zeros(4, 3), v
    for t in range(4):
        s = torch.sin(s)
        y[t] = s
    return y


def elements(v: torch.Tensor) -> torch.Tensor:
    y = torch.empty(3, dtype=torch.float64)
    for i in range(3):
        y[i] = v[i] * i
    return y


def arithmetic(v: torch.Tensor) -> torch.Tensor:
    y = torch.full((3,), 2.0, dtype=torch.float64)
    y += v
    y.mul_(v)
    return y


def through_a_view(v: torch.Tensor) -> torch.Tensor:
    y = v.new_zeros(2, 3)
    z = torch.zeros(2, 3, dtype=v.dtype)
    z[0].copy_(v)
    y[1].add_(v)
    return y + z


def of_a_copy(v: torch.Tensor) -> torch.Tensor:
    y = CAPTURED.clone()
    y[0] = v[0]
    return y


def inner(w: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(3, dtype=w.dtype)
    y[0], y[1:] = w[0] ** 2, w[1:] ** 3
    return y


def in_inner_vmap(v: torch.Tensor) -> torch.Tensor:
    def pair(a: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(2, dtype=a.dtype)
        y[0] = a
        return y

    return torch.vmap(pair)(v)


FUNCTIONS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    rows, elements, arithmetic, through_a_view, of_a_copy, in_inner_vmap,
    torch.func.grad(lambda w: inner(w).sum()), torch.func.jacrev(inner),
    torch.func.hessian(lambda w: inner(w).sum()),
]  # fmt: skip


@pytest.mark.parametrize("func", FUNCTIONS)
def test_factories_may_be_written_into(comm: Comm, func: Callable[[torch.Tensor], torch.Tensor]) -> None:
    whole = torch.arange(12.0, dtype=torch.float64).reshape(4, 3) / 10
    if func is in_inner_vmap:  # which torch.vmap cannot do
        expected = torch.stack([whole, torch.zeros_like(whole)], -1)
    else:
        expected = torch.stack([func(v) for v in whole])
    x = ms.array(whole, split=0)
    mapped = ms.vmap(func)
    assert mapped.plan(x).outputs is not None
    for _ in range(2):  # the second call begins with what worked
        assert_close(mapped.one(x), expected)
    assert_close(ms.vmap(func, chunk_size=1).one(x.redistribute([4, *[0] * (comm.size - 1)])), expected)
    assert ms.vmap(func).one(x[:0]).shape == (0, *expected.shape[1:])


def test_gradients_flow_through_what_is_written() -> None:
    whole = torch.arange(1.0, 13.0).reshape(4, 3)
    x, w = ms.array(whole, split=0).requires_grad_(), torch.ones(3, requires_grad=True)

    def func(v: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(3)
        y[:2] = v[:2] * w[:2]
        return y

    ms.vmap(func).one(x).sum().backward()
    assert x.grad is not None and w.grad is not None  # noqa: PT018
    assert_close(x.grad, torch.tensor([[1.0, 1.0, 0.0]] * 4))
    torch.testing.assert_close(w.grad, whole.sum(0) * torch.tensor([1.0, 1.0, 0.0]))


def test_what_is_not_made_in_the_function_stays_as_it_is(raises_alike: Any) -> None:
    x, captured = ms.ones((4, 3), split=0), torch.zeros(3)

    def writes(v: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(3)
        made += v
        captured.add_(v)
        return made

    with raises_alike(
        RuntimeError, "hint: func changes in place a tensor that has no axis for the samples, as one t"
    ):
        ms.vmap(writes)(x)
    assert captured.tolist() == [0.0] * 3
    # And what need not have an axis for the samples has none.
    shared = ms.vmap(lambda v: torch.zeros(2).add_(1), out_dims=None).one(x)
    assert (shared.split, shared.tolist()) == (None, [1.0, 1.0])
