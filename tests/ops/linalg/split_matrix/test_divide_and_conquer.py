"""Divide and conquer: orthogonal vectors and exact values of matrices on which it is known to be hard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from matrices import numbers

import minisplit as ms
from minisplit.ops.linalg.split_matrix import divide_and_conquer
from minisplit.ops.linalg.split_matrix.divide_and_conquer import eigenvalues, singular_values
from minisplit.testing import run

N = 29
EPS = torch.finfo(torch.float64).eps


def powers(first: float, last: float) -> torch.Tensor:
    return 10.0 ** torch.linspace(first, last, N, dtype=torch.float64)


def step(before: float, after: float) -> torch.Tensor:
    return torch.tensor([before] * (N // 2) + [after] * (N - N // 2), dtype=torch.float64)


# The diagonal, and what is beside it.
MATRICES: dict[str, tuple[torch.Tensor, torch.Tensor]] = {
    "random": (numbers((N,)), numbers((N,), seed=1)),
    "Toeplitz": (step(2, 2), step(1, 1)),
    "of Wilkinson, pairs of equal values": ((torch.arange(N) - N // 2).abs().double(), step(1, 1)),
    "zero": (step(0, 0), step(0, 0)),
    "identity": (step(1, 1), step(0, 0)),
    "no diagonal": (step(0, 0), numbers((N,))),
    "of half the rank": (step(1, 0) * numbers((N,)), numbers((N,), seed=1)),
    "graded": (powers(0, -40), powers(0, -40)),
    "graded, from below": (powers(-40, 0), powers(-40, 0)),
    "clusters": (step(1, 1e-8), 1e-10 * numbers((N,))),
    "two clusters, and what couples them": (step(1, -1), step(1e-14, 1)),
    "negative beside": (step(1, 2), -step(1, 1e-3)),
}


def check(name: str, are_singular: bool) -> list[float]:
    comm, (diagonal, beside) = ms.get_comm(), MATRICES[name]
    layout = ms.Layout((N, N), 1, comm.size, (0, N - 11, 11))
    first, last = layout.span(comm.rank)
    vectors = [torch.zeros(N, last - first, dtype=torch.float64) for _ in range(1 + are_singular)]
    solve: Callable[..., torch.Tensor] = singular_values if are_singular else eigenvalues
    values = solve(diagonal, beside[:-1], comm, first, vectors)
    assert torch.equal(values, solve(diagonal, beside[:-1], comm, first, []))
    left, right = (ms.DNDarray(vectors[place], layout, comm).resplit(None).larray.T for place in (0, -1))
    matrix = torch.diag(diagonal) + torch.diag(beside[:-1], 1)
    if not are_singular:
        matrix = matrix + torch.diag(beside[:-1], -1)
    wanted = torch.linalg.svdvals(matrix) if are_singular else torch.linalg.eigvalsh(matrix)
    scale = float(matrix.abs().max()) or 1.0
    for x in (left, right):
        assert (x.T @ x - torch.eye(N, dtype=x.dtype)).abs().max() < 20 * EPS
    assert (left * values @ right.T - matrix).abs().max() < 100 * EPS * scale
    assert (values - wanted).abs().max() < 100 * EPS * scale
    return values.tolist()


@pytest.mark.serial
@pytest.mark.parametrize("name", MATRICES)
def test_vectors_and_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divide_and_conquer, "LEAF", 4)
    monkeypatch.setattr(divide_and_conquer, "COLUMNS", 16)
    monkeypatch.setattr(divide_and_conquer, "ROWS", 8)
    for are_singular in (False, True):
        found = run(check, name, are_singular, ranks=3)
        # To the bit: what is set apart must be the same.
        assert found == found[:1] * 3


@pytest.mark.serial
def test_one_number() -> None:
    number, none, vector = torch.tensor([-3.0], dtype=torch.float64), torch.zeros(0), torch.zeros(1, 1)
    assert eigenvalues(number, none, ms.SELF, 0, [vector]).tolist() == [-3]
    assert vector.abs().item() == 1
    assert singular_values(number, none, ms.SELF, 0, []).tolist() == [3]
