"""Triangles of matrices: torch's values for every layout, and no message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINDS, layout_of
from shape_cases import check_row, functions_of, is_right, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("tril", (5, 4), (), True),
    ("tril", (2, 5, 4), (-2,), True),
    ("triu", (5, 4), (1,), True),
    ("triu", (4, 5), (-1,), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} | {"tri"} == functions_of("triangle")


def test_the_layout_stays(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.tril(ragged).layout == ms.triu(ragged).layout == ragged.layout


def test_triangles_of_ones(size: int) -> None:
    for split in (None, 0, 1):
        for args in ((4,), (3, 5), (3, 5, -1), (3, 5, 2)):
            assert is_right(ms.tri(*args, split=split), torch.from_numpy(np.tri(*args, dtype=np.float32)))
    assert ms.tri(3, dtype=torch.int8).dtype is torch.int8


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.tril(x[:, 0]), ValueError, r"at least 2 dimensions, got shape \(6,\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
