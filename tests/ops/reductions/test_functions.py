"""Reductions: torch's values for every layout, axis and dtype, by one message or none."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from reduction_cases import (
    Dims,
    Torch,
    arguments,
    assert_gradients,
    assert_reduced,
    cases,
    expected,
    in_wide,
    inexact,
    ordered,
    product,
    with_fractions,
    with_specials,
)

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication


def variance(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    found = (wide - wide.mean(dims, keepdim=True)).abs().square().mean(dims, keepdim=keepdim)
    return found.to(x.dtype.to_real() if x.is_complex() else x.dtype)


def deviation(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    return variance(wide, dims, keepdim).sqrt().to(x.dtype.to_real() if x.is_complex() else x.dtype)


TABLE: dict[str, Torch] = {
    "all": lambda x, dims, keepdim: torch.all(x.to(torch.bool), dims, keepdim),
    "any": lambda x, dims, keepdim: torch.any(x.to(torch.bool), dims, keepdim),
    "count_nonzero": lambda x, dims, keepdim: (x != 0).sum(dims, keepdim),
    "max": ordered(torch.amax),
    "mean": with_fractions(in_wide(torch.mean)),
    "min": ordered(torch.amin),
    "nanprod": in_wide(product),
    "nansum": in_wide(torch.sum),
    "prod": in_wide(product),
    "std": with_fractions(deviation),
    "sum": in_wide(torch.sum),
    "var": with_fractions(variance),
}


# With torch's derivatives.
SMOOTH: dict[str, Torch] = {
    "std": lambda x, dims, keepdim: torch.std(x, dims, correction=0, keepdim=keepdim),
    "var": lambda x, dims, keepdim: torch.var(x, dims, correction=0, keepdim=keepdim),
}


@pytest.mark.parametrize("name", TABLE)
@given(case=cases(elements=hyp.sampled_from((1, 0, 2))))
@spmd
def test_reductions_of_any_dtype_layout_and_axes(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    wanted = expected(TABLE[name], whole.tensor, axis, keepdims)
    assert_reduced(lambda x: getattr(ms, name)(x, axis=axis, keepdims=keepdims), whole, axis, wanted)


@pytest.mark.parametrize("name", ["max", "min", "sum", "nansum", "any", "all", "count_nonzero"])
@given(case=with_specials())
@spmd
def test_A15_nan_infinities_and_zeros(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    function = TABLE[name]
    if name == "nansum":
        wanted = expected(
            lambda *a: in_wide(torch.sum)(a[0].nan_to_num(0, math.inf, -math.inf), *a[1:]), *arguments(case)
        )
    else:
        wanted = expected(function, *arguments(case))
    assert_reduced(lambda x: getattr(ms, name)(x, axis=axis, keepdims=keepdims), whole, axis, wanted)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "nansum", "nanprod"])
@given(case=cases(elements=hyp.sampled_from((1, 0, 0.5))), dtype=st.dtypes())
@spmd
def test_dtypes_by_request(name: str, case: tuple[Whole, Any, bool], dtype: torch.dtype) -> None:
    whole, axis, keepdims = case
    tensor = whole.tensor.real if whole.tensor.is_complex() and not dtype.is_complex else whole.tensor
    whole = Whole(tensor.clone(), whole.layout)

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        one = inexact(TABLE[name]) if name == "mean" else TABLE[name]  # a mean has fractions
        return one(x.to(dtype), dims, keepdim).to(dtype)

    wanted = expected(function, tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, dtype=dtype, keepdims=keepdims), whole, axis, wanted)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "nansum", "nanprod", "max", "min", "var", "std"])
@given(case=cases(torch.float64, hyp.integers(-2, 2)))
@spmd
def test_gradients_are_those_of_the_whole_array(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    if whole.tensor.numel():
        assert_gradients(getattr(ms, name), (TABLE | SMOOTH)[name], whole, axis, keepdims)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "var"])
@given(whole=st.dndarrays((3, 2), torch.float64, elements=hyp.integers(-9, 9)))
@spmd
def test_second_derivatives(name: str, whole: Whole) -> None:
    """Of the square of a reduction, so that none is zero."""
    tensor = whole.tensor.clone().requires_grad_()
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(
        (TABLE | SMOOTH)[name](tensor, (0,), False).square().sum(), tensor, create_graph=True
    )
    (curve,) = torch.autograd.grad(slope, tensor, weights)
    x = Whole(tensor, whole.layout).cut()
    result = getattr(ms, name)(x, axis=0).larray
    (mine,) = torch.autograd.grad(result.square().sum(), x.larray, create_graph=True)
    (second,) = torch.autograd.grad(mine, x.larray, weights[x.layout.box(x.comm.rank)])
    assert_close(ms.DNDarray(mine.detach(), x.layout, x.comm), slope.detach())
    assert_close(ms.DNDarray(second, x.layout, x.comm), curve)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_A14_halves_are_rounded_once(size: int, dtype: torch.dtype) -> None:
    x = ms.ones((1000 * size, 2), dtype=dtype, split=0)
    assert_equal(ms.sum(x, axis=0), torch.full((2,), 1000 * size, dtype=dtype))
    assert_equal(ms.mean(x * 3, axis=0), torch.full((2,), 3, dtype=dtype))
    assert_equal(ms.nanmean(x * 256, axis=0), torch.full((2,), 256, dtype=dtype))  # the sum is beyond float16
    steep = ms.array(torch.tensor([512.0, 256.0, 1 / 1024, 1.0], dtype=dtype), split=0)  # 2 ** 17 on the way
    assert_equal(ms.prod(steep), torch.tensor(128.0, dtype=dtype))


def test_what_crosses_is_counted(size: int) -> None:
    x = ms.ones((2 * size + 1, 3), split=0)
    for name in [*TABLE, "argmax", "argmin"]:
        for axis, messages in ((None, 1), (0, 1), (1, 0)):
            with traffic() as seen:
                getattr(ms, name)(x, axis=axis)
            assert seen.collectives == (messages if size > 1 else 0), name
    with traffic() as seen:
        ms.sum(x.resplit(None))
    assert seen.calls["allreduce"] == 0


def test_methods(size: int) -> None:
    x = ms.array([[1.0, 2.0, 4.0], [0.0, 5.0, 3.0]], split=1)
    for name in ("all", "any", "argmax", "argmin", "max", "mean", "min", "prod", "std", "sum", "var"):
        ours, function = getattr(x, name)(1, keepdims=True), getattr(ms, name)(x, axis=1, keepdims=True)
        assert_equal(ours, function)
    assert x.sum(dtype=torch.int64).item() == 15
    assert x.var(correction=1).item() == 3.5
    assert [indices.tolist() for indices in x.nonzero()] == [[0, 0, 0, 1, 1], [0, 1, 2, 1, 2]]


def like(x: ms.DNDarray, *shape: int) -> ms.DNDarray:
    return ms.ones(shape, split=x.split)


@pytest.mark.parametrize("split", [0, 1, None])
@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.sum(x, axis=2), IndexError, r"axis 2 is out of range for 2 dimensions; allowed: -2 to 1"),
        (lambda x: ms.any(x, axis=(0, -2)), ValueError, r"axis \(0, -2\) names an axis of 2 dimensions more"),
        (lambda x: ms.max(x, axis=1.0), TypeError, r"axis must be an int, got 1\.0 of type float"),
        (lambda x: ms.max(x, axis=True), TypeError, "axis must be an int, got True of type bool"),
        (lambda x: ms.argmax(x, axis=(0, 1)), TypeError, r"axis of argmax must be an int or None, got \(0, 1\)"),
        (lambda x: ms.sum(x, dtype="flaot"), TypeError, "the name of one, bool, .* got 'flaot'"),
        (lambda x: ms.mean(x, dtype=torch.int8), TypeError, r"mean needs floating point .* got torch\.int8"),
        (lambda x: ms.max(x, where=x > 0), ValueError, "max of the elements that a mask .* needs initial="),
        (lambda x: ms.sum(x, where=x), TypeError, r"where must be bools, got torch\.float32; compare it"),
        (lambda x: ms.std(x, correction="1"), TypeError, "correction of std must be a number, got str"),
        (lambda x: ms.max(x * 1j), TypeError, r"max needs numbers that have an order, got torch\.complex64"),
        (lambda x: ms.argmin(x * 1j), TypeError, r"argmin needs numbers that have an order, got torch\.comp"),
        (lambda x: ms.max(like(x, 0, 3)), ValueError, r"max needs .* \(0, 3\) has none along axes \(0, 1\)"),
        (lambda x: ms.min(like(x, 5, 0), axis=-1), ValueError, r"min .* \(5, 0\) has none along axes \(1,\)"),
        (lambda x: ms.argmax(like(x, 0, 3), axis=0), ValueError, r"argmax needs .* but shape \(0, 3\)"),
        (lambda x: ms.sum(x.larray), TypeError, "x must be a DNDarray, got Tensor; make one with"),
    ],
)  # fmt: skip
def test_errors_before_any_message(split: int | None, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=split)
    with traffic() as seen, raises_alike(kind, match=words):
        try:
            call(x)
        finally:
            assert seen.collectives == 0


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 3), split=0, comm=part)
    for name in [*TABLE, "argmax", "argmin"]:
        for axis in (None, 0, 1):
            assert getattr(ms, name)(x, axis=axis).comm is part
    assert ms.sum(x).item() == 12
    part.free()


def test_in_debug_mode_with_views(size: int) -> None:
    with ms.debug():
        x = ms.array(torch.arange(12.0).reshape(3, 4) + 1j, split=1)
        y = ms.DNDarray(x.larray.conj(), x.layout, x.comm)
        assert ms.sum(y).item() == 66 - 12j
        assert ms.prod(y, axis=1).shape == (3,)
        assert math.isclose(ms.var(y).item(), 143 / 12, rel_tol=1e-6)
        assert ms.argmax(ms.real(y)).item() == 11


@pytest.mark.processes
@pytest.mark.parametrize("name", [*TABLE, "argmax", "argmin", "cumulative_sum", "cumulative_prod"])
def test_a_function_has_a_name_and_can_be_pickled(name: str) -> None:
    function = getattr(ms, name)
    assert (function.__name__, function.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(function)) is function


def test_an_array_that_cannot_hold_the_results_is_refused_on_all_ranks(raises_alike: Any) -> None:
    for split in (0, 1, None):
        x = ms.ones((5, 3), split=split)
        with raises_alike(TypeError, match=r"out is of .*int8, which has no place for results of torch\.float32"):
            ms.sum(x, out=ms.zeros((), dtype="int8"))
        with raises_alike(ValueError, match=r"shapes \(2,\) and \(3,\) do not broadcast"):
            ms.sum(x, 0, out=ms.zeros(2))
        with raises_alike(TypeError, match="out must be a DNDarray, got Tensor"):
            ms.sum(x, out=torch.zeros(()))  # type: ignore[arg-type]
        with raises_alike(OverflowError, match="initial must be in torch.int64"):
            ms.sum(x.long(), initial=2**70)
