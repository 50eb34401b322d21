"""Polynomials: NumPy's values for every layout, and torch's gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close, assert_equal, traffic

PLACES = np.array([-1.5, 0.25, 1.0, 2.0, 3.5, 4.0, 5.25])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.complex128])
def test_powers(size: int, dtype: torch.dtype) -> None:
    whole = torch.tensor([0, 1, 2, 5]).to(dtype)
    for layout in layouts((4,), size):
        x = dealt(whole, layout)
        for number, increasing in ((None, False), (3, True), (0, False), (1, True)):
            with traffic() as seen:
                found = ms.vander(x, number, increasing)
            wanted = torch.from_numpy(np.vander(whole.numpy(), number, increasing))
            # NumPy has float64 of float32 here, since int64 and float32 promote to it there.
            assert_equal(found, wanted.to(dtype) if dtype is torch.float32 else wanted)
            assert found.split == x.split
            assert found.counts == x.counts
            assert not seen.collectives


def test_values(size: int) -> None:
    coefficients = np.array([2.0, -1.0, 0.5])
    wanted = np.polyval(coefficients, PLACES)
    for layout in layouts((7,), size):
        x = dealt(torch.from_numpy(PLACES), layout)
        for p in (coefficients, coefficients.tolist(), *(dealt(torch.from_numpy(coefficients), other)
                                                         for other in layouts((3,), size))):  # fmt: skip
            found = ms.polyval(p, x)
            assert_close(found, wanted)
            assert found.layout == layout
    p = ms.array(coefficients, split=0)
    assert ms.polyval(p, 3.0).item() == np.polyval(coefficients, 3.0)
    assert ms.polyval([1, 0, -1], ms.arange(3, split=0)).tolist() == [-1, 0, 3]
    assert ms.polyval([], ms.ones(2, split=0)).tolist() == [0.0, 0.0]
    assert ms.polyval([1.5], ms.ones(2, split=0)).dtype is torch.float32


def test_fits(size: int) -> None:
    y, w = np.sin(PLACES), np.arange(1.0, 8.0)
    two = np.stack([y, y**2], 1)
    for layout in layouts((7,), size):
        x = dealt(torch.from_numpy(PLACES), layout)
        assert_close(ms.polyfit(x, ms.array(y, split=0), 2), np.polyfit(PLACES, y, 2), rtol=1e-9, atol=1e-11)
        assert_close(ms.polyfit(x, ms.array(two), 3), np.polyfit(PLACES, two, 3), rtol=1e-9, atol=1e-11)
        assert_close(
            ms.polyfit(x, ms.array(y), 1, w=ms.array(w, split=0)),
            np.polyfit(PLACES, y, 1, w=w),
            rtol=1e-9,
            atol=1e-11,
        )
    integers = ms.arange(5, split=0)
    assert_close(ms.polyfit(integers, 3 * integers - 2, 1), torch.tensor([3.0, -2.0]).double(), rtol=0, atol=1e-12)


def test_gradients(size: int) -> None:
    x, p = torch.from_numpy(PLACES), torch.tensor([2.0, -1.0, 0.5]).double()
    assert_gradients(ms.polyval, lambda p, x: (p[0] * x + p[1]) * x + p[2], [p, x], size)
    assert_gradients(lambda x: ms.vander(x, 3), lambda x: torch.stack([x**2, x, x**0], 1), [x], size)
    assert_gradients(
        lambda y: ms.polyfit(ms.array(PLACES, split=0), y, 2),
        lambda y: torch.linalg.pinv(torch.vander(x, 3)) @ y,
        [torch.sin(x)],
        size,
    )


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.vander(x[None]), ValueError, r"vander needs a 1-d array, got shape \(1, 4\)"),
        (lambda x: ms.vander(x, -1), ValueError, "N must not be negative, got -1"),
        (lambda x: ms.polyval([[1, 2]], x), ValueError, r"in one dimension, got shape \(1, 2\)"),
        (lambda x: ms.polyval([1, 2], 3), TypeError, "x must be a DNDarray, got int"),
        (lambda x: ms.polyfit(x, x, -1), ValueError, "deg must not be negative, got -1"),
        (lambda x: ms.polyfit(x, x[:3], 1), ValueError, r"as many values, at least one, got \(4,\) and \(3,\)"),
        (lambda x: ms.polyfit(x[:0], x[:0], 1), ValueError, r"at least one, got \(0,\) and \(0,\)"),
        (lambda x: ms.polyfit(x, x, 1, w=x[:2]), ValueError, r"w must have the shape of x, \(4,\), got \(2,\)"),
    ],
)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.arange(4.0, split=0))


def test_A16_results_stay_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.arange(4.0, split=0, comm=part)
    assert ms.vander(x).comm is ms.polyval([1, 2], x).comm is ms.polyfit(x, x, 1).comm is part
    part.free()
