"""NumPy's dtypes, which most formats speak of, as torch's. Tested in tests/io/test_api.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_INTEGERS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_NAMES = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")
NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {getattr(torch, name): np.dtype(name) for name in _NAMES}
_TORCH = {numpy: dtype for dtype, numpy in NUMPY_DTYPES.items()}


def torch_dtype(dtype: np.dtype[Any], where: str) -> torch.dtype:
    """Return torch's dtype for numbers in either byte order; TypeError, about `where`, if there is none."""
    if dtype.hasobject:
        raise TypeError(f"{where} holds pickled Python objects, which minisplit never unpickles; save numbers")
    known = _TORCH.get(dtype.newbyteorder("="))
    if known is None:
        raise TypeError(f"{where} has the dtype {dtype}, which torch has not; arrays hold numbers and bools")
    return known


def numpy_dtype(dtype: torch.dtype, name: str) -> np.dtype[Any]:
    """Return NumPy's dtype; TypeError, about the format `name`, for dtypes that only torch has."""
    if dtype not in NUMPY_DTYPES:
        raise TypeError(
            f"{name} files have no {dtype}: convert it, save(x, path, dtype=torch.float32), or use .safetensors"
        )
    return NUMPY_DTYPES[dtype]
