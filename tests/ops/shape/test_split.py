"""Several arrays out of one: torch's values for every layout."""

from __future__ import annotations

from typing import Any

import pytest
from layouts import KINDS, layout_of
from shape_cases import check_row, functions_of, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("unstack", (3, 4), (), False),
    ("unstack", (3, 4, 2), (-1,), False),
    ("unstack", (3,), (), False),
    ("array_split", (7, 3), (3,), True),
    ("array_split", (7, 3), ([2, 2, 9],), True),
    ("split", (6, 4), (2, 1), True),
    ("split", (6, 4), ([1, -2], 0), True),
    ("vsplit", (4, 2), (2,), True),
    ("hsplit", (4, 2), (2,), True),
    ("hsplit", (4,), ([1],), True),
    ("dsplit", (4, 2, 2), (2,), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("split")


def test_unstack_splits_along_another_axis(size: int) -> None:
    x = ms.zeros((2 * size, 3, 4), split=0)
    assert {y.split for y in ms.unstack(x, axis=0)} == {1}
    assert {y.split for y in ms.unstack(x, axis=1)} == {0}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.unstack(x, axis=2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.split(x, 4), ValueError, r"axis 0 of shape \(6, 2\) cannot be cut into 4 equal parts"),
        (lambda x: ms.array_split(x, 0), ValueError, "must be at least 1, got 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
