"""Tensors of random numbers: what of their making must not show in them."""

from __future__ import annotations

import pytest
import torch

import minisplit as ms
from minisplit.core.random import sampling
from minisplit.core.random.grids import ArrayGrid
from minisplit.core.random.philox import CallKey
from minisplit.testing import assert_equal


def test_blocks_do_not_show(comm):
    """Rows that are longer than a block, and begin and end within counters."""
    shape = 3, 5 * sampling._BLOCK + 7
    for dtype in (torch.float32, torch.float64, torch.complex128):
        with ms.random.fork(seed=8):
            whole = ms.random.randn(shape, dtype=dtype)
        for split in (0, 1):
            with ms.random.fork(seed=8):
                assert_equal(ms.random.randn(shape, dtype=dtype, split=split), whole.larray)


@pytest.mark.serial
@pytest.mark.parametrize("draw", [sampling.normal, sampling.exponential, sampling.cauchy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_show(draw, dtype):
    """torch gives each of its threads a part, in which the last numbers may be rounded otherwise."""
    before = torch.get_num_threads()
    field = ArrayGrid(CallKey(1), 3, 5 * sampling._BLOCK + 7, 0, 10**7)
    try:
        drawn = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            drawn.append(draw(field, dtype, torch.device("cpu")))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)


@pytest.mark.serial
def test_scaled_numbers_stay_below_the_end():
    for dtype in (torch.float32, torch.float64, torch.float16):
        u = torch.tensor([0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
        low, high = sampling.scale(u, 2.0, 2.001 if dtype is not torch.float16 else 2.5).tolist()
        assert 2 <= low <= high < (2.001 if dtype is not torch.float16 else 2.5)
