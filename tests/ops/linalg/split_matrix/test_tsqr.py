"""QR of matrices of which each rank has a block: unique factors, also of dependent columns; gradients."""

from __future__ import annotations

import pytest
import torch
from layouts import dealt, layouts
from matrices import REGULAR, assert_gradients, numbers, stacks, unique_qr

import minisplit as ms
from minisplit.ops.linalg.split_matrix import tsqr
from minisplit.ops.linalg.split_matrix.tsqr import normalise_phases
from minisplit.testing import Whole, assert_close, spmd, traffic

Comm = ms.Communication


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_column_of_zeros(size: int, dtype: torch.dtype, column: int) -> None:
    """The pivot of a zero column is 0, whose sign is 0: it must not make zeros of columns of Q or of rows of R."""
    whole = torch.randn((9, 3), dtype=dtype, generator=torch.Generator().manual_seed(1))
    whole[:, column] = 0
    for layout in layouts((9, 3), size):
        q, r = (part.resplit(None).larray for part in ms.linalg.qr(dealt(whole, layout)))
        torch.testing.assert_close(q.mH @ q, torch.eye(3, dtype=dtype))
        torch.testing.assert_close(q @ r, whole)
        assert torch.equal(r.diagonal(), r.diagonal().abs().to(dtype))


@pytest.mark.serial
def test_diagonals_become_real() -> None:
    """Also where a library leaves them complex."""
    q, r = torch.eye(2, dtype=torch.complex128), torch.tensor([[2j, 1], [0, -3]], dtype=torch.complex128)
    unitary, triangle = normalise_phases(q.clone(), r.clone())
    torch.testing.assert_close(unitary @ triangle, r)
    assert triangle.diagonal().tolist() == [2, 3]


@spmd(ranks=(3,))
def test_complex_gradients_of_qr(ranks: int) -> None:
    for case in stacks(ranks, REGULAR, (torch.complex128,)):
        assert_gradients(unique_qr, unique_qr, case)


@spmd(ranks=(3,))
def test_second_derivatives_of_qr(ranks: int) -> None:
    for case in stacks(ranks, REGULAR, (torch.float64,)):
        assert_curves(case)


def assert_curves(case: Whole) -> None:
    tensor = case.tensor.clone().requires_grad_()
    x = Whole(tensor, case.layout).cut()
    direction = numbers(tuple(tensor.shape), seed=3)
    found = []
    for array, leaf, along in ((tensor, tensor, direction), (x, x.larray, direction[x.layout.box(x.comm.rank)])):
        parts = [part if isinstance(part, torch.Tensor) else part.larray for part in unique_qr(array)]
        cubes = [part.pow(3) for part in parts]
        (slope,) = torch.autograd.grad(cubes, leaf, [torch.ones_like(part) for part in parts], create_graph=True)
        (curve,) = torch.autograd.grad(slope, leaf, along)
        found.append(curve)
    assert_close(ms.DNDarray(found[1], x.layout, x.comm), found[0], rtol=1e-6, atol=1e-7)


def test_a_gradient_where_one_rank_has_a_singular_part(comm: Comm) -> None:
    """The gradient is that of the whole matrix: the decomposition of that rank alone has none."""
    tensor = numbers((3 * comm.size, 2))
    tensor[:3] = torch.tensor([1.0, 0.0])
    if comm.size > 1:
        assert_gradients(unique_qr, unique_qr, Whole(tensor, ms.Layout((3 * comm.size, 2), 0, comm.size)))


def test_the_backward_pass_of_tall_matrices_sends_one_reduction(comm: Comm) -> None:
    x = ms.array(numbers((40, 3)), split=0)
    x.larray.requires_grad_()
    q, r = ms.linalg.qr(x)
    with traffic() as seen:
        (q.larray.sum() + r.larray.sum()).backward()
    assert dict(seen.calls) == ({"allreduce": 1} if comm.size > 1 else {})


def test_on_many_ranks_r_factors_go_up_a_tree(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All R factors on each rank were 2 GiB on 65,536 ranks. Factors and gradients are the same either way."""
    wholes = [torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(1)) for shape in
              ((1, 11, 3), (5, 5))]  # fmt: skip
    for whole in wholes:
        for layout in layouts(tuple(whole.shape), size):
            if layout.split != whole.ndim - 2:
                continue
            found = []
            for limit in (2**20, -1):
                monkeypatch.setattr(tsqr, "FEW", limit)
                monkeypatch.setattr(tsqr, "GATHERED", limit)
                x = dealt(whole, layout)
                x.larray.requires_grad_()
                with traffic() as seen:
                    q, r = ms.linalg.qr(x)
                (q.larray.real.sum() + r.larray.real.sum()).backward()
                assert x.larray.grad is not None
                found.append((q.larray.detach(), r.larray.detach(), x.larray.grad, ms.linalg.svdvals(x).larray))
            torch.testing.assert_close(*found)
            levels = (size - 1).bit_length()
            assert seen.calls["broadcast"] == (size > 1)
            assert seen.calls["exchange"] == 2 * levels
