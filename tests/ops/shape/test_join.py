"""Several arrays joined: torch's values for every pair of layouts, by one message at most."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layouts import KINDS, layout_of
from shape_cases import check_joined_row, functions_of, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shapes, arguments): layouts of every pair are tried.
JOINED_ROWS: list[tuple[str, tuple[tuple[int, ...], ...], tuple[Any, ...]]] = [
    ("concat", ((5, 3), (4, 3)), ()),
    ("concat", ((5, 3), (5, 2)), (1,)),
    ("concat", ((5, 3), (5, 2)), (-1,)),
    ("concat", ((5, 3), (0, 3)), (0,)),
    ("concat", ((5, 3), (2,)), (None,)),
    ("concat", ((4,), (1,)), ()),
    ("concatenate", ((2, 3), (7, 3)), (0,)),
    ("stack", ((5, 3), (5, 3)), ()),
    ("stack", ((5, 3), (5, 3)), (-1,)),
    ("stack", ((), ()), ()),
    ("vstack", ((3,), (4, 3)), ()),
    ("vstack", ((), (3, 1)), ()),
    ("hstack", ((3, 2), (3, 5)), ()),
    ("hstack", ((3,), (4,)), ()),
    ("dstack", ((3,), (1, 3)), ()),
    ("dstack", ((3, 2), (3, 2, 4)), ()),
    ("append", ((3, 2), (4, 2)), (0,)),
    ("append", ((3, 2), (4,)), (None,)),
    ("column_stack", ((3,), (3, 4)), ()),
]


@pytest.mark.parametrize(("name", "shapes", "args"), JOINED_ROWS)
def test_values_of_several_arrays(size: int, name: str, shapes: Any, args: tuple[Any, ...]) -> None:
    check_joined_row(size, name, shapes, args)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in JOINED_ROWS} == functions_of("join")


def test_where_results_are_split(size: int) -> None:
    x = ms.zeros((2 * size, 3, 4), split=0)
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.stack([ragged, ragged]).layout == ms.Layout((2, 6, 4), 1, size, ragged.layout.ragged)
    assert ms.concat([x, x]).layout == ms.Layout((4 * size, 3, 4), 0, size)
    assert ms.concat([ms.zeros((9, 2)), ms.zeros((9, 3), split=0)], axis=1).split == 0


@pytest.mark.parametrize("name", ["concat", "stack"])
def test_A12_arrays_on_different_communicators(name: str, raises_alike: Any) -> None:
    x, y = ms.ones(3, split=0), ms.ones(3, split=0, comm=ms.MPI_SELF)
    with raises_alike(ValueError, match="operands must be on one communicator"):
        getattr(ms, name)([x, y])


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.concat([x, x[:, :1]]), ValueError, r"shape \(6, 2\) and array 1 has \(6, 1\)"),
        (lambda x: ms.concat([]), ValueError, "concat needs at least one array, got none"),
        (ms.concat, TypeError, "concat needs a sequence of DNDarrays, got DNDarray"),
        (lambda x: ms.concat([x, x.larray]), TypeError, "array 1 must be a DNDarray, got Tensor"),
        (lambda x: ms.concat([x[0, 0]]), IndexError, "axis 0 is out of range for 0 dimensions"),
        (lambda x: ms.stack([x, x.T]), ValueError, r"array 0 has \(6, 2\), array 1 \(2, 6\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
