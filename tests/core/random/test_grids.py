"""The words of places: the same in whatever way they are made, and for arrays those of NumPy's Philox."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.layout import Layout
from minisplit.core.random import grids, rejection, sampling
from minisplit.core.random.grids import ArrayGrid, Kind, SampleGrid, mapped_key, shard_grid
from minisplit.core.random.philox import CallKey, philox4x32

pytestmark = pytest.mark.serial
KEY = CallKey(2**64 - 3, 2**63 + 1, 2**63 + 5, 7)
CPU = torch.device("cpu")
SHAPES = [(5, 4, 9), (3, 2001), (300, 2), (40, 39)]
DRAWS: dict[str, Any] = {
    "rand": partial(sampling.uniform, dtype=torch.float32, device=CPU),
    "rand double": partial(sampling.uniform, dtype=torch.float64, device=CPU),
    "rand complex": partial(sampling.uniform, dtype=torch.complex64, device=CPU),
    "randn": partial(sampling.normal, dtype=torch.float32, device=CPU),
    "randn double": partial(sampling.normal, dtype=torch.float64, device=CPU),
    "randint": partial(sampling.integers, low=-3, high=3 * 2**30, device=CPU),
    "randint wide": partial(sampling.integers, low=-3, high=3 * 2**40, device=CPU),
    "gamma": lambda grid: rejection.gamma(grid, torch.full((grid.rows, grid.length), 0.7)),
}
# Each way of making words, by what it takes to choose it.
WAYS: dict[str, dict[str, Any]] = {
    "runs": {"_GAP": -1, "_ALONE": 10**9},
    "runs and what is between": {"_GAP": 10**9, "_ALONE": 10**9},
    "counters": {"_GAP": 10**9, "_ALONE": 0},
    "few counters at a time": {"_GAP": 10**9, "_ALONE": 0, "_BLOCK": 300},
    "other devices": {"by_numpy": lambda device: False},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_has_the_numbers_of_its_places_however_they_are_made(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids_of_all = {shape: ArrayGrid(KEY, 1, math.prod(shape)) for shape in SHAPES}
    wholes = {shape: {name: draw(grid) for name, draw in DRAWS.items()} for shape, grid in grids_of_all.items()}
    for name, value in WAYS[way].items():
        monkeypatch.setattr(grids, name, value)
        if name == "by_numpy":
            monkeypatch.setattr(sampling, name, value)
    for shape, drawn in wholes.items():
        for split in range(len(shape)):
            layout = Layout(shape, split, 3)
            for name, whole in drawn.items():
                shard = DRAWS[name](shard_grid(layout, 1, KEY)).view(layout.lshape(1))
                wanted = whole.view(shape)[layout.box(1)]
                if way == "other devices" and name in {"randn", "randn double", "gamma"}:
                    torch.testing.assert_close(shard, wanted)  # logarithms are rounded otherwise
                else:
                    assert torch.equal(shard, wanted), (name, shape, split)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_uniform_numbers_are_those_of_numpys_philox(seed: int) -> None:
    """Of calls that follow each other, in both precisions, and of a stream."""
    generator = ms.random.Generator(seed, stream=3)
    for call, dtype in enumerate([torch.float64, torch.float32, torch.float64]):
        x = ms.random.rand(3, 70_001, dtype=dtype, generator=generator).numpy()
        philox = np.random.Philox(key=seed + (3 << 64), counter=call << 128)
        assert np.array_equal(x, np.random.Generator(philox).random(x.shape, dtype=x.dtype))


def test_grids_of_all_ranks_have_every_place_once() -> None:
    """Rows and columns of each rank's grid, in row-major order of the global array."""
    for shape, split in (((5, 4), 0), ((5, 4), 1), ((2, 5, 3), 1), ((7,), 0), ((3, 0), 0)):
        layout = Layout(shape, split, 3)
        whole = np.arange(layout.size).reshape(shape)
        for rank in range(3):
            grid = shard_grid(layout, rank, KEY)
            rows, columns = np.ogrid[: grid.rows, : grid.length]
            places = grid.first + rows * grid.stride + columns
            assert places.ravel().tolist() == whole[layout.box(rank)].ravel().tolist()


def test_further_words_are_the_same_for_few_and_for_many_elements() -> None:
    """Of many they are made for all elements. Attempts and parts have words of their own."""
    for grid in (ArrayGrid(KEY, 30, 7, 3, 11), SampleGrid((1, 2), 30, 7, 2**40)):
        every = grid.again(torch.arange(210), 1)
        some = torch.tensor([3, 57, 209])
        assert torch.equal(grid.again(some, 1), every[:, some])
        assert len({*every.view(-1).tolist(), *grid.again(some, 2).view(-1).tolist()}) == 426


def test_words_of_samples_are_those_of_their_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 2^32, where both halves of the sample count, and on other devices."""
    first = 2**33 + 5
    for _ in range(2):
        words = SampleGrid((5, 6), 2, 9, first, 3).reader(Kind(1, 1), CPU)(range(2), range(2, 7))
        for row, sample in enumerate((first, first + 3)):
            made = [philox4x32((place, 0, sample % 2**32, 2), (5, 6)) for place in (1, 2, 3)]
            wanted = [low | high << 32 for each in made for low, high in (each[:2], each[2:])][:5]
            assert words[row].numpy().view(np.uint64).tolist() == wanted
        monkeypatch.setattr(grids, "by_numpy", lambda device: False)


def test_mapped_functions_have_keys_of_their_own() -> None:
    keys = {mapped_key(CallKey(seed, stream, call)) for seed in (0, 1) for stream in (0, 1) for call in (0, 1)}
    assert len(keys) == 8
    assert all(0 <= word < 2**32 for key in keys for word in key)
