"""torch's dtypes as numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.pytorch.dtypes import (
    ALL_DTYPES,
    INTEGERS,
    TORCH_INTS,
    as_element,
    as_number,
    dtype_code,
    sanitize_dtype,
)

pytestmark = pytest.mark.serial


def test_a_code_is_the_place_in_an_order_that_does_not_depend_on_the_process() -> None:
    assert [dtype_code(dtype) for dtype in ALL_DTYPES] == list(range(len(ALL_DTYPES)))
    assert list(map(str, ALL_DTYPES)) == sorted(map(str, ALL_DTYPES))
    assert {torch.float32, torch.bool, torch.complex32, torch.uint64} <= set(ALL_DTYPES)
    assert dtype_code(torch.float) == dtype_code(torch.float32)


def test_what_is_a_dtype() -> None:
    assert sanitize_dtype(None) is None
    assert sanitize_dtype(torch.int8) is torch.int8


def test_names_and_types_of_dtypes() -> None:
    for given, wanted in {
        float: torch.float64,
        int: torch.int64,
        bool: torch.bool,
        complex: torch.complex128,
        np.float32: torch.float32,
        np.dtype("int16"): torch.int16,
        "uint8": torch.uint8,
        "f4": torch.float32,
        "bfloat16": torch.bfloat16,
        "torch.half": torch.float16,
    }.items():
        assert sanitize_dtype(given) is wanted
        assert ms.zeros(2, dtype=given).dtype is wanted
        assert ms.ones(2).astype(given).dtype is wanted
        assert ms.result_type(given) is wanted
    for wrong in ("float33", np.dtype("U3"), np.str_, object, 3, "sum", str, np.datetime64, ms.ones(2)):
        with pytest.raises(TypeError, match="dtype must be a dtype of torch, such as"):
            sanitize_dtype(wrong)


def test_A19_the_ints_that_torch_takes_for_what_they_are() -> None:
    assert set(TORCH_INTS) == set(ALL_DTYPES)
    for dtype, ints in INTEGERS.items():
        x = torch.zeros(1, dtype=dtype)
        for number in (ints[0], TORCH_INTS[dtype][-1]):
            assert x.fill_(number).item() == number
    assert TORCH_INTS[torch.float32] == TORCH_INTS[torch.bool] == TORCH_INTS[torch.int64] == INTEGERS[torch.int64]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (True, True), (np.bool_(False), False), (2**70, 2**70), (np.int64(2**53 + 1), 2**53 + 1),
        (np.float32(0.5), 0.5), (Fraction(1, 2), 0.5), (1j, 1j), (np.complex64(1j), 1j),
    ],
)  # fmt: skip
def test_numbers_of_any_kind(given: Any, wanted: complex) -> None:
    assert as_number(given, "x") == wanted
    assert type(as_number(given, "x")) is type(wanted)


def test_what_is_no_number() -> None:
    for wrong in ("a", None, [1], np.ones(1), torch.ones(())):
        with pytest.raises(TypeError, match=r"x must be a number, got .* of type "):
            as_number(wrong, "x")


def test_A19_numbers_as_elements() -> None:
    for number, dtype in ((300, torch.uint8), (-1, torch.uint8), (-1.5, torch.uint8), (2**63, torch.int64),
                          (math.nan, torch.int32), (math.inf, torch.int64), (2**70, torch.uint64)):  # fmt: skip
        with pytest.raises(OverflowError, match=rf"x must be in {dtype}, from .* to .*, got {number};"):
            as_element(number, dtype, "x")
    with pytest.raises(TypeError, match=r"x must be real for torch.float32, got \(1\+1j\); take its real part"):
        as_element(1 + 1j, torch.float32, "x")
    for number, dtype in ((255, torch.uint8), (-0.5, torch.uint8), (2**64 - 1, torch.uint64), (True, torch.int8),
                          (1e6, torch.float16), (-(2**200), torch.float32), (10**400, torch.float64),
                          (math.nan, torch.bfloat16), (1j, torch.complex64), (3, torch.bool)):  # fmt: skip
        torch.full((), as_element(number, dtype, "x"), dtype=dtype)
    assert as_element(-1e6, torch.float16, "x") == -math.inf
