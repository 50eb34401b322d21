"""Weighted means and logarithms of sums: NumPy's and torch's values for every layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from reduction_cases import Dims, assert_gradients, assert_reduced, cases, dims_of, expected, with_specials

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd
from minisplit.testing import strategies as st


def logsumexp(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    return torch.logsumexp(x.double(), dims, keepdim).to(x.dtype)


@given(case=with_specials())
@spmd
def test_logsumexp(case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    wanted = expected(logsumexp, whole.tensor, axis, keepdims)
    # The logarithm of nothing needs no greatest element.
    messages = 2 if math.prod(whole.tensor.shape[dim] for dim in dims_of(axis, whole.tensor.ndim)) else 1
    assert_reduced(lambda x: ms.logsumexp(x, axis=axis, keepdims=keepdims), whole, axis, wanted, messages)


@given(case=cases(torch.float64))
@spmd
def test_gradients_of_logsumexp(case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    if whole.tensor.numel():
        assert_gradients(ms.logsumexp, logsumexp, whole, axis, keepdims)


@given(
    case=cases(st.dtypes((torch.float64, torch.bfloat16, torch.int64))),
    cut=st.layouts((4, 4, 4), split=hyp.none() | hyp.integers(0, 2)),
)
@spmd
def test_averages(case: tuple[Whole, Any, bool], cut: ms.Layout) -> None:
    whole, axis, keepdims = case
    tensor = whole.tensor
    weights = (torch.arange(1.0, tensor.numel() + 1) % 5 + 1).reshape(tensor.shape)
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    w = ms.array(weights, split=cut.split if cut.split is not None and cut.split < tensor.ndim else None)

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        heavy = weights if x.ndim == tensor.ndim else weights.unsqueeze(-1)
        return ((x * heavy.double()).sum(dims, keepdim) / heavy.double().sum(dims, keepdim)).to(dtype)

    wanted = expected(function, tensor, axis, keepdims)
    result = ms.average(whole.cut(), axis=axis, weights=w, keepdims=keepdims)
    assert_close(result, wanted)


def test_averages_along_one_axis(size: int, raises_alike: Any) -> None:
    plain = np.arange(24.0).reshape(2, 3, 4)
    for split in (0, 1, 2, None):
        x = ms.array(plain, split=split)
        for w in (ms.array([1.0, 2.0, 0.5]), ms.array([1.0, 2.0, 0.5], split=0)):
            assert_close(ms.average(x, axis=1, weights=w), np.average(plain, 1, w.numpy()))
        assert_close(ms.average(x), np.asarray(plain.mean()))
        with raises_alike(ValueError, match=r"weights must have .* got shape \(3,\) for axes \(0,\)"):
            ms.average(x, axis=0, weights=ms.ones(3))
