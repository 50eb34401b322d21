"""Tensors of random numbers: what of their making must not show in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.layout import Layout
from minisplit.core.random import sampling
from minisplit.core.random.philox import WORD
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
    field = sampling.IndexGrid((1, 2), 3, 5 * sampling._BLOCK + 7)
    try:
        drawn = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            drawn.append(draw(field, dtype, torch.device("cpu")))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)


@pytest.mark.serial
def test_other_devices_get_the_words_that_numpy_makes():
    """Beyond 2^32, where both halves of place and sample count."""
    generator = np.random.default_rng(1)
    place, sample = generator.integers(0, 2**62, (2, 1000))
    here = sampling._words((5, 6), (place, 3), (sample, 4), torch.device("cpu"))
    # On tensors of the CPU, by the way that a GPU's go.
    tensors = torch.from_numpy(place), torch.from_numpy(sample)
    there = sampling._words((5, 6), (tensors[0], 3), (tensors[1], 4), torch.device("cuda"))
    assert torch.equal(here, there)
    assert torch.equal(
        sampling._words((5, 6), (place % 99, 1), (0, 7), torch.device("cpu")),
        sampling._words((5, 6), (tensors[0] % 99, 1), (0, 7), torch.device("cuda")),
    )
    assert int(here.min()) >= 0
    assert int(here.max()) <= WORD


@pytest.mark.serial
def test_grids_of_all_ranks_have_every_place_once():
    """Rows and columns of each rank's grid, in row-major order of the global array."""
    for shape, split in (((5, 4), 0), ((5, 4), 1), ((2, 5, 3), 1), ((7,), 0), ((3, 0), 0)):
        layout = Layout(shape, split, 3)
        whole = np.arange(layout.size).reshape(shape)
        for rank in range(3):
            grid = sampling.shard_grid(layout, rank, (0, 0))
            rows, columns = np.ogrid[: grid.rows, : grid.length]
            places = grid.first + rows * grid.stride + columns
            assert places.ravel().tolist() == whole[layout.box(rank)].ravel().tolist()


@pytest.mark.serial
def test_scaled_numbers_stay_below_the_end():
    for dtype in (torch.float32, torch.float64, torch.float16):
        u = torch.tensor([0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
        low, high = sampling.scale(u, 2.0, 2.001 if dtype is not torch.float16 else 2.5).tolist()
        assert 2 <= low <= high < (2.001 if dtype is not torch.float16 else 2.5)
