"""Searching, comparing and cumulative functions: NumPy's and torch's values for every layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
CUMULATIVE = {
    "cumulative_sum": (torch.cumsum, 0, torch.add),
    "cumulative_prod": (torch.cumprod, 1, torch.mul),
}
SMALL = hyp.sampled_from((1, 0, 2))
FLOATS = hyp.sampled_from((1.0, 0.0, -0.0, -2.5, math.inf, -math.inf, math.nan))
WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


@hyp.composite
def along_axes(draw: hyp.DrawFn, dtypes: Any = None, elements: Any = SMALL) -> tuple[Whole, int]:
    whole = draw(st.dndarrays(st.shapes(min_dims=1), dtypes, elements=elements))
    return whole, draw(hyp.integers(-whole.tensor.ndim, whole.tensor.ndim - 1))


@pytest.mark.parametrize("name", CUMULATIVE)
@given(case=along_axes(), initial=hyp.booleans(), wanted_dtype=hyp.none() | st.dtypes())
@spmd
def test_cumulative(name: str, case: tuple[Whole, int], initial: bool, wanted_dtype: torch.dtype | None) -> None:
    whole, axis = case
    run, first, _ = CUMULATIVE[name]
    tensor = whole.tensor
    if tensor.is_complex() and wanted_dtype is not None and not wanted_dtype.is_complex:
        tensor = tensor.real.clone()
    x = Whole(tensor, whole.layout).cut()
    exact = tensor.dtype.is_floating_point or tensor.is_complex()
    kind = wanted_dtype or (tensor.dtype if exact else torch.int64)
    wide = tensor.to(kind)
    wide = wide.to(WIDE.get(kind, kind if kind.is_floating_point or kind.is_complex else torch.int64))
    wanted = run(wide, axis).to(kind)
    if initial:
        row = [1 if place == axis % wanted.ndim else n for place, n in enumerate(wanted.shape)]
        wanted = torch.cat([wanted.new_full(row, first), wanted], axis)
    with traffic() as seen:
        result = getattr(ms, name)(x, axis=axis, dtype=wanted_dtype, include_initial=initial)
    crosses = whole.layout.ranks > 1 and whole.layout.split == axis % wanted.ndim
    with agreement(x.comm, "comparing"):
        assert dict(seen.calls) == ({"scan": 1} if crosses else {})
        assert result.split == x.split
        if initial and x.split == axis % wanted.ndim:
            assert result.counts == (x.counts[0] + 1, *x.counts[1:])
        else:
            assert result.counts == x.counts
    assert_close(result, wanted)
    assert_equal(x, tensor)


@pytest.mark.parametrize("name", CUMULATIVE)
@given(case=along_axes(torch.float64, hyp.integers(-3, 3)))
@spmd
def test_gradients_of_cumulative_functions(name: str, case: tuple[Whole, int]) -> None:
    whole, axis = case
    tensor = whole.tensor.clone().requires_grad_()
    x = Whole(tensor, whole.layout).cut()
    wanted, result = CUMULATIVE[name][0](tensor, axis), getattr(ms, name)(x, axis=axis)
    weights = torch.arange(1.0, wanted.numel() + 1, dtype=torch.float64).reshape(wanted.shape)
    (slope,) = torch.autograd.grad((weights * wanted.square()).sum(), tensor, create_graph=True)
    (curve,) = torch.autograd.grad(slope, tensor, weights)
    mine = weights[x.layout.box(x.comm.rank)]
    (first,) = torch.autograd.grad((mine * result.larray.square()).sum(), x.larray, create_graph=True)
    (second,) = torch.autograd.grad(first, x.larray, mine)
    assert_close(ms.DNDarray(first.detach(), x.layout, x.comm), slope.detach())
    assert_close(ms.DNDarray(second, x.layout, x.comm), curve)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_A14_cumulative_sums_of_halves(size: int, dtype: torch.dtype) -> None:
    whole = torch.arange(1, 800 * size + 1, dtype=torch.float64).to(dtype)
    assert_equal(ms.cumulative_sum(ms.ones(800 * size, dtype=dtype, split=0)), whole)


@given(whole=st.dndarrays(st.shapes(min_dims=1)))
@spmd
def test_nonzero(whole: Whole) -> None:
    x = whole.cut()
    with traffic() as seen:
        result = ms.nonzero(x)
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


@given(two=st.broadcastable_dndarrays(2, st.dtypes((torch.float64, torch.int64)), elements=SMALL))
@spmd
def test_equality(two: tuple[Whole, Whole]) -> None:
    (x, y), (a, b) = (whole.cut() for whole in two), (whole.tensor for whole in two)
    same = a.shape == b.shape and bool((a == b).all())
    close = torch.isclose(a.double(), b.double(), atol=1.0)
    assert_equal(ms.isclose(x, y, atol=1.0), close)
    with agreement(x.comm, "comparing"):
        assert ms.array_equal(x, y) is same
        assert ms.allclose(x, y, atol=1.0) is bool(close.all())
        assert ms.array_equal(x, x)


@given(two=st.broadcastable_dndarrays(2, torch.float64, elements=FLOATS), equal_nan=hyp.booleans())
@spmd
def test_closeness_of_special_numbers(two: tuple[Whole, Whole], equal_nan: bool) -> None:
    x, y = (whole.cut() for whole in two)
    wanted = np.isclose(two[0].tensor.numpy(), two[1].tensor.numpy(), equal_nan=equal_nan)
    assert_equal(ms.isclose(x, y, equal_nan=equal_nan), torch.tensor(wanted))


def test_nan_is_close_to_nan_by_request(size: int) -> None:
    x = ms.full((size,), math.nan, split=0)
    assert (ms.allclose(x, x), ms.allclose(x, x, equal_nan=True), ms.array_equal(x, x)) == (False, True, False)


def test_comparing_costs_one_message(size: int) -> None:
    x = ms.ones((size, 3), split=0)
    for call in (lambda: ms.allclose(x, x + 1e-9), lambda: ms.array_equal(x, x), lambda: ms.allclose(x, 1)):
        with traffic() as seen:
            assert call() is True
        assert seen.collectives == (size > 1)
    with traffic() as seen:
        assert ms.array_equal(x, ms.ones((3, size + 1), split=1)) is False
    assert seen.collectives == 0


@pytest.mark.parametrize("split", [0, 1, None])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (ms.cumulative_sum, ValueError, r"cumulative_sum needs an axis, except .*, got shape \(5, 3\)"),
        (lambda x: ms.cumulative_prod(x, axis=-3), IndexError, "axis -3 is out of range for 2 dimensions"),
        (lambda x: ms.cumulative_sum(x.larray, axis=0), TypeError, "x must be a DNDarray, got Tensor"),
        (lambda x: ms.nonzero(ms.ones(())), ValueError, "nonzero needs at least one axis, got a 0-d array"),
        (lambda x: ms.searchsorted(x, 1), ValueError, r"looks into a 1-d array, got x1 of shape \(5, 3\)"),
        (lambda x: ms.searchsorted(x[:, 0], x, side="up"), ValueError, "side must be 'left' or 'right', got 'up'"),
        (lambda x: ms.searchsorted(x[:, 0], x * 1j), TypeError, r"searchsorted needs .* order, got torch\.fl"),
        (lambda x: ms.searchsorted(x[:, 0], [1]), TypeError, "x2 must be a DNDarray, got list"),
        (lambda x: ms.allclose(x, ms.ones(4)), ValueError, r"shapes \(5, 3\) and \(4,\) do not broadcast"),
        (lambda x: ms.allclose(x, x.larray), TypeError, "operand 2 of isclose must be .* got Tensor"),
        (lambda x: ms.array_equal(x, 1), TypeError, "x2 must be a DNDarray, got int"),
    ],
)  # fmt: skip
def test_errors_are_alike(split: int | None, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=split)
    with raises_alike(kind, match=words):
        call(x)


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int, raises_alike: Any) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 3), split=0, comm=part)
    line = ms.arange(4, split=0, comm=part)
    for result in (
        ms.cumulative_sum(x, axis=0),
        ms.cumulative_prod(x, axis=1),
        *ms.nonzero(x),
        ms.searchsorted(line, 2),
        ms.searchsorted(line, line),
        ms.isclose(x, 1),
    ):
        assert result.comm is part
    with raises_alike(ValueError, match="operands must be on one communicator"):
        ms.searchsorted(ms.arange(4, split=0), ms.arange(4, comm=ms.MPI_SELF))
    part.free()
