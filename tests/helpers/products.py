"""Pairs of arrays to multiply, and NumPy's and torch's products to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as hs
from matrices import assert_gradients

import minisplit as ms
from minisplit.testing import Whole, assert_equal
from minisplit.testing import strategies as st

Pair = tuple[Whole, Whole]


@hs.composite
def pairs(draw: hs.DrawFn, dtype: torch.dtype | None = None) -> Pair:
    """Draw two arrays that often fit: they have few extents, the second often the last ones of the first."""
    dtype = dtype or draw(hs.sampled_from((torch.float64, torch.int64, torch.complex128)))
    extents = hs.sampled_from((3, 2, 1, 0, 4))
    first = tuple(draw(hs.lists(extents, max_size=3)))
    rest = tuple(draw(hs.lists(extents, max_size=2)))
    last = first[len(first) - min(draw(hs.integers(0, 3)), len(first)) :]
    second = draw(hs.sampled_from((last + rest, rest + first[-1:], first)))
    return draw(st.dndarrays(first, dtype)), draw(st.dndarrays(second[:3], dtype))


def refuse() -> Any:
    """Raise what NumPy raises for arrays that do not fit, where it would take some that we do not."""
    raise ValueError


def assert_as_numpy(ours: Callable[..., ms.DNDarray], numpys: Callable[..., Any], pair: Pair) -> None:
    """Assert that a product has NumPy's values, or raises where NumPy does. The operands keep their layouts."""
    x, y = (whole.cut() for whole in pair)
    try:
        expected = np.asarray(numpys(*(whole.tensor.numpy() for whole in pair)))
    except (ValueError, IndexError):
        with pytest.raises((ValueError, IndexError)):
            ours(x, y)
        return
    assert_equal(ours(x, y), expected)
    assert (x.layout, y.layout) == tuple(whole.layout for whole in pair)


def assert_gradients_as_torch(
    ours: Callable[..., ms.DNDarray], torchs: Callable[..., torch.Tensor], numpys: Callable[..., Any], pair: Pair
) -> None:
    """Assert that a product has torch's gradients, if both libraries have that product."""
    try:
        torchs(*(whole.tensor for whole in pair))
        numpys(*(whole.tensor.numpy() for whole in pair))
    except (RuntimeError, ValueError, IndexError):
        return
    assert_gradients(ours, torchs, *pair)
