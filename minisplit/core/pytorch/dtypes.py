"""torch's dtypes: as small integers, so that ranks can compare them in a record, and which numbers they have."""

from __future__ import annotations

import math
from contextlib import suppress
from numbers import Complex, Integral, Real
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
_INTEGERS = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64
)  # fmt: skip
# Python's ints that an element of each integer dtype can be.
INTEGERS = {dtype: range(torch.iinfo(dtype).min, torch.iinfo(dtype).max + 1) for dtype in _INTEGERS}
# Python's ints that torch takes as they are beside a tensor of each dtype. Others it takes modulo 2**bits, or not,
# where they are not in int64.
TORCH_INTS = {
    dtype: range(max(ints[0], -(2**63)), min(ints[-1] + 1, 2**63))
    for dtype in ALL_DTYPES
    for ints in (INTEGERS.get(dtype, INTEGERS[torch.int64]),)
}
# The dtypes in which halves are added up: 2048 + 1 is 2048 in float16.
WIDER_HALVES = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}
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


def is_inexact(dtype: torch.dtype) -> bool:
    """Whether numbers of a dtype can have fractions, and gradients."""
    return dtype.is_floating_point or dtype.is_complex


def nearest_float(number: int) -> float:
    """Return an int as a float, infinite where it is too large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def check_in_range(number: float, dtype: torch.dtype, name: str) -> None:
    """Raise OverflowError, as NumPy does, unless a dtype of integers has the whole part of a number."""
    low, high = INTEGERS[dtype][0], INTEGERS[dtype][-1]
    if not low - 1 < number < high + 1:  # which NaN is not, either
        raise OverflowError(
            f"{name} must be in {dtype}, from {low} to {high}, got {short_repr(number)}; choose a wider dtype"
        )


def as_number(value: Any, name: str) -> Any:
    """Return a Python bool, int, float or complex for a number of any kind. TypeError for anything else."""
    # Ints before real numbers, which they are too, but as floats those above 2^53 would be rounded.
    kinds: tuple[tuple[Any, Any], ...] = (
        (bool, (bool, np.bool_)), (int, Integral), (float, Real), (complex, Complex)
    )  # fmt: skip
    for kind, types in kinds:
        if isinstance(value, types):
            return kind(value)
    raise TypeError(f"{name} must be a number, got {short_repr(value)} of type {type(value).__name__}")


def as_element(number: Any, dtype: torch.dtype, name: str) -> Any:
    """Return a number as torch takes it for an element of a dtype. OverflowError or TypeError for other numbers.

    torch takes negative numbers modulo 2**bits, and has texts of its own for what it refuses.
    """
    number = as_number(number, name)
    if dtype.is_complex or dtype is torch.bool:
        return number
    if isinstance(number, complex):
        raise TypeError(f"{name} must be real for {dtype}, got {number}; take its real part, or a complex dtype")
    if not dtype.is_floating_point:
        check_in_range(number, dtype, name)
        return int(number)
    if isinstance(number, int):
        number = nearest_float(number)
    # As NumPy: what is too large is infinite.
    return math.copysign(math.inf, number) if abs(number) > torch.finfo(dtype).max else number
