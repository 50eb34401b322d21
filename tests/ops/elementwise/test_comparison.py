"""isclose: NumPy's answers for every layout. The other comparisons are tested in test_apply.py."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as hyp

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as st

Comm = ms.Communication
FLOATS = hyp.sampled_from((1.0, 0.0, -0.0, -2.5, math.inf, -math.inf, math.nan))


@given(two=st.broadcastable_dndarrays(2, torch.float64, elements=FLOATS), equal_nan=hyp.booleans())
@spmd
def test_closeness_of_special_numbers(two: tuple[Whole, Whole], equal_nan: bool) -> None:
    x, y = (whole.cut() for whole in two)
    wanted = np.isclose(two[0].tensor.numpy(), two[1].tensor.numpy(), equal_nan=equal_nan)
    assert_equal(ms.isclose(x, y, equal_nan=equal_nan), torch.tensor(wanted))


def test_tolerances(size: int) -> None:
    x = ms.array([1.0, 100.0, 0.0], split=0)
    y = ms.array([1.5, 150.0, 0.5], split=0)
    assert ms.isclose(x, y, rtol=0.4).tolist() == [True, True, False]  # of y
    assert ms.isclose(y, x, rtol=0.4).tolist() == [False, False, False]
    assert ms.isclose(x, y, atol=0.6).tolist() == [True, False, True]
    assert ms.isclose(ms.array([1, 3], split=0), 2.5, atol=1).tolist() == [False, True]


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    assert ms.isclose(ms.ones((4, 3), split=0, comm=part), 1).comm is part
    part.free()
