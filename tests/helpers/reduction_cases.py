"""Reductions: the arrays and axes with which they are tested, and what torch gives for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as hyp

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close, assert_equal, traffic
from minisplit.testing import strategies as st

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


def with_fractions(function: Torch) -> Torch:
    """Of integers and bools in float64, as NumPy's."""

    def widened(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        return function(x if x.dtype.is_floating_point or x.dtype.is_complex else x.double(), dims, keepdim)

    return widened


def ordered(function: Torch) -> Torch:
    def checked(x: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        if x.is_complex():
            raise TypeError
        if not math.prod(x.shape[dim] for dim in dims):
            raise ValueError
        return function(x, dims, keepdim)

    return checked


@hyp.composite
def cases(draw: hyp.DrawFn, dtypes: Any = None, elements: Any = None) -> tuple[Whole, Any, bool]:
    """An array, axes of it, and whether they stay."""
    whole = draw(st.dndarrays(st.shapes(max_side=4), dtypes, elements=elements))
    ndim = whole.tensor.ndim
    axes = hyp.integers(-ndim, ndim - 1) if ndim else hyp.nothing()
    several = hyp.lists(axes, max_size=ndim, unique_by=lambda axis: axis % ndim).map(tuple)
    return whole, draw(hyp.none() | axes | several), draw(hyp.booleans())


@hyp.composite
def with_specials(draw: hyp.DrawFn) -> tuple[Whole, Any, bool]:
    """Numbers among which many are equal, with NaN, infinities and zeros of both signs."""
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    numbers = hyp.sampled_from((1.0, 0.0, -0.0, -2.0, math.inf, -math.inf, math.nan))
    return draw(cases(st.dtypes(kinds), numbers))


def arguments(case: tuple[Whole, Any, bool]) -> tuple[torch.Tensor, Any, bool]:
    """The tensor, the axes and whether they stay."""
    return case[0].tensor, *case[1:]


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
