"""The protocols by which other libraries use a DNDarray: NumPy's arrays, DLPack, the Array API standard.

The methods of `DNDarray` call these functions.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.array import DNDarray
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.ops.data_types import astype
from minisplit.ops.shape.broadcast import broadcast_to

# What is said of memory, and so of a rank's own.
_OF_MEMORY = frozenset({
    "as_strided", "const_data_ptr", "data", "data_ptr", "dim_order", "get_device", "is_contiguous", "is_cpu",
    "is_cuda", "is_pinned", "is_shared", "layout", "pin_memory", "record_stream", "share_memory_", "storage",
    "storage_offset", "stride", "strides", "untyped_storage",
})  # fmt: skip
_DEVICES = frozenset({"cpu", "cuda", "gpu", "hip", "meta", "mps", "xla", "xpu"})
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


def array_namespace(api_version: str | None = None) -> ModuleType:
    """Return the namespace of the Python Array API standard: minisplit. ValueError for another version."""
    if api_version not in {None, *VERSIONS}:
        raise ValueError(
            f"minisplit has the standard's versions {', '.join(VERSIONS)}, got {short_repr(api_version)}"
        )
    return sys.modules["minisplit"]


def to_device(x: DNDarray, device: Device, /, *, stream: None = None) -> DNDarray:
    """Return the array on another device, or itself where it is there. ValueError for a `stream`. Local."""
    if stream is not None:
        raise ValueError(f"to_device takes no stream, got {short_repr(stream)}; torch's current stream is used")
    target = sanitize_device(device)
    return x if target == x.device else DNDarray(x.larray.to(target), x.layout, x.comm)


def convert(x: DNDarray, target: tuple[Any, ...], dtype: Dtype, device: Device, copy: bool) -> DNDarray:
    """Return the array as `DNDarray.to` has it. Local."""
    for each in target:
        if isinstance(each, (DNDarray, torch.Tensor)):
            dtype, device = each.dtype, each.device
        elif isinstance(each, torch.device) or (isinstance(each, str) and each.partition(":")[0] in _DEVICES):
            device = each
        elif not isinstance(each, bool):  # of torch's non_blocking
            dtype = sanitize_dtype(each)
    moved = x if device is None else to_device(x, device)
    return astype(moved, moved.dtype if dtype is None else dtype, copy=copy)


def expand(x: DNDarray, sizes: tuple[Any, ...]) -> DNDarray:
    """Return the array broadcast to a shape, in which -1 stands for the extent of `x`."""
    given = tuple(sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes)
    own = (-1,) * (len(given) - x.ndim) + x.shape
    shape = tuple(old if new == -1 else new for new, old in zip(given, own[len(own) - len(given) :], strict=True))
    return broadcast_to(x, shape)


def save(x: DNDarray, *arguments: Any, **options: Any) -> None:
    """Do `minisplit.save`, which stands above this package. Collective."""
    sys.modules["minisplit"].save(x, *arguments, **options)


def hint_of_attribute(name: str) -> str:
    """Return what to use for an attribute that DNDarray lacks, or nothing. Never a rank's part for the whole."""
    minisplit = sys.modules["minisplit"]
    for space in ("", "linalg.", "fft."):
        if callable(getattr(getattr(minisplit, space[:-1]) if space else minisplit, name, None)):
            return f"; minisplit.{space}{name}(x) is the function"
    if name in _OF_MEMORY:
        return f"; x.larray.{name} is that of this rank's tensor"
    if hasattr(torch.Tensor, name):
        return "; x.torch() is the whole array as a tensor on every rank, which has it"
    if hasattr(np.ndarray, name):
        return "; x.numpy() is the whole array as one of NumPy on every rank, which has it"
    return ""


def to_numpy(x: DNDarray, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None) -> NDArray[Any]:
    """Return the global array on every rank, for `np.asarray(x)`. Collective where `x` is split, as `x.numpy()`.

    A replicated array shares its memory, unless `copy`. With `copy=False` another one is a ValueError.
    """
    shard = x.larray.detach()
    # torch stores conjugates and negatives as a bit beside the memory, which NumPy does not know.
    can_share = x.split is None and shard.device.type == "cpu" and not (shard.is_conj() or shard.is_neg())
    array = shard.numpy() if can_share and not copy else None if copy is False else x.numpy()
    if array is None or (copy is False and dtype not in {None, array.dtype}):
        target = dtype or "an array of NumPy"
        raise ValueError(f"copy=False, but {x.dtype} split along {x.split} becomes {target} by a copy")
    return array if dtype is None else array.astype(dtype, copy=False)


def to_dlpack(x: DNDarray, *, copy: bool | None, **options: Any) -> Any:
    """Export the global array by the DLPack protocol, which says what the arguments are.

    Collective where the array is split: it is gathered. A replicated one shares its memory. BufferError for a
    split array with `copy=False`, and torch's error for one that requires a gradient.
    """
    if x.split is not None and copy is False:
        raise BufferError(
            f"copy=False, but an array split along {x.split} is gathered; x.larray is this rank's part"
        )
    whole = x if x.split is None else x.resplit(None)
    options["copy"] = copy
    # Only what was given: older versions of torch do not know all of the options.
    return whole.larray.__dlpack__(**{name: value for name, value in options.items() if value is not None})


def to_index(x: DNDarray, /) -> int:
    """Return the integer of a 0-d array, as in `range(x)`. TypeError for any other array. Local."""
    # A 0-d array has no axis to split, so every rank has the integer.
    if x.ndim or x.dtype.is_floating_point or x.dtype.is_complex or x.dtype is torch.bool:
        raise TypeError(f"only a 0-d array of integers is an index, got shape {x.shape} of {x.dtype}")
    return int(x.larray)
