"""Parts of files, and several files as one array."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import assert_equal

WHOLE = torch.arange(77.0, dtype=torch.float64).reshape(11, 7)


@pytest.mark.parametrize("suffix", ["npy", "h5", "csv"])
def test_a_part_of_a_file_is_loaded(folder: Any, raises_alike: Any, suffix: str) -> None:
    path = folder / f"x.{suffix}"
    ms.save(ms.array(WHOLE, split=0), path)
    for split in (None, 0, 1):
        for slices in ([slice(2, 9)], (None, slice(-3, None)), (slice(1, 30), slice(0, 2)), (slice(5, 5),)):
            x = ms.load(path, split=split, slices=slices)
            assert x.split == split
            assert_equal(x, WHOLE[tuple(each or slice(None) for each in slices)])
    with raises_alike(ValueError, match=r"must be None or slices in steps of 1, got slice\(0, 5, 2\)"):
        ms.load(path, slices=[slice(0, 5, 2)])
    with raises_alike(ValueError, match=r"slices has 3 entries, but the array has shape \(11, 7\)"):
        ms.load(path, slices=[None] * 3)


@pytest.mark.parametrize("suffix", ["npy", "csv", "parquet"])
def test_several_files_are_one_array(folder: Any, raises_alike: Any, suffix: str) -> None:
    for number, rows in enumerate(WHOLE.split([4, 1, 6])):
        ms.save(ms.array(rows, split=0), folder / f"part{number}.{suffix}")
    pattern = f"{folder}/part*.{suffix}"
    for split in (None, 0, 1):
        assert_equal(ms.load(pattern, split=split), WHOLE)
    assert_equal(ms.load(pattern, slices=[slice(3, 9)]), WHOLE[3:9])
    stored = ms.open(pattern)
    assert stored.shape == (11, 7)
    (sums,) = ms.vmap(torch.sum, chunk_size=2)(stored)
    assert_equal(sums, WHOLE.sum(1))
    with raises_alike(FileNotFoundError, match=r"there is no file .*none\*"):
        ms.open(f"{folder}/none*.{suffix}")
    ms.save(ms.ones((2, 3), split=0), folder / f"part9.{suffix}")
    with raises_alike(ValueError, match=r"one dtype and shapes alike but for their rows, got .* in part9"):
        ms.load(pattern)
