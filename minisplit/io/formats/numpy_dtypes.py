"""NumPy's dtypes, which most formats speak of, as torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_INTEGERS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_NAMES = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")
_NUMPY: dict[torch.dtype, np.dtype[Any]] = {getattr(torch, name): np.dtype(name) for name in _NAMES}
_TORCH = {found: dtype for dtype, found in _NUMPY.items()}


def torch_dtype(dtype: np.dtype[Any], where: str) -> torch.dtype:
    """The dtype of torch for numbers of `dtype`, in either byte order; TypeError, about `where`, if none."""
    found = None if dtype.hasobject else _TORCH.get(dtype.newbyteorder("="))
    if found is not None:
        return found
    if dtype.hasobject:
        raise TypeError(f"{where} holds pickled Python objects, which minisplit never unpickles; save numbers")
    raise TypeError(f"{where} has the dtype {dtype}, which torch has not; arrays hold numbers and bools")


def numpy_dtype(dtype: torch.dtype, name: str) -> np.dtype[Any]:
    """NumPy's dtype for `dtype`; TypeError, which tells of the format `name`, for those that only torch has."""
    found = _NUMPY.get(dtype)
    if found is None:
        raise TypeError(
            f"{name} files have no {dtype}: convert it, save(x, path, dtype=torch.float32), or use .safetensors"
        )
    return found
