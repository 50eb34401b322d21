"""isclose: NumPy's answers for every layout. The other comparisons are tested in test_apply.py."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

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


COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
# The ends of the dtypes, and numbers that they do not have.
NUMBERS = [
    0, True, -1, 255, 256, 300, -129, 2**15, 2**31, 2**32, 2**32 + 5, 2**40, -(2**40), 2**63 - 1, 2**63, -(2**63),
    -(2**63) - 1, 2**64, 2**70, -(2**70), 0.0, 4.5, 5.0, -0.5, 254.5, 16777216.5, 16777216.0, 9007199254740992.0,
    1e30, math.inf, -math.inf, math.nan,
]  # fmt: skip
INTEGERS = {
    torch.bool: [0, 1],
    torch.uint8: [0, 5, 255],
    torch.int8: [-128, 0, 5, 127],
    torch.int16: [-(2**15), 5, 2**15 - 1],
    torch.int32: [-(2**31), 0, 5, 16777216, 16777217, 2**31 - 1],
    torch.int64: [-(2**63), 0, 5, 16777217, 2**53, 2**53 + 1, 2**63 - 1],
}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_compare_with_numbers_outside(size: int, dtype: torch.dtype) -> None:
    elements = INTEGERS[dtype]
    for layout in layouts((len(elements),), size):
        x = dealt(torch.tensor(elements, dtype=dtype), layout)
        for number, name in itertools.product(NUMBERS, COMPARISONS):
            python = getattr(
                operator, {"equal": "eq", "not_equal": "ne"}.get(name, name[0] + ("e" if "_" in name else "t"))
            )
            result, swapped = getattr(ms, name)(x, number), getattr(ms, name)(number, x)
            # Python compares ints and floats by their values.
            assert result.tolist() == [python(each, number) for each in elements], (name, number)
            assert swapped.tolist() == [python(number, each) for each in elements], (name, number)
            assert result.layout is layout
            assert result.dtype is torch.bool
        for number in (5 + 0j, 5 + 1j, 16777216 + 0j):
            assert (x == number).tolist() == [each == number for each in elements]
            assert (number != x).tolist() == [each != number for each in elements]
        assert (x < np.int64(2**62)).tolist() == [each < 2**62 for each in elements]


@pytest.mark.parametrize("dtype", [torch.uint64, torch.uint32])
def test_compare_with_numbers_outside_of_unsigned_integers(dtype: torch.dtype) -> None:
    x = ms.array(torch.tensor([0, 5, torch.iinfo(dtype).max], dtype=dtype), split=0)
    for number in [*NUMBERS, 2**64 - 1]:
        assert (x == number).tolist() == [each == number for each in x.tolist()]
        assert (number != x).tolist() == [each != number for each in x.tolist()]
    assert (x > -1).tolist() == [True] * 3
    assert (x >= 2**64).tolist() == [False] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_against_large_int(dtype: torch.dtype) -> None:
    elements = [0.0, 1.5, -2.0, 256.0, math.nan]
    x = ms.array(torch.tensor(elements, dtype=dtype), split=0)
    for number in (2**63, 2**70, -(2**70), 10**400, -(10**400)):
        assert (x < number).tolist() == [each < number for each in elements]
        assert (number < x).tolist() == [number < each for each in elements]
        assert (x == 10**30).tolist() == [False] * 5


def test_float_against_large_int_in_arithmetic() -> None:
    x = ms.array([1.0, 2.0], dtype=torch.float64, split=0)
    wanted = [2.0**70, 2.0**71]
    assert (x * 2**70).tolist() == (2**70 * x).tolist() == wanted
    assert ms.where(x > 0, 2**70, x).tolist() == [2.0**70] * 2
    assert ms.clip(x, 2**70, None).tolist() == [2.0**70] * 2
    assert ms.maximum(x, 2**70).tolist() == [2.0**70] * 2
    x *= 2**70
    assert x.tolist() == wanted
    for call in (lambda: ms.arange(3, split=0) + 2**70, lambda: 2**70 + ms.arange(3, split=0)):
        with pytest.raises(
            OverflowError,
            match=r"beside an array of torch.int64 must be from .* got 1180591620717411303424 in add",
        ):
            call()
