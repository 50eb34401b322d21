"""The extremes and their indices: ties, NaN, infinities, unsigned integers, gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from reduction_cases import Dims, assert_reduced, cases, dims_of, expected, ordered, with_specials

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close, assert_equal, spmd


@hyp.composite
def searches(draw: hyp.DrawFn) -> tuple[Whole, Any, bool]:
    """An array to search, an axis of it or None, and whether that stays."""
    whole, _, keepdims = draw(with_specials() | cases(elements=hyp.integers(0, 2)))
    ndim = whole.tensor.ndim
    return whole, draw(hyp.none() | (hyp.integers(-ndim, ndim - 1) if ndim else hyp.nothing())), keepdims


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(case=searches())
@spmd
def test_A15_argmax_and_argmin_as_numpy(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case

    def found(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        plain = whole.tensor.float() if x.dtype is torch.bfloat16 else whole.tensor
        return torch.tensor(getattr(np, name)(plain.numpy(), axis=axis, keepdims=keepdims), dtype=torch.int64)

    wanted = expected(ordered(found), whole.tensor, axis, keepdims)
    assert_reduced(lambda x: getattr(ms, name)(x, axis=axis, keepdims=keepdims), whole, axis, wanted)


def test_A15_equal_zeros_and_extremes_on_several_ranks(size: int) -> None:
    zeros = torch.tensor([-0.0, 0.0] * size, dtype=torch.float64)
    assert ms.argmax(ms.array(zeros, split=0)).item() == 0
    assert ms.argmin(ms.array(-zeros, split=0)).item() == 0
    zeros = torch.cat([-torch.zeros(2), torch.zeros(2 * size - 2)])  # of one sign on each rank
    assert ms.argmax(ms.array(zeros, split=0)).item() == 0
    assert ms.argmin(ms.array(-zeros, split=0)).item() == 0
    for name, bound in (("max", -math.inf), ("min", math.inf)):
        assert getattr(ms, f"arg{name}")(ms.full((2 * size,), bound, split=0)).item() == 0
    lowest = ms.full((2 * size,), -(2**63), dtype=torch.int64, split=0)
    assert (ms.argmax(lowest).item(), ms.max(lowest).item()) == (0, -(2**63))
    x = ms.ones(4 * size, dtype=torch.float64, split=0)
    x.larray.requires_grad_()
    ms.max(x).larray.backward()
    assert x.larray.grad is not None
    assert x.larray.grad.tolist() == [1 / (4 * size)] * 4


@pytest.mark.parametrize("name", ["max", "min"])
@given(case=with_specials())
@spmd
def test_A15_gradients_where_there_is_nan(name: str, case: tuple[Whole, Any, bool]) -> None:
    """All elements that have the extreme share its gradient, NaNs as well: as in torch.max of all elements."""
    whole, axis, keepdims = case
    tensor = whole.tensor
    dims = dims_of(axis, tensor.ndim)
    if not math.prod(tensor.shape[dim] for dim in dims):
        return
    values = (torch.amax if name == "max" else torch.amin)(tensor, dims, True) if dims else tensor
    has_extreme = (tensor == values) | (tensor.isnan() & values.isnan())
    share = (has_extreme / (has_extreme.sum(dims, keepdim=True) if dims else 1)).to(tensor.dtype)
    x = Whole(tensor.clone().requires_grad_(), whole.layout).cut()
    result = getattr(ms, name)(x, axis=axis, keepdims=keepdims)
    (gradient,) = torch.autograd.grad(result.larray.sum(), x.larray)
    assert_close(ms.DNDarray(gradient, x.layout, x.comm), share)


@pytest.mark.parametrize("name", ["max", "min"])
def test_A15_the_only_nan_has_all_of_the_gradient(size: int, name: str) -> None:
    whole = torch.ones(3 * size, dtype=torch.float64)
    whole[-2] = math.nan
    wanted = whole.clone().requires_grad_()
    getattr(torch, name)(wanted).backward()
    assert wanted.grad is not None
    assert wanted.grad[-2] == 1
    x = ms.array(whole, split=0)
    x.larray.requires_grad_()
    getattr(ms, name)(x).larray.backward()
    assert x.larray.grad is not None
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, x.comm), wanted.grad)


WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


@pytest.mark.parametrize("dtype", WIDE_UNSIGNED)
@given(case=cases(torch.int64, hyp.integers(0, 2**16 - 1) | hyp.just(-1)))
@spmd
def test_unsigned_integers(dtype: torch.dtype, case: tuple[Whole, Any, bool]) -> None:
    """-1 is the greatest number of such a dtype."""
    whole, axis, keepdims = case
    tensor = whole.tensor.to(dtype)
    plain = tensor.numpy()
    for name in ("max", "min", "sum", "count_nonzero"):
        numpy = getattr(np, name)

        def function(x: torch.Tensor, dims: Dims, keepdim: bool, numpy: Any = numpy) -> torch.Tensor:
            found = numpy(plain, axis=None if axis is None else dims_of(axis, plain.ndim), keepdims=keepdims)
            return torch.tensor(np.asarray(found).astype(plain.dtype if numpy in {np.max, np.min} else np.int64))

        check = ordered(function) if name in {"max", "min"} else function
        wanted = expected(check, tensor, axis, keepdims)
        cut = Whole(tensor, whole.layout)
        assert_bits(getattr(ms, name), cut, axis, keepdims, wanted)


def assert_bits(call: Any, whole: Whole, axis: Any, keepdims: bool, wanted: Any) -> None:
    """As `assert_reduced`, of dtypes that torch cannot compare."""
    x = whole.cut()
    try:
        result: Any = call(x, axis=axis, keepdims=keepdims)
    except ValueError as error:
        result = type(error)
    with agreement(x.comm, "comparing"):
        if isinstance(wanted, type):
            assert result is wanted
        else:
            assert result.dtype is wanted.dtype
            assert result.larray.tolist() == wanted[result.layout.box(x.comm.rank)].tolist()
