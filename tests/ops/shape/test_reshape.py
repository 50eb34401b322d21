"""`reshape`: torch's values for every layout, where results are split, and gradients of what moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layouts import KINDS, layout_of
from shape_cases import check_gradients, check_row, functions_of, is_right, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("reshape", (6, 5), ((6, 5),), True),
    ("reshape", (2, 3, 5), ((6, 5),), False),
    ("reshape", (6, 4), ((24,),), False),
    ("reshape", (24,), ((4, -1),), False),
    ("reshape", (6, 4), ((3, 8),), False),
    ("reshape", (6, 4), ((4, 3, 2),), False),
    ("reshape", (1, 6, 1), ((2, 1, 3),), False),
    ("reshape", (7,), ((7, 1, 1),), True),
    ("reshape", (0, 4), ((2, 0, 5),), True),
    ("reshape", (1, 1), ((),), False),
    ("reshape", (), ((1, 1),), True),
    ("reshape", (12,), (12,), True),
    ("ravel", (4, 5), (), False),
    ("ravel", (7,), (), True),
    ("flatten", (4, 5), (), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("reshape")


def test_where_results_are_split(size: int) -> None:
    """As the first sentences of the docstring of `reshape` have it."""
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ragged.reshape(6, 2, 2).counts == ragged.counts
    assert ragged.ravel().counts == tuple(4 * n for n in ragged.counts or ())
    x = ms.zeros((2, 6 * size), split=1)
    assert x.reshape(2, 3 * size, 2).split == 1  # 2 elements are before axis 1 of both
    assert x.reshape(12 * size).split == 0  # no axis has 2 elements before it
    if size > 1:  # on one rank the shape, and with it the split, stays as it was
        assert ms.zeros((size, 6), split=0).reshape(1, 6 * size).split == 1
    if size > 2:
        assert ms.zeros((6 * size, 2), split=0).reshape(2, -1).split == 1  # axis 0 would overload two ranks


@pytest.mark.parametrize(("name", "shape", "args"), [row[:3] for row in ROWS if row[0] != "flatten"])
def test_gradients_of_what_moves(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    check_gradients(size, name, shape, args)


def test_reshape_without_a_copy(size: int, raises_alike: Any) -> None:
    x = ms.zeros((6, 4), split=0)
    y = ms.reshape(x, (6, 2, 2), copy=False)
    y.larray.fill_(3)
    assert is_right(x, torch.full((6, 4), 3.0))
    apart = ms.DNDarray(x.larray.T.contiguous().T, x.layout, x.comm)
    with raises_alike(ValueError, match="copy=False, but the shard of this rank has to be copied"):
        ms.reshape(apart, (24,), copy=False)
    if size > 1:
        with raises_alike(ValueError, match="copy=False, but elements change their rank from .* split 1 over"):
            ms.reshape(x.resplit(1), (24,), copy=False)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.reshape(x, (5, 2)), ValueError, r"12 elements does not fit .* \(5, 2\), which has 10"),
        (lambda x: ms.reshape(x, (-1, 5)), ValueError, r"fit shape \(-1, 5\): 12 is no multiple of 5"),
        (lambda x: ms.reshape(x, (-1, -1)), ValueError, r"except one -1, got shape \(-1, -1\)"),
        (lambda x: ms.reshape(x, (2.0, 6)), TypeError, "every extent of a shape must be an int, got 2.0"),
        (lambda x: ms.reshape(x.larray, (12,)), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
