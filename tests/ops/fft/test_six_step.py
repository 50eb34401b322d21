"""Transforms along a split axis: there and back, and as precise as torch's."""

from __future__ import annotations

import pytest
import torch
from fourier import values
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.ops.fft.six_step import _twiddle_factors, hermitian_weights
from minisplit.testing import Whole, assert_close, spmd
from minisplit.testing import strategies as st


@given(whole=st.dndarrays(hs.integers(2, 60).map(lambda n: (n,)), torch.float64, split=0))
@spmd
def test_there_and_back_along_a_split_axis(whole: Whole) -> None:
    x, n = whole.cut(), len(whole.tensor)
    assert_close(ms.fft.ifft(ms.fft.fft(x)), whole.tensor + 0j, rtol=1e-10, atol=1e-10)
    assert_close(ms.fft.irfft(ms.fft.rfft(x), n=n), whole.tensor, rtol=1e-10, atol=1e-10)
    assert_close(ms.fft.hfft(ms.fft.ihfft(x), n=n), whole.tensor, rtol=1e-10, atol=1e-10)


def test_the_precision_of_long_axes(size: int) -> None:
    plain = values((1 << 14,)).to(torch.complex64)
    exact = torch.fft.fft(plain.to(torch.complex128))
    error = (
        ms.fft.fft(ms.array(plain, split=0)).numpy() - exact.numpy()
    ).__abs__().max() / exact.abs().max().item()
    assert error < 1e-6


@pytest.mark.serial
def test_twiddle_factors_of_a_large_transform_are_exact() -> None:
    """Row times column is beyond the integers of float32, whose angles would be wrong by more than rounding."""
    n, rows = 2**26, 2**5
    span = (2**21 - 5, 2**21)
    factors = _twiddle_factors(rows, span, n, -1, torch.empty(0, dtype=torch.complex64))
    products = torch.arange(rows)[:, None] * torch.arange(*span)
    exact = torch.polar(torch.ones(products.shape, dtype=torch.float64), products.double() * (-2 * torch.pi / n))
    assert factors.dtype is torch.complex64
    assert (factors - exact).abs().max() < 3e-7


@pytest.mark.serial
def testhermitian_weights_count_the_mirror_images() -> None:
    like = torch.empty(0, dtype=torch.complex64)
    assert hermitian_weights((0, 4), 6, like).tolist() == [1, 2, 2, 1]
    assert hermitian_weights((0, 4), 7, like).tolist() == [1, 2, 2, 2]
    assert hermitian_weights((2, 4), 6, like).tolist() == [2, 1]
