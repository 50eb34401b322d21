"""What the namespace offers: `__array_namespace_info__` of the Python Array API standard."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.devices import Device, cpu, sanitize_device
from minisplit.ops.data_types import isdtype

Kind = str | tuple[str, ...]

# uint16, uint32 and uint64 are not among them: torch cannot compute with those.
_NAMES = "bool int8 int16 int32 int64 uint8 float32 float64 complex64 complex128"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _NAMES.split()}


class Info:
    """What minisplit can do, as the standard asks for it. All local."""

    def capabilities(self) -> dict[str, Any]:
        """Which optional parts of the standard there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> torch.device:
        """The device of new arrays."""
        return cpu

    def devices(self) -> tuple[torch.device, ...]:
        """The devices that this rank can use: the CPU, and its GPU."""
        return (cpu, sanitize_device("gpu")) if torch.cuda.is_available() else (cpu,)

    def default_dtypes(self, *, device: Device = None) -> dict[str, torch.dtype]:
        """The dtypes of arrays of numbers whose dtype is not said."""
        sanitize_device(device)
        real = torch.get_default_dtype()
        return {
            "real floating": real,
            "complex floating": real.to_complex(),
            "integral": torch.int64,
            "indexing": torch.int64,
        }

    def dtypes(self, *, device: Device = None, kind: Kind | None = None) -> dict[str, torch.dtype]:
        """The standard's dtypes by name, or those of a kind, or of several: see `minisplit.isdtype`.

        Raises ValueError for another kind.
        """
        sanitize_device(device)
        return {name: dtype for name, dtype in DTYPES.items() if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807 - the standard's name
    """What minisplit offers of the Python Array API standard: dtypes, devices, capabilities. Local.

    >>> import minisplit as ms
    >>> ms.__array_namespace_info__().default_dtypes()["integral"]
    torch.int64
    """
    return Info()
