"""Functions of torch whose own rules mix samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import minisplit as ms

Function = Callable[[torch.Tensor], torch.Tensor]


@pytest.mark.parametrize(
    "func",
    [torch.triu, torch.Tensor.tril, lambda v: v.clone().triu_(), lambda v: torch.tril(input=v, diagonal=1)],
    ids=["triu", "method", "in place", "keyword"],
)
def test_V32_a_triangle_of_a_vector(raises_alike: Any, func: Function, size: int) -> None:
    with raises_alike(RuntimeError, "at least 2 dimensions"):
        ms.vmap(func)(ms.ones((2 * size, 3), split=0))


@pytest.mark.parametrize("chunk_size", [None, 2, "auto"])
def test_V32_a_roll_of_numbers(chunk_size: Any) -> None:
    x = ms.arange(7, split=0)
    (y,) = ms.vmap(lambda v: torch.roll(v, 1), chunk_size=chunk_size)(x)
    assert y.tolist() == x.tolist()


def test_what_has_enough_dimensions_is_as_before() -> None:
    x = torch.arange(18.0).reshape(2, 3, 3)
    (y,) = ms.vmap(lambda v: torch.roll(v.triu(), 1, 0))(ms.array(x, split=0))
    assert torch.equal(torch.from_numpy(y.numpy()), torch.roll(x.triu(), 1, 1))


def test_V32_debug_mode_compares_a_sample_alone(raises_alike: Any, size: int) -> None:
    """State that cannot be followed: a counter of Python."""
    calls: list[int] = []

    def func(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return v * len(calls)

    with ms.debug(), raises_alike(RuntimeError, "alone"):
        ms.vmap(func)(ms.ones((2 * size, 3), split=0))


def test_V34_what_torch_captures(size: int) -> None:
    x = ms.arange(4.0 * size, split=0)
    for chunk_size in (None, 2, "auto"):
        cond = ms.vmap(lambda v: torch.cond(v > 1, torch.sin, torch.cos, (v,)), chunk_size=chunk_size)
        for _ in range(2):
            (y,) = cond(x)
        whole = torch.arange(4.0 * size)
        assert torch.equal(torch.from_numpy(y.numpy()), torch.where(whole > 1, whole.sin(), whole.cos()))


def test_V34_a_compiled_function_draws(size: int) -> None:
    func = torch.compile(lambda v: v + torch.rand(2), backend="eager")
    plain = ms.vmap(lambda v: v + torch.rand(2), randomness="different")
    for chunk_size in (None, 2, "auto"):
        mapped = ms.vmap(func, randomness="different", chunk_size=chunk_size)
        results = []
        for each in (mapped, plain):
            ms.random.seed(3)
            results.append(each(ms.zeros((4 * size, 2), split=0))[0].tolist())
        assert results[0] == results[1]
