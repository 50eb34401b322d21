"""Covariances and correlations: NumPy's values for every layout."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd, traffic
from minisplit.testing import strategies as st


@hs.composite
def samples(draw: hs.DrawFn) -> tuple[Whole, Whole | None, bool]:
    """Variables, more of them or None, and whether they are the rows."""
    kind = draw(hs.sampled_from((torch.float64, torch.complex128)))
    number, rowvar = draw(hs.integers(2, 6)), draw(hs.booleans())
    shapes = [(draw(hs.integers(1, 3)), number) for _ in range(2)]
    x, y = (draw(st.dndarrays(shape if rowvar else shape[::-1], kind)) for shape in shapes)
    return x, draw(hs.sampled_from((None, y))), rowvar


@given(case=samples(), ddof=hs.sampled_from((None, 0, 1, 2)), weighted=hs.integers(0, 3))
@spmd
def test_covariances_as_numpy_has_them(case: tuple[Whole, Whole | None, bool], ddof: Any, weighted: int) -> None:
    x, y, rowvar = case
    number = x.tensor.shape[1 if rowvar else 0]
    f = np.arange(1, number + 1) if weighted & 1 else None
    a = np.linspace(0.5, 2, number) if weighted & 2 else None
    with warnings.catch_warnings(action="ignore"):
        wanted = np.cov(x.tensor, None if y is None else y.tensor, rowvar, False, ddof, f, a)
    weights = [None if w is None else ms.array(w, split=split) for w, split in ((f, 0), (a, None))]
    found = ms.cov(x.cut(), None if y is None else y.cut(), rowvar, False, ddof, *weights)
    assert_close(found, np.asarray(wanted))


@given(case=samples())
@spmd
def test_correlations_as_numpy_has_them(case: tuple[Whole, Whole | None, bool]) -> None:
    x, y, rowvar = case
    with warnings.catch_warnings(action="ignore"):
        wanted = np.corrcoef(x.tensor, None if y is None else y.tensor, rowvar)
    if np.isfinite(wanted).all():
        assert_close(ms.corrcoef(x.cut(), None if y is None else y.cut(), rowvar), np.asarray(wanted))


def test_integers_vectors_and_messages(size: int) -> None:
    plain = np.array([[1, 2, 4, 7, 3], [2, 0, 1, 1, 5]])
    for split in (0, 1, None):
        assert_close(ms.cov(ms.array(plain, split=split)), np.cov(plain))
        assert_close(ms.cov(ms.array(plain, split=split), bias=True), np.cov(plain, bias=True))
    for split in (0, None):
        x = ms.array(plain[0] + 0.5, split=split)
        assert_close(ms.cov(x), np.cov(plain[0]))
        assert_close(ms.cov(x, ms.array(plain[1] + 0.0)), np.cov(*plain))
        assert_close(ms.corrcoef(x), np.corrcoef(plain[0]))
    with traffic() as seen:
        ms.cov(ms.ones((2, 100), split=1))
    assert dict(seen.calls) == ({"allreduce": 2} if size > 1 else {})


def test_gradients(size: int) -> None:
    tensor = torch.arange(12.0, dtype=torch.float64).reshape(2, 6).sin().requires_grad_()
    torch.cov(tensor).sum().backward()
    for split in (0, 1, None):
        x = ms.array(tensor.detach(), split=split)
        x.larray.requires_grad_()
        found = ms.cov(x)
        found.larray.sum().backward()
        assert x.larray.grad is not None
        assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), tensor.grad)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ms.cov(x[None]), r"m must have 1 or 2 dimensions, got shape \(1, 2, 3\)"),
        (lambda x: ms.cov(x, ms.ones((2, 4))), "the same number of observations, got 3 and 4"),
        (lambda x: ms.cov(x, aweights=ms.ones(2)), r"aweights must be 1-d, one for each of 3 .* got shape \(2,\)"),
    ],
)  # fmt: skip
def test_errors(call: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(ValueError, match=words):
        call(ms.ones((2, 3), split=0))


def test_median_of_integers_in_covariances(size: int) -> None:
    plain = np.array([[16777217, 16777219, 16777221], [1, 2, 3]])
    for split in (None, 0, 1):
        assert_close(ms.cov(ms.array(plain, split=split)), np.cov(plain))
