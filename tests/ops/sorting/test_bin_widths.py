"""Rules for the number of bins: NumPy's bins for every layout."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd
from minisplit.testing import strategies as st

RULES = ["auto", "fd", "doane", "scott", "stone", "rice", "sturges", "sqrt"]
rng = np.random.default_rng(0)
SAMPLES = [
    rng.standard_normal(50), rng.exponential(size=120), np.ones(7), np.array([1.0]), np.array([]),
    rng.integers(0, 9, 40), rng.integers(0, 3, 100), np.r_[np.zeros(60), rng.standard_normal(30)],
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ends", [None, (-0.5, 1.5)])
def test_bins_are_those_of_numpy(size: int, rule: str, ends: Any) -> None:
    for sample in SAMPLES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that the result of "stone" may be suboptimal
            hist, edges = np.histogram(sample, rule, ends)
        for layout in [
            ms.Layout(sample.shape, None, size),
            *(layout_of(sample.shape, 0, kind, size) for kind in KINDS),
        ]:
            found = ms.histogram(dealt(torch.from_numpy(sample), layout), rule, ends)
            assert_close(found[0], hist)
            assert_close(found[1], edges)


@given(
    whole=st.dndarrays(st.shapes(max_side=5), st.dtypes((torch.float64, torch.int64))),
    rule=hyp.sampled_from(RULES),
)
@spmd
def test_any_array(whole: Whole, rule: str) -> None:
    if whole.tensor.isfinite().all():
        _, edges = np.histogram(
            whole.tensor.double().numpy() if whole.tensor.is_floating_point() else whole.tensor, rule
        )
        assert_close(ms.histogram(whole.cut(), rule)[1], edges)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda x: ms.histogram(x, "best"),
            ValueError,
            "bins must be a number, edges, or one of sqrt, .* got 'best'",
        ),
        (
            lambda x: ms.histogram(x, "auto", weights=x),
            TypeError,
            "weights do not go with a rule for the number of",
        ),
        (
            lambda x: ms.histogram(x * float("nan"), "auto"),
            ValueError,
            "range must be finite and ascend, got nan to",
        ),
    ],
)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.arange(4.0, split=0))
