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


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_V34_both_functions_of_a_condition_draw(randomness: str) -> None:
    def chosen(v: torch.Tensor) -> torch.Tensor:
        return torch.cond(v > 2, lambda v: v + torch.rand(3), lambda v: v - torch.randn(3), (v,))

    def plain(v: torch.Tensor) -> torch.Tensor:
        more, less = torch.rand(3), torch.randn(3)
        return torch.where(v > 2, v + more, v - less)

    results = []
    for func, chunk_size in ((plain, None), (chosen, None), (chosen, 2), (chosen, "auto")):
        ms.random.seed(5)
        (y,) = ms.vmap(func, randomness=randomness, chunk_size=chunk_size)(ms.arange(7.0, split=0))
        results.append(y.tolist())
    assert results == [results[0]] * 4


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda v: torch.cond(v > 2, lambda v: (v, v * 2), lambda v: (v * 3, -v), (v,))[1], [0, -1, -2, 6, 8]),
        (lambda v: torch.cond(v > 2, lambda: v * 2, lambda: v), [0, 1, 2, 6, 8]),
        (lambda v: torch.cond(torch.tensor([False]), lambda v: v * 2, lambda v: v, (v,)), [0, 1, 2, 3, 4]),
        (
            torch.func.grad(lambda v: torch.cond(v > 2, lambda v: v * v, lambda v: v * 3, (v,))),
            [3, 3, 3, 6, 8],
        ),
        (
            lambda v: torch.cond(
                v > 1, lambda v: torch.cond(v > 3, torch.neg, lambda v: v * 2, (v,)), torch.zeros_like, (v,)
            ),
            [0, 0, 4, 6, -4],
        ),
        (lambda v: torch.vmap(lambda u: torch.cond(u > 2, torch.neg, torch.zeros_like, (u,)))(v * torch.ones(1)), [
            [0], [0], [0], [-3], [-4],
        ]),
    ],
    ids=["two outputs", "closure", "the same for all", "gradient", "nested", "torch.vmap"],
)  # fmt: skip
def test_V34_a_condition(func: Function, expected: list[Any]) -> None:
    (y,) = ms.vmap(func)(ms.arange(5.0, split=0))
    assert y.tolist() == expected


def writes_into_what_it_captured(v: torch.Tensor) -> torch.Tensor:
    w = v * 2
    return torch.cond(v > 2, lambda: w.mul_(2), lambda: w * 1)


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (lambda v: torch.cond(v > 2, torch.Tensor.sin_, torch.cos, (v * 2,)), "changed a tensor in place"),
        (writes_into_what_it_captured, "changed a tensor in place"),
        (lambda v: torch.cond(v > 2, lambda v: v > 0, torch.cos, (v,)), "same structure, dtypes and shapes"),
    ],
    ids=["operand", "captured", "dtypes"],
)
def test_V34_a_wrong_condition(raises_alike: Any, size: int, func: Any, text: str) -> None:
    with raises_alike(RuntimeError, text):
        ms.vmap(func)(ms.arange(2.0 * size, split=0))


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
