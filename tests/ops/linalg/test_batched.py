"""Functions of whole matrices: errors, which are alike on all ranks; communicators; the names of results."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from layouts import dealt, layouts
from matrices import as_tuple, definite, numbers

import minisplit as ms
from minisplit.ops.linalg.batched import align_solve, is_split_matrix, split_longer_axis, whole_matrices
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
        with raises_alike(torch.linalg.LinAlgError, "of finite elements"):
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
    with raises_alike(ValueError, "mode of qr must be 'reduced', 'complete' or 'r', got 'raw'"):
        ms.linalg.qr(ms.ones((3, 3), split=split), mode="raw")  # type: ignore[call-overload]
    with raises_alike(ValueError, "UPLO must be 'L' or 'U', got 'l'"):
        ms.linalg.eigh(ms.ones((3, 3), split=split), "l")  # type: ignore[arg-type]


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


@pytest.mark.serial
def test_whole_matrices() -> None:
    """They are split along the longest batch axis with an index for every rank. The layouts are cached."""
    assert whole_matrices(ms.Layout((6, 3, 3), 1, ranks=2)) == ms.Layout((6, 3, 3), 0, ranks=2)
    assert whole_matrices(ms.Layout((6, 3, 3), 1, ranks=8)).split is None
    assert whole_matrices(ms.Layout((2, 6, 3, 3), 3, ranks=2)).split == 1
    assert whole_matrices(ms.Layout((3, 3), 0, ranks=2)).split is None
    batch = ms.Layout((6, 3, 3), 0, ranks=2, ragged=(5, 1))
    assert whole_matrices(batch) == batch
    assert [is_split_matrix(ms.Layout((6, 3, 3), split, 8)) for split in (0, 1, 2, None)] == [
        False, True, True, False
    ]  # fmt: skip


@pytest.mark.serial
def test_the_longer_axis() -> None:
    for shape, axis in (((5, 3), 0), ((3, 5), 1), ((3, 3), 0)):
        assert [split_longer_axis(ms.Layout(shape, split, 2)).split for split in (0, 1)] == [axis, axis]


@pytest.mark.serial
def test_the_smaller_operand_moves() -> None:
    matrices, columns = ms.Layout((8, 50, 50), 0, ranks=4), ms.Layout((50, 40), 1, ranks=4)
    assert align_solve(matrices, columns, (8, 8)).needed[0] == matrices
    few = ms.Layout((50, 3), 0, ranks=4)
    assert align_solve(ms.Layout((50, 50), None, ranks=4), few, (8, 8)).result.split is None
    many = ms.Layout((50, 40_000), 1, ranks=4)
    assert align_solve(matrices, many, (8, 8)).needed[1] == many
    ragged = ms.Layout((8, 50, 50), 0, ranks=4, ragged=(5, 0, 3, 0))
    assert align_solve(ragged, columns, (8, 8)).result == ms.Layout((8, 50, 40), 0, ranks=4, ragged=(5, 0, 3, 0))


@pytest.mark.serial
def test_solve_is_aligned_for_its_own_arguments() -> None:
    """An alignment is cached. Each argument changes it."""
    a, b = ms.Layout((8, 5, 5), 0, ranks=2), ms.Layout((5, 400), 1, ranks=2)
    assert align_solve(a, b, (8, 8)).result.split == 2
    assert align_solve(a, b, (16, 1)).result.split == 0
    assert align_solve(a, ms.Layout((5, 400), None, ranks=2), (8, 8)).result.split == 0
    assert align_solve(ms.Layout((8, 5, 5), None, ranks=2), b, (16, 1)).result.split == 2
