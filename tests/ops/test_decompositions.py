"""Decompositions: torch's values for every layout, and the same ones; what is sent; gradients; errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.core.errors import agreement
from minisplit.ops._matrices import is_spread, whole
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st
from tests.helpers.layouts import dealt, layouts

Comm = ms.Communication
Shape = tuple[int, ...]
KINDS = (torch.float64, torch.complex128, torch.float32)


def numbers(shape: Shape, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Numbers of which matrices have full rank, and are far from losing it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return x + x.mH


def definite(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mH + torch.eye(x.shape[-1], dtype=x.dtype)


@hs.composite
def stacks(draw: hs.DrawFn, *, square: bool = False, kinds: Any = KINDS) -> Whole:
    """Stacks of matrices, few and many, tall and wide, empty ones among them, in any layout."""
    batch = draw(hs.sampled_from(((), (), (2,), (5,), (2, 3), (0,))))
    sides = ((3, 3), (1, 1), (9, 2), (5, 4), (2, 7), (4, 5), (0, 0), (3, 0), (0, 2))
    rows, columns = draw(hs.sampled_from(sides))
    shape = (*batch, rows, rows if square else columns)
    x = numbers(shape, draw(st.dtypes(kinds)), draw(hs.integers(0, 9)))
    return Whole(x, draw(st.layouts(shape)))


def gathered(x: ms.DNDarray) -> torch.Tensor:
    return x.resplit(None).larray.detach()


def assert_orthonormal(q: torch.Tensor) -> None:
    """Assert that the columns are."""
    torch.testing.assert_close(q.mH @ q, torch.eye(q.shape[-1], dtype=q.dtype).expand(*q.shape[:-2], -1, -1))


def assert_layout(result: ms.DNDarray, x: ms.DNDarray, *, cut_as: bool) -> None:
    """Assert that matrices that were shared out still are, and else that the result is cut as `x`, or replicated."""
    layout = x.layout if cut_as and is_spread(x.layout) else whole(x.layout)
    assert (result.split, result.counts) == (layout.split, layout.counts)


def phases(r: torch.Tensor) -> torch.Tensor:
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    return diagonal / diagonal.abs()


@given(case=stacks(), mode=hs.sampled_from(("reduced", "complete")))
@spmd
def test_qr(case: Whole, mode: Any) -> None:
    x = case.cut()
    q, r = ms.linalg.qr(x, mode=mode)
    rows, columns = x.shape[-2:]
    least = min(rows, columns)
    wanted, other = torch.linalg.qr(case.tensor, mode)
    assert (q.shape, r.shape) == (tuple(wanted.shape), tuple(other.shape))
    signs = phases(other)
    assert_close(r[..., :least, :], signs.conj().unsqueeze(-1) * other[..., :least, :])
    assert_close(q[..., :least], wanted[..., :least] * signs.unsqueeze(-2))
    left, right = gathered(q), gathered(r)
    assert_orthonormal(left)
    torch.testing.assert_close(left @ right, case.tensor)
    diagonal = right.diagonal(dim1=-2, dim2=-1)
    assert torch.equal(right, right.triu())
    assert torch.equal(diagonal, diagonal.abs().to(diagonal.dtype))
    assert_layout(q, x, cut_as=rows >= columns)
    assert_layout(r, x, cut_as=rows < columns or (mode == "complete" and x.split == x.ndim - 2 and rows > columns))
    assert_equal(x, case.tensor)
    assert x.layout == case.layout


@given(case=stacks(), full_matrices=hs.booleans())
@spmd
def test_svd(case: Whole, full_matrices: bool) -> None:
    x = case.cut()
    u, s, vh = ms.linalg.svd(x, full_matrices=full_matrices)
    shapes = [tuple(part.shape) for part in torch.linalg.svd(case.tensor, full_matrices=full_matrices)]
    values = torch.linalg.svdvals(case.tensor)
    assert_close(s, values)
    assert_close(ms.linalg.svdvals(x), values)
    left, right, count = gathered(u), gathered(vh), s.shape[-1]
    assert [part.shape for part in (u, s, vh)] == shapes
    assert_orthonormal(left)
    assert_orthonormal(right.mH)
    torch.testing.assert_close(left[..., :count] * values.unsqueeze(-2) @ right[..., :count, :], case.tensor)
    assert_layout(s, x, cut_as=False)
    rows, columns = x.shape[-2:]
    if full_matrices and rows != columns:  # each has one of the axes of `x`
        assert_layout(u, x, cut_as=x.split == x.ndim - 2)
        assert_layout(vh, x, cut_as=x.split == x.ndim - 1)
    else:
        assert_layout(u, x, cut_as=rows >= columns)
        assert_layout(vh, x, cut_as=rows < columns)
    assert_equal(x, case.tensor)


EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "det": torch.clone,
    "eigvalsh": symmetric,
    "cholesky": definite,
    "matrix_exp": torch.clone,
    "inv": definite,
}


@pytest.mark.parametrize("name", EXACT)
@given(case=stacks(square=True))
@spmd
def test_functions_of_square_matrices(name: str, case: Whole) -> None:
    case = Whole(EXACT[name](case.tensor), case.layout)
    x = case.cut()
    result = getattr(ms.linalg, name)(x)
    assert_close(result, getattr(torch.linalg, name)(case.tensor))
    assert_layout(result, x, cut_as=result.shape == x.shape)
    assert_equal(x, case.tensor)


@given(case=stacks(square=True))
@spmd
def test_cholesky_of_the_upper_triangle(case: Whole) -> None:
    tensor = definite(case.tensor)
    result = ms.linalg.cholesky(Whole(tensor, case.layout).cut(), upper=True)
    assert_close(result, torch.linalg.cholesky(tensor, upper=True))


@given(case=stacks(square=True))
@spmd
def test_eigenvectors(case: Whole) -> None:
    values, vectors = ms.linalg.eigh(Whole(symmetric(case.tensor), case.layout).cut())
    whole_values, whole_vectors = gathered(values), gathered(vectors)
    torch.testing.assert_close(whole_values, torch.linalg.eigvalsh(symmetric(case.tensor)))
    assert_orthonormal(whole_vectors)
    torch.testing.assert_close(
        whole_vectors * whole_values.unsqueeze(-2) @ whole_vectors.mH, symmetric(case.tensor), rtol=1e-4, atol=1e-5
    )
    x = case.cut()
    values, vectors = ms.linalg.eig(x)
    assert_close(ms.linalg.eigvals(x), gathered(values), rtol=1e-3, atol=1e-4)
    whole_vectors = gathered(vectors)
    product = case.tensor.to(whole_vectors.dtype) @ whole_vectors
    torch.testing.assert_close(product, whole_vectors * gathered(values).unsqueeze(-2), rtol=1e-4, atol=1e-5)
    assert_layout(values, x, cut_as=False)
    assert_layout(vectors, x, cut_as=True)


@given(case=stacks(square=True))
@spmd
def test_slogdet(case: Whole) -> None:
    sign, logabsdet = ms.linalg.slogdet(case.cut())
    wanted = torch.linalg.slogdet(case.tensor)
    assert_close(sign, wanted.sign)
    assert_close(logabsdet, wanted.logabsdet)
