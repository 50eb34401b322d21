"""Random arrays: the same for every layout, and what their functions refuse. Statistics are in test_quality.py."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.random import distributions
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as st

# Each makes an array of a shape.
DRAWS: dict[str, Any] = {
    "rand": lambda shape, **how: ms.random.rand(*shape, **how),
    "rand double": lambda shape, **how: ms.random.rand(shape, dtype=torch.float64, **how),
    "rand half": lambda shape, **how: ms.random.rand(shape, dtype=torch.float16, **how),
    "randn": lambda shape, **how: ms.random.randn(*shape, **how),
    "randn double": lambda shape, **how: ms.random.randn(*shape, dtype=torch.float64, **how),
    "randn complex": lambda shape, **how: ms.random.randn(*shape, dtype=torch.complex64, **how),
    "randint": lambda shape, **how: ms.random.randint(-3, 3_000_000_000, shape, **how),
    "randint wide": lambda shape, **how: ms.random.randint(-(2**62), 2**62 + 5, shape, **how),
    "uniform": lambda shape, **how: ms.random.uniform(-2, 5, shape, **how),
    "normal": lambda shape, **how: ms.random.normal(3, 0.1, shape, **how),
    "exponential": lambda shape, **how: ms.random.exponential(2, shape, **how),
    "bernoulli": lambda shape, **how: ms.random.bernoulli(0.3, shape, **how),
    "poisson": lambda shape, **how: ms.random.poisson(20, shape, **how),
    "poisson small": lambda shape, **how: ms.random.poisson(1.5, shape, **how),
    "choice": lambda shape, **how: ms.random.choice(7, shape, **how),
    "choice weighed": lambda shape, **how: ms.random.choice(3, shape, p=[1, 0, 2], **how),
}
LIKE: dict[str, Any] = {
    "rand_like": ms.random.rand_like,
    "randn_like": lambda x: ms.random.randn_like(x, dtype=torch.float32),
    "randint_like": lambda x: ms.random.randint_like(x, 1000),
    "bernoulli": ms.random.bernoulli,
    "poisson": lambda x: ms.random.poisson(x * 30),
}


@given(
    ranks=st.ranks(),
    layout=st.layouts(st.shapes(max_side=9)),
    draws=hs.lists(hs.sampled_from(sorted(DRAWS)), min_size=1, max_size=3),
    seed=hs.integers(0, 2**64 - 1),
)
@spmd
def test_arrays_are_the_same_for_every_number_of_ranks_and_split(
    ranks: int, layout: Any, draws: list[str], seed: int
) -> None:
    def drawn(split: int | None) -> list[ms.DNDarray]:
        ms.random.seed(seed)
        return [DRAWS[name](layout.shape, split=split) for name in draws]

    for x, whole in zip(drawn(layout.split), drawn(None), strict=True):
        assert x.layout == layout.balanced()
        assert_equal(x, whole.larray)


@given(
    whole=st.dndarrays(st.shapes(max_side=9), torch.float64, elements=hs.floats(0, 1)),
    name=hs.sampled_from(sorted(LIKE)),
    seed=hs.integers(0, 99),
)
@spmd
def test_arrays_like_another_are_the_same_for_all_its_counts(whole: Whole, name: str, seed: int) -> None:
    x = whole.cut()
    with ms.random.fork(seed):
        cut = LIKE[name](x)
    with ms.random.fork(seed):
        replicated = LIKE[name](x.resplit(None))
    assert cut.layout == whole.layout
    assert cut.dtype == (torch.float32 if name == "randn_like" else torch.float64)
    assert_equal(cut, replicated.larray)


@given(x=st.dndarrays(st.shapes(min_dims=1), torch.int64), n=hs.integers(0, 9), seed=hs.integers(0, 99))
@spmd
def test_permutations_are_the_same_on_all_ranks(x: Whole, n: int, seed: int) -> None:
    array, rows = x.cut(), x.tensor.shape[0]
    with ms.random.fork(seed):
        moved, order = ms.random.permutation(array), ms.random.permutation(n, split=0)
        some = ms.random.choice(array, n % (rows + 1), replace=False)
    with ms.random.fork(seed):
        whole = [ms.random.randperm(k).larray for k in (rows, n, rows)]
    assert moved.layout == array.layout
    assert_equal(moved, x.tensor[whole[0]])
    assert_equal(order, whole[1])
    assert_equal(some, x.tensor[whole[2]][: n % (rows + 1)])
    assert sorted(whole[1].tolist()) == list(range(n))


@pytest.fixture
def _few_are_sorted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "_SORTED_ALONE", -1)


@pytest.mark.usefixtures("_few_are_sorted_together")
def test_orders_that_ranks_sort_together_are_those_of_one_rank(size: int) -> None:
    def drawn(x: ms.DNDarray, n: int, split: int | None) -> list[ms.DNDarray]:
        return [
            ms.random.randperm(n, split=split, comm=x.comm),
            ms.random.permutation(x),
            ms.random.choice(n, (2, 3), replace=False, split=split, comm=x.comm),
            ms.random.choice(x, 4, replace=False, split=split),
            ms.random.choice(x, 4, replace=False, p=range(9), split=split),
            ms.random.choice(n, replace=False, comm=x.comm),
        ]

    whole = torch.arange(18.0).reshape(9, 2)
    with ms.random.fork(seed=3):
        wanted = drawn(ms.asarray(whole, comm=ms.SELF), 7, None)
    for layout in layouts((9, 2), size):
        with ms.random.fork(seed=3):
            found = drawn(dealt(whole, layout), 7, 0)
        assert found[1].layout == layout
        for mine, other in zip(found, wanted, strict=True):
            assert_equal(mine, other.larray)


def test_an_array_is_the_beginning_of_a_longer_one():
    with ms.random.fork(seed=8):
        short = ms.random.randn(6, 3, split=0)
    with ms.random.fork(seed=8):
        long = ms.random.randn(10, 3, split=1)
    assert_equal(short, long.numpy()[:6])


@pytest.mark.parametrize(
    ("draw", "digest"),
    [
        (lambda: ms.random.randint(0, 2**32, 1000, split=0), "b8298582999f6cac"),
        (lambda: ms.random.rand(1000, split=0, dtype=torch.float64), "9fc0a212ca614d94"),
        (lambda: ms.random.randint(0, 10**6, 1000, split=0), "f2737b046fa20ea2"),
    ],
)
def test_the_numbers_are_those_of_every_machine_and_version(draw, digest):
    with ms.random.fork(seed=2026):
        x = draw()
    assert hashlib.blake2b(x.numpy().tobytes(), digest_size=8).hexdigest() == digest


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        (lambda: ms.random.rand(2, dtype=torch.int64), TypeError, "not torch.int64"),
        (lambda: ms.random.randn(-2), ValueError, "extents must not be negative"),
        (lambda: ms.random.uniform(2, 2), ValueError, "low < high, got 2.0 and 2.0"),
        (lambda: ms.random.uniform(dtype=torch.complex64), TypeError, "not torch.complex64"),
        (lambda: ms.random.normal(0, -1), ValueError, "std must not be negative, got -1.0"),
        (lambda: ms.random.choice(2, p=["a", 1]), TypeError, r"p must be a number, or .* got \['a', 1\]"),
        (lambda: ms.random.normal(0, "r"), TypeError, "std must be a real number, got 'r' of type str"),
        (lambda: ms.random.uniform(1j, 2), TypeError, "low must be a real number, got 1j of type complex"),
        (lambda: ms.random.exponential([1, 2]), TypeError, r"scale must be a real number, got \[1, 2\]"),
        (lambda: ms.random.exponential(0), ValueError, "scale must be positive"),
        (lambda: ms.random.bernoulli(1.1), ValueError, "p must be from 0 to 1, got 1.1"),
        (lambda: ms.random.bernoulli(ms.zeros(3), 3), ValueError, "p is an array, so size, split"),
        (lambda: ms.random.poisson(float("inf")), ValueError, "rate must be a finite number"),
        (lambda: ms.random.randint(3, 3), ValueError, "low must be below high, got 3 and 3"),
        (
            lambda: ms.random.randint(0, 300, 3, dtype=torch.uint8),
            ValueError,
            "torch.uint8 cannot hold all integers",
        ),
        (lambda: ms.random.randint(2**63, 2**63 + 1), ValueError, "torch.int64 cannot hold"),
        (lambda: ms.random.randperm(-1), ValueError, "n must not be negative"),
        (lambda: ms.random.randperm(300, dtype=torch.uint8), ValueError, "cannot hold all integers from 0 to 299"),
        (lambda: ms.random.permutation(ms.zeros(())), ValueError, "needs an array with an axis"),
        (
            lambda: ms.random.choice(3, 4, replace=False),
            ValueError,
            "size must be at most 3, as many as there are without replacement, got 4",
        ),
        (lambda: ms.random.choice(0, 1), ValueError, "size must be at most 0, got 1"),
        (
            lambda: ms.random.choice(3, 2, replace=False, p=[0, 1, 0]),
            ValueError,
            "size must be at most 1, .* got 2",
        ),
        (lambda: ms.random.choice(3, 1, p=[1, 2]), ValueError, r"p must be 3 numbers, .* got shape \(2,\)"),
        (lambda: ms.random.choice(2, 1, p=[1, -2]), ValueError, "none of them negative"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_it_counts(raises_alike, wrong, kind, text):
    before = ms.random.get_state()
    with raises_alike(kind, text):
        wrong()
    assert ms.random.get_state() == before


def test_a_size_of_0_is_that_of_an_empty_array():
    for draw in (ms.random.bernoulli, ms.random.poisson, ms.random.uniform):
        assert draw(0.5, size=0, split=0).shape == (0,)
        assert draw(0.5).shape == ()


def test_samplers_are_asked_twice():
    """With other parameters in between, the numbers of one state are the same ones."""
    draws = [lambda: ms.random.randint(10), lambda: ms.random.randint(2**40), lambda: ms.random.normal(3, 2)]
    first, second = ([], [])
    for values in (first, second):
        for draw in draws:
            with ms.random.fork(seed=9):
                values.append(draw().item())
    assert first == second
    assert len(set(first)) == 3


def test_normal_numbers_have_means_and_deviations_of_their_own(size: int, raises_alike: Any) -> None:
    for split in (None, 0):
        means = ms.arange(6.0, split=split)
        drawn = ms.random.normal(means, 0.0)
        assert drawn.split == split
        assert drawn.tolist() == means.tolist()
    means = ms.arange(5.0, split=0)
    with ms.random.fork(3):
        drawn = ms.random.normal(means[:, None], means + 1, split=1)
    with ms.random.fork(3):
        numbers = ms.random.randn(5, 5).numpy()
    np.testing.assert_allclose(drawn.numpy(), numbers * (np.arange(5) + 1) + np.arange(5)[:, None], rtol=1e-6)
    assert drawn.split == 1
    with raises_alike(ValueError, match="std must not be negative, but an element is"):
        ms.random.normal(0.0, means - 1)
