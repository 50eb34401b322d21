"""Interpolation: NumPy's values for every layout of places and table, and torch's gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.core import collectives
from minisplit.testing import Whole, assert_close, assert_equal, run, spmd, traffic
from minisplit.testing import strategies as st

PLACES = np.array([[-1.0, 0.0, 0.5, 1.0], [1.5, 2.0, 3.0, 7.25], [np.inf, -np.inf, 0.25, 1.75]])
TABLES: list[tuple[Any, Any]] = [
    ([1.0, 2.0], [3.0, np.inf]), ([0.0, 1, 1, 2], [0.0, 1, 5, 6]), ([0, 1, 2], [1, 2, 4]),
    ([0.0, 1.0], [1 + 1j, 3]), ([1.0], [5.0]), ([0.0, 1.0, 3.0], [np.inf, 2.0, -np.inf]),
    ([0.0, 1.0, 3.0, 4.0], [np.inf, np.inf, np.nan, 1.0]),
]  # fmt: skip


@pytest.mark.parametrize(("xp", "fp"), TABLES)
@pytest.mark.parametrize("options", [{}, {"left": -7, "right": 9}, {"period": 1.5}])
def test_values(size: int, xp: Any, fp: Any, options: dict[str, float]) -> None:
    # NumPy warns of infinite places with a period.
    places = PLACES if "period" not in options else PLACES[:2]
    wanted = np.interp(places, xp, fp, **options)
    for layout in layouts(places.shape, size):
        x = dealt(torch.from_numpy(places), layout)
        assert_close(ms.interp(x, xp, fp, **options), wanted)
        for table in layouts((len(xp),), size)[:2]:
            with traffic() as seen:
                found = ms.interp(x, dealt(torch.tensor(xp), table), dealt(torch.tensor(fp), table), **options)
            assert_close(found, wanted, rtol=1e-6, atol=1e-6)
            assert found.layout is x.layout
            assert seen.collectives == 2 * (table.split is not None and size > 1)


def check_large_table(size: int, xp: Any, fp: Any, options: dict[str, float]) -> None:
    places = PLACES if "period" not in options else PLACES[:2]
    wanted = np.interp(places, xp, fp, **options)
    tables = layouts((len(xp),), size)
    for place, layout in enumerate(layouts(places.shape, size)):
        x = dealt(torch.from_numpy(places), layout)
        one, other = tables[place % len(tables)], tables[(place + 1) % len(tables)]
        found = ms.interp(x, dealt(torch.tensor(xp), one), dealt(torch.tensor(fp), other), **options)
        assert_close(found, wanted, rtol=1e-6, atol=1e-6)
        assert found.layout is x.layout


@pytest.mark.serial
@pytest.mark.parametrize("options", [{}, {"left": -7, "right": 9}, {"period": 1.5}])
def test_large_tables_stay_where_they_are(options: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", -1)
    for xp, fp in TABLES:
        run(check_large_table, 3, xp, fp, options, ranks=3)


@given(
    x=st.dndarrays(st.shapes(), torch.float64),
    xp=hyp.lists(hyp.integers(-5, 5), min_size=1, max_size=5, unique=True),
)
@spmd
def test_any_points(x: Whole, xp: list[int]) -> None:
    xp, fp = sorted(xp), [each**2 - 1.5 for each in xp]
    finite = torch.where(x.tensor.isnan(), 0.0, x.tensor)
    assert_close(ms.interp(Whole(finite, x.layout).cut(), xp, fp), np.interp(finite.numpy(), xp, fp))


def test_dtypes_and_missing_places() -> None:
    x = ms.array([0.5, float("nan")], split=0)
    found = ms.interp(x, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    assert_equal(found, torch.tensor([1.5, float("nan")]))
    assert ms.interp(ms.arange(3, split=0), [0, 2], [0, 1]).dtype is torch.float64
    assert ms.interp(x, torch.tensor([0.0, 1.0]), torch.tensor([1j, 2j])).dtype is torch.complex64


def test_gradients(size: int) -> None:
    x, fp = torch.tensor([-1.0, 0.25, 1.0, 1.75, 2.5, 9.0]).double(), torch.tensor([1.0, 5.0, 2.0]).double()
    slope = torch.tensor([[1.0, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.25, 0.75], [0, 0, 1], [0, 0, 1]]).double()

    def by_hand(x: torch.Tensor, fp: torch.Tensor) -> torch.Tensor:
        inner = (x > 0) & (x < 2)
        step = torch.where(x < 1, fp[1] - fp[0], fp[2] - fp[1])
        return slope @ fp + torch.where(inner, step * (x - x.detach()), 0)

    assert_gradients(lambda x, fp: ms.interp(x, [0.0, 1.0, 2.0], fp), by_hand, [x, fp], size)
    points = ms.arange(3, dtype=ms.float64, split=0)
    assert_gradients(lambda x, fp: ms.interp(x, points, fp), by_hand, [x, fp], size)


@pytest.mark.serial
def test_gradients_of_large_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", -1)
    run(test_gradients, 3, ranks=3)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda x: ms.interp(x, [1, 2], [1]),
            ValueError,
            r"of one length, at least 1, got shapes \(2,\) and \(1,\)",
        ),
        (lambda x: ms.interp(x, [], []), ValueError, r"at least 1, got shapes \(0,\) and \(0,\)"),
        (
            lambda x: ms.interp(x, [1j], [1]),
            TypeError,
            "interp needs real places, got torch.float32 and torch.complex",
        ),
        (
            lambda x: ms.interp(x, ["a"], [1]),
            TypeError,
            "xp must be a number, or an array of numbers, got <ndarray",
        ),
        (lambda x: ms.interp(x, [1], [1], period=0), ValueError, "period must not be 0"),
        (lambda x: ms.interp(x.larray, [1], [1]), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones(3, split=0))


def test_A16_results_stay_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    assert ms.interp(ms.ones(3, split=0, comm=part), [0, 1], [1, 2]).comm is part
    part.free()
