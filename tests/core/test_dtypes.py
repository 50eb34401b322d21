"""torch's dtypes as numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.dtypes import ALL_DTYPES, dtype_code, sanitize_dtype

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
