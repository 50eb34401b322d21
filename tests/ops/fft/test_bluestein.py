"""Transforms of a prime number of points along a split axis, which no rank has whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fourier import values

import minisplit as ms
from minisplit.core import collectives
from minisplit.testing import assert_close, run, traffic

CALLS: dict[str, tuple[int, dict[str, Any]]] = {
    "fft": (101, {}), "ifft": (101, {"norm": "ortho"}), "rfft": (101, {"norm": "forward"}),
    "irfft": (51, {"n": 101}), "hfft": (51, {"n": 101, "norm": "forward"}), "ihfft": (97, {"n": 103}),
    "fft ": (30, {"n": 101}), "fft  ": (150, {"n": 101, "norm": "ortho"}),
}  # fmt: skip


def check(ranks: int) -> None:
    for name, (extent, arguments) in CALLS.items():
        plain = values((extent,))
        plain = plain.real if name in ("rfft", "ihfft") else plain
        layout = ms.Layout((extent,), 0, ranks, (extent - 5, 5, *[0] * (ranks - 2)))
        x = ms.array(plain, split=0).to_layout(layout).requires_grad_()
        y = plain.clone().requires_grad_()
        with traffic() as seen:
            found = getattr(ms.fft, name.strip())(x, **arguments)
        wanted = getattr(torch.fft, name.strip())(y, **arguments)
        assert seen.calls["exchange"] > 3  # it was not gathered
        assert found.split == 0
        assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        for result in (found, wanted):
            (result.real**3 if result.dtype.is_complex else result**3).sum().backward()
        assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-8)
    matrix = values((2, 101))
    assert_close(ms.fft.fft2(ms.array(matrix, split=1)), torch.fft.fft2(matrix), rtol=1e-10, atol=1e-10)


@pytest.mark.serial
@pytest.mark.parametrize("ranks", [2, 4])
def test_transforms_of_primes_are_those_of_torch(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", 0)
    run(check, ranks, ranks=ranks)


def error() -> float:
    plain = values((16411,)).to(torch.complex64)
    exact = torch.fft.fft(plain.to(torch.complex128))
    found = ms.fft.fft(ms.array(plain, split=0)).torch()
    return float((found - exact).abs().max() / exact.abs().max())


@pytest.mark.serial
def test_the_precision_of_long_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of indices are beyond the integers of float32: angles made of them there would be wrong."""
    monkeypatch.setattr(collectives, "RING_BYTES", 0)
    assert max(run(error, ranks=2)) < 2e-6
