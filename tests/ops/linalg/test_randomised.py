"""Singular values by random projections: near those of LAPACK, on every layout, without the matrix being moved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layouts import layouts
from matrices import numbers

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd, traffic


def falling(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A matrix whose singular values are 1, 1/4, 1/16 and so on."""
    u, _, vh = torch.linalg.svd(numbers((rows, columns), dtype), full_matrices=False)
    return (u * 4.0 ** -torch.arange(min(rows, columns))) @ vh


@pytest.mark.parametrize("shape", [(40, 30), (5, 60), (60, 5), (1, 1)])
@spmd(ranks=(1, 3))
def test_the_greatest_singular_values(ranks: int, shape: tuple[int, int]) -> None:
    for place, layout in enumerate(layouts(shape, ranks)):
        check(Whole(falling(*shape, (torch.float64, torch.complex128)[place % 2]), layout), min(3, *shape))


def check(case: Whole, rank: int) -> None:
    x, (rows, columns) = case.cut(), case.tensor.shape
    u, s, vh = ms.linalg.rsvd(x, rank, generator=ms.random.Generator(1))
    assert (u.shape, s.shape, vh.shape) == ((rows, rank), (rank,), (rank, columns))
    assert (u.split, s.split, vh.split) == (0 if x.split == 0 else None, None, 1 if x.split == 1 else None)
    whole_u, whole_s, whole_vh = torch.linalg.svd(case.tensor, full_matrices=False)
    assert_close(s, whole_s[:rank], rtol=1e-8, atol=0)
    # Of vectors only the product has no sign.
    assert_close(
        ms.matmul(u * s, vh), (whole_u[:, :rank] * whole_s[:rank]) @ whole_vh[:rank], rtol=1e-6, atol=1e-8
    )


@spmd(ranks=(3,))
def test_gradients_flow_through_it(ranks: int) -> None:
    for split in (0, 1):
        x = ms.array(falling(12, 9), split=split)
        x.larray.requires_grad_()
        ms.linalg.rsvd(x, 1, generator=ms.random.Generator(2)).S.sum().larray.backward()
        u, _, vh = torch.linalg.svd(falling(12, 9))
        assert_close(ms.DNDarray(x.larray.grad, x.layout, x.comm), u[:, :1] @ vh[:1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("split", [0, 1])
@spmd(ranks=(3,))
def test_the_matrix_stays_where_it_is(ranks: int, split: int) -> None:
    x = ms.array(numbers((300, 200)), split=split)
    with traffic() as seen:
        ms.linalg.rsvd(x, 2, n_oversamples=2)
    assert seen.bytes_sent < x.larray.nbytes / 10


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda x: ms.linalg.rsvd(x, 0), ValueError, "rank of rsvd must be from 1 to 3, the least extent of x, got 0"),
    (lambda x: ms.linalg.rsvd(x, 4), ValueError, "rank of rsvd must be from 1 to 3, the least extent of x, got 4"),
    (lambda x: ms.linalg.rsvd(x, 1.0), TypeError, "rank must be an int"),
    (lambda x: ms.linalg.rsvd(x, 1, power_iter=-1), ValueError, "power_iter must not be negative, got -1"),
    (lambda x: ms.linalg.rsvd(x[None], 1), ValueError, r"rsvd needs one matrix, got x of shape \(1, 4, 3\)"),
    (lambda x: ms.linalg.rsvd(x.astype(ms.int64), 1), TypeError, "rsvd needs floating"),
]


@pytest.mark.parametrize(("call", "kind", "words"), ERRORS)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, words):
        call(ms.ones((4, 3), split=0))
