"""The frequencies of Fourier transforms, and their order."""

from __future__ import annotations

import math

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Comm
from minisplit.core.error_text import short_repr
from minisplit.core.factories import arange
from minisplit.core.layout import as_index, normalise_axes
from minisplit.core.pytorch.devices import Device
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.ops.shape.flip import roll
from minisplit.ops.shape.layouts import Axes


def fftfreq(
    n: int,
    /,
    d: float = 1.0,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make the frequencies of `minisplit.fft.fft`: from 0 up, then the negative ones.

    Parameters
    ----------
    n : int
        The number of points.
    d : float, default 1.0
        The distance of the points.
    dtype : torch.dtype, optional
        A real floating point dtype. By default torch's default dtype.
    split : int, optional
        The split axis, 0. By default the array is replicated.
    device : str or torch.device, optional
        The device of the shards. By default that of the factories.
    comm : Communication, optional
        The communicator. By default the current one.

    Returns
    -------
    DNDarray
        The frequencies, of shape (n,).

    Raises
    ------
    ValueError
        If there is not at least one point, or `d` is infinite or NaN.
    TypeError
        If the dtype is not a real floating point one, or `d` is no real number.
    ZeroDivisionError
        If `d` is 0.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.fftfreq(4, split=0).tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    index = arange(_check_points(n), split=split, device=device, comm=comm)
    k = torch.where(index.larray >= (n + 1) // 2, index.larray - n, index.larray)
    return _divide(DNDarray(k, index.layout, index.comm), n * _check_distance(d), dtype)


def rfftfreq(
    n: int,
    /,
    d: float = 1.0,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make the frequencies of `minisplit.fft.rfft`, from 0 up.

    Parameters
    ----------
    n : int
        The number of points.
    d : float, default 1.0
        The distance of the points.
    dtype : torch.dtype, optional
        A real floating point dtype. By default torch's default dtype.
    split : int, optional
        The split axis, 0. By default the array is replicated.
    device : str or torch.device, optional
        The device of the shards. By default that of the factories.
    comm : Communication, optional
        The communicator. By default the current one.

    Returns
    -------
    DNDarray
        The frequencies, of shape (n // 2 + 1,).

    Raises
    ------
    ValueError
        If there is not at least one point, or `d` is infinite or NaN.
    TypeError
        If the dtype is not a real floating point one, or `d` is no real number.
    ZeroDivisionError
        If `d` is 0.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.rfftfreq(4, split=0).tolist()
    [0.0, 0.25, 0.5]
    """
    length = _check_points(n) * _check_distance(d)
    return _divide(arange(n // 2 + 1, split=split, device=device, comm=comm), length, dtype)


def _check_points(n: int) -> int:
    """Return the number of points. ValueError for less than one."""
    if as_index(n, "n") < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return n


def _check_distance(d: float) -> float:
    """Return the distance of points. TypeError for what is no real number, ZeroDivisionError for 0."""
    if not isinstance(d, (int, float, np.floating, np.integer)):
        raise TypeError(f"d, the distance of points, must be a real number, got {short_repr(d)}")
    if not math.isfinite(d):
        raise ValueError(f"d, the distance of points, must be finite, got {d}")
    if d == 0:
        raise ZeroDivisionError("d, the distance of points, must not be 0")
    return d


def _divide(index: DNDarray, length: float, dtype: Dtype) -> DNDarray:
    """Return the frequencies that have so many periods in a length."""
    dtype = sanitize_dtype(dtype) or torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise TypeError(f"dtype of frequencies must be a real floating point one, got {dtype}")
    # In float64, so that each frequency is rounded once, and is the same whatever other indices a rank has.
    return DNDarray((index.larray.double() / length).to(dtype), index.layout, index.comm)


def fftshift(x: DNDarray, /, axes: Axes | None = None) -> DNDarray:
    """Move the frequency 0 to the middle.

    Parameters
    ----------
    x : DNDarray
        An array in the order of `fftfreq`.
    axes : int or sequence of int, optional
        The axes. By default all of them.

    Returns
    -------
    DNDarray
        The shifted array, in the layout of `x`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice.

    Communication
    -------------
    Local or collective as `minisplit.roll`, with its messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.fftshift(ms.fft.fftfreq(4, split=0)).tolist()
    [-0.5, -0.25, 0.0, 0.25]
    """
    return _shift(x, axes, 1)


def ifftshift(x: DNDarray, /, axes: Axes | None = None) -> DNDarray:
    """Move the frequency 0 to the front: the inverse of `fftshift`.

    Parameters
    ----------
    x : DNDarray
        An array in the order of the result of `fftshift`.
    axes : int or sequence of int, optional
        The axes. By default all of them.

    Returns
    -------
    DNDarray
        The shifted array, in the layout of `x`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is named twice.

    Communication
    -------------
    Local or collective as `minisplit.roll`, with its messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.fft.ifftshift(ms.fft.fftshift(ms.arange(5, split=0))).tolist()
    [0, 1, 2, 3, 4]
    """
    return _shift(x, axes, -1)


def _shift(x: DNDarray, axes: Axes | None, sign: int) -> DNDarray:
    """Roll by half the extents, rounded down: of an odd extent the two directions are no longer the same."""
    ndim = as_dndarray(x).ndim
    places = normalise_axes(range(ndim) if axes is None else axes, ndim, "axes")
    return roll(x, [sign * (x.shape[axis] // 2) for axis in places], places)
