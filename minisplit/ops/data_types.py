"""The data type functions of the Python Array API standard, for torch's dtypes, and its inspection API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.devices import Device, cpu, sanitize_device
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype

_Number = (bool, int, float, complex)


def _is_integer(dtype: torch.dtype) -> bool:
    """Return whether a dtype is one of integers, signed or not."""
    return not (dtype is torch.bool or dtype.is_floating_point or dtype.is_complex)


_KINDS: dict[str, Callable[[torch.dtype], bool]] = {
    "bool": lambda d: d is torch.bool,
    "signed integer": lambda d: _is_integer(d) and d.is_signed,
    "unsigned integer": lambda d: _is_integer(d) and not d.is_signed,
    "integral": _is_integer,
    "real floating": lambda d: d.is_floating_point,
    "complex floating": lambda d: d.is_complex,
    "numeric": lambda d: d is not torch.bool,
}


@dataclass(frozen=True, slots=True)
class Finfo:
    """The limits of a floating-point dtype, or of the parts of a complex one. `finfo` makes it.

    Parameters
    ----------
    bits : int
        The number of bits.
    eps : float
        The difference between 1 and the next greater number.
    max : float
        The greatest finite number.
    min : float
        The least finite number.
    smallest_normal : float
        The least positive number with full precision.
    dtype : torch.dtype
        The real dtype.
    """

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Iinfo:
    """The limits of an integer dtype. `iinfo` makes it.

    Parameters
    ----------
    bits : int
        The number of bits.
    max : int
        The greatest number.
    min : int
        The least number.
    dtype : torch.dtype
        The dtype.
    """

    bits: int
    max: int
    min: int
    dtype: torch.dtype


def astype(x: DNDarray, /, dtype: Dtype, *, copy: bool = True, device: Device = None) -> DNDarray:
    """Cast an array to another dtype.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    dtype : torch.dtype
        The dtype of the result.
    copy : bool, default True
        Whether the result always has new memory. False returns `x` itself if it has the dtype and the device
        already.
    device : str or torch.device, optional
        The device of the result. By default that of `x`.

    Returns
    -------
    DNDarray
        The elements as `dtype`, in the layout of `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, `dtype` no dtype, or a complex array is to become real.

    Communication
    -------------
    Local.

    See Also
    --------
    real : The real part of a complex array.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> ms.astype(ms.ones(2, split=0), torch.int64).tolist()
    [1, 1]
    """
    target_dtype = sanitize_dtype(dtype)
    if target_dtype is None:
        raise TypeError("dtype must be a torch.dtype, got None")
    # torch would drop the imaginary parts, with a warning. To bool it means "other than zero".
    if as_dndarray(x).dtype.is_complex and not target_dtype.is_complex and target_dtype is not torch.bool:
        raise TypeError(
            f"{x.dtype} does not become {target_dtype}: take minisplit.real(x) or minisplit.imag(x) first"
        )
    target = x.device if device is None else sanitize_device(device)
    if not copy and (target_dtype, target) == (x.dtype, x.device):
        return x
    return DNDarray(x.larray.to(dtype=target_dtype, device=target, copy=True), x.layout, x.comm)


def result_type(*arrays_and_dtypes: DNDarray | torch.dtype | complex) -> torch.dtype:
    """Return the dtype of the result of an operation on arrays, dtypes and numbers.

    Parameters
    ----------
    *arrays_and_dtypes : DNDarray, torch.dtype or number
        The operands. At least one is an array or a dtype.

    Returns
    -------
    torch.dtype
        The dtype to which torch promotes the operands' dtypes.

    Raises
    ------
    TypeError
        If an operand is none of these.
    ValueError
        If there is no array and no dtype.

    Communication
    -------------
    Local.

    Notes
    -----
    Dtypes alone decide, also those of 0-d arrays, which for torch count less. A number counts as for torch: it
    raises the kind only, to the default dtype of that kind.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> ms.result_type(ms.ones(2, split=0), torch.float64), ms.result_type(torch.uint8, 1)
    (torch.float64, torch.uint8)
    """
    numbers = [x for x in arrays_and_dtypes if isinstance(x, _Number)]
    dtypes = [_dtype_of(x) for x in arrays_and_dtypes if not isinstance(x, _Number)]
    if not dtypes:
        raise ValueError(f"result_type needs at least one array or dtype, got {short_repr(arrays_and_dtypes)}")
    result = reduce(torch.promote_types, dtypes)
    for number in numbers:
        # Beside a tensor with an axis: a 0-d one would count no more than the number.
        result = torch.result_type(torch.empty(1, dtype=result), number)
    return result


def can_cast(from_: DNDarray | torch.dtype, /, to: torch.dtype) -> bool:
    """Return whether a dtype can be cast to another by promotion.

    Parameters
    ----------
    from_ : DNDarray or torch.dtype
        The dtype to cast, or an array of it.
    to : torch.dtype
        The dtype to cast to.

    Returns
    -------
    bool
        Whether `result_type(from_, to)` is `to`.

    Raises
    ------
    TypeError
        If one of them is not a dtype.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> ms.can_cast(torch.int8, torch.int64), ms.can_cast(torch.float64, torch.float32)
    (True, False)
    """
    return result_type(from_, to) is to


def isdtype(dtype: torch.dtype, kind: torch.dtype | str | tuple[torch.dtype | str, ...]) -> bool:
    """Return whether a dtype equals another dtype, or belongs to a kind of dtypes.

    Parameters
    ----------
    dtype : torch.dtype
        The dtype.
    kind : torch.dtype, str or tuple of these
        A dtype or a kind: "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex
        floating" or "numeric". Of a tuple one is enough.

    Returns
    -------
    bool
        Whether `dtype` is that.

    Raises
    ------
    TypeError
        If `dtype` is no dtype.
    ValueError
        If there is no such kind.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> ms.isdtype(torch.int8, "integral"), ms.isdtype(torch.bool, ("numeric", torch.float32))
    (True, False)
    """
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {short_repr(dtype)}")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # All of them are checked, also behind one that fits: a mistake is one for every dtype.
    for one in kinds:
        if not isinstance(one, torch.dtype) and one not in _KINDS:
            raise ValueError(f"kind must be a torch.dtype or one of {', '.join(_KINDS)}, got {short_repr(one)}")
    return any(dtype is one if isinstance(one, torch.dtype) else _KINDS[one](dtype) for one in kinds)


def finfo(type: torch.dtype | DNDarray, /) -> Finfo:
    """Return the limits of a floating-point or complex dtype.

    Parameters
    ----------
    type : torch.dtype or DNDarray
        The dtype, or an array of it.

    Returns
    -------
    Finfo
        The limits, of a complex dtype those of its parts: `bits`, `eps`, `max`, `min`, `smallest_normal`, `dtype`.

    Raises
    ------
    TypeError
        If it is no such dtype.

    Communication
    -------------
    Local.

    Examples
    --------
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
    """Return the limits of an integer dtype.

    Parameters
    ----------
    type : torch.dtype or DNDarray
        The dtype, or an array of it.

    Returns
    -------
    Iinfo
        The limits: `bits`, `max`, `min`, `dtype`.

    Raises
    ------
    TypeError
        If it is no such dtype.

    Communication
    -------------
    Local.

    Examples
    --------
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
    """Return a dtype, or that of an array. TypeError for anything else."""
    if isinstance(x, DNDarray):
        return x.dtype
    if isinstance(x, (torch.dtype, np.dtype, str, type)) and (dtype := sanitize_dtype(x)) is not None:
        return dtype
    raise TypeError(f"dtypes are asked of a torch.dtype or a DNDarray, got {short_repr(x)}")


Kind = str | tuple[str, ...]

# The dtypes of the standard, but for uint16, uint32 and uint64: torch has them, but cannot compute with them.
_NAMES = "bool int8 int16 int32 int64 uint8 float32 float64 complex64 complex128"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _NAMES.split()}


class Info:
    """What minisplit offers of the Python Array API standard. All methods are local."""

    def capabilities(self) -> dict[str, Any]:
        """Return which optional parts of the standard there are.

        Returns
        -------
        dict
            Whether there is boolean indexing, and functions whose results have shapes that depend on values; and
            the greatest number of dimensions.
        """
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> torch.device:
        """Return the device of new arrays.

        Returns
        -------
        torch.device
            The CPU.
        """
        return cpu

    def devices(self) -> tuple[torch.device, ...]:
        """Return the devices that this rank can use.

        Returns
        -------
        tuple of torch.device
            The CPU, and this rank's GPU if there is one.
        """
        return (cpu, sanitize_device("gpu")) if torch.cuda.is_available() else (cpu,)

    def default_dtypes(self, *, device: Device = None) -> dict[str, torch.dtype]:
        """Return the dtypes of new arrays for which none is given.

        Parameters
        ----------
        device : str or torch.device, optional
            The device of the arrays. The dtypes are the same on all.

        Returns
        -------
        dict of str to torch.dtype
            The dtypes of real, complex and integer numbers, and of indices.
        """
        sanitize_device(device)
        real = torch.get_default_dtype()
        return {
            "real floating": real,
            "complex floating": real.to_complex(),
            "integral": torch.int64,
            "indexing": torch.int64,
        }

    def dtypes(self, *, device: Device = None, kind: Kind | None = None) -> dict[str, torch.dtype]:
        """Return the dtypes of the standard by their names.

        Parameters
        ----------
        device : str or torch.device, optional
            The device of the arrays. The dtypes are the same on all.
        kind : str or tuple of str, optional
            The kinds of dtypes, as for `isdtype`. By default all of them.

        Returns
        -------
        dict of str to torch.dtype
            The dtypes.

        Raises
        ------
        ValueError
            If there is no such kind.
        """
        sanitize_device(device)
        return {name: dtype for name, dtype in DTYPES.items() if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807 - the standard's name
    """Return what minisplit offers of the Python Array API standard: dtypes, devices, capabilities.

    Returns
    -------
    Info
        An object with methods that answer.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.__array_namespace_info__().default_dtypes()["integral"]
    torch.int64
    """
    return Info()
