"""Axes of extent 1: torch's values for every layout, and messages only where no axis is left."""

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
    ("expand_dims", (5, 3), (0,), True),
    ("expand_dims", (5, 3), ((1, -1),), True),
    ("expand_dims", (), (0,), True),
    ("squeeze", (5, 1, 3, 1), (), True),
    ("squeeze", (1, 5, 1), (-1,), True),
    ("squeeze", (1, 5, 1), ((0, 2),), True),
    ("squeeze", (1, 1), (), False),
    *((f"atleast_{n}d", (5, 3, 2)[:ndim], (), True) for n in (1, 2, 3) for ndim in range(4)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("dimensions")


def test_where_results_are_split(size: int) -> None:
    assert ms.expand_dims(ms.zeros((2 * size, 3, 4), split=0), (0, 2)).split == 1
    last = ms.squeeze(Whole(torch.ones(1, 5), ms.Layout((1, 5), 0, size)).cut())
    assert last.counts == (5, *[0] * (size - 1))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.expand_dims(x, 3), IndexError, "axis 3 is out of range for 3 dimensions"),
        (lambda x: ms.squeeze(x, 0), ValueError, r"extent 1, got axis \(0,\) of shape \(6, 2\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
