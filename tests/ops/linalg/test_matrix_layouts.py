"""The layouts for functions of whole matrices."""

from __future__ import annotations

import pytest

import minisplit as ms
from minisplit.ops.linalg.matrix_layouts import align_solve, is_split_matrix, split_longer_axis, whole_matrices

pytestmark = pytest.mark.serial


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


def test_the_longer_axis() -> None:
    for shape, axis in (((5, 3), 0), ((3, 5), 1), ((3, 3), 0)):
        assert [split_longer_axis(ms.Layout(shape, split, 2)).split for split in (0, 1)] == [axis, axis]


def test_the_smaller_operand_moves() -> None:
    matrices, columns = ms.Layout((8, 50, 50), 0, ranks=4), ms.Layout((50, 40), 1, ranks=4)
    assert align_solve(matrices, columns, (8, 8)).needed[0] == matrices
    few = ms.Layout((50, 3), 0, ranks=4)
    assert align_solve(ms.Layout((50, 50), None, ranks=4), few, (8, 8)).result.split is None
    many = ms.Layout((50, 40_000), 1, ranks=4)
    assert align_solve(matrices, many, (8, 8)).needed[1] == many
    ragged = ms.Layout((8, 50, 50), 0, ranks=4, ragged=(5, 0, 3, 0))
    assert align_solve(ragged, columns, (8, 8)).result == ms.Layout((8, 50, 40), 0, ranks=4, ragged=(5, 0, 3, 0))


def test_solve_is_aligned_for_its_own_arguments() -> None:
    """An alignment is cached. Each argument changes it."""
    a, b = ms.Layout((8, 5, 5), 0, ranks=2), ms.Layout((5, 400), 1, ranks=2)
    assert align_solve(a, b, (8, 8)).result.split == 2
    assert align_solve(a, b, (16, 1)).result.split == 0
    assert align_solve(a, ms.Layout((5, 400), None, ranks=2), (8, 8)).result.split == 0
    assert align_solve(ms.Layout((8, 5, 5), None, ranks=2), b, (16, 1)).result.split == 2
