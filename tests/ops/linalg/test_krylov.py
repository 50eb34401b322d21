"""Krylov methods: right for every layout of matrix and vector, for functions, and in the same steps on all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layouts import layouts
from matrices import definite, numbers, symmetric

import minisplit as ms
from minisplit.testing import Whole, assert_close, run, spmd, traffic

L = ms.linalg


@spmd(ranks=(1, 3))
def test_cg_solves_in_any_layouts(ranks: int) -> None:
    for place, layout in enumerate(layouts((7, 7), ranks)):
        dtype = (torch.float64, torch.complex128)[place % 2]
        a, b = definite(numbers((7, 7), dtype)), numbers((7,), dtype, 1)
        vectors = layouts((7,), ranks)
        x, right = Whole(a, layout).cut(), Whole(b, vectors[place % len(vectors)]).cut()
        preconditioner = Whole(torch.linalg.inv(a), layout).cut()
        wanted = torch.linalg.solve(a, b)
        for matrix in (x, lambda v: x @ v):  # noqa: B023 - called at once
            found, info = L.cg(matrix, right, rtol=1e-12)
            assert (info, found.layout) == (0, right.layout)
            assert_close(found, wanted, rtol=1e-8, atol=1e-8)
        steps: list[ms.DNDarray] = []
        found, info = L.cg(x, right, ms.array(b), rtol=1e-12, M=preconditioner, callback=steps.append)
        assert (info, len(steps) <= 2) == (0, True)
        assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def laplacian(x: ms.DNDarray) -> ms.DNDarray:
    return ms.map_halo(lambda y: 4 * y[1:-1, 1:-1] - y[2:, 1:-1] - y[:-2, 1:-1] - y[1:-1, 2:] - y[1:-1, :-2], x, 1,
                       axis=(0, 1), mode="constant")  # fmt: skip


def test_cg_of_a_stencil_on_a_grid_sends_halos_and_two_sums_a_step(comm: ms.Communication) -> None:
    b = ms.ones((9, 8), dtype=torch.float64, split=0)
    with traffic() as seen:
        x, info = L.cg(laplacian, b, rtol=0, maxiter=3)
    assert info == 3
    assert dict(seen.calls) == ({"allreduce": 8, "exchange": 3, "agree": 3} if comm.size > 1 else {})
    x, info = L.cg(laplacian, b, x)
    assert info == 0
    assert (laplacian(x) - b).abs().max().item() < 1e-4


def test_cg_ends_at_once_where_nothing_is_to_be_done(comm: ms.Communication) -> None:
    x, info = L.cg(ms.eye(4, split=0), ms.zeros(4, split=0))
    assert (info, x.tolist()) == (0, [0.0] * 4)
    assert L.cg(ms.eye(4, split=0), ms.ones(4, split=0), maxiter=1)[1] == 0


def slopes() -> None:
    a, b = definite(numbers((4, 4))), numbers((4,), seed=1)
    x, y = ms.array(a, split=0).requires_grad_(), ms.array(b, split=0).requires_grad_()
    (L.cg(x, y, rtol=1e-13)[0] ** 3).sum().backward()
    theirs = [a.requires_grad_(), b.requires_grad_()]
    torch.linalg.solve(*theirs).pow(3).sum().backward()
    for ours, wanted in zip((x, y), theirs, strict=True):
        assert_close(ours.grad, wanted.grad, rtol=1e-6, atol=1e-6)
    # One step suffices for a right-hand side that is an eigenvector. Its derivative would be that of its length.
    z = ms.ones(4, dtype=ms.float64, split=0).requires_grad_()
    L.cg(lambda v: v * 2, z)[0][:1].sum().backward()
    assert_close(z.grad, torch.tensor([0.5, 0, 0, 0], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.serial
def test_gradients_of_cg_are_those_of_the_solution() -> None:
    run(slopes, ranks=2)


@spmd(ranks=(1, 3))
def test_lanczos_in_any_layouts(ranks: int) -> None:
    for place, layout in enumerate(layouts((8, 8), ranks)):
        a = symmetric(numbers((8, 8), (torch.float64, torch.complex128)[place % 2]))
        x = Whole(a, layout).cut()
        v, t = L.lanczos(x, 8, generator=ms.random.Generator(3))
        assert (v.split, t.split, t.dtype) == (None if x.split is None else 0, None, torch.float64)
        whole, small = v.resplit(None).larray, t.larray
        torch.testing.assert_close(whole.mH @ whole, torch.eye(8, dtype=a.dtype))
        torch.testing.assert_close(whole.mH @ a @ whole, small.to(a.dtype))
        assert torch.equal(small, small.triu(-1).tril(1))
        # The same vectors from a function, in whatever layout the first one is.
        first = Whole(whole[:, 0].clone(), layouts((8,), ranks)[place % 3]).cut()
        again = L.lanczos(lambda y: x @ y, 4, first)  # noqa: B023 - called at once
        assert again.V.split == first.split
        assert_close(again.V, whole[:, :4], rtol=1e-7, atol=1e-7)


def test_lanczos_goes_on_where_a_space_is_whole(comm: ms.Communication) -> None:
    """The identity makes nothing new of any vector: the length of the next one would be rounding errors."""
    v, t = L.lanczos(ms.eye(6, dtype=torch.float64, split=0), 5)
    assert_close(v.mH @ v, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(t, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)


def eye() -> ms.DNDarray:
    return ms.eye(3, split=0)


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: L.cg(-eye(), ms.ones(3, split=0)), torch.linalg.LinAlgError, r"positive definite A .* -3.0 at step"),
    (lambda: L.cg(eye(), ms.ones(3), M=-eye()), torch.linalg.LinAlgError, r"positive definite M .* is -3.0"),
    (lambda: L.cg(eye(), ms.ones(4)), ValueError, r"matrix and a vector that fit, got shapes \(3, 3\) and \(4,\)"),
    (lambda: L.cg(eye(), ms.ones(3), ms.ones(4)), ValueError, r"x0 of the shape of b, \(3,\), got \(4,\)"),
    (lambda: L.cg(lambda x: x[:2], ms.ones(3)), ValueError, r"keep the shape \(3,\), but returned \(2,\)"),
    (lambda: L.cg(lambda x: x.double(), ms.ones(3)), TypeError, r"keep the dtype torch.float32, but .*float64"),
    (lambda: L.cg(3.0, ms.ones(3)), TypeError, "needs a DNDarray or a function, got 3.0"),
    (lambda: L.lanczos(eye(), 4), ValueError, "k of lanczos must be from 1 to 3"),
    (lambda: L.lanczos(lambda x: x, 1), ValueError, "of a function needs a v0"),
    (lambda: L.lanczos(eye(), 1, ms.zeros(3)), ValueError, "v0 other than zero .* norm 0.0"),
    (lambda: L.lanczos(eye(), 1, eye()), ValueError, r"begins with a vector, got a v0 of shape \(3, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), ERRORS)
def test_errors_on_all_ranks(call: Any, error: type[Exception], words: str, raises_alike: Any) -> None:
    with raises_alike(error, words):
        call()
