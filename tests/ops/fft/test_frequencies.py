"""Frequencies and their order: NumPy's values for every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fourier import values
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close


def test_frequencies_and_shifts(size: int) -> None:
    for n in (1, 2, 7, 8):
        for split in (None, 0):
            for d in (1.0, 0.25):
                plain = np.fft.fftfreq(n, d)
                x = ms.fft.fftfreq(n, d=d, dtype=torch.float64, split=split)
                assert_close(x, torch.from_numpy(plain))
                assert_close(ms.fft.rfftfreq(n, d=d, dtype=torch.float64, split=split), np.fft.rfftfreq(n, d))
                assert_close(ms.fft.fftshift(x), np.fft.fftshift(plain))
                assert_close(ms.fft.ifftshift(ms.fft.fftshift(x)), plain)
    assert ms.fft.fftfreq(3, split=0).dtype is torch.float32
    whole = values((3, 4))
    for layout in layouts((3, 4), size):
        for axes in (None, 0, (1,), (0, 1)):
            result = ms.fft.fftshift(dealt(whole, layout), axes=axes)
            assert_close(result, np.fft.fftshift(whole.numpy(), axes))
            assert_close(ms.fft.ifftshift(result, axes=axes), whole)


def test_A16_results_stay_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    assert ms.fft.fftfreq(4, split=0, comm=part).comm is part
    assert ms.fft.fftshift(ms.ones((4, 5), split=0, comm=part)).comm is part
    part.free()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.fft.fftfreq(0), ValueError, "must be at least 1, got 0"),
        (lambda x: ms.fft.rfftfreq(3, dtype=torch.int64), TypeError, "real floating point one, got torch.int64"),
        (lambda x: ms.fft.fftshift(x, axes=2), IndexError, "axes 2 is out of range"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[Any], Any], kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones((5, 3), split=0))


def test_fftfreq_complex(raises_alike: Any) -> None:
    for call in (ms.fft.fftfreq, ms.fft.rfftfreq):
        for d in (1j, "1", None, ms.ones(3)):
            with raises_alike(TypeError, match="d, the distance of points, must be a real number, got"):
                call(4, d=d)
        for d in (float("inf"), float("nan")):
            with raises_alike(ValueError, match="d, the distance of points, must be finite, got"):
                call(4, d=d)
        with raises_alike(ZeroDivisionError, match="must not be 0"):
            call(4, d=0)
        assert call(4, d=np.float32(0.5), split=0).shape == call(4).shape
