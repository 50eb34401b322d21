"""Comparing whole arrays: NumPy's and torch's answers for every layout."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

SMALL = hyp.sampled_from((1, 0, 2))


@given(two=st.broadcastable_dndarrays(2, st.dtypes((torch.float64, torch.int64)), elements=SMALL))
@spmd
def test_equality(two: tuple[Whole, Whole]) -> None:
    (x, y), (a, b) = (whole.cut() for whole in two), (whole.tensor for whole in two)
    same = a.shape == b.shape and bool((a == b).all())
    close = torch.isclose(a.double(), b.double(), atol=1.0)
    assert_equal(ms.isclose(x, y, atol=1.0), close)
    with agreement(x.comm, "comparing"):
        assert ms.array_equal(x, y) is same
        assert ms.allclose(x, y, atol=1.0) is bool(close.all())
        assert ms.array_equal(x, x)


def test_nan_is_close_to_nan_by_request(size: int) -> None:
    x = ms.full((size,), math.nan, split=0)
    assert (ms.allclose(x, x), ms.allclose(x, x, equal_nan=True), ms.array_equal(x, x)) == (False, True, False)


def test_comparing_costs_one_message(size: int) -> None:
    x = ms.ones((size, 3), split=0)
    for call in (lambda: ms.allclose(x, x + 1e-9), lambda: ms.array_equal(x, x), lambda: ms.allclose(x, 1)):
        with traffic() as seen:
            assert call() is True
        assert seen.collectives == (size > 1)
    with traffic() as seen:
        assert ms.array_equal(x, ms.ones((3, size + 1), split=1)) is False
    assert seen.collectives == 0


@pytest.mark.parametrize("split", [0, 1, None])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.allclose(x, ms.ones(4)), ValueError, r"shapes \(5, 3\) and \(4,\) do not broadcast"),
        (lambda x: ms.allclose(x, x.larray), TypeError, "operand 2 of isclose must be .* got Tensor"),
        (lambda x: ms.array_equal(x, 1), TypeError, "x2 must be a DNDarray, got int"),
    ],
)  # fmt: skip
def test_errors_are_alike(split: int | None, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=split)
    with raises_alike(kind, match=words):
        call(x)
