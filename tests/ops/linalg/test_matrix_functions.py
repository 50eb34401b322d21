"""Determinants, exponentials and powers: torch's values for every layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from matrices import SQUARES, as_tuple, assert_gradients, assert_layout, stacks

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd
from minisplit.testing import strategies as st

F64 = torch.float64


@pytest.mark.parametrize("name", ["det", "slogdet", "matrix_exp"])
@spmd(ranks=(1, 3))
def test_functions_of_square_matrices(ranks: int, name: str) -> None:
    for case in stacks(ranks, SQUARES):
        x = case.cut()
        results, wanted = (
            as_tuple(getattr(space.linalg, name)(y)) for space, y in ((ms, x), (torch, case.tensor))
        )
        for result, expected in zip(results, wanted, strict=True):
            assert_close(result, expected)
            assert_layout(result, x, split_as=result.shape == x.shape)
        assert_equal(x, case.tensor)


@pytest.mark.parametrize("name", ["det", "matrix_exp"])
@spmd(ranks=(3,))
def test_gradients(ranks: int, name: str) -> None:
    for case in stacks(ranks, ((3, 3), (1, 1), (5, 5), (0, 0), (2, 3, 3), (3, 2, 2)), (F64,)):
        assert_gradients(getattr(ms.linalg, name), getattr(torch.linalg, name), case)


@given(whole=st.dndarrays(hs.sampled_from([(3, 3), (2, 3, 3), (4, 4), (1, 1), (0, 0)]), F64))
@spmd
def test_powers_of_matrices(whole: Whole) -> None:
    x = whole.cut()
    regular = torch.eye(whole.tensor.shape[-1], dtype=F64) * 10 + whole.tensor.tanh()
    for n in (0, 1, 2, 5):
        assert_close(ms.linalg.matrix_power(x, n), torch.linalg.matrix_power(whole.tensor, n))
        expected = torch.linalg.matrix_power(regular, -n)
        assert_close(ms.linalg.matrix_power(Whole(regular, whole.layout).cut(), -n), expected)


def test_a_singular_matrix_on_one_rank_is_an_error_on_all(comm: ms.Communication, raises_alike: Any) -> None:
    whole = torch.eye(2).repeat(comm.size, 1, 1)
    whole[-1] = 0
    with raises_alike(RuntimeError, "singular"):
        ms.linalg.matrix_power(ms.array(whole, split=0), -1)


def test_a_first_power_has_memory_of_its_own(size: int) -> None:
    x = ms.ones((3, 3), split=0)
    ms.linalg.matrix_power(x, 1).larray.zero_()
    assert_equal(x, torch.ones(3, 3))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.linalg.matrix_power(x[:2], 2), ValueError, r"square matrices, got shape \(2, 3\)"),
        (lambda x: ms.linalg.matrix_power(x[0], 2), ValueError, r"at least 2 dimensions, got shape \(3,\)"),
        (lambda x: ms.linalg.matrix_power(ms.astype(x, torch.int64), -1), TypeError, "negative matrix_power"),
        (lambda x: ms.linalg.matrix_power(x, 1.5), TypeError, "n must be an int, got 1.5"),
    ],
)
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones((3, 3), split=0))
