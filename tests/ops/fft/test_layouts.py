"""The layouts in which transforms are computed."""

from __future__ import annotations

from typing import Any

import pytest

import minisplit as ms
from minisplit.ops.fft.layouts import count_points, plan_stages

pytestmark = pytest.mark.serial


def test_splits_of_the_stages() -> None:
    def splits(*args: Any) -> list[int | None]:
        return [stage.before.split for stage in plan_stages(*args)]

    cube = ms.Layout((64, 32, 16), 0, 8)
    assert splits(cube, (1, 2), (32, 16), "complex") == [0]
    assert splits(cube, (0, 1, 2), (64, 32, 16), "complex") == [0, 1, 0]
    assert splits(ms.Layout((64, 2), 0, 8), (0,), (64,), "complex") == [0, 0, 0]
    assert splits(ms.Layout((64, 2), 0, 16), (0,), (64,), "complex") == [0, 1, 0]
    assert splits(ms.Layout((61,), 0, 4), (0,), (61,), "complex") == [0, None, 0]
    assert plan_stages(ms.Layout((36,), 0, 4), (0,), (36,), "half")[1].factors == (6, 6)


def test_stages_are_those_of_their_own_arguments() -> None:
    """A plan is cached. Each argument changes it, and so does the number of points, which has the factors."""
    x = ms.Layout((36,), 0, 4)
    results = [plan_stages(x, (0,), (n,), kind)[-1].after.extent for n in (36, 40) for kind in ("complex", "half")]
    assert results == [36, 19, 40, 21]
    assert [plan_stages(x, (0,), (n,), "complex")[1].factors for n in (36, 40, 61)] == [(6, 6), (5, 8), None]
    cube = ms.Layout((8, 8), 0, 2)
    assert [plan_stages(cube, axes, (8, 8), "half")[0].axes for axes in ((0, 1), (1, 0))] == [(1,), ()]


def test_numbers_of_points() -> None:
    assert count_points((None, 3), (6, 4), "complex", "s") == (6, 3)
    assert count_points((None, -1), (6, 4), "real", "s") == (6, 6)
    with pytest.raises(ValueError, match="n must be at least 1, got -1 for an axis of extent 4"):
        count_points((-1,), (4,), "complex", "n")
