"""Norms: torch's values and gradients for every layout and order, by one message or none."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
KINDS = (torch.float64, torch.float32, torch.complex128, torch.bfloat16, torch.float16)
ORDERS = hs.sampled_from((2, 1, inf, -inf, 0, -1, -2, 3, 0.5, 2.5, -0.5))
MATRIX_ORDERS = hs.sampled_from(("fro", None, 1, -1, inf, -inf, 2, -2, "nuc"))


@hs.composite
def cases(draw: hs.DrawFn, kinds: Any = KINDS, min_side: int = 0) -> tuple[Whole, Any, bool, Any]:
    """An array, axes of it, whether they stay, and an order."""
    whole = draw(st.dndarrays(st.shapes(min_side=min_side, max_side=4), st.dtypes(kinds)))
    ndim = whole.tensor.ndim
    axes = hs.integers(-ndim, ndim - 1) if ndim else hs.nothing()
    several = hs.sets(axes, min_size=1, max_size=ndim) if ndim else hs.nothing()
    tuples = several.map(lambda axes: tuple({axis % ndim for axis in axes}))
    return whole, draw(hs.none() | axes | tuples), draw(hs.booleans()), draw(ORDERS)


def dims_of(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(one % ndim for one in (axis if isinstance(axis, tuple) else (axis,)))


def expected(x: torch.Tensor, axis: Any, keepdims: bool, ord: Any) -> Any:
    kind = x.dtype.to_real() if x.is_complex() else x.dtype
    dims = dims_of(axis, x.ndim)
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    if not math.prod(x.shape[dim] for dim in dims) and (ord < 0 or ord == inf):
        return None if math.isinf(ord) else wide.abs().sum(dims, keepdims).add(inf).to(kind)
    return torch.linalg.vector_norm(wide, ord, dims or None, keepdims).to(kind)


@given(case=cases())
@spmd
def test_norms_of_vectors(case: tuple[Whole, Any, bool, Any]) -> None:
    whole, axis, keepdims, ord = case
    x, wanted = whole.cut(), expected(whole.tensor, axis, keepdims, ord)

    def call() -> ms.DNDarray:
        return ms.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)

    if wanted is None:
        with pytest.raises(ValueError, match="needs at least one element"):
            call()
        return
    with traffic() as seen:
        found = call()
    assert seen.collectives == (x.split in dims_of(axis, x.ndim) and x.comm.size > 1)
    assert_close(found, wanted)
    assert_equal(x, whole.tensor)


@given(case=cases((torch.float64, torch.complex128), min_side=1))
@spmd
def test_gradients_of_norms(case: tuple[Whole, Any, bool, Any]) -> None:
    """Zeros among the elements, and whole vectors of them."""
    whole, axis, keepdims, ord = case
    x, tensor = whole.cut(), whole.tensor.clone().requires_grad_()
    x.larray.requires_grad_()
    found = ms.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    wanted = torch.linalg.vector_norm(tensor, ord, dims_of(axis, x.ndim) or None, keepdims)
    if ord == 0:  # which has none
        return
    found.larray.sum().backward()
    wanted.sum().backward()
    assert x.larray.grad is not None
    if ord > 0 or (tensor != 0).all():  # a negative order has no gradient at 0
        assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), tensor.grad)


@given(
    whole=st.dndarrays(st.shapes(min_dims=2, max_dims=4, min_side=1, max_side=4), st.dtypes(KINDS)),
    ord=MATRIX_ORDERS,
    keepdims=hs.booleans(),
)
@spmd
def test_norms_of_matrices(whole: Whole, ord: Any, keepdims: bool) -> None:
    x, tensor = whole.cut(), whole.tensor
    kind = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    wide = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
    wanted = torch.linalg.matrix_norm(wide, "fro" if ord is None else ord, (-2, -1), keepdims).to(kind)
    with traffic() as seen:
        found = ms.linalg.matrix_norm(x, keepdims=keepdims, ord=ord)
    assert_close(found, wanted, rtol=1e-2 if kind.itemsize == 2 else 1e-5, atol=1e-5)
    is_cut, is_singular = x.split is not None and x.split >= x.ndim - 2, ord in {"nuc", 2, -2}
    if is_singular:
        assert seen.collectives <= 2
        assert set(seen.calls) <= {"exchange", "agree"}
    else:
        assert seen.collectives == (is_cut and x.comm.size > 1)
    assert_equal(x, tensor)


@given(
    whole=st.dndarrays(st.shapes(min_dims=2, max_dims=3, min_side=1, max_side=4), torch.float64),
    ord=hs.none() | MATRIX_ORDERS | ORDERS,
    data=hs.sampled_from((None, 0, -1, (0, 1), (1, 0), (-1, 0))),
    keepdims=hs.booleans(),
)
@spmd
def test_norm_as_numpy_has_it(whole: Whole, ord: Any, data: Any, keepdims: bool) -> None:
    try:
        with np.errstate(all="ignore"):
            wanted = np.linalg.norm(whole.tensor.numpy(), ord, data, keepdims)
    except ValueError:
        with pytest.raises(ValueError, match="norm"):
            ms.norm(whole.cut(), ord, data, keepdims=keepdims)
        return
    assert_close(ms.norm(whole.cut(), ord, data, keepdims=keepdims), np.asarray(wanted), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "value", "axis", "ord", "wanted"),
    [
        ((4, 4), 1, None, 2, 4),
        ((8, 2), 1, None, 2, 4),
        ((4, 3), 1, 0, 2, 2),
        ((3, 4, 2), 5, (0, 1, 2), 2, math.sqrt(600)),
        ((9, 1), 2, 0, 2, 6),
        ((6, 6), 3, (0, 1), 2, 18),
        ((4,), 1, None, 0.5, 16),
        ((16,), 1, None, 4, 2),
        ((8,), 4, None, -1, 0.5),
        ((7, 2), 3, None, 1, 42),
        ((7, 2), 3, None, 0, 14),
    ],
)
def test_one_root_of_the_sum_over_all_ranks(
    size: int, shape: tuple[int, ...], value: float, axis: Any, ord: float, wanted: float, dtype: torch.dtype
) -> None:
    """If each rank took a root, the norm of 16 ones would be 3.9999998 on two ranks."""
    exact = torch.tensor(wanted, dtype=torch.float64).to(dtype.to_real() if dtype.is_complex else dtype)
    for layout in layouts(shape, size):
        found = ms.linalg.vector_norm(dealt(torch.full(shape, value, dtype=dtype), layout), axis=axis, ord=ord)
        if layout.split is not None and (axis is None or layout.split in dims_of(axis, len(shape))):
            assert_equal(found, exact.expand(found.shape))


def test_a_lone_element_is_not_squared(size: int) -> None:
    """1e30 squared is beyond float32. torch takes the absolute value of one element, and squares two."""
    for shape, axis in (((1,), None), ((1, 3), 0)):
        for layout in layouts(shape, size):
            x = dealt(torch.full(shape, -1e30), layout)
            for ord in (2, 3, -1, 0.5):
                wanted = torch.linalg.vector_norm(torch.full(shape, -1e30), ord, axis)
                assert_equal(ms.linalg.vector_norm(x, axis=axis, ord=ord), wanted)
    two = torch.full((2,), 1e30)
    assert torch.linalg.vector_norm(two) == inf
    assert ms.linalg.vector_norm(ms.array(two, split=0)).item() == inf


def test_gradients_of_norms_of_zeros(size: int) -> None:
    for plain in ([0.0] * 2 * size, [0.0] * (2 * size - 1) + [3.0]):
        for ord in (0.5, 1, 2, 3, inf):
            x, tensor = ms.array(plain, split=0), torch.tensor(plain, requires_grad=True)
            x.larray.requires_grad_()
            ms.linalg.vector_norm(x, ord=ord).larray.backward()
            torch.linalg.vector_norm(tensor, ord).backward()
            assert x.larray.grad is not None
            assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), tensor.grad)


def test_what_is_not_finite(size: int) -> None:
    x = ms.array([0.0, *[1.0, -inf, 2.0, nan][: size + 1]], split=0)
    for ord in (2, 1, inf, -inf, 0, 3):
        assert_close(ms.linalg.vector_norm(x, ord=ord), torch.linalg.vector_norm(torch.tensor(x.tolist()), ord))


def test_A14_halves_are_rounded_once(size: int) -> None:
    x = ms.ones(4096 * size, dtype=torch.bfloat16, split=0)
    assert_equal(ms.linalg.vector_norm(x, ord=1), torch.tensor(4096.0 * size, dtype=torch.bfloat16))
    large = ms.full((4 * size,), 300.0, dtype=torch.float16, split=0)  # whose squares are beyond float16
    assert_equal(ms.norm(large), torch.tensor(600.0 * math.sqrt(size), dtype=torch.float16))


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 4), split=0, comm=part)
    for ord in ("fro", "nuc", 1, 2, inf):
        assert ms.norm(x, ord).comm is part
    assert ms.norm(x).item() == 4
    part.free()


def test_matrices_without_singular_values_are_an_error_on_all_ranks(comm: Comm, raises_alike: Any) -> None:
    whole = torch.ones(comm.size, 2, 2)
    whole[-1] = nan
    with raises_alike(torch.linalg.LinAlgError, match="finite elements"):
        ms.linalg.matrix_norm(ms.array(whole, split=0), ord=2)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.linalg.vector_norm(x, ord="fro"), TypeError, "vector_norm must be a number, got 'fro'"),
        (lambda x: ms.linalg.vector_norm(x, ord=nan), TypeError, "must be a number, got nan"),
        (lambda x: ms.linalg.vector_norm(x != 0), TypeError, r"vector_norm needs .* got torch\.bool"),
        (lambda x: ms.linalg.matrix_norm(x != 0), TypeError, r"matrix_norm needs .* torch\.bool"),
        (lambda x: ms.linalg.matrix_norm(x, ord=3), ValueError, "ord of a matrix norm must be 'fro', .* got 3"),
        (lambda x: ms.linalg.matrix_norm(x[0]), ValueError, r"at least 2 dimensions, got shape \(3,\)"),
        (lambda x: ms.linalg.matrix_norm(x[:0], ord=2), ValueError, r"of shape \(0, 3\) have none"),
        (lambda x: ms.norm(x, "fro", 0), ValueError, "norm of vectors must be a number, got 'fro'"),
        (lambda x: ms.norm(x[None], 2), ValueError, r"of one axis or two, got shape \(1, 3, 3\) and axis None"),
        (lambda x: ms.norm(x, 2, 5), IndexError, "axis 5 is out of range"),
    ],
)  # fmt: skip
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones((3, 3), split=0))
