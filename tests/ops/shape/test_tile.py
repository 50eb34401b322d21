"""Copies side by side: torch's and NumPy's values for every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINDS, layout_of, layouts
from shape_cases import assert_all, check_gradients, check_row, functions_of, is_right, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("tile", (5, 2), ((2,),), False),
    ("tile", (5, 2), ((3, 1),), False),
    ("tile", (5, 2), ((7, 2),), False),
    ("tile", (5,), ((2, 1),), True),
    ("tile", (5, 2), ((0, 1),), False),
    ("tile", (0, 2), ((5, 1),), False),
    ("tile", (), ((2, 3),), True),
    ("repeat", (5, 2), (3, 0), True),
    ("repeat", (5, 2), (2, -1), True),
    ("repeat", (5, 2), ([0, 3, 1, 0, 2], 0), True),
    ("repeat", (5, 2), (np.array([2, 1]), 1), True),
    ("repeat", (5, 2), (torch.tensor([0]), 0), True),
    ("repeat", (5,), (2,), True),
    ("repeat", (5, 2), (2,), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("tile")


def test_copies_are_on_the_rank_of_the_index(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.repeat(ragged, 3, 0).counts == tuple(3 * n for n in ragged.counts or ())


@pytest.mark.parametrize(("name", "shape", "args"), [row[:3] for row in ROWS if row[0] == "tile"])
def test_gradients_of_what_moves(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    check_gradients(size, name, shape, args)


def test_repeats_that_are_split(size: int) -> None:
    x, times = values((5, 2)), torch.tensor([0, 2, 1, 0, 3])

    def check(layout: ms.Layout, other: ms.Layout) -> bool:
        result = ms.repeat(Whole(x, layout).cut(), Whole(times, other).cut(), axis=0)
        return is_right(result, x.repeat_interleave(times, 0))

    assert_all(check, layouts((5, 2), size), layouts((5,), size))


def test_A12_repeats_on_another_communicator(raises_alike: Any) -> None:
    with raises_alike(ValueError, match="operands must be on one communicator"):
        ms.repeat(ms.ones(3, split=0), ms.ones(3, dtype=torch.int64, comm=ms.MPI_SELF))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.tile(x, -1), ValueError, r"reps must not be negative, got \(-1,\)"),
        (lambda x: ms.repeat(x, [1, 2], axis=0), ValueError, r"one int, or 6, .*, got shape \(2,\)"),
        (lambda x: ms.repeat(x, -1, axis=0), ValueError, "repeats must not be negative, got -1"),
        (lambda x: ms.repeat(x, 1.5, axis=0), TypeError, "repeats must be ints, got 1.5"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
