"""Spectra of large cut matrices: as exact as LAPACK's, and errors on all ranks. Gradients: test_one_matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from alive import Alive
from layouts import layouts
from matrices import gathered, numbers, symmetric

import minisplit as ms
from minisplit.core import collectives
from minisplit.ops.linalg import ring
from minisplit.ops.linalg.split_matrix import (
    condensed,
    divide_and_conquer,
    one_matrix,
    panels,
    spectra,
    transposition,
)
from minisplit.testing import Whole, run, spmd

L, T = ms.linalg, torch.linalg
N = 21
DTYPES = (torch.float64, torch.complex64, torch.complex128, torch.float32)


def similar(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    q = T.qr(numbers((N, N), dtype))[0]
    return q * values.to(dtype) @ q.mH


def matrices(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    top, bottom = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    clusters = torch.ones(N, dtype=torch.float64)
    clusters[5:] = 1 + 1e-9
    clusters[-1] = 4
    return {
        "zero": torch.zeros(N, N, dtype=dtype),
        "identity": torch.eye(N, dtype=dtype),
        "ones": torch.ones(N, N, dtype=dtype),
        "diagonal": torch.diag(torch.arange(N) - 7).to(dtype),
        "clusters": similar(clusters, dtype),
        "graded": similar(10.0 ** -torch.arange(N), dtype),
        "of rank 2": numbers((N, 2), dtype) @ numbers((2, N), dtype, 1),
        "squares overflow": numbers((N, N), dtype) * (top / 100),
        "squares underflow": numbers((N, N), dtype) * (bottom * 100),
    }


def error(product: torch.Tensor, matrix: torch.Tensor) -> float:
    """In units of rounding, relative to the matrix."""
    scale = float(matrix.abs().max()) or 1.0
    found = T.matrix_norm(product / scale - matrix / scale) / T.matrix_norm(matrix / scale).clamp(min=1)
    return float(found / torch.finfo(matrix.dtype).eps)


def check(x: torch.Tensor, layout: ms.Layout) -> None:
    one, bound = torch.eye(N, dtype=x.dtype), 10.0 * N**0.5
    matrix = symmetric(x / 2)
    values, vectors = spectra.eigh(Whole(matrix, layout).cut())
    assert vectors.layout == layout
    w, v = gathered(values), gathered(vectors)
    assert torch.equal(w, w.sort().values)
    assert error(v * w @ v.mH, matrix) < bound
    assert error(v.mH @ v, one) < bound
    u, s, vh = (gathered(part) for part in spectra.svd(Whole(x, layout).cut(), full_matrices=True))
    assert torch.equal(s, s.sort(descending=True).values)
    assert s[-1] >= 0
    assert error(u * s @ vh, x) < bound
    for basis in (u, vh.mH):
        assert error(basis.mH @ basis, one) < bound


def check_all(place: int) -> None:
    dtype = DTYPES[place]
    cut = layouts((N, N), 3)[1:]
    for number, x in enumerate(matrices(dtype).values()):
        check(x, cut[(number + place) % len(cut)])


@pytest.mark.serial
@pytest.mark.parametrize("place", range(len(DTYPES)))
def test_vectors_are_as_exact_as_those_of_lapack(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divide_and_conquer, "LEAF", 5)
    monkeypatch.setattr(condensed, "WIDTH", 8)
    run(check_all, place, ranks=3)


CALLS: list[Any] = [L.eigh, L.eigvalsh, L.svd, L.svdvals, L.cond, L.matrix_rank, L.pinv, lambda x: L.norm(x, 2)]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_an_error_on_all_ranks(
    value: float, raises_alike: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_matrix, "SMALL", 0)
    monkeypatch.setattr(spectra, "SMALL", 0)
    for split, call in enumerate(CALLS):
        x = torch.eye(9)
        x[7, 2] = value
        with raises_alike(T.LinAlgError, "."):
            call(ms.array(x, split=split % 2))


# By the axis that is split, in shards on 4 ranks, without the user's own, results included. All of the matrix is 4
# by itself, and as much for each factor of LAPACK, and for what it works in. Of so few rows the panels are half a
# shard or more. What `pinv` needs is what `svd` does.
MEMORY: dict[tuple[str, int], float] = {
    ("eigh", 0): 3.5, ("pinv", 1): 4.6, ("matrix_exp", 0): 6.2,
}  # fmt: skip


def peak(name: str, split: int) -> float:
    x = ms.array(numbers((120, 120)), split=split)
    with ms.debug(False), Alive() as seen:
        getattr(L, name)(x)
    return seen.peak / x.larray.nbytes


@pytest.mark.serial
@pytest.mark.parametrize(("name", "split"), MEMORY)
def test_memory_of_a_rank(name: str, split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (one_matrix, spectra):
        monkeypatch.setattr(module, "SMALL", 120)
    for module, constant in (
        (panels, "WIDTH"), (condensed, "WIDTH"), (divide_and_conquer, "LEAF"), (divide_and_conquer, "COLUMNS"),
        (divide_and_conquer, "ROWS"), (transposition, "WIDTH"),
    ):  # fmt: skip
        monkeypatch.setattr(module, constant, 4)
    monkeypatch.setattr(ring, "PIECE_BYTES", 240)
    monkeypatch.setattr(collectives, "RING_BYTES", 0)
    assert max(run(peak, name, split, ranks=4)) < MEMORY[name, split]


@spmd(ranks=(2,))
def test_gradients_of_equal_eigenvalues_and_singular_values(ranks: int) -> None:
    """Of the values alone they are there, and torch has them."""
    for ours, theirs in ((lambda x: spectra.eigh(x, vectors=False)[0], T.eigvalsh), (spectra.svdvals, T.svdvals)):
        tensor = torch.eye(4, dtype=torch.complex128).requires_grad_()
        theirs(tensor).sum().backward()
        x = Whole(tensor.detach(), ms.Layout((4, 4), 1, ranks)).cut()
        x.larray.requires_grad_()
        ours(x).larray.sum().backward()
        torch.testing.assert_close(x.larray.grad, tensor.grad[x.layout.box(x.comm.rank)])
