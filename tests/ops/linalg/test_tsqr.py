"""QR of matrices of which each rank has a block: unique factors, also of dependent columns; gradients."""

from __future__ import annotations

import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.linalg.tsqr import normalise_phases


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
