"""Reductions: torch's values for every layout, axis and dtype, by one message or none."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.ops.reductions.moments import _records
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
Dims = tuple[int, ...]
Torch = Callable[[torch.Tensor, Dims, bool], torch.Tensor]
HALVES = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def in_wide(function: Torch) -> Torch:
    """Halves are accumulated in float32 and rounded once."""

    def widened(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        return function(x.to(HALVES.get(x.dtype, x.dtype)), dims, keepdim).to(kind_of(x))

    return widened


def kind_of(x: torch.Tensor) -> torch.dtype:
    return x.dtype if x.dtype.is_floating_point or x.dtype.is_complex else torch.int64


def product(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim)
    return x


def inexact(function: Torch) -> Torch:
    def checked(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        if not (x.dtype.is_floating_point or x.dtype.is_complex):
            raise TypeError
        return function(x, dims, keepdim)

    return checked


def variance(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    found = (wide - wide.mean(dims, keepdim=True)).abs().square().mean(dims, keepdim=keepdim)
    return found.to(x.dtype.to_real() if x.is_complex() else x.dtype)


def deviation(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    return variance(wide, dims, keepdim).sqrt().to(x.dtype.to_real() if x.is_complex() else x.dtype)


def ordered(function: Torch) -> Torch:
    def checked(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        if x.is_complex():
            raise TypeError
        if not math.prod(x.shape[dim] for dim in dims):
            raise ValueError
        return function(x, dims, keepdim)

    return checked


TABLE: dict[str, Torch] = {
    "all": lambda x, dims, keepdim: torch.all(x.to(torch.bool), dims, keepdim),
    "any": lambda x, dims, keepdim: torch.any(x.to(torch.bool), dims, keepdim),
    "count_nonzero": lambda x, dims, keepdim: (x != 0).sum(dims, keepdim),
    "max": ordered(torch.amax),
    "mean": inexact(in_wide(torch.mean)),
    "min": ordered(torch.amin),
    "nanprod": in_wide(product),
    "nansum": in_wide(torch.sum),
    "prod": in_wide(product),
    "std": inexact(deviation),
    "sum": in_wide(torch.sum),
    "var": inexact(variance),
}


# With torch's derivatives.
SMOOTH: dict[str, Torch] = {
    "std": lambda x, dims, keepdim: torch.std(x, dims, correction=0, keepdim=keepdim),
    "var": lambda x, dims, keepdim: torch.var(x, dims, correction=0, keepdim=keepdim),
}


@hyp.composite
def cases(draw: hyp.DrawFn, dtypes: Any = None, elements: Any = None) -> tuple[Whole, Any, bool]:
    """An array, axes of it, and whether they stay."""
    whole = draw(st.dndarrays(st.shapes(max_side=4), dtypes, elements=elements))
    ndim = whole.tensor.ndim
    axes = hyp.integers(-ndim, ndim - 1) if ndim else hyp.nothing()
    several = hyp.lists(axes, max_size=ndim, unique_by=lambda axis: axis % ndim).map(tuple)
    return whole, draw(hyp.none() | axes | several), draw(hyp.booleans())


def expected(function: Torch, x: torch.Tensor, axis: Any, keepdims: bool) -> Any:
    dims = dims_of(axis, x.ndim)
    try:
        return function(x, dims, keepdims) if dims else function(x.unsqueeze(-1), (-1,), False)
    except (TypeError, ValueError) as error:
        return type(error)


def dims_of(axis: Any, ndim: int) -> Dims:
    if axis is None:
        return tuple(range(ndim))
    return tuple(one % ndim for one in (axis if isinstance(axis, tuple) else (axis,)))


def layout_after(layout: ms.Layout, axis: Any, shape: tuple[int, ...]) -> ms.Layout:
    """What is left of a layout when axes have been reduced to a result of this shape."""
    dims = dims_of(axis, layout.ndim)
    if layout.split is None or layout.split in dims:
        return ms.Layout(shape, None, layout.ranks)
    left = [dim for dim in range(layout.ndim) if dim not in dims]
    split = layout.split if len(shape) == layout.ndim else left.index(layout.split)
    return ms.Layout(shape, split, layout.ranks, layout.counts)


def assert_reduced(
    call: Callable[[ms.DNDarray], ms.DNDarray], whole: Whole, axis: Any, wanted: Any, messages: int = 1
) -> None:
    """Assert values, layout and messages of a reduction, or its kind of exception, on all ranks."""
    x = whole.cut()
    with traffic() as seen:
        try:
            result: Any = call(x)
        except (TypeError, ValueError) as error:
            result = type(error)
    crosses = whole.layout.ranks > 1 and whole.layout.split in dims_of(axis, x.ndim)
    with agreement(x.comm, "comparing"):
        if isinstance(wanted, type):
            assert result is wanted
            assert seen.collectives == 0
        else:
            assert isinstance(result, ms.DNDarray)
            assert result.layout == layout_after(whole.layout, axis, tuple(wanted.shape))
            assert seen.collectives == (messages if crosses else 0)
    if isinstance(result, ms.DNDarray):
        assert_close(result, wanted)
    assert_equal(x, whole.tensor)
    assert x.layout == whole.layout


@pytest.mark.parametrize("name", TABLE)
@given(case=cases(elements=hyp.sampled_from((1, 0, 2))))
@spmd
def test_reductions_of_any_dtype_layout_and_axes(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    wanted = expected(TABLE[name], whole.tensor, axis, keepdims)
    assert_reduced(lambda x: getattr(ms, name)(x, axis=axis, keepdims=keepdims), whole, axis, wanted)


@hyp.composite
def with_specials(draw: hyp.DrawFn) -> tuple[Whole, Any, bool]:
    """Numbers among which many are equal, with NaN, infinities and zeros of both signs."""
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    numbers = hyp.sampled_from((1.0, 0.0, -0.0, -2.0, math.inf, -math.inf, math.nan))
    return draw(cases(st.dtypes(kinds), numbers))


@pytest.mark.parametrize("name", ["max", "min", "sum", "nansum", "any", "all", "count_nonzero"])
@given(case=with_specials())
@spmd
def test_A15_nan_infinities_and_zeros(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    function = TABLE[name]
    if name == "nansum":
        wanted = expected(
            lambda *a: in_wide(torch.sum)(a[0].nan_to_num(0, math.inf, -math.inf), *a[1:]), *where(case)
        )
    else:
        wanted = expected(function, *where(case))
    assert_reduced(lambda x: getattr(ms, name)(x, axis=axis, keepdims=keepdims), whole, axis, wanted)


def where(case: tuple[Whole, Any, bool]) -> tuple[torch.Tensor, Any, bool]:
    return case[0].tensor, *case[1:]


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
    for name, bound in (("max", -math.inf), ("min", math.inf)):
        assert getattr(ms, f"arg{name}")(ms.full((2 * size,), bound, split=0)).item() == 0
    lowest = ms.full((2 * size,), -(2**63), dtype=torch.int64, split=0)
    assert (ms.argmax(lowest).item(), ms.max(lowest).item()) == (0, -(2**63))
    x = ms.ones(4 * size, dtype=torch.float64, split=0)
    x.larray.requires_grad_()
    ms.max(x).larray.backward()
    assert x.larray.grad is not None
    assert x.larray.grad.tolist() == [1 / (4 * size)] * 4


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


@pytest.mark.parametrize("name", ["var", "std"])
@given(
    case=cases(st.dtypes((torch.float64, torch.float32, torch.complex128, torch.bfloat16))),
    correction=hyp.sampled_from((0, 1, 0.5, 2, 5)),
)
@spmd
def test_corrections_as_numpy(name: str, case: tuple[Whole, Any, bool], correction: float) -> None:
    whole, axis, keepdims = case

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        wide = x.to(torch.complex128 if x.is_complex() else torch.float64).numpy()
        with warnings.catch_warnings(action="ignore"):
            found = getattr(np, name)(wide, axis=dims, ddof=correction, keepdims=keepdim)
        return torch.tensor(found).to(x.dtype.to_real() if x.is_complex() else x.dtype)

    wanted = expected(function, whole.tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, correction=correction, keepdims=keepdims), whole, axis, wanted)


@given(
    whole=st.dndarrays((40,), torch.float64, split=0, elements=hyp.floats(-1, 1)), far=hyp.sampled_from((0, 1e8))
)
@spmd
def test_a_variance_far_from_zero(whole: Whole, far: float) -> None:
    """Sums of squares would have no digit left."""
    tensor = whole.tensor + far
    exact = tensor - far
    result = ms.var(Whole(tensor, whole.layout).cut())
    assert_close(result, torch.var(exact, correction=0), rtol=1e-6, atol=1e-15)
    same = ms.var(Whole(torch.full_like(tensor, far + 0.1), whole.layout).cut())
    assert_equal(same, torch.tensor(0.0, dtype=torch.float64))


@pytest.mark.serial
@pytest.mark.parametrize("block", [16, 48, 1000])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 6), (1, 90, 3), (40, 1, 2), (2, 3, 40)], ids=str)
def test_moments_block_by_block(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axes: Dims, block: int
) -> None:
    monkeypatch.setattr("minisplit.ops.reductions.moments.BLOCK", block)
    x = np.random.default_rng(0).normal(1000, 1, shape).astype(np.float32)
    for values in (torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(x.T)).permute(2, 1, 0)):
        count, mean, squares = _records(values, axes).unbind(-1)
        assert (count == np.prod([shape[axis] for axis in axes])).all()
        np.testing.assert_allclose(mean, x.mean(axes, dtype=np.float64, keepdims=True), rtol=1e-14)
        wanted = x.astype(np.float64).var(axes, keepdims=True) * count.numpy()
        np.testing.assert_allclose(squares, wanted, rtol=1e-9, atol=1e-12)
    assert (_records(torch.full(shape, 0.1), axes)[..., 2] == 0).all()


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "nansum", "nanprod"])
@given(case=cases(elements=hyp.sampled_from((1, 0, 0.5))), dtype=st.dtypes())
@spmd
def test_dtypes_by_request(name: str, case: tuple[Whole, Any, bool], dtype: torch.dtype) -> None:
    whole, axis, keepdims = case
    tensor = whole.tensor.real if whole.tensor.is_complex() and not dtype.is_complex else whole.tensor
    whole = Whole(tensor.clone(), whole.layout)

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        return TABLE[name](x.to(dtype), dims, keepdim).to(dtype)

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


def assert_gradients(call: Any, function: Torch, whole: Whole, axis: Any, keepdims: bool) -> None:
    tensor = whole.tensor.clone().requires_grad_()
    wanted = expected(function, tensor, axis, keepdims)
    x = Whole(tensor, whole.layout).cut()
    assert x.larray.requires_grad
    result = call(x, axis=axis, keepdims=keepdims)
    weights = torch.arange(1.0, wanted.numel() + 1, dtype=torch.float64).reshape(wanted.shape)
    (gradient,) = torch.autograd.grad(wanted, tensor, weights)
    (mine,) = torch.autograd.grad(result.larray, x.larray, weights[result.layout.box(x.comm.rank)])
    assert_close(ms.DNDarray(mine, x.layout, x.comm), gradient)


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


def nan_extreme(name: str) -> Torch:
    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        with warnings.catch_warnings(action="ignore"):
            return torch.tensor(getattr(np, name)(x.double().numpy(), dims, keepdims=keepdim)).to(x.dtype)

    return ordered(function)


MADE: dict[str, Torch] = {
    "logsumexp": lambda x, dims, keepdim: torch.logsumexp(x.double(), dims, keepdim).to(x.dtype),
    "nanmax": nan_extreme("nanmax"),
    "nanmean": lambda x, dims, keepdim: torch.nanmean(x.double(), dims, keepdim).to(x.dtype),
    "nanmin": nan_extreme("nanmin"),
}


@pytest.mark.parametrize("name", MADE)
@given(case=with_specials())
@spmd
def test_what_is_made_of_reductions(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    wanted = expected(MADE[name], whole.tensor, axis, keepdims)
    call, dims = getattr(ms, name), dims_of(axis, whole.tensor.ndim)
    # The logarithm of nothing needs no greatest element.
    messages = 2 if name != "logsumexp" or math.prod(whole.tensor.shape[dim] for dim in dims) else 1
    assert_reduced(lambda x: call(x, axis=axis, keepdims=keepdims), whole, axis, wanted, messages)


@pytest.mark.parametrize("name", ["nanvar", "nanstd"])
@given(case=with_specials() | cases(torch.complex128), correction=hyp.sampled_from((0, 1, 0.5, 3)))
@spmd
def test_spread_of_what_is_not_nan(name: str, case: tuple[Whole, Any, bool], correction: float) -> None:
    whole, axis, keepdims = case

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        wide = x.to(torch.complex128 if x.is_complex() else torch.float64).numpy()
        with warnings.catch_warnings(action="ignore"):
            found = getattr(np, name)(wide, axis=dims, ddof=correction, keepdims=keepdim)
        return torch.tensor(found).to(x.dtype.to_real() if x.is_complex() else x.dtype)

    wanted = expected(inexact(function), whole.tensor, axis, keepdims)
    call = getattr(ms, name)
    assert_reduced(lambda x: call(x, axis=axis, correction=correction, keepdims=keepdims), whole, axis, wanted, 3)


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


@pytest.mark.parametrize("name", ["logsumexp", "nanmean"])
@given(case=cases(torch.float64))
@spmd
def test_gradients_of_what_is_made_of_reductions(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    if whole.tensor.numel():
        assert_gradients(getattr(ms, name), MADE[name], whole, axis, keepdims)


@given(
    case=cases(st.dtypes((torch.float64, torch.bfloat16, torch.int64))),
    cut=st.layouts((4, 4, 4), split=hyp.none() | hyp.integers(0, 2)),
)
@spmd
def test_averages(case: tuple[Whole, Any, bool], cut: ms.Layout) -> None:
    whole, axis, keepdims = case
    tensor = whole.tensor
    weights = (torch.arange(1.0, tensor.numel() + 1) % 5 + 1).reshape(tensor.shape)
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    w = ms.array(weights, split=cut.split if cut.split is not None and cut.split < tensor.ndim else None)

    def function(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        heavy = weights if x.ndim == tensor.ndim else weights.unsqueeze(-1)
        return ((x * heavy.double()).sum(dims, keepdim) / heavy.double().sum(dims, keepdim)).to(dtype)

    wanted = expected(function, tensor, axis, keepdims)
    result = ms.average(whole.cut(), axis=axis, weights=w, keepdims=keepdims)
    assert_close(result, wanted)


def test_averages_along_one_axis(size: int, raises_alike: Any) -> None:
    plain = np.arange(24.0).reshape(2, 3, 4)
    for split in (0, 1, 2, None):
        x = ms.array(plain, split=split)
        for w in (ms.array([1.0, 2.0, 0.5]), ms.array([1.0, 2.0, 0.5], split=0)):
            assert_close(ms.average(x, axis=1, weights=w), np.average(plain, 1, w.numpy()))
        assert_close(ms.average(x), np.asarray(plain.mean()))
        with raises_alike(ValueError, match=r"weights must have .* got shape \(3,\) for axes \(0,\)"):
            ms.average(x, axis=0, weights=ms.ones(3))


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
        (lambda x: ms.sum(x, dtype="float"), TypeError, "or None, such as torch.float32, got 'float'"),
        (lambda x: ms.mean(x != 0), TypeError, r"mean needs floating point or complex .* got torch\.bool"),
        (lambda x: ms.mean(x, dtype=torch.int8), TypeError, r"mean needs floating point .* got torch\.int8"),
        (lambda x: ms.var(x != 0), TypeError, r"var needs floating point or complex .* got torch\.bool"),
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


@pytest.mark.mpi
@pytest.mark.parametrize("name", [*TABLE, "argmax", "argmin", "cumulative_sum", "cumulative_prod"])
def test_a_function_has_a_name_and_can_be_pickled(name: str) -> None:
    function = getattr(ms, name)
    assert (function.__name__, function.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(function)) is function
