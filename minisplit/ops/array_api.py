"""The inspection API of the Python Array API standard: `__array_namespace_info__`."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.devices import Device, cpu, sanitize_device
from minisplit.ops.data_types import isdtype

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
