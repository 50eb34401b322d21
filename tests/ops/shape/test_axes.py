"""Axes in another order, and those of extent 1: torch's values for every layout, mostly without a message."""

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
    ("permute_dims", (5, 2, 3), ((2, 0, 1),), True),
    ("permute_dims", (), ((),), True),
    ("transpose", (5, 2, 3), (), True),
    ("transpose", (5, 3), ((0, -1),), True),
    ("matrix_transpose", (5, 2, 3), (), True),
    ("swapaxes", (5, 2, 3), (0, -1), True),
    ("moveaxis", (5, 2, 3), (0, -1), True),
    ("moveaxis", (5, 2, 3), ((2, 0), (0, 1)), True),
    ("rollaxis", (5, 2, 3), (2,), True),
    ("rollaxis", (5, 2, 3), (0, 3), True),
    ("rollaxis", (5, 2, 3), (-1, -2), True),
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
    assert {row[0] for row in ROWS} == functions_of("axes")


def test_the_split_goes_with_its_axis(size: int) -> None:
    x = ms.zeros((2 * size, 3, 4), split=0)
    assert (x.T.split, x.mT.split, ms.moveaxis(x, 0, 1).split) == (2, 0, 1)


def test_where_results_are_split(size: int) -> None:
    assert ms.expand_dims(ms.zeros((2 * size, 3, 4), split=0), (0, 2)).split == 1
    last = ms.squeeze(Whole(torch.ones(1, 5), ms.Layout((1, 5), 0, size)).cut())
    assert last.counts == (5, *[0] * (size - 1))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.expand_dims(x, 3), IndexError, "axis 3 is out of range for 3 dimensions"),
        (lambda x: ms.squeeze(x, 0), ValueError, r"extent 1, got axis \(0,\) of shape \(6, 2\)"),
        (lambda x: ms.permute_dims(x, (0, 0)), ValueError, r"axes \(0, 0\) names an axis .* more than once"),
        (lambda x: ms.permute_dims(x, (0,)), ValueError, r"each axis of shape \(6, 2\) once, got \(0,\)"),
        (lambda x: ms.permute_dims(x, (0, 2)), IndexError, "axes 2 is out of range for 2 dimensions"),
        (lambda x: ms.matrix_transpose(x[:, 0]), ValueError, r"at least 2 dimensions, got shape \(6,\)"),
        (lambda x: ms.moveaxis(x, (0, 1), 0), ValueError, r"as many sources as destinations, got \(0, 1\) and 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
