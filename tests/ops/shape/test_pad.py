"""`pad`: NumPy's values for every layout and mode, and messages of what the ends need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINDS, layout_of, layouts
from shape_cases import DTYPES, check_row, functions_of, is_right, values

import minisplit as ms
from minisplit.testing import Whole, traffic

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
ROWS: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("pad", (5, 2), (1,), True),
    ("pad", (5, 2), ((0, 2),), True),
    ("pad", (5, 2), (((1, 2), (0, 3)),), True),
    ("pad", (0, 2), (((1, 2), (0, 0)),), True),
    ("pad", (), (3,), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "args", "local"), ROWS)
def test_values(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_row() -> None:
    assert {row[0] for row in ROWS} == functions_of("pad")


def test_ends_get_what_is_added(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    result = ms.pad(ragged, (1, 2))
    assert (sum(result.counts or ()), result.larray[:, 1:3].sum().item()) == (9, 2.0 * ragged.lshape[0])


def test_padding_of_every_dtype(size: int) -> None:
    for dtype, value in ((torch.bool, True), (torch.int8, -3), (torch.complex64, 1 - 2j), (torch.bfloat16, 0.5)):
        for layout in layouts((3, 2), size):
            result = ms.pad(Whole(values((3, 2), dtype), layout).cut(), ((1, 0), (0, 2)), constant_values=value)
            wanted = torch.full((4, 4), value, dtype=dtype)
            wanted[1:, :2] = values((3, 2), dtype)
            assert is_right(result, wanted)


@pytest.mark.parametrize("constants", [3, (3,), (3, 4), ((3, 4),), ((3, 4), (5, 6)), [[3], [4]], np.array([3, 4])])
def test_constants_of_axes_and_sides(size: int, constants: Any) -> None:
    whole, widths = values((3, 2)), ((0, 1), (2, 1))
    wanted = torch.from_numpy(np.pad(whole.numpy(), widths, "constant", constant_values=constants))
    for layout in layouts((3, 2), size):
        assert is_right(ms.pad(Whole(whole, layout).cut(), widths, "constant", constants), wanted)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_padding_with_what_is_there(size: int, mode: str) -> None:
    """Also by more than there is; and the gradient of each element counts its copies."""
    for shape, widths in (
        ((7,), (2, 3)),
        ((4, 3), ((1, 0), (0, 2))),
        ((2, 1), ((5, 9), (1, 3))),
        ((3, 0), ((1, 1), (0, 0))),
    ):
        whole = values(shape)
        places = torch.from_numpy(np.pad(values(shape, torch.int64).numpy(), widths, mode))
        for layout in layouts(shape, size):
            x = Whole(whole, layout).cut()
            x.larray.requires_grad_()
            with traffic() as seen:
                result = ms.pad(x, widths, mode)
            assert is_right(result, places.to(torch.float64))
            assert seen.collectives <= (layout.split is not None)
            (mine,) = torch.autograd.grad(result.larray.sum(), x.larray)
            wanted = torch.bincount(places.flatten(), minlength=whole.numel()).reshape(shape).to(torch.float64)
            assert is_right(ms.DNDarray(mine, layout, x.comm), wanted)
    for dtype in DTYPES:
        x = ms.array(values((5, 2), dtype), split=0)
        wanted = torch.from_numpy(np.pad(values((5, 2)).numpy(), 2, mode)).to(dtype)
        assert is_right(ms.pad(x, 2, mode), wanted)


def test_padding_sends_what_the_ends_need(size: int) -> None:
    x = ms.ones((4 * size, 2), split=0)
    for mode, sent in (
        ("edge", 0),
        ("symmetric", 0),
        ("wrap", 3 if size > 1 and x.comm.rank in {0, size - 1} else 0),
    ):
        with traffic() as seen:
            ms.pad(x, ((3, 3), (0, 0)), mode)
        assert seen.bytes_sent == sent * 2 * 4
        assert seen.collectives == (mode == "wrap" and size > 1)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.pad(x, 1, "mean"), ValueError, "mode must be one of constant, edge, .* got 'mean'"),
        (lambda x: ms.pad(x[:0], 1, "edge"), ValueError, r"axis 0 of shape \(0, 2\) has no elements"),
        (lambda x: ms.pad(x, -1), ValueError, "none negative, got -1"),
        (lambda x: ms.pad(x, (1, 2, 3)), ValueError, r"or 2 such pairs, .*, got \(1, 2, 3\)"),
        (
            lambda x: ms.pad(x, 1, "constant", ((0, 1), (2, 3), (4, 5))), ValueError,
            r"constant_values must be a number, \(before, after\), or 2 such pairs, got \(\(0, 1\)",
        ),
        (lambda x: ms.pad(x, 1, "constant", "a"), TypeError, "constant_values of pad must be a number, got 'a'"),
        (lambda x: ms.pad(x, 1, "constant", 1j), TypeError, "must be real for torch.float64, got 1j"),
        (
            lambda x: ms.pad(x.astype("uint8"), 1, "constant", -1), OverflowError,
            "must be in torch.uint8, from 0 to 255, got -1",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_layout", KINDS)
def test_errors(size: int, kind_of_layout: str, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = Whole(values((6, 2)), layout_of((6, 2), 0, kind_of_layout, size)).cut()
    with raises_alike(kind, match=words):
        call(x)
