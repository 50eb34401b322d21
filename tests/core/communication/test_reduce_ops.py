"""The rules of reductions give the same bits in either order, and what they should."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from minisplit.core.communication.reduce_ops import RULES, MergeOp, ReduceOp, first, moments

pytestmark = [pytest.mark.serial, pytest.mark.mpi]

FINITE = [np.array(sample) for sample in ([], [3.0], [1.0, 1.0], [0.1, 0.2, 0.7], [1e9, 1e9 + 1])]
SAMPLES = [*FINITE, np.array([-np.inf, 2]), np.array([np.nan])]


def record(sample: np.ndarray) -> np.ndarray:
    """Count, mean and sum of squared deviations; the mean of none is NaN."""
    if not len(sample):
        return np.array([0, np.nan, 0])
    with np.errstate(all="ignore"):
        return np.array([len(sample), sample.mean(), sample.var() * len(sample)])


def test_there_is_a_rule_for_each_operation() -> None:
    assert set(RULES) == {*get_args(ReduceOp), *get_args(MergeOp)}


@pytest.mark.parametrize("op", ["first", "moments"])
def test_the_order_of_two_operands_changes_no_bit(op: MergeOp) -> None:
    records = np.array([record(sample) for sample in SAMPLES])
    if op == "first":
        records = np.array([[a, b] for a in (-(2**63), -1, 0, 5) for b in (-(2**63), -7, 0, 2**62)])
    for a in records:
        for b in records:
            assert RULES[op](a, b).tobytes() == RULES[op](b, a).tobytes()


def test_the_first_of_the_greatest() -> None:
    assert first(np.array([[2, -3], [2, -3], [-5, -1]]), np.array([[2, -4], [3, -9], [-5, 0]])).tolist() == [
        [2, -3],
        [3, -9],
        [-5, 0],
    ]


@pytest.mark.parametrize("a", FINITE, ids=str)
@pytest.mark.parametrize("b", FINITE, ids=str)
def test_moments_are_those_of_both_samples_together(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) or len(b):
        np.testing.assert_allclose(moments(record(a), record(b)), record(np.concatenate([a, b])), rtol=1e-12)
    assert moments(record(a), record(b))[0] == len(a) + len(b)
