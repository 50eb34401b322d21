"""Factorisations by panels of columns: torch's factors, for any counts, with several panels for a rank."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from layouts import KINDS, layout_of
from matrices import definite, numbers

import minisplit as ms
from minisplit.ops.linalg.split_matrix import panels
from minisplit.testing import Whole, assert_close, spmd

WIDE = panels.WIDTH + 22
DTYPES = (torch.float64, torch.complex128, torch.float32)


def of_columns(ranks: int, sizes: tuple[int, ...]) -> list[tuple[ms.Layout, torch.dtype]]:
    """Square matrices split along their columns, of one dtype after the other."""
    cases = [(n, kind) for n in sizes for kind in KINDS]
    return [(layout_of((n, n), 1, kind, ranks), DTYPES[place % 3]) for place, (n, kind) in enumerate(cases)]


def assert_part(x: torch.Tensor, layout: ms.Layout, wanted: torch.Tensor) -> None:
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if x.dtype == torch.float32 else {"rtol": 1e-8, "atol": 1e-9}
    assert_close(ms.DNDarray(x, layout, ms.get_comm()), wanted, **tolerance)


@pytest.mark.serial
def test_panels_are_those_of_one_rank_each() -> None:
    layout = ms.Layout((3, 2 * WIDE), 1, 3, (WIDE, 0, WIDE))
    width, found = panels.WIDTH, panels.panels(layout)
    assert [(part.owner, part.start, part.stop) for part in found] == [
        (0, 0, width), (0, width, WIDE), (2, WIDE, WIDE + width), (2, WIDE + width, 2 * WIDE),
    ]  # fmt: skip
    assert panels.panels(layout, 5) == [panels.Panel(0, 0, 5)]


@spmd(ranks=(1, 3))
def test_lu_with_partial_pivoting(ranks: int) -> None:
    for layout, dtype in of_columns(ranks, (7, 1, 0, WIDE)):
        check_lu(layout, dtype)


def check_lu(layout: ms.Layout, dtype: torch.dtype) -> None:
    comm, size = ms.get_comm(), layout.extent
    a, b = numbers((size, size), dtype), numbers((size, 4), dtype, 1)
    own, columns = Whole(a, layout).cut().larray, ms.Layout((size, 4), 1, comm.size)
    factors = panels.lu(own.clone(), layout, comm)
    # LAPACK takes the greatest element of each column, so that no multiplier is greater than 1.
    lower = factors.triangles.tril(-1 - layout.span(comm.rank)[0])
    assert dtype.is_complex or bool((lower.abs() <= 1).all())
    if dtype == torch.float64:
        assert_part(factors.triangles, layout, torch.linalg.lu_factor(a)[0])
    assert_close_tensors(factors.diagonal.prod() * factors.sign, torch.linalg.det(a))
    for adjoint in (False, True):
        x = Whole(b, columns).cut().larray.clone()
        panels.solve_factorised(factors, x, comm, adjoint=adjoint)
        assert_part(x, columns, torch.linalg.solve(a.mH if adjoint else a, b))


def assert_close_tensors(x: torch.Tensor, y: torch.Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-3 if x.dtype == torch.float32 else 1e-8, atol=0)


@spmd(ranks=(1, 3))
def test_lu_of_a_singular_matrix_has_a_zero_on_its_diagonal(ranks: int) -> None:
    for layout, _ in of_columns(ranks, (6,)):
        a = torch.eye(6, dtype=torch.float64)
        a[2] = a[4]
        factors = panels.lu(Whole(a, layout).cut().larray.clone(), layout, ms.get_comm())
        assert factors.diagonal.tolist() == [1, 1, 0, 1, 1, 1] or 0 in factors.diagonal.tolist()


@spmd(ranks=(1, 3))
def test_cholesky_reads_the_lower_triangle(ranks: int) -> None:
    for layout, dtype in of_columns(ranks, (7, 1, 0, WIDE)):
        a = definite(numbers((layout.extent,) * 2, dtype))
        own = Whole(a.tril() + 9 * torch.ones_like(a).triu(1), layout).cut().larray.clone()
        assert panels.cholesky(own, layout, ms.get_comm()) == 0
        assert_part(own, layout, torch.linalg.cholesky(a))


@spmd(ranks=(1, 3))
def test_cholesky_says_on_all_ranks_which_minor_is_not_definite(ranks: int) -> None:
    for layout, _ in of_columns(ranks, (WIDE,)):
        a = torch.eye(WIDE)
        a[WIDE - 2, WIDE - 2] = -1
        assert panels.cholesky(Whole(a, layout).cut().larray.clone(), layout, ms.get_comm()) == WIDE - 1


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (1, 3), (WIDE, WIDE - 3)])
@spmd(ranks=(1, 3))
def test_reflections(ranks: int, shape: tuple[int, int]) -> None:
    for place, kind in enumerate(KINDS):
        check_reflections(layout_of(shape, 1, kind, ranks), DTYPES[place % 2])


def check_reflections(layout: ms.Layout, dtype: torch.dtype) -> None:
    comm, (rows, columns) = ms.get_comm(), layout.shape
    a = numbers((rows, columns), dtype)
    a[:, 1] = 0  # a column that needs no reflection
    found, steps = panels.reflect(Whole(a, layout).cut().larray.clone(), layout, comm), min(rows, columns)
    parts = {}
    for number in {steps, rows}:
        target = ms.Layout((rows, number), 1, comm.size)
        q = panels.orthonormal_columns(found, target, comm)
        parts[number] = ms.DNDarray(q, target, comm).resplit(None).larray
        torch.testing.assert_close(parts[number].mH @ parts[number], torch.eye(number, dtype=dtype))
    r_layout = ms.Layout((steps, columns), 1, comm.size, layout.ragged)
    r = ms.DNDarray(panels.triangle_of(found, comm.rank), r_layout, comm).resplit(None).larray
    torch.testing.assert_close(parts[steps] @ r, a, rtol=1e-8, atol=1e-9)
    assert torch.equal(r, r.triu())
    assert not r.tril(-1).real.signbit().any()
    assert torch.equal(r.diagonal(), r.diagonal().abs().to(dtype))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
@spmd(ranks=(1, 3))
def test_triangles(ranks: int, upper: bool, adjoint: bool) -> None:
    for place, (layout, dtype) in enumerate(of_columns(ranks, (7, 1, 0, WIDE))):
        check_triangle(layout, dtype, upper, adjoint, unit=bool(place % 2))


def check_triangle(layout: ms.Layout, dtype: torch.dtype, upper: bool, adjoint: bool, unit: bool) -> None:
    comm, size = ms.get_comm(), layout.extent
    a, columns = numbers((size, size), dtype) / (size + 1) + torch.eye(size), ms.Layout((size, 2), 1, comm.size)
    b, triangle = numbers((size, 2), dtype, 1), a.triu() if upper else a.tril()
    x, own = (Whole(whole, part).cut().larray.clone() for whole, part in ((b, columns), (a.to(dtype), layout)))
    panels.solve_triangle(own, layout, x, comm, upper=upper, unit=unit, adjoint=adjoint)
    function: Callable[..., torch.Tensor] = torch.linalg.solve_triangular
    matrix = triangle.to(dtype)
    if unit:
        matrix.diagonal().fill_(1)
    assert_part(x, columns, function(matrix.mH if adjoint else matrix, b, upper=upper != adjoint))
