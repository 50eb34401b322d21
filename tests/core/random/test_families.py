"""Gamma, beta, Laplace, binomial numbers and so on: the same in every layout, and of the right distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts
from scipy import stats

import minisplit as ms
from minisplit.core.random.sampling import apply_exactly
from minisplit.testing import assert_equal

DRAWS: dict[str, Any] = {
    "gamma": lambda **how: ms.random.gamma(0.6, 3.0, **how),
    "chisquare": lambda **how: ms.random.chisquare(3, **how),
    "beta": lambda **how: ms.random.beta(2, 0.5, **how),
    "laplace": lambda **how: ms.random.laplace(1, 2, **how),
    "lognormal": lambda **how: ms.random.lognormal(0.5, 0.7, **how),
    "binomial": lambda **how: ms.random.binomial(60, 0.4, **how),
    "geometric": lambda **how: ms.random.geometric(0.2, **how),
}
EXACT: dict[str, Any] = {
    "gamma": stats.gamma(0.6, scale=3),
    "chisquare": stats.chi2(3),
    "beta": stats.beta(2, 0.5),
    "laplace": stats.laplace(1, 2),
    "lognormal": stats.lognorm(0.7, scale=np.exp(0.5)),
}


def drawn(make: Any, **how: Any) -> ms.DNDarray:
    with ms.random.fork(seed=5):
        return make(**how)


def test_arrays_are_the_same_in_every_layout(size: int) -> None:
    for make in DRAWS.values():
        whole = drawn(make, size=(5, 7), dtype=torch.float64)
        for split in (0, 1):
            assert_equal(drawn(make, size=(5, 7), dtype=torch.float64, split=split), whole.larray)
    p = torch.linspace(0.1, 1, 12, dtype=torch.float64).reshape(4, 3)
    likes: list[Any] = [ms.random.gamma, ms.random.chisquare, lambda x: ms.random.binomial(40, x)]
    for like in likes:
        whole = drawn(lambda like=like: like(ms.asarray(p)))
        for layout in layouts(p.shape, size):
            found = drawn(lambda like=like, layout=layout: like(dealt(p, layout)))
            assert found.layout == layout
            assert_equal(found, whole.larray)


@pytest.mark.serial
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_have_their_distributions(dtype: torch.dtype) -> None:
    for name, exact in EXACT.items():
        numbers = drawn(DRAWS[name], size=20_000, dtype=dtype)
        assert numbers.dtype is dtype
        assert stats.kstest(numbers.numpy(), exact.cdf).pvalue > 0.001, name
    counts = drawn(DRAWS["geometric"], size=20_000, dtype=torch.int64).numpy()
    assert counts.min() == 1
    assert abs(counts.mean() - 5) < 0.15
    assert abs(counts.var() - 20) < 1.5


@pytest.mark.serial
def test_beta_numbers_of_small_exponents_are_numbers() -> None:
    x = drawn(lambda: ms.random.beta(1e-4, 3e-4, 4000)).numpy()
    assert np.isfinite(x).all()
    assert abs(x.mean() - 0.25) < 0.03


@pytest.mark.serial
def test_a_function_of_a_number_does_not_depend_on_its_place() -> None:
    x = torch.linspace(0.1, 9, 40_003, dtype=torch.float64)
    for name in ("log", "cos", "exp"):
        whole = apply_exactly(name, x)
        torch.testing.assert_close(whole, getattr(torch, name)(x))
        for start in (0, 3, 16_380, 40_000):
            assert torch.equal(apply_exactly(name, x[start : start + 5]), whole[start : start + 5])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: ms.random.gamma(0), "shape must be a finite number above 0, got 0.0"),
        (
            lambda: ms.random.gamma(ms.ones(2), size=2),
            "shape is an array, so size, split, device and comm are its own",
        ),
        (lambda: ms.random.beta(1, float("nan")), "b must be a finite number above 0, got nan"),
        (lambda: ms.random.laplace(float("inf")), "loc must be finite, got inf"),
        (lambda: ms.random.lognormal(0, -1), "sigma must not be negative, got -1.0"),
        (lambda: ms.random.binomial(3, 1.5), "p must be from 0 to 1, got 1.5"),
        (lambda: ms.random.binomial(-1, 0.5), "n must not be negative"),
        (lambda: ms.random.geometric(0), "p must be above 0: without success"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_it_counts(raises_alike: Any, wrong: Any, text: str) -> None:
    before = ms.random.get_state()
    with raises_alike(ValueError, text):
        wrong()
    assert ms.random.get_state() == before
