"""Sorting: torch's values and order for every layout, axis and dtype, and what crosses between ranks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
REAL = st.dtypes(
    (
        torch.float32, torch.int64, torch.bool, torch.uint8, torch.int8, torch.float64, torch.float16,
        torch.bfloat16,
    )
)  # fmt: skip
FLOATS = hyp.sampled_from((1.0, 0.0, -0.0, -2.5, math.inf, -math.inf, math.nan))


@hyp.composite
def cases(draw: hyp.DrawFn, dtypes: Any = REAL, elements: Any = None) -> tuple[Whole, int, bool]:
    """An array, an axis of it, and whether to descend."""
    whole = draw(st.dndarrays(st.shapes(min_dims=1, max_side=9), dtypes, elements=elements))
    axis = draw(hyp.integers(-whole.tensor.ndim, whole.tensor.ndim - 1))
    return whole, axis, draw(hyp.booleans())


def floats() -> Any:
    return cases(st.dtypes((torch.float64, torch.bfloat16)), FLOATS)


@given(case=cases() | floats())
@spmd
def test_sorting(case: tuple[Whole, int, bool]) -> None:
    whole, axis, descending = case
    x = whole.cut()
    values, indices = torch.sort(whole.tensor, dim=axis, descending=descending, stable=True)
    ours = ms.sort(x, axis=axis, descending=descending)
    places = ms.argsort(x, axis=axis, descending=descending)
    assert_equal(ours, values)
    assert_equal(places, indices)
    assert_equal(ms.signbit(ms.astype(ours, torch.float64)), values.double().signbit())
    with agreement(x.comm, "comparing"):
        assert ours.layout == places.layout == x.layout
        assert ours.larray.is_contiguous() or axis % x.ndim != x.ndim - 1
    assert_equal(x, whole.tensor)


@given(case=cases() | floats(), share=hyp.floats(0, 1))
@spmd
def test_topk(case: tuple[Whole, int, bool], share: float) -> None:
    whole, axis, largest = case
    x, k = whole.cut(), round(share * whole.tensor.shape[axis])
    values, indices = ms.topk(x, k, axis, largest)
    wanted = torch.sort(whole.tensor, dim=axis, descending=largest, stable=True)
    assert_equal(values, wanted.values.narrow(axis, 0, k))
    assert_equal(indices, wanted.indices.narrow(axis, 0, k))
    with agreement(x.comm, "comparing"):
        assert values.split == indices.split == x.split
        assert values.is_balanced() if x.split == axis % x.ndim else values.counts == x.counts


@given(case=cases(torch.float64, hyp.integers(-20, 20)))
@spmd
def test_gradients(case: tuple[Whole, int, bool]) -> None:
    whole, axis, descending = case
    k = (whole.tensor.shape[axis] + 1) // 2
    for ours, theirs in (
        (
            lambda x: ms.sort(x, axis=axis, descending=descending),
            lambda x: torch.sort(x, dim=axis, descending=descending, stable=True).values,
        ),
        (
            lambda x: ms.topk(x, k, axis, descending)[0],
            lambda x: torch.sort(x, dim=axis, descending=descending, stable=True).values.narrow(axis, 0, k),
        ),
    ):
        tensor = whole.tensor.clone().requires_grad_()
        wanted = theirs(tensor)
        weights = torch.arange(1.0, wanted.numel() + 1, dtype=torch.float64).reshape(wanted.shape)
        (slope,) = torch.autograd.grad((weights * wanted.square()).sum(), tensor)
        x = Whole(tensor, whole.layout).cut()
        result = ours(x)
        mine = (weights[result.layout.box(x.comm.rank)] * result.larray.square()).sum()
        (gradient,) = torch.autograd.grad(mine, x.larray)
        assert_equal(ms.DNDarray(gradient, x.layout, x.comm), slope)


def test_many_elements_on_every_layout(comm: Comm) -> None:
    seed = torch.Generator().manual_seed(0)
    for shape in ((1000,), (700, 1), (200, 2), (40, 30)):
        whole = torch.randint(-50, 50, shape, generator=seed)
        for layout in layouts(shape, comm.size):
            x = dealt(whole, layout)
            assert_equal(ms.sort(x, axis=0), torch.sort(whole, dim=0).values)
            wanted = torch.sort(whole, dim=0, descending=True, stable=True).indices
            assert_equal(ms.argsort(x, axis=0, descending=True), wanted)


def test_nan_of_either_sign_is_the_greatest(comm: Comm) -> None:
    whole = torch.arange(300.0) % 7
    whole[::3], whole[1::9] = math.nan, torch.copysign(torch.tensor(math.nan), torch.tensor(-1.0))
    for layout in layouts((300,), comm.size):
        for descending in (False, True):
            wanted = torch.sort(whole, descending=descending, stable=True)
            assert_equal(ms.argsort(dealt(whole, layout), descending=descending), wanted.indices)


def test_the_first_of_many(comm: Comm) -> None:
    seed = torch.Generator().manual_seed(3)
    for whole in (torch.rand(200, 2, generator=seed), torch.randint(0, 60, (200, 2), generator=seed)):
        special = whole.double()
        special[::50] = math.nan
        for layout in layouts((200, 2), comm.size):
            for tensor, largest in ((whole, True), (whole, False), (special, True), (special, False)):
                values, indices = ms.topk(dealt(tensor, layout), 7, 0, largest)
                wanted = torch.sort(tensor, dim=0, descending=largest, stable=True)
                assert_equal(values, wanted.values[:7])
                assert_equal(indices, wanted.indices[:7])


def test_no_rows_have_no_first(comm: Comm) -> None:
    for layout in layouts((0, 9), comm.size):
        x = dealt(torch.ones(0, 9), layout)
        assert [found.shape for found in ms.topk(x, 2)] == [(0, 2)] * 2
        assert ms.sort(x).layout == x.layout
        assert ms.argsort(x, axis=0).layout == x.layout


def test_what_is_sent(comm: Comm, size: int) -> None:
    drawn = torch.rand(5, 64, generator=torch.Generator().manual_seed(2))
    line, tall, wide = (ms.array(part, split=0) for part in (drawn[0], drawn[0, :, None], drawn))
    calls: list[tuple[Any, int, int]] = [
        (lambda: ms.sort(line), 2, 2),
        (lambda: ms.sort(tall, axis=0), 2, 2),
        (lambda: ms.argsort(line), 2, 3),
        (lambda: ms.topk(line, 3), 2, 4),
        (lambda: ms.sort(wide, axis=0), 0, 2),
        (lambda: ms.argsort(wide, axis=0), 0, 2),
        (lambda: ms.sort(wide), 0, 0),
        (lambda: ms.topk(wide, 3), 0, 0),
        (lambda: ms.sort(line.resplit(None)), 0, 1),
    ]
    for number, (call, allgathers, exchanges) in enumerate(calls):
        with traffic() as seen:
            call()
        assert seen.calls["allgather"] == (allgathers if size > 1 else 0), number
        assert seen.calls["exchange"] <= exchanges, number
        assert seen.collectives == seen.calls["allgather"] + seen.calls["exchange"], number
    with traffic() as seen:
        ms.topk(ms.arange(100_000, split=0), 4)
    assert seen.bytes_sent <= 4 * (8 + 4 + 8 + 8)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.sort(x, axis=2), IndexError, "axis 2 is out of range for 2 dimensions"),
        (lambda x: ms.argsort(ms.ones(())), IndexError, "out of range for 0 dimensions"),
        (lambda x: ms.sort(x * 1j), TypeError, r"sort needs numbers that have an order, got torch\.complex64"),
        (lambda x: ms.argsort(x * 1j), TypeError, "argsort needs numbers that have an order"),
        (lambda x: ms.topk(x, 6, 0), ValueError, r"k must be from 0 to 5, as axis 0 of \(5, 3\) is long, got 6"),
        (lambda x: ms.topk(x, -1), ValueError, "k must be from 0 to 3"),
        (lambda x: ms.topk(x, 1.0), TypeError, "k must be an int"),
        (lambda x: ms.sort(x.larray), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)
def test_errors_before_any_message(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    for split in (0, 1, None):
        x = ms.ones((5, 3), split=split)
        with traffic() as seen, raises_alike(kind, match=words):
            try:
                call(x)
            finally:
                assert seen.collectives == 0


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.arange(9, split=0, comm=part)
    with ms.debug():
        for result in (ms.sort(x, descending=True), ms.argsort(x), *ms.topk(x, 2)):
            assert result.comm is part
    assert ms.sort(x, descending=True).tolist() == list(range(8, -1, -1))
    part.free()
