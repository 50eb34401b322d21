"""Reductions to two diagonals: the matrix comes back from them, for any counts, with several panels for a rank."""

from __future__ import annotations

import pytest
import torch
from layouts import KINDS, layout_of
from matrices import numbers, symmetric

import minisplit as ms
from minisplit.ops.linalg.split_matrix import condensed
from minisplit.testing import Whole, assert_close, spmd

SIZES = (condensed.WIDTH + 5, 7, 2, 1)
DTYPES = (torch.float64, torch.complex128, torch.float32)


def eye(layout: ms.Layout, dtype: torch.dtype) -> torch.Tensor:
    return Whole(torch.eye(layout.extent, dtype=dtype), layout).cut().larray.clone()


@pytest.mark.parametrize("size", SIZES)
@spmd(ranks=(1, 3))
def test_matrices_come_back(ranks: int, size: int) -> None:
    for kind, dtype in zip(KINDS, DTYPES, strict=True):
        check(layout_of((size, size), 1, kind, ranks), dtype)


def check(layout: ms.Layout, dtype: torch.dtype) -> None:
    comm, a = ms.get_comm(), numbers(layout.shape, dtype)
    a[:, 1:2] = 0  # a column that needs no reflection
    tolerance = {"rtol": 0.0, "atol": 100 * torch.finfo(dtype).eps}
    for is_hermitian in (True, False):
        matrix = symmetric(a) if is_hermitian else a
        reduce = condensed.tridiagonal if is_hermitian else condensed.bidiagonal
        found = reduce(Whole(matrix, layout).cut().larray.clone(), layout, comm)
        q = eye(layout, dtype)
        condensed.multiply_left(found, q, comm, int(is_hermitian))
        left = right = ms.DNDarray(q, layout, comm).resplit(None).larray
        middle = torch.diag(found.diagonal) + torch.diag(found.other, 1)
        if is_hermitian:
            middle = middle + torch.diag(found.other, -1)
        else:
            p = eye(layout, dtype)
            condensed.multiply_right(found, p, comm)
            right = ms.DNDarray(p, layout, comm).resplit(None).larray
        for x in (left, right):
            torch.testing.assert_close(x.mH @ x, torch.eye(len(x), dtype=dtype), **tolerance)
        assert_close(Whole(matrix, layout).cut(), left @ middle.to(dtype) @ right.mH, **tolerance)
