"""torch's dtypes as numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
    for wrong in (np.float32, "float32", float):
        with pytest.raises(TypeError, match=r"dtype must be a torch\.dtype or None, such as torch\.float32, got "):
            sanitize_dtype(wrong)
