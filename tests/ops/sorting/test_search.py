"""Searching: NumPy's values for every layout. `argmax` and `argmin` are tested with the reductions."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core import collectives
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication


@given(whole=st.dndarrays(st.shapes(min_dims=1)))
@spmd
def test_nonzero(whole: Whole) -> None:
    x = whole.cut()
    with traffic() as seen:
        result = ms.nonzero(x)
    assert all(map(ms.array_equal, result, ms.where(x)))
    wanted = whole.tensor.nonzero(as_tuple=True)
    with agreement(x.comm, "comparing"):
        assert len(result) == x.ndim
        assert seen.calls["allgather"] == int(x.split is not None and x.comm.size > 1)
        assert seen.collectives <= 2
        assert {axis.split for axis in result} == {None if x.split is None else 0}
        if x.split == 0:  # found where it is
            start, stop = x.layout.span(x.comm.rank)
            assert ((start <= result[0].larray) & (result[0].larray < stop)).all()
    for ours, theirs in zip(result, wanted, strict=True):
        assert_equal(ours, theirs)
    assert_equal(x, whole.tensor)


@hyp.composite
def tables(draw: hyp.DrawFn) -> tuple[Whole, Whole]:
    """A sorted array and what to look for."""
    kinds = st.dtypes((torch.float32, torch.int64, torch.float64, torch.int8, torch.bool, torch.uint8))
    table = draw(st.dndarrays(st.shapes(min_dims=1, max_dims=1), kinds))
    return Whole(table.tensor.sort().values, table.layout), draw(st.dndarrays(st.shapes(), kinds))


@given(case=tables(), side=hyp.sampled_from(("left", "right")))
@spmd
def test_searchsorted(case: tuple[Whole, Whole], side: Any) -> None:
    table, sought = case
    x, y = table.cut(), sought.cut()
    with traffic() as seen:
        result = ms.searchsorted(x, y, side=side)
    with agreement(x.comm, "comparing"):
        assert result.layout == y.layout
        assert seen.collectives <= int(x.split is not None)
    assert_equal(result, torch.tensor(np.searchsorted(table.tensor.numpy(), sought.tensor.numpy(), side=side)))
    assert_equal(
        ms.searchsorted(x, 1, side=side), torch.tensor(np.searchsorted(table.tensor.numpy(), 1, side=side))
    )


def test_searchsorted_finds_nan_where_sort_puts_it(size: int) -> None:
    table, sought = [1.0, 2.0, math.nan, math.nan], [5.0, math.nan, 1.0, -math.inf]
    for split in (0, None):
        for side in ("left", "right"):
            found = ms.searchsorted(ms.array(table, split=split), ms.array(sought), side=side)  # type: ignore[arg-type]
            assert_equal(found, np.searchsorted(table, sought, side=side))  # type: ignore[call-overload]


def test_searchsorted_with_a_sorter(size: int) -> None:
    x = ms.array([3.0, 1.0, 2.0, 5.0, 4.0], split=0)
    for sorter in (ms.array([1, 2, 0, 4, 3]), ms.array([1, 2, 0, 4, 3], split=0)):
        assert ms.searchsorted(x, ms.array([2.5, 9.0], split=0), sorter=sorter).tolist() == [2, 5]


@pytest.mark.parametrize("split", [0, 1, None])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.nonzero(ms.ones(())), ValueError, "nonzero needs at least one axis, got a 0-d array"),
        (lambda x: ms.searchsorted(x, 1), ValueError, r"looks into a 1-d array, got x1 of shape \(5, 3\)"),
        (lambda x: ms.searchsorted(x[:, 0], x, side="up"), ValueError, "side must be 'left' or 'right', got 'up'"),
        (lambda x: ms.searchsorted(x[:, 0], x * 1j), TypeError, r"searchsorted needs .* order, got torch\.fl"),
        (lambda x: ms.searchsorted(x[:, 0], [1]), TypeError, "x2 must be a DNDarray, got list"),
    ],
)  # fmt: skip
def test_errors_are_alike(split: int | None, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=split)
    with raises_alike(kind, match=words):
        call(x)


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int, raises_alike: Any) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x, line = ms.ones((4, 3), split=0, comm=part), ms.arange(4, split=0, comm=part)
    for result in (*ms.nonzero(x), ms.searchsorted(line, 2), ms.searchsorted(line, line), ms.argmax(x)):
        assert result.comm is part
    with raises_alike(ValueError, match="operands must be on one communicator"):
        ms.searchsorted(ms.arange(4, split=0), ms.arange(4, comm=ms.MPI_SELF))
    part.free()


@given(whole=st.dndarrays(st.shapes(min_dims=1), st.dtypes((torch.float64, torch.int64, torch.bool))))
@spmd
def test_indices_of_what_is_not_zero(whole: Whole) -> None:
    x = whole.cut()
    assert_equal(ms.argwhere(x), np.argwhere(whole.tensor.numpy()))
    assert_equal(ms.flatnonzero(x), np.flatnonzero(whole.tensor.numpy()))
    assert ms.argwhere(x).split == (None if x.split is None else 0)


@pytest.mark.parametrize("name", ["nanargmax", "nanargmin"])
def test_extremes_of_what_is_not_nan(size: int, name: str, raises_alike: Any) -> None:
    nan, inf = math.nan, math.inf
    whole = torch.tensor([[nan, 1.0, -inf], [2.0, nan, inf], [2.0, -1.0, nan], [1.0, -1.0, 0.0]])
    ours, theirs = getattr(ms, name), getattr(np, name)
    for layout in layouts((4, 3), size):
        x = dealt(whole, layout)
        for axis in (None, 0, 1):
            with traffic() as seen:
                found = ours(x, axis)
            assert_equal(found, np.asarray(theirs(whole.numpy(), axis)))
            assert_equal(ours(x, axis, keepdims=True), np.asarray(theirs(whole.numpy(), axis, keepdims=True)))
            assert seen.collectives <= 2 * (layout.split is not None)
        x = dealt(torch.where(whole == 2, nan, whole), layout)
        assert ours(x).item() == theirs(x.numpy())
        gone = dealt(torch.tensor([[nan, 1.0, nan]] * 4), layout)  # one rank may have all of a column's NaNs
        with raises_alike(ValueError, match=rf"{name} needs an element that is not NaN, .* along axis 0"):
            ours(gone, 0)
    assert ours(ms.array([3, 1, 2], split=0)).item() == theirs([3, 1, 2])


def test_a_large_table_goes_around_the_ranks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", -1)
    nan = float("nan")
    for table in (torch.tensor([-2.0, 0.0, 0.0, 1.0, 3.0, 3.0, 8.0]), torch.tensor([0.0, 1.0, 5.0, nan, nan])):
        wanted = torch.tensor([[0.0, nan, 3.0], [9.0, -3.0, 1.0]])
        for left, right in product(layouts(tuple(table.shape), size), layouts((2, 3), size)):
            x, y = dealt(table, left), dealt(wanted, right)
            for side in ("left", "right"):
                expected: Any = torch.from_numpy(np.searchsorted(table.numpy(), wanted.numpy(), side=side))
                assert_equal(ms.searchsorted(x, y, side=side), expected)
                assert_equal(ms.bucketize(y, x, right=side == "right"), expected)
                if side == "left" and not table.isnan().any():
                    assert_equal(ms.digitize(y, ms.flip(x), side == "left"), len(table) - expected)
