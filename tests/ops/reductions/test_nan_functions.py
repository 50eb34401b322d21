"""Reductions of what is not NaN: NumPy's values for every layout. nansum and nanprod: test_functions.py."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from reduction_cases import (
    Dims,
    Torch,
    assert_gradients,
    assert_reduced,
    cases,
    expected,
    inexact,
    ordered,
    with_specials,
)

import minisplit as ms
from minisplit.testing import Whole, spmd


def nan_extreme(name: str) -> Torch:
    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        with warnings.catch_warnings(action="ignore"):
            return torch.tensor(getattr(np, name)(x.double().numpy(), dims, keepdims=keepdim)).to(x.dtype)

    return ordered(function)


TABLE: dict[str, Torch] = {
    "nanmax": nan_extreme("nanmax"),
    "nanmean": lambda x, dims, keepdim: torch.nanmean(x.double(), dims, keepdim).to(x.dtype),
    "nanmin": nan_extreme("nanmin"),
}


@pytest.mark.parametrize("name", TABLE)
@given(case=with_specials())
@spmd
def test_what_is_not_nan(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    wanted = expected(TABLE[name], whole.tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, keepdims=keepdims), whole, axis, wanted, messages=2)


@given(case=cases(torch.float64))
@spmd
def test_gradients_of_nanmean(case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    if whole.tensor.numel():
        assert_gradients(ms.nanmean, TABLE["nanmean"], whole, axis, keepdims)


@pytest.mark.parametrize("name", ["nanvar", "nanstd"])
@given(case=with_specials() | cases(torch.complex128), correction=hyp.sampled_from((0, 1, 0.5, 3)))
@spmd
def test_spread_of_what_is_not_nan(name: str, case: tuple[Whole, Any, bool], correction: float) -> None:
    whole, axis, keepdims = case

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        wide = x.to(torch.complex128 if x.is_complex() else torch.float64).numpy()
        with warnings.catch_warnings(action="ignore"):
            found = getattr(np, name)(wide, axis=dims, ddof=correction, keepdims=keepdim)
        return torch.tensor(found).to(x.dtype.to_real() if x.is_complex() else x.dtype)

    wanted = expected(inexact(function), whole.tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, correction=correction, keepdims=keepdims), whole, axis, wanted, 3)
