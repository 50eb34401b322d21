"""What is made of reductions: NumPy's and torch's values for every layout. nansum, nanprod: test_functions.py."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import assert_gradients as assert_gradients_in_layouts
from layouts import dealt, layouts
from reduction_cases import (
    Dims,
    Torch,
    assert_gradients,
    assert_reduced,
    cases,
    dims_of,
    expected,
    inexact,
    ordered,
    with_specials,
)

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
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
    if math.prod(tensor.shape) == 0 and isinstance(wanted, torch.Tensor) and wanted.numel():
        with pytest.raises(ZeroDivisionError):  # as NumPy's: nothing weighs 0
            ms.average(whole.cut(), axis=axis, weights=w, keepdims=keepdims)
        return
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


def test_average_zero_weights(size: int, raises_alike: Any) -> None:
    for split in (None, 0, 1):
        x, w = ms.ones((3, 4), split=split), ms.array([[1.0] * 4, [0.0] * 4, [1.0, -1.0, 1.0, -1.0]], split=split)
        for axis in (None, 0):
            with raises_alike(ZeroDivisionError, match="must not add up to 0"):
                ms.average(x, axis, weights=0 * w)
        # One sum of zero is enough, on one rank.
        with raises_alike(ZeroDivisionError, match="must not add up to 0"):
            ms.average(x, 1, weights=w)
        assert_close(ms.average(x, 0, weights=w + 1), np.ones(4, np.float32))


def test_median_of_integers_in_averages(size: int) -> None:
    for split in (None, 0):
        x, w = ms.array([16777217, 16777217], split=split), ms.array([1, 2], split=split)
        assert_equal(ms.average(x, weights=w), np.array(16777217.0))


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


def test_peak_to_peak(size: int, raises_alike: Any) -> None:
    whole = torch.tensor([[1.0, math.nan, 3.0], [-2.0, 5.0, 3.0]], dtype=torch.float64)
    for layout in layouts((2, 3), size):
        for axis in (None, 0, 1):
            with traffic() as seen:
                found = ms.ptp(dealt(whole, layout), axis, keepdims=True)
            assert_equal(found, np.ptp(whole.numpy(), axis, keepdims=True))
            assert seen.collectives == 2 * (layout.split is not None and axis in {None, layout.split} and size > 1)
    small = ms.array([100, -100], split=0).astype(torch.int8)
    assert ms.ptp(small).item() == np.ptp(np.array([100, -100], dtype=np.int8)) == -56
    assert_gradients_in_layouts(
        ms.ptp, lambda x: x.max() - x.min(), [torch.tensor([1.0, 4.0, -2.0]).double()], size
    )
    with raises_alike(ValueError, match="needs at least one element"):
        ms.ptp(ms.zeros(0, split=0))
