"""The standard's diagonals and traces, of the last two axes. Their values: tests/ops/shape/test_diagonal.py."""

from __future__ import annotations

import numpy as np

import minisplit as ms
from minisplit.testing import assert_equal


def test_the_last_two_axes(size: int) -> None:
    plain = np.arange(24).reshape(2, 3, 4)
    for split in (None, 0, 1, 2):
        x = ms.array(plain, split=split)
        assert_equal(ms.linalg.trace(x, offset=1), np.linalg.trace(plain, offset=1))
        assert_equal(ms.linalg.diagonal(x, offset=-1), np.linalg.diagonal(plain, offset=-1).copy())
