"""Functions of whole matrices: errors, which are alike on all ranks; communicators; the names of results."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from layouts import dealt, layouts
from matrices import as_tuple, definite, numbers

import minisplit as ms
from minisplit.testing import traffic

Comm = ms.Communication


@pytest.mark.parametrize("split", [0, 1, 2])
def test_one_matrix_that_fails_fails_on_all_ranks(comm: Comm, split: int, raises_alike: Any) -> None:
    n = 2 * comm.size
    tensor = torch.eye(3).expand(n, 3, 3).clone()
    tensor[-1] = -torch.eye(3)
    where = f"rank {comm.size - 1} of .* computing {{}} for the indices {n - 2} to {n - 1} of axis 0"
    with raises_alike(torch.linalg.LinAlgError, f"(?s)not positive-definite.*{where.format('cholesky')}"):
        ms.linalg.cholesky(ms.array(tensor, split=split))
    tensor[-1] = math.nan
    for name in ("eigh", "svd", "svdvals", "pinv", "matrix_rank"):
        with raises_alike(torch.linalg.LinAlgError, where.format(name)):
            getattr(ms.linalg, name)(ms.array(tensor, split=split))


def test_one_split_matrix_that_fails(comm: Comm, raises_alike: Any) -> None:
    for layout in layouts((3, 3), comm.size):
        x = dealt(torch.zeros(3, 3), layout)
        with raises_alike(torch.linalg.LinAlgError, "singular"):
            ms.linalg.inv(x)
        with raises_alike(torch.linalg.LinAlgError, "singular"):
            ms.linalg.solve(x, x)
        with raises_alike(torch.linalg.LinAlgError, "not positive-definite"):
            ms.linalg.cholesky(x)
        with raises_alike(torch.linalg.LinAlgError, "non-finite"):
            ms.linalg.svd(x + math.nan)


SQUARE = ["cholesky", "det", "slogdet", "eig", "eigvals", "eigh", "eigvalsh", "inv", "matrix_exp"]
ANY = ["qr", "svd", "svdvals", "pinv", "matrix_rank"]


@pytest.mark.parametrize("split", [0, None])
def test_errors_before_any_message(split: int | None, raises_alike: Any) -> None:
    for name in SQUARE + ANY:
        call = getattr(ms.linalg, name)
        cases: list[tuple[Any, type[Exception], str]] = [
            (ms.ones(3, split=split), ValueError, rf"{name} needs matrices, along .* got x of shape \(3,\)"),
            (ms.ones((3, 3), dtype=torch.int64, split=split), TypeError, rf"{name} needs floating .*torch\.int64"),
            (ms.ones((3, 3), dtype=torch.bool, split=split), TypeError, rf"{name} needs floating .*torch\.bool"),
            (
                ms.ones((3, 3), dtype=torch.float16, split=split),
                TypeError,
                rf"{name} has no half precision, got torch\.float16; use x\.astype\(torch\.float32\)",
            ),
            (torch.ones(3, 3), TypeError, "x must be a DNDarray, got Tensor"),
        ]
        if name in SQUARE:
            cases.append((ms.ones((4, 3), split=split), ValueError, rf"{name} needs square .* shape \(4, 3\)"))
        for x, kind, words in cases:
            with traffic() as seen, raises_alike(kind, words):
                try:
                    call(x)
                finally:
                    assert seen.collectives == 0
    with raises_alike(ValueError, "mode of qr must be 'reduced' or 'complete', got 'r'"):
        ms.linalg.qr(ms.ones((3, 3), split=split), mode="r")  # type: ignore[arg-type]


def test_results_stay_on_their_communicator_and_names_are_the_standards(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.array(definite(numbers((4, 4))), split=0, comm=part)
    fields = {
        "qr": ("Q", "R"),
        "svd": ("U", "S", "Vh"),
        "eigh": ("eigenvalues", "eigenvectors"),
        "eig": ("eigenvalues", "eigenvectors"),
        "slogdet": ("sign", "logabsdet"),
    }
    for name in SQUARE + ANY:
        result = getattr(ms.linalg, name)(x)
        assert getattr(result, "_fields", None) == fields.get(name)
        assert all(array.comm is part for array in as_tuple(result))
    part.free()
