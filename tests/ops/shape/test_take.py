"""Elements by their indices along an axis: torch's values for every layout of array and indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.arange(math.prod(shape)).reshape(shape).to(dtype)


def taken(x: torch.Tensor, indices: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.from_numpy(np.take(x.numpy(), indices.numpy(), axis))


def test_take(size: int) -> None:
    for shape, axis in (((7,), 0), ((5, 3), 0), ((5, 3), -1)):
        whole = values(shape)
        for places in (
            torch.tensor([2, -1, 0, 0]),
            torch.tensor([], dtype=torch.int64),
            torch.tensor([[1, 0], [-3, 2]]),
        ):
            wanted = taken(whole, places, axis)
            for layout in layouts(shape, size):
                x = dealt(whole, layout)
                off = layout.split != axis % len(shape)
                for given_places in (places, places.numpy(), places.tolist()):
                    with traffic() as seen:
                        result = ms.take(x, given_places, axis=axis)
                    assert_equal(result, wanted)
                    assert seen.collectives <= (0 if off else 1)
                    assert not off or layout.split is None or result.counts == layout.counts
                for other in layouts(tuple(places.shape), size):
                    assert_equal(ms.take(x, dealt(places, other), axis=axis), wanted)
    assert_equal(ms.take(ms.arange(5, split=0), [1, -1]), torch.tensor([1, 4]))
    assert_equal(ms.take(ms.arange(5, split=0), []), torch.tensor([], dtype=torch.int64))
    assert ms.take(ms.arange(5, split=0), 3).item() == 3


CASES = [
    ((5, 3), (5, 4), 1),
    ((5, 3), (2, 3), 0),
    ((5, 3), (1, 4), -1),
    ((1, 3), (4, 2), 1),
    ((4, 1), (1, 3), 0),
    ((2, 4, 3), (2, 1, 3), 1),
    ((6,), (9,), 0),
    ((3, 0), (3, 0), 0),
]


@pytest.mark.parametrize(("shape", "other", "axis"), CASES)
def test_take_along_axis(size: int, shape: tuple[int, ...], other: tuple[int, ...], axis: int) -> None:
    whole = values(shape)
    extent = shape[axis]
    places = (values(other, torch.int64) * 7 + 1) % (2 * extent) - extent
    wanted = torch.from_numpy(np.take_along_axis(whole.numpy(), places.numpy(), axis))
    for layout, index_layout in product(layouts(shape, size), layouts(other, size)):
        x, indices = dealt(whole, layout), dealt(places, index_layout)
        with traffic() as seen:
            result = ms.take_along_axis(x, indices, axis=axis)
        assert_equal(result, wanted)
        if layout.split != axis % len(shape):
            # One for the bounds of split indices, and one for each operand that moves.
            assert seen.collectives <= 1 + (index_layout.split is not None)
            if layout == index_layout:
                assert seen.calls["exchange"] == 0
        assert_equal(x, whole)
        assert_equal(indices, places)


@hyp.composite
def calls(draw: hyp.DrawFn) -> tuple[Whole, Whole, int]:
    whole = draw(st.dndarrays(st.shapes(1, 3, 1, 5)))
    shape = whole.layout.shape
    axis = draw(hyp.integers(-len(shape), len(shape) - 1))
    other = list(shape)
    other[axis] = draw(hyp.integers(0, 4))
    extent = shape[axis]
    elements = hyp.integers(-extent, extent - 1)
    dtype = draw(hyp.sampled_from((torch.int64, torch.int8)))
    return whole, draw(st.dndarrays(tuple(other), dtype, elements=elements)), axis


@given(call=calls())
@spmd
def test_any_arguments(call: tuple[Whole, Whole, int]) -> None:
    whole, places, axis = call
    index = places.tensor.to(torch.int64)
    index = torch.where(index < 0, index + whole.tensor.shape[axis], index)
    assert_equal(
        ms.take_along_axis(whole.cut(), places.cut(), axis=axis), whole.tensor.take_along_dim(index, axis)
    )
    row = places.tensor.reshape(-1)
    wanted = whole.tensor.index_select(axis, row.to(torch.int64) % whole.tensor.shape[axis])
    assert_equal(ms.take(whole.cut(), ms.array(row, split=places.layout.split and 0), axis=axis), wanted)


def test_gradients(size: int) -> None:
    plain = values((4, 3)).requires_grad_()
    weights = torch.arange(1.0, 25.0, dtype=torch.float64)
    for axis, shape in ((0, (5, 3)), (1, (4, 2)), (0, (2, 1))):
        places = values(shape, torch.int64) % 3
        for layout, other in product(layouts((4, 3), size), layouts(shape, size)):
            x = dealt(values((4, 3)), layout)
            x.larray.requires_grad_()
            for result, wanted in (
                (ms.take_along_axis(x, dealt(places, other), axis=axis), plain.take_along_dim(places, axis)),
                (ms.take(x, places[:, 0], axis=axis), plain.index_select(axis, places[:, 0])),
            ):
                rise = weights[: wanted.numel()].reshape(wanted.shape)
                (gradient,) = torch.autograd.grad(wanted, plain, rise)
                (mine,) = torch.autograd.grad(result.larray, x.larray, rise[result.layout.box(x.comm.rank)])
                assert_equal(ms.DNDarray(mine, layout, x.comm), gradient)


def test_what_crosses(size: int) -> None:
    x, order = ms.ones((6 * size, 4), split=0), ms.zeros((6 * size, 4), dtype=torch.int64, split=0)
    everywhere, columns = order.resplit(None), order.resplit(1)
    calls: list[tuple[Callable[[], ms.DNDarray], dict[str, int]]] = [
        (lambda: ms.take(x, [1, 0], axis=1), {}),
        (lambda: ms.take(x, [1, 0], axis=0), {"exchange": 1}),
        (lambda: ms.take_along_axis(x, order), {"agree": 1}),
        (lambda: ms.take_along_axis(x, columns), {"agree": 1, "exchange": 1}),
        (lambda: ms.take_along_axis(x, everywhere), {}),
        (lambda: ms.take_along_axis(x, everywhere, axis=0), {"exchange": 1}),
        (lambda: ms.take_along_axis(x, order, axis=0), {"agree": 1, "allgather": 1, "exchange": 2}),
    ]
    for call, messages in calls:
        with traffic() as seen:
            call()
        assert seen.calls == (messages if size > 1 else {})


def test_the_larger_of_both_stays(size: int) -> None:
    whole, places = values((6, 100)), values((6, 4), torch.int64)
    for layout in layouts((6, 100), size):
        x, indices = dealt(whole, layout), ms.array(places, split=0)
        if layout.split == 0:
            assert ms.take_along_axis(x, indices, axis=1).layout.counts == layout.counts


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.take(x, [0], mode="c"), ValueError, "mode of take must be 'raise', .* got 'c'"),
        (lambda x: ms.take(x, [0, 6], axis=0), IndexError, "index 6 is out of range for axis 0"),
        (lambda x: ms.take(x, [-4], axis=1), IndexError, "index -4 is out of range for axis 1"),
        (lambda x: ms.take(x, [0], axis=2), IndexError, "axis 2 is out of range for 2 dimensions"),
        (lambda x: ms.take(x, [True] * 6, axis=0), IndexError, "indices must be integers, got bools"),
        (lambda x: ms.take(x, x[:, 0] > 0, axis=0), IndexError, "indices must be integers, got bools"),
        (lambda x: ms.take(x, [0.5], axis=0), IndexError, "indices must be integers, got float64"),
        (lambda x: ms.take(x.larray, [0]), TypeError, "x must be a DNDarray, got Tensor"),
        (lambda x: ms.take_along_axis(x, ms.full((6, 1), 3, split=0)), IndexError, "index 3 is out of range"),
        (lambda x: ms.take_along_axis(x, ms.full((6, 1), -7), axis=0), IndexError, "out of range for axis"),
        (lambda x: ms.take_along_axis(x, ms.zeros((6, 1))), IndexError, "integers, got torch.float32"),
        (lambda x: ms.take_along_axis(x, ms.full((6,), 0)), ValueError, r"as many dimensions as x, got .*\(6,\)"),
        (lambda x: ms.take_along_axis(x, ms.full((5, 1), 0)), ValueError, "do not broadcast"),
        (lambda x: ms.take_along_axis(x, ms.full((6, 1), 0), axis=2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.take_along_axis(x, ms.full((6, 1), 0, comm=ms.MPI_SELF)), ValueError, "one communicator"),
    ],
)  # fmt: skip
def test_errors(split: int | None, call: Callable[[Any], Any], kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((6, 3), split=split)
    with raises_alike(kind, match=words):
        call(x)


def test_an_index_that_is_out_of_range_on_one_rank(size: int, rank: int, raises_alike: Any) -> None:
    for split in (0, 1, None):
        x = ms.ones((2 * size, 3), split=split)
        mine = torch.full((2, 3), 99 if rank == size - 1 else 0)
        indices = ms.array(mine, is_split=0)
        for axis in (0, 1):
            with raises_alike(IndexError, match="index 99 is out of range"):
                ms.take_along_axis(x, indices, axis=axis)
        with raises_alike(IndexError, match="index 99 is out of range"):
            ms.take(x, indices, axis=1)


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 6), split=1, comm=part)
    indices = ms.zeros((4, 2), dtype=torch.int64, split=0, comm=part)
    for axis in (0, 1):
        assert ms.take(x, [0, 1], axis=axis).comm is part
        assert ms.take_along_axis(x, indices if axis else indices[:, :1], axis=axis).comm is part
    part.free()


def test_what_a_condition_selects(size: int, raises_alike: Any) -> None:
    whole = values((4, 3))
    plain = whole.numpy()
    for layout in layouts((4, 3), size):
        x = dealt(whole, layout)
        for condition in ([True, False, True], [False], [True, True, False, True]):
            for mask in (condition, np.array(condition), ms.array(condition, split=0)):
                assert_equal(ms.compress(mask, x), np.compress(condition, plain))
                assert_equal(ms.compress(mask, x, axis=0), np.compress(condition, plain, axis=0))
                if len(condition) <= 3:
                    assert_equal(ms.compress(mask, x, axis=-1), np.compress(condition, plain, axis=1))
        assert_equal(ms.extract(x > 1, x), np.extract(plain > 1, plain))
        assert_equal(ms.extract(ms.array(plain.ravel() > 1, split=0), x), np.extract(plain > 1, plain))
    with raises_alike(ValueError, match=r"condition must be 1-d, got shape \(1, 1\)"):
        ms.compress([[True]], x)
    with raises_alike(IndexError, match="mask"):
        ms.compress([True] * 5, x, axis=0)
    with raises_alike(TypeError, match="condition must be a DNDarray, got list"):
        ms.extract([True], x)  # type: ignore[arg-type]
