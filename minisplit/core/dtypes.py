"""torch's dtypes as small integers, so that ranks can compare them in a record."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch

from minisplit.core.error_text import short_repr

# In the order of their names, so that the place of a dtype is the same on every rank.
ALL_DTYPES: tuple[torch.dtype, ...] = tuple(
    sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
)
# As an argument: torch's dtype, NumPy's, or what NumPy takes for one. None stands for a default, which depends on
# the function.
Dtype = torch.dtype | np.dtype[Any] | type[bool | complex | np.generic] | str | None
_CODES = {dtype: code for code, dtype in enumerate(ALL_DTYPES)}


def dtype_code(dtype: torch.dtype) -> int:
    """Return the place of a dtype in `ALL_DTYPES`, the same on every rank that runs the same torch."""
    return _CODES[dtype]


def sanitize_dtype(dtype: Any) -> torch.dtype | None:
    """Return a torch dtype, that of NumPy's or Python's name or type for one, or None; else TypeError.

    >>> sanitize_dtype("float32"), sanitize_dtype(np.int8), sanitize_dtype(float)
    (torch.float32, torch.int8, torch.float64)
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if isinstance(dtype, (str, np.dtype)) or (
        isinstance(dtype, type) and issubclass(dtype, (bool, int, float, complex, np.generic))
    ):
        name = dtype.removeprefix("torch.") if isinstance(dtype, str) else dtype
        with suppress(TypeError):  # torch has dtypes of its own: bfloat16
            name = np.dtype(name).name
        known = getattr(torch, name, None) if isinstance(name, str) else None
        if isinstance(known, torch.dtype):
            return known
    raise TypeError(
        "dtype must be a dtype of torch, such as torch.float32, one of NumPy that torch has, the name of one, "
        f"bool, int, float, complex or None, got {short_repr(dtype)}"
    )
