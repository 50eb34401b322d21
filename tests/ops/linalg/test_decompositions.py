"""Decompositions: torch's values for every layout, and the same ones; what is sent; gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from layouts import dealt, layouts
from matrices import (
    REGULAR,
    SQUARES,
    assert_gradients,
    assert_layout,
    definite,
    gathered,
    numbers,
    phases,
    stacks,
    symmetric,
    unique_qr,
)

import minisplit as ms
from minisplit.ops.linalg.batched import is_split_matrix
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic

Comm = ms.Communication
RANKS = (1, 3)


def assert_orthonormal(q: torch.Tensor) -> None:
    """Assert that the columns are."""
    torch.testing.assert_close(q.mH @ q, torch.eye(q.shape[-1], dtype=q.dtype).expand(*q.shape[:-2], -1, -1))


def assert_split_along_longer(result: ms.DNDarray, x: ms.DNDarray, axis: int) -> None:
    """Assert that a square result is split along this axis, which is the longer one of `x`."""
    if is_split_matrix(x.layout):
        assert (result.split, result.counts) == (axis, x.layout.with_split(axis).counts)
    else:
        assert_layout(result, x, split_as=False)


@spmd(ranks=(1, 2, 4))
def test_qr(ranks: int) -> None:
    for case, mode in product(stacks(ranks), ("reduced", "complete")):
        assert_qr(case, mode)


def assert_qr(case: Whole, mode: Any) -> None:
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
    assert not right.tril(-1).real.signbit().any()
    assert torch.equal(diagonal, diagonal.abs().to(diagonal.dtype))
    if mode == "complete" and rows > columns:
        assert_split_along_longer(q, x, x.ndim - 2)
        assert_layout(r, x, split_as=True)
    else:
        assert_layout(q, x, split_as=rows >= columns)
        assert_layout(r, x, split_as=rows <= columns)
    assert_equal(x, case.tensor)
    assert x.layout == case.layout


@spmd(ranks=RANKS)
def test_svd(ranks: int) -> None:
    for case, full_matrices in product(stacks(ranks), (True, False)):
        assert_svd(case, full_matrices)


def assert_svd(case: Whole, full_matrices: bool) -> None:
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
    assert_layout(s, x, split_as=False)
    rows, columns = x.shape[-2:]
    if full_matrices and rows != columns:
        tall, small, axis = (u, vh, x.ndim - 2) if rows > columns else (vh, u, x.ndim - 1)
        assert_split_along_longer(tall, x, axis)
        assert_layout(small, x, split_as=False)
    else:
        assert_layout(u, x, split_as=rows >= columns)
        assert_layout(vh, x, split_as=rows <= columns)
    assert_equal(x, case.tensor)


@spmd(ranks=RANKS)
def test_cholesky_and_eigenvalues(ranks: int) -> None:
    for case in stacks(ranks, SQUARES):
        for name, options, tensor in (
            ("cholesky", {}, definite(case.tensor)),
            ("cholesky", {"upper": True}, definite(case.tensor)),
            ("eigvalsh", {}, symmetric(case.tensor)),
        ):
            x = Whole(tensor, case.layout).cut()
            result = getattr(ms.linalg, name)(x, **options)
            assert_close(result, getattr(torch.linalg, name)(tensor, **options))
            assert_layout(result, x, split_as=result.shape == x.shape)
            assert_equal(x, tensor)


@spmd(ranks=RANKS)
def test_eigenvectors(ranks: int) -> None:
    for case in stacks(ranks, SQUARES):
        assert_eigen(case)


def assert_eigen(case: Whole) -> None:
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
    assert_layout(values, x, split_as=False)
    assert_layout(vectors, x, split_as=True)


def parts_of_svd(x: Any) -> tuple[Any, ...]:
    """What no sign changes."""
    space: Any = ms if isinstance(x, ms.DNDarray) else torch
    u, s, vh = space.linalg.svd(x, full_matrices=False)
    return space.abs(u), s, space.abs(vh)


def parts_of_eigh(x: Any) -> tuple[Any, ...]:
    space: Any = ms if isinstance(x, ms.DNDarray) else torch
    values, vectors = space.linalg.eigh(x.mT @ x if x.shape[-2] > x.shape[-1] else x @ x.mT)
    return values, space.abs(vectors)


def parts_of_svdvals(x: Any) -> tuple[Any, ...]:
    return ((ms if isinstance(x, ms.DNDarray) else torch).linalg.svdvals(x),)


@pytest.mark.parametrize("parts", [unique_qr, parts_of_svd, parts_of_svdvals, parts_of_eigh])
@spmd(ranks=(3,))
def test_gradients_are_those_of_the_whole_matrix(ranks: int, parts: Callable[[Any], tuple[Any, ...]]) -> None:
    for case in stacks(ranks, REGULAR, (torch.float64,)):
        assert_gradients(parts, parts, case)


ROWS, COLUMNS, WHOLE = 0, 1, None


@pytest.mark.parametrize(
    ("call", "shape", "split", "wanted", "moved"),
    [
        (ms.linalg.qr, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.qr, (3, 400), COLUMNS, {"exchange": 1}, 3),
        (ms.linalg.qr, (400, 3), COLUMNS, {"exchange": 3}, None),
        (ms.linalg.qr, (400, 3), WHOLE, {}, 0),
        (ms.linalg.svdvals, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.svd, (3, 400), COLUMNS, {"exchange": 2}, None),
        (lambda x: ms.linalg.qr(x, mode="complete"), (400, 3), ROWS, {"exchange": 2}, None),
        (lambda x: ms.linalg.svd(x, full_matrices=False), (3, 400), COLUMNS, {"exchange": 1}, 9),
        (ms.linalg.matrix_rank, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.pinv, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.det, (8, 8), ROWS, {"exchange": 1}, None),
        (ms.linalg.cholesky, (1, 1), ROWS, {"exchange": 1}, None),
        (ms.linalg.det, (8, 3, 3), 0, {}, 0),
        (ms.linalg.qr, (8, 3, 3), 0, {}, 0),
        (ms.linalg.eigh, (8, 3, 3), 0, {"agree": 1}, 0),
        (ms.linalg.inv, (1, 1), ROWS, {"exchange": 1, "agree": 1}, None),
        (ms.linalg.det, (8, 3, 3), 1, {"exchange": 1}, None),
        (ms.linalg.svdvals, (8, 3, 3), 2, {"exchange": 1, "agree": 1}, None),
    ],
)
def test_what_is_sent(
    comm: Comm, call: Any, shape: tuple[int, ...], split: Any, wanted: dict[str, int], moved: Any
) -> None:
    """`moved`: how many numbers each rank sends to each other, if it has that many of its own."""
    x = ms.array(numbers(shape) + (len(shape) == 2 and shape[0] == shape[1]), split=split)
    with traffic() as seen:
        call(x)
    assert dict(seen.calls) == (wanted if comm.size > 1 else {})
    if moved is not None and split in {WHOLE, 0} and len(shape) == 2:
        assert seen.bytes_sent == 8 * moved * (comm.size - 1)


def test_results_that_are_replicated_are_the_same_bit_by_bit(comm: Comm) -> None:
    with ms.debug():
        for layout in layouts((9, 4), comm.size):
            x = dealt(numbers((9, 4)), layout)
            for part in (ms.linalg.qr(x).R, *ms.linalg.svd(x), ms.linalg.eigh(x[:4]).eigenvectors):
                if part.split is None:
                    comm.check_replicated(part.larray, "the result")


@pytest.mark.parametrize("name", ["svdvals", "svd", "matrix_rank", "pinv"])
@pytest.mark.parametrize("shape", [(20, 3), (3, 20), (3, 3), (4, 5, 3)])
def test_inf_in_a_tall_matrix(name: str, shape: tuple[int, ...], raises_alike: Any) -> None:
    for value in (math.inf, -math.inf, math.nan):
        whole = torch.ones(shape)
        whole[(1,) * len(shape)] = value
        for split in (None, *range(len(shape))):
            with raises_alike(torch.linalg.LinAlgError, match="finite elements, got NaN or infinities"):
                getattr(ms.linalg, name)(ms.array(whole, split=split))
