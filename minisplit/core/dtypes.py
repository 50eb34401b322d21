"""torch's dtypes as small integers, so that ranks can compare them in a record."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.error_text import short_repr

# In the order of their names, so that the place of a dtype is the same on every rank.
ALL_DTYPES: tuple[torch.dtype, ...] = tuple(
    sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
)
# As an argument: None stands for a default, which depends on the function.
Dtype = torch.dtype | None
_CODES = {dtype: code for code, dtype in enumerate(ALL_DTYPES)}


def dtype_code(dtype: torch.dtype) -> int:
    """Return the place of a dtype in `ALL_DTYPES`, the same on every rank that runs the same torch."""
    return _CODES[dtype]


def sanitize_dtype(dtype: Any) -> Dtype:
    """Return `dtype` if it is a torch dtype or None; else TypeError."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    raise TypeError(f"dtype must be a torch.dtype or None, such as torch.float32, got {short_repr(dtype)}")
