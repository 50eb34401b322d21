"""Splitters: what samples stand for, and places in brackets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.ops.sorting import splitters
from minisplit.ops.sorting.splitters import Brackets, choose_splitters, count_less, cut_in_rounds, places_between


@pytest.mark.serial
def test_splitters_weigh_samples_by_what_they_stand_for() -> None:
    keys = np.array([[[0, 1, 0], [0, 2, 0]], [[0, 10, 0], [0, 20, 0]]]).reshape(2, -1)
    assert choose_splitters(np.array([100, 2]), keys).tolist() == [[0, 2, 0]]
    assert choose_splitters(np.array([2, 100]), keys).tolist() == [[0, 10, 0]]
    assert choose_splitters(np.array([0, 0]), keys).shape == (1, 3)


@pytest.mark.serial
def test_places_of_samples_in_several_ranges() -> None:
    starts, stops = np.array([3, 7, 20]), np.array([5, 7, 24])
    assert places_between(starts, stops, 1, 0.7).tolist() == [3, 4, 20, 21, 22, 23]
    assert places_between(starts, stops, 2, 0.5).tolist() == [4, 21, 23]
    assert places_between(starts, stops, 8, 0.9).tolist() == []


@pytest.mark.serial
def test_brackets_are_open_until_an_end_is_near() -> None:
    brackets = Brackets(10, 100, 4)
    assert brackets.open()[0] == 100
    brackets.narrow(np.array([20, 60]), np.array([2, 9]))
    # Near 25, near 50 and, from 60 to 100, not near 75: half a share is 12.
    assert [np.array(part).tolist() for part in brackets.open()] == [40, [9], [10]]
    brackets.narrow(np.array([80]), np.array([10]))
    assert not brackets.open()[0]
    assert [row.tolist() for row in brackets.nearest()] == [[20, 60, 80], [2, 9, 10]]


def test_equal_keys_end_the_rounds(comm: ms.Communication, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set functions have equal keys, which nothing divides. The rounds end where nothing gets narrower."""
    monkeypatch.setattr(splitters, "OF_ALL", 0)
    number = 1000

    def keys_at(places: torch.Tensor) -> torch.Tensor:
        return torch.zeros((len(places), 3), dtype=torch.int64)

    with ms.testing.traffic() as seen:
        of_all, own = cut_in_rounds(number, keys_at, np.full(size, number), torch.device("cpu"), comm)
    assert {*of_all.tolist()} <= {0, number * size}
    assert own.tolist() == (of_all // size).tolist()
    assert seen.calls["allreduce"] == (size > 1)


@pytest.mark.serial
@pytest.mark.parametrize("looked_at", [1, 16, 1024])
def test_searches_of_sorted_elements(looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitters, "LOOKED_AT", looked_at)
    for number in (0, 1, 2, 5, 64, 1000):
        elements = torch.arange(number) * 2 // 3
        sought = torch.arange(-1, number, max(number // 9, 1))
        keys = torch.stack([torch.zeros_like(elements), elements, torch.arange(number)], 1)
        wanted = torch.stack([torch.zeros_like(sought), sought, torch.full_like(sought, 3)], 1)
        found = count_less(number, lambda places, keys=keys: keys[places], wanted)
        assert found.tolist() == [sum(key < one for key in keys.tolist()) for one in wanted.tolist()]
        assert count_less(number, lambda places, keys=keys: keys[places], wanted[:0]).tolist() == []
