"""Choices between arrays: NumPy's values for every layout. `where`, `maximum` and so on are in test_apply.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.testing import assert_equal, traffic

X = torch.tensor([[-2.0, -0.5, 0.0, 3.0], [1.5, 2.0, -4.0, 0.25], [0.5, 9.0, -1.0, 1.0]]).double()
NUMBERS = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0], [1, 0, 1, 2]])


def test_select(size: int) -> None:
    plain, row = X.numpy(), np.arange(4.0)
    for layout in layouts((3, 4), size):
        x = dealt(X, layout)
        with traffic() as seen:
            found = ms.select([x < -1, x > 1], [x * 10, 7], -1.5)
        assert_equal(found, np.select([plain < -1, plain > 1], [plain * 10, np.full_like(plain, 7)], -1.5))
        assert found.layout == layout
        assert not seen.collectives
        for other in layouts((4,), size):
            found = ms.select(
                [x < 0, dealt(torch.from_numpy(row), other) > 1], [x, dealt(torch.from_numpy(row), other)]
            )
            assert_equal(found, np.select([plain < 0, np.broadcast_to(row > 1, (3, 4))], [plain, row]))
    integers = ms.arange(3, split=0)
    assert ms.select([integers > 0], [integers]).dtype is torch.int64
    assert ms.select([integers > 0], [integers], 0.5).dtype is torch.float32


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_choose(size: int, mode: Any) -> None:
    choices = [X, X[0] * 2, torch.tensor(-7.0).double()]
    shift = 0 if mode == "raise" else 2
    wanted = np.choose(NUMBERS.numpy() - shift, [each.numpy() for each in choices], mode=mode)
    for layout in layouts((3, 4), size):
        for other in layouts((3, 4), size):
            with traffic() as seen:
                found = ms.choose(
                    dealt(NUMBERS - shift, layout), [dealt(X, other), ms.array(X[0] * 2), -7.0], mode=mode
                )
            assert_equal(found, wanted)
            if layout == other:
                assert seen.collectives <= (mode == "raise" and layout.split is not None)
    assert ms.choose(ms.array([0, 0], split=0), [7]).tolist() == [7, 7]
    assert ms.choose(ms.array([3, 200], dtype=torch.uint8, split=0), [0] * 200 + [5]).tolist() == [0, 5]


def test_piecewise(size: int) -> None:
    plain = X.numpy()
    functions = [lambda x: x**2, -7, lambda x: x + 1]
    for layout in layouts((3, 4), size):
        x = dealt(X, layout)
        for conditions in (lambda x: [x < 0, x > 1], lambda x: [x < 2, x > -1]):
            for number in (2, 3):
                found = ms.piecewise(x, conditions(x), functions[:number])  # type: ignore[arg-type]
                assert_equal(found, np.piecewise(plain, conditions(plain), functions[:number]))
                assert found.layout == layout
    x = ms.arange(-2, 3, split=0)
    assert_equal(ms.piecewise(x, x < 0, [lambda x, by: x * by], 3), torch.tensor([-6, -3, 0, 0, 0]))
    assert ms.piecewise(x, [x < 0], [0.5, 2]).tolist() == [0, 0, 2, 2, 2]


def test_gradients(size: int) -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    assert_gradients(
        lambda x, row: ms.select([x < 0, x > 1], [x**2, row], 1.0),
        lambda x, row: torch.where(x < 0, x**2, torch.where(x > 1, row, 1.0)),
        [X, row],
        size,
    )
    assert_gradients(
        lambda x, row: ms.choose(ms.array(NUMBERS, split=0), [x, row, 2 * x]),
        lambda x, row: torch.where(NUMBERS == 0, x, torch.where(NUMBERS == 1, row, 2 * x)),
        [X, row],
        size,
    )
    assert_gradients(
        lambda x: ms.piecewise(x, [x < 0], [lambda x: x**2, lambda x: 3 * x]),
        lambda x: torch.where(x < 0, x**2, 3 * x),
        [X],
        size,
    )


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda x: ms.select([x > 0], [x, x]),
            ValueError,
            "a choice for each condition, .* got 1 conditions and 2",
        ),
        (lambda x: ms.select([], []), ValueError, "at least one, got 0 conditions and 0 choices"),
        (lambda x: ms.select([x], [x]), TypeError, "condition must be of dtype torch.bool, got torch.float32"),
        (lambda x: ms.choose(x, [x]), TypeError, "a of choose must be integers, got torch.float32"),
        (lambda x: ms.choose(x.astype(int), []), ValueError, "choose needs choices, and mode 'raise', 'wrap' or"),
        (lambda x: ms.choose(x.astype(int), [x], mode="other"), ValueError, "got 'other'"),
        (lambda x: ms.choose(x.astype(int), [x, x]), ValueError, "a of choose must be from 0 to 1, the last of"),
        (lambda x: ms.piecewise(x, [x > 0], [1, 2, 3]), ValueError, "got 1 conditions and 3 functions"),
        (lambda x: ms.piecewise(x.larray, [x > 0], [1]), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.arange(4.0, split=0))
