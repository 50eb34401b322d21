"""Variances and standard deviations: NumPy's, also far from zero and in blocks. See also test_functions.py."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from reduction_cases import Dims, assert_reduced, cases, expected

import minisplit as ms
from minisplit.ops.reductions.moments import _records
from minisplit.testing import Whole, assert_close, assert_equal, spmd
from minisplit.testing import strategies as st


@pytest.mark.parametrize("name", ["var", "std"])
@given(
    case=cases(st.dtypes((torch.float64, torch.float32, torch.complex128, torch.bfloat16))),
    correction=hyp.sampled_from((0, 1, 0.5, 2, 5)),
)
@spmd
def test_corrections_as_numpy(name: str, case: tuple[Whole, Any, bool], correction: float) -> None:
    whole, axis, keepdims = case

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        wide = x.to(torch.complex128 if x.is_complex() else torch.float64).numpy()
        with warnings.catch_warnings(action="ignore"):
            found = getattr(np, name)(wide, axis=dims, ddof=correction, keepdims=keepdim)
        return torch.tensor(found).to(x.dtype.to_real() if x.is_complex() else x.dtype)

    wanted = expected(function, whole.tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, correction=correction, keepdims=keepdims), whole, axis, wanted)


@given(
    whole=st.dndarrays((40,), torch.float64, split=0, elements=hyp.floats(-1, 1)), far=hyp.sampled_from((0, 1e8))
)
@spmd
def test_a_variance_far_from_zero(whole: Whole, far: float) -> None:
    """Sums of squares would have no digit left."""
    tensor = whole.tensor + far
    exact = tensor - far
    result = ms.var(Whole(tensor, whole.layout).cut())
    assert_close(result, torch.var(exact, correction=0), rtol=1e-6, atol=1e-15)
    same = ms.var(Whole(torch.full_like(tensor, far + 0.1), whole.layout).cut())
    assert_equal(same, torch.tensor(0.0, dtype=torch.float64))


@pytest.mark.serial
@pytest.mark.parametrize("block", [16, 48, 1000])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 6), (1, 90, 3), (40, 1, 2), (2, 3, 40)], ids=str)
def test_moments_block_by_block(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axes: Dims, block: int
) -> None:
    monkeypatch.setattr("minisplit.ops.reductions.moments.BLOCK", block)
    x = np.random.default_rng(0).normal(1000, 1, shape).astype(np.float32)
    for values in (torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(x.T)).permute(2, 1, 0)):
        count, mean, squares = _records(values, axes).unbind(-1)
        assert (count == np.prod([shape[axis] for axis in axes])).all()
        np.testing.assert_allclose(mean, x.mean(axes, dtype=np.float64, keepdims=True), rtol=1e-14)
        wanted = x.astype(np.float64).var(axes, keepdims=True) * count.numpy()
        np.testing.assert_allclose(squares, wanted, rtol=1e-9, atol=1e-12)
    assert (_records(torch.full(shape, 0.1), axes)[..., 2] == 0).all()


def test_gradients_where_the_divisor_is_not_above_0(size: int) -> None:
    """As torch's: NaN where an element does not deviate, infinite where it does."""
    whole = torch.tensor([1.0, 2.0, 3.0] * size, dtype=torch.float64)
    x = ms.array(whole, split=0)
    x.larray.requires_grad_()
    ms.var(x, correction=3 * size).larray.backward()
    assert x.larray.grad is not None
    wanted = torch.where(whole == 2, torch.nan, torch.inf).double()
    assert_equal(ms.DNDarray(x.larray.grad.abs(), x.layout, x.comm), wanted)


def test_ddof(size: int, raises_alike: Any) -> None:
    plain = np.array([[1.0, 2.0, 4.0], [0.0, np.nan, 1.0]])
    for split in (None, 0, 1):
        x = ms.array(plain, split=split)
        for name in ("std", "var", "nanstd", "nanvar"):
            assert_close(getattr(ms, name)(x[:1], axis=1, ddof=1), getattr(np, name)(plain[:1], axis=1, ddof=1))
        assert_close(x[0].std(ddof=1), np.std(plain[0], ddof=1).reshape(()))
        assert_close(x[0].var(ddof=1), np.var(plain[0], ddof=1).reshape(()))
        with raises_alike(ValueError, match="give correction or ddof, which are one thing, got 1 and 1"):
            x.var(correction=1, ddof=1)
