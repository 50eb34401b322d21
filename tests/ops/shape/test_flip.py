"""Elements in reverse order, or shifted: torch's values for every layout, by one message at most."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layouts import KINDS, layout_of
from shape_cases import check_row, functions_of, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("flip", (5, 3), (), False),
    ("flip", (5, 3), (0,), False),
    ("flip", (5, 3), ((1, 0),), False),
    ("flip", (), (), True),
    ("flipud", (5, 3), (), False),
    ("fliplr", (5, 3), (), False),
    *(("rot90", (5, 3), (k,), False) for k in (-1, 0, 1, 2, 3, 5)),
    ("rot90", (2, 5, 3), (1, (2, 1)), False),
    ("roll", (7, 3), (2, 0), False),
    ("roll", (7, 3), (-9, 0), False),
    ("roll", (7, 3), ((1, 2), (0, 1)), False),
    ("roll", (7, 3), ((1, 2), (0, 0)), False),
    ("roll", (7, 3), (4,), False),
    ("roll", (7, 3), (7, 0), True),
    ("roll", (0, 3), (1, 0), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("flip")


def test_counts_are_reversed(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.flip(ragged, 0).counts == (ragged.counts or ())[::-1]


def test_a_roll_keeps_the_layout(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.roll(ragged, 1, 0).layout == ragged.layout


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.flip(x, 2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.fliplr(x[:, 0]), IndexError, "axis 1 is out of range for 1 dimensions"),
        (lambda x: ms.rot90(x, axes=(0,)), ValueError, r"from one axis to another, got axes \(0,\)"),
        (lambda x: ms.roll(x, (1, 2), 0), ValueError, r"one shift for each axis, got shift \(1, 2\) and axis 0"),
        (lambda x: ms.roll(x, 1.5, 0), TypeError, "shift must be an int, got 1.5"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
