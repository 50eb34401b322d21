"""Broadcast arrays: torch's values for every layout."""

from __future__ import annotations

from typing import Any

import pytest
from layouts import KINDS, layout_of
from shape_cases import check_joined_row, check_row, functions_of, values

import minisplit as ms
from minisplit.testing import Whole

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("broadcast_to", (5, 3), ((2, 5, 3),), True),
    ("broadcast_to", (5, 1), ((5, 4),), False),
    ("broadcast_to", (1,), ((5, 4),), False),
    ("broadcast_to", (), ((3, 2),), True),
]  # fmt: skip
# (function, shapes, arguments): layouts of every pair are tried.
JOINED_ROWS: list[tuple[str, tuple[tuple[int, ...], ...], tuple[Any, ...]]] = [
    ("broadcast_arrays", ((5, 1), (4,)), ()),
    ("broadcast_arrays", ((5, 4), (5, 4)), ()),
    ("meshgrid", ((5,), (3,)), ()),
    ("meshgrid", ((5,), (3,)), ("ij",)),
]


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


@pytest.mark.parametrize(("name", "shapes", "args"), JOINED_ROWS)
def test_values_of_several_arrays(size: int, name: str, shapes: Any, args: tuple[Any, ...]) -> None:
    check_joined_row(size, name, shapes, args)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} | {row[0] for row in JOINED_ROWS} | {"broadcast_shapes"} == functions_of(
        "broadcast"
    )


def test_where_results_are_split(size: int) -> None:
    assert ms.broadcast_to(ms.zeros((1, 3), split=0), (2 * size, 3)).layout == ms.Layout((2 * size, 3), 0, size)
    x = ms.zeros(3, split=0)
    assert type(ms.broadcast_arrays(x)) is type(ms.broadcast_arrays()) is type(ms.meshgrid(x)) is tuple
    assert [y.split for y in ms.meshgrid(ms.zeros(3), ms.zeros(4, split=0))] == [0, 0]


def test_shapes() -> None:
    assert (ms.broadcast_shapes((3, 1), (4,)), ms.broadcast_shapes()) == ((3, 4), ())


def test_A12_arrays_on_different_communicators(raises_alike: Any) -> None:
    x, y = ms.ones(3, split=0), ms.ones(3, split=0, comm=ms.MPI_SELF)
    with raises_alike(ValueError, match="operands must be on one communicator"):
        ms.broadcast_arrays(x, y)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.broadcast_to(x, (6, 3)), ValueError, r"shapes \(6, 2\) and \(6, 3\) do not broadcast"),
        (lambda x: ms.broadcast_to(x, (2,)), ValueError, r"shape \(6, 2\) does not broadcast to \(2,\)"),
        (lambda x: ms.broadcast_arrays(x, x.T[:, :5]), ValueError, r"\(6, 2\) and \(2, 5\) do not broadcast"),
        (ms.meshgrid, ValueError, r"array 0 has shape \(6, 2\)"),
        (lambda x: ms.meshgrid(indexing="ji"), ValueError, "'xy' or 'ij', got 'ji'"),
        (lambda x: ms.broadcast_shapes((2,), (3,)), ValueError, r"\(2,\) and \(3,\) do not broadcast"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
