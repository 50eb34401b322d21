"""Functions of vectors: NumPy's results along every axis of every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close, traffic

WHOLE = torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4) ** 1.5
# Results with no axis, one and two.
FUNCTIONS: list[Any] = [lambda v: v.sum(), lambda v: v - v.max(), lambda v: v[:2] * 2, lambda v: v[:, None] * v]


@pytest.mark.parametrize("place", range(len(FUNCTIONS)))
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (1, 1, 5, 1)], ids=str)
def test_values(size: int, shape: tuple[int, ...], place: int) -> None:
    function = FUNCTIONS[place]
    whole = torch.arange(float(np.prod(shape)), dtype=torch.float64).reshape(shape) ** 1.5
    for axis in range(-1, len(shape) - 1):
        wanted = np.apply_along_axis(function, axis, whole.numpy())
        for layout in layouts(shape, size):
            with traffic() as seen:
                found = ms.apply_along_axis(function, axis, dealt(whole, layout))
            assert_close(found, wanted)
            if layout.split not in {None, axis % len(shape)}:
                assert found.counts == layout.counts
                assert seen.collectives <= 2


def test_no_vectors(size: int) -> None:
    for layout in layouts((0, 3), size):
        assert ms.apply_along_axis(lambda v: v[:2] * 2, 1, dealt(torch.ones(0, 3), layout)).shape == (0, 2)


def test_other_arguments(size: int) -> None:
    x = dealt(WHOLE, ms.Layout(WHOLE.shape, 1, size))
    found = ms.apply_along_axis(lambda v, by, plus=0: v * by + plus, 0, x, 2, plus=torch.tensor(1.0))
    assert_close(found, WHOLE * 2 + 1)


def test_gradients(size: int) -> None:
    for axis in range(3):
        assert_gradients(
            lambda x, axis=axis: ms.apply_along_axis(lambda v: v**2 - v.sum(), axis, x),
            lambda x, axis=axis: x**2 - x.sum(axis, keepdim=True),
            [WHOLE],
            size,
        )


def test_errors(raises_alike: Any) -> None:
    x = ms.ones((4, 3), split=0)
    with raises_alike(IndexError, match="axis 2 is out of range for 2 dimensions"):
        ms.apply_along_axis(torch.sum, 2, x)
    with raises_alike(TypeError, match="x must be a DNDarray, got Tensor"):
        ms.apply_along_axis(torch.sum, 0, x.larray)  # type: ignore[arg-type]
    with raises_alike(RuntimeError, match="no real value"):
        ms.apply_along_axis(_refuse, 1, x)


def _refuse(vector: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no real value")
