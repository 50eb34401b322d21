"""The frequencies of Fourier transforms, and their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.devices import Device
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.factories import arange
from minisplit.core.layout import as_index, normalise_axes
from minisplit.ops.shape.layouts import Axes
from minisplit.ops.shape.roll import roll


def fftfreq(
    n: int,
    /,
    *,
    d: float = 1.0,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make the frequencies of an `fft` of `n` points that are `d` apart: from 0 up, then the negative ones. Local.

    Raises ValueError for fewer than one point, TypeError for a dtype that is not real floating point.

    >>> import minisplit as ms
    >>> ms.fft.fftfreq(4, split=0).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    index, dtype = _indices(n, n, dtype, split, device, comm)
    k = torch.where(index.larray >= (n + 1) // 2, index.larray - n, index.larray)
    return DNDarray((k.double() / (n * d)).to(dtype), index.layout, index.comm)


def rfftfreq(
    n: int,
    /,
    *,
    d: float = 1.0,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make the frequencies of an `rfft` of `n` points that are `d` apart. Local. Raises what `fftfreq` does.

    >>> import minisplit as ms
    >>> ms.fft.rfftfreq(4, split=0).tolist()
    [0.0, 0.25, 0.5]
    """
    index, dtype = _indices(n, as_index(n, "n") // 2 + 1, dtype, split, device, comm)
    return DNDarray((index.larray.double() / (n * d)).to(dtype), index.layout, index.comm)


def _indices(
    n: Any,
    length: int,
    dtype: torch.dtype | None,
    split: int | None,
    device: Device,
    comm: Communication | None,
) -> tuple[DNDarray, torch.dtype]:
    if as_index(n, "n") < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    dtype = sanitize_dtype(dtype) or torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise TypeError(f"dtype of frequencies must be a real floating point one, got {dtype}")
    return arange(length, split=split, device=device, comm=comm), dtype


def fftshift(x: DNDarray, /, *, axes: Axes | None = None) -> DNDarray:
    """Return `x` with frequency 0 in the middle of `axes`, an int or several; None stands for all.

    Local or collective as `minisplit.roll`, and with its errors.

    >>> import minisplit as ms
    >>> ms.fft.fftshift(ms.fft.fftfreq(4, split=0)).tolist()
    [-0.5, -0.25, 0.0, 0.25]
    """
    return _shifted(x, axes, 1)


def ifftshift(x: DNDarray, /, *, axes: Axes | None = None) -> DNDarray:
    """Return what `fftshift` made of, with frequency 0 first. Local or collective as `minisplit.roll`.

    >>> import minisplit as ms
    >>> ms.fft.ifftshift(ms.fft.fftshift(ms.arange(5, split=0))).tolist()
    [0, 1, 2, 3, 4]
    """
    return _shifted(x, axes, -1)


def _shifted(x: DNDarray, axes: Axes | None, sign: int) -> DNDarray:
    ndim = as_dndarray(x).ndim
    given = range(ndim) if axes is None else axes if isinstance(axes, Iterable) else (axes,)
    places = normalise_axes(given, ndim, "axes")
    return roll(x, [sign * (x.shape[axis] // 2) for axis in places], places)
