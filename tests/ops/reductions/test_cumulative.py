"""Cumulative functions: torch's values for every layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

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


@pytest.mark.parametrize("split", [0, 1, None])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (ms.cumulative_sum, ValueError, r"cumulative_sum needs an axis, except .*, got shape \(5, 3\)"),
        (lambda x: ms.cumulative_prod(x, axis=-3), IndexError, "axis -3 is out of range for 2 dimensions"),
        (lambda x: ms.cumulative_sum(x.larray, axis=0), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)  # fmt: skip
def test_errors_are_alike(split: int | None, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=split)
    with raises_alike(kind, match=words):
        call(x)


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 3), split=0, comm=part)
    assert ms.cumulative_sum(x, axis=0).comm is ms.cumulative_prod(x, axis=1).comm is part
    part.free()


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_totals_as_numpy(size: int, name: str) -> None:
    for shape in ((5, 3), (6,), ()):
        for dtype in (torch.int32, torch.float64, torch.bool):
            whole = (torch.arange(math.prod(shape)).reshape(shape) % 3 + 1).to(dtype)
            for layout in layouts(shape, size):
                x = dealt(whole, layout)
                for axis in (None, *range(-len(shape), len(shape))):
                    plain = getattr(np, name)(whole.numpy(), axis=axis)
                    assert_equal(getattr(ms, name)(x, axis), torch.from_numpy(plain))
                    assert_equal(getattr(x, name)(axis), torch.from_numpy(plain))
    assert ms.cumsum(ms.ones(3, dtype=torch.int8), dtype=torch.int16).dtype is torch.int16


def test_gradients_of_running_sums_keep_small_numbers_beside_large_ones(size: int) -> None:
    """What comes after a rank is a difference of sums, of which float32 would leave nothing beside 1e8."""
    weights = torch.ones(2 * size)
    weights[0] = 1e8
    x = ms.ones(2 * size, split=0)
    x.larray.requires_grad_()
    result = ms.cumulative_sum(x)
    result.larray.backward(weights[result.layout.box(x.comm.rank)])
    assert x.larray.grad is not None
    wanted = torch.arange(2.0 * size, 0, -1)
    wanted[0] = 1e8
    assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), wanted, rtol=1e-6, atol=0)


def test_products_with_gradients_are_those_without(comm: ms.Communication) -> None:
    """Also of infinities, zeros and NaN, which a factor of 0 somewhere would change."""
    whole = torch.tensor([2.0, torch.inf, 3.0, 0.0, -1.0, torch.nan, 1.0])
    for x in (whole, whole[:4], whole[:1]):
        with_gradient = ms.array(x.clone().requires_grad_(), split=0)
        got = ms.cumulative_prod(with_gradient).resplit(None).larray.detach()
        torch.testing.assert_close(got, x.cumprod(0), equal_nan=True)
