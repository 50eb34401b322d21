"""What dtypes are and become: the data type functions of the Python Array API standard, for torch's dtypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.error_text import short_repr

_KINDS: dict[str, Callable[[torch.dtype], bool]] = {
    "bool": lambda d: d is torch.bool,
    "signed integer": lambda d: _is_integer(d) and d.is_signed,
    "unsigned integer": lambda d: _is_integer(d) and not d.is_signed,
    "integral": lambda d: not (d is torch.bool or d.is_floating_point or d.is_complex),
    "real floating": lambda d: d.is_floating_point,
    "complex floating": lambda d: d.is_complex,
    "numeric": lambda d: d is not torch.bool,
}


@dataclass(frozen=True, slots=True)
class Finfo:
    """The limits of a floating-point dtype; of a complex one, those of its parts. `dtype` is the real one."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Iinfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: torch.dtype


def astype(x: DNDarray, dtype: torch.dtype, /, *, copy: bool = True, device: Device = None) -> DNDarray:
    """Return `x` with another dtype, in the same layout. Local.

    copy: False returns `x` itself where dtype and device are those that it has.

    Raises TypeError for what is no dtype of torch, and for real dtypes of complex arrays: take `real(x)` first.

    >>> import minisplit as ms, torch
    >>> ms.astype(ms.ones(2, split=0), torch.int64).tolist()
    [1, 1]
    """
    wanted = sanitize_dtype(dtype)
    if wanted is None:
        raise TypeError("dtype must be a torch.dtype, got None")
    if as_dndarray(x).dtype.is_complex and not wanted.is_complex and wanted is not torch.bool:
        raise TypeError(f"{x.dtype} does not become {wanted}: take minisplit.real(x) or minisplit.imag(x) first")
    target = x.device if device is None else sanitize_device(device)
    if not copy and (wanted, target) == (x.dtype, x.device):
        return x
    return DNDarray(x.larray.to(dtype=wanted, device=target, copy=True), x.layout, x.comm)


def result_type(*arrays_and_dtypes: DNDarray | torch.dtype | complex) -> torch.dtype:
    """Return the dtype that an operation on these has, by dtypes alone: shapes do not matter. Local.

    A number counts as torch counts it: it only raises the kind, to the default dtype of that kind. Raises
    ValueError for nothing, or numbers alone, TypeError for anything else.

    >>> import minisplit as ms, torch
    >>> ms.result_type(ms.ones(2, split=0), torch.float64), ms.result_type(torch.uint8, 1)
    (torch.float64, torch.uint8)
    """
    numbers = [x for x in arrays_and_dtypes if isinstance(x, (bool, int, float, complex))]
    dtypes = [_dtype_of(x) for x in arrays_and_dtypes if not isinstance(x, (bool, int, float, complex))]
    if not dtypes:
        raise ValueError(f"result_type needs at least one array or dtype, got {short_repr(arrays_and_dtypes)}")
    result = reduce(torch.promote_types, dtypes)
    for number in numbers:
        result = torch.result_type(torch.empty(1, dtype=result), number)
    return result


def can_cast(from_: DNDarray | torch.dtype, to: torch.dtype, /) -> bool:
    """Whether `result_type(from_, to)` is `to`. Local. TypeError for what is no dtype.

    >>> import minisplit as ms, torch
    >>> ms.can_cast(torch.int8, torch.int64), ms.can_cast(torch.float64, torch.float32)
    (True, False)
    """
    return result_type(from_, to) is to


def isdtype(dtype: torch.dtype, kind: torch.dtype | str | tuple[torch.dtype | str, ...]) -> bool:
    """Whether `dtype` is one, or is of the kind, that `kind` or an entry of it names. Local.

    Kinds are "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating",
    "numeric". Raises TypeError for what is no dtype, ValueError for another kind.

    >>> import minisplit as ms, torch
    >>> ms.isdtype(torch.int8, "integral"), ms.isdtype(torch.bool, ("numeric", torch.float32))
    (True, False)
    """
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {short_repr(dtype)}")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for one in kinds:
        if not isinstance(one, torch.dtype) and one not in _KINDS:
            raise ValueError(f"kind must be a torch.dtype or one of {', '.join(_KINDS)}, got {short_repr(one)}")
    return any(dtype is one if isinstance(one, torch.dtype) else _KINDS[one](dtype) for one in kinds)


def finfo(type: torch.dtype | DNDarray, /) -> Finfo:
    """Return `bits`, `eps`, `max`, `min`, `smallest_normal` and `dtype` of a float or complex dtype. Local.

    TypeError for another.

    >>> import minisplit as ms, torch
    >>> ms.finfo(torch.complex64).dtype, ms.finfo(torch.bfloat16).bits
    (torch.float32, 16)
    """
    dtype = _dtype_of(type)
    if not dtype.is_floating_point and not dtype.is_complex:
        raise TypeError(f"finfo is of floating point and complex dtypes, got {dtype}; iinfo is of integers")
    real = dtype.to_real() if dtype.is_complex else dtype
    info = torch.finfo(real)
    return Finfo(info.bits, info.eps, info.max, info.min, info.smallest_normal, real)


def iinfo(type: torch.dtype | DNDarray, /) -> Iinfo:
    """Return `bits`, `max`, `min` and `dtype` of an integer dtype. Local. TypeError for another.

    >>> import minisplit as ms, torch
    >>> ms.iinfo(torch.int8).max
    127
    """
    dtype = _dtype_of(type)
    if not _is_integer(dtype):
        raise TypeError(f"iinfo is of integer dtypes, got {dtype}; finfo is of floating point ones")
    info = torch.iinfo(dtype)
    return Iinfo(info.bits, info.max, info.min, dtype)


def _dtype_of(x: Any) -> torch.dtype:
    dtype = x.dtype if isinstance(x, DNDarray) else x
    if isinstance(dtype, torch.dtype):
        return dtype
    raise TypeError(f"dtypes are asked of a torch.dtype or a DNDarray, got {short_repr(x)}")


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype is torch.bool or dtype.is_floating_point or dtype.is_complex)
