"""Making arrays from a rule: zeros, ones, ranges and the like. All local."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_index

Shape = int | Sequence[int]


def full(
    shape: Shape,
    fill_value: complex | DNDarray,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of one value, a number or 0-d array; its dtype is that of the value unless given. Local.

    >>> import minisplit as ms
    >>> ms.full((2, 2), 7, split=0).tolist()
    [[7, 7], [7, 7]]
    """
    if isinstance(fill_value, DNDarray):
        dtype = dtype or fill_value.dtype
    return _made(partial(torch.full, fill_value=_fill(fill_value)), shape, dtype, split, device, comm)


def zeros(
    shape: Shape,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of zeros. Local.

    >>> import minisplit as ms
    >>> ms.zeros((3, 2), split=0).dtype
    torch.float32
    """
    return _made(torch.zeros, shape, dtype, split, device, comm)


def ones(
    shape: Shape,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of ones. Local.

    >>> import minisplit as ms
    >>> ms.ones(3, split=0).tolist()
    [1.0, 1.0, 1.0]
    """
    return _made(torch.ones, shape, dtype, split, device, comm)


def empty(
    shape: Shape,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of which the values are not set. Local.

    >>> import minisplit as ms
    >>> ms.empty((0, 4), split=1).shape
    (0, 4)
    """
    return _made(torch.empty, shape, dtype, split, device, comm)


def full_like(
    x: DNDarray,
    fill_value: complex | DNDarray,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of one value with the shape, dtype, layout, device and communicator of `x`. Local.

    Of these, `dtype`, `split` (with default counts), `device` and `comm` can be given otherwise.

    >>> import minisplit as ms
    >>> ms.full_like(ms.zeros(2, split=0), 5).tolist()
    [5.0, 5.0]
    """
    return _like(partial(torch.full, fill_value=_fill(fill_value)), x, dtype, split, device, comm)


def zeros_like(
    x: DNDarray,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of zeros like `x`; see `full_like`. Local.

    >>> import minisplit as ms
    >>> ms.zeros_like(ms.ones((2, 2), split=1)).split
    1
    """
    return _like(torch.zeros, x, dtype, split, device, comm)


def ones_like(
    x: DNDarray,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of ones like `x`; see `full_like`. Local.

    >>> import minisplit as ms
    >>> ms.ones_like(ms.arange(2, split=0)).tolist()
    [1, 1]
    """
    return _like(torch.ones, x, dtype, split, device, comm)


def empty_like(
    x: DNDarray,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array like `x` of which the values are not set; see `full_like`. Local.

    >>> import minisplit as ms
    >>> ms.empty_like(ms.ones((2, 2), split=1)).shape
    (2, 2)
    """
    return _like(torch.empty, x, dtype, split, device, comm)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make `start, start + step, ...` up to but without `stop`; `arange(n)` counts from 0. Local.

    Element i is `start + i * step`, computed in int64 or float64 from its global index, so that it does not
    depend on the number of ranks. The dtype is int64 for ints and torch's default for floats. An
    empty range is an empty array; a step of 0 is a ValueError.

    >>> import minisplit as ms
    >>> ms.arange(1, 10, 3, split=0).tolist()
    [1, 4, 7]
    """
    if stop is None:
        start, stop = 0, start
    start, stop, step = _number(start, "start"), _number(stop, "stop"), _number(step, "step")
    if step == 0:
        raise ValueError("arange needs a step other than 0, got 0; full() repeats one value")
    whole_numbers = all(isinstance(value, int) for value in (start, stop, step))
    span = stop - start
    length = max(0, -(-span // step) if whole_numbers else math.ceil(span / step))
    inner = torch.int64 if whole_numbers else torch.float64
    dtype = sanitize_dtype(dtype) or (inner if whole_numbers else torch.get_default_dtype())
    return _indexed(lambda index: start + index.to(inner) * step, int(length), dtype, split, device, comm)


def linspace(
    start: complex,
    stop: complex,
    num: int,
    *,
    endpoint: bool = True,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make `num` evenly spaced numbers from `start` to `stop`, the end included if `endpoint`. Local.

    Computed in double precision from the global index, from the nearer end, as torch does.

    >>> import minisplit as ms
    >>> ms.linspace(0, 1, 5, split=0).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    num = as_index(num, "num")
    if num < 0:
        raise ValueError(f"num must not be negative, got {num}")
    start, stop = _number(start, "start"), _number(stop, "stop")
    gaps = num - 1 if endpoint else num
    step = (stop - start) / gaps if gaps > 0 else 0.0
    is_complex = isinstance(start, complex) or isinstance(stop, complex)
    inner = torch.complex128 if is_complex else torch.float64
    default = torch.get_default_dtype()
    dtype = sanitize_dtype(dtype) or (default.to_complex() if is_complex else default)

    def value(index: torch.Tensor) -> torch.Tensor:
        upward = start + index.to(inner) * step
        return torch.where(index < (gaps + 1) // 2, upward, stop - (gaps - index).to(inner) * step)

    if num == 1:
        return full(1, start, dtype=dtype, split=split, device=device, comm=comm)
    return _indexed(value, num, dtype, split, device, comm)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make a matrix with ones on diagonal `k` (above the main one if positive), else zeros. Local.

    >>> import minisplit as ms
    >>> ms.eye(2, 3, k=1, split=1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x = zeros((n_rows, n_rows if n_cols is None else n_cols), dtype=dtype, split=split, device=device, comm=comm)
    rows, columns = x.layout.box(x.comm.rank)
    offset = as_index(k, "k") + rows.start - columns.start
    if -x.lshape[0] < offset < x.lshape[1]:
        x.larray.diagonal(offset).fill_(1)
    return x


def _fill(value: complex | DNDarray) -> Any:
    """A number; ValueError for an array with axes."""
    if isinstance(value, DNDarray) and value.ndim:
        raise ValueError(f"fill_value must be a number or a 0-d array, got shape {value.shape}; see broadcast_to")
    return value.item() if isinstance(value, DNDarray) else value


def _number(value: Any, name: str) -> Any:
    """A Python int, float or complex for a number of any kind, NumPy's included; TypeError for another thing."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, numbers.Complex):
        return complex(value)
    raise TypeError(f"{name} must be a number, got {short_repr(value)} of type {type(value).__name__}")


def _made(
    make: Callable[..., torch.Tensor],
    shape: Shape,
    dtype: torch.dtype | None,
    split: int | None,
    device: Device,
    comm: Communication | None,
) -> DNDarray:
    comm = sanitize_comm(comm)
    layout = Layout(shape, split, comm.size)  # type: ignore[arg-type]
    options = {"dtype": sanitize_dtype(dtype), "device": sanitize_device(device)}
    return DNDarray(make(layout.lshape(comm.rank), **options), layout, comm)


def _like(
    make: Callable[..., torch.Tensor],
    x: DNDarray,
    dtype: torch.dtype | None,
    split: int | None,
    device: Device,
    comm: Communication | None,
) -> DNDarray:
    x = as_dndarray(x)
    dtype = sanitize_dtype(dtype) or x.dtype
    device = x.device if device is None else device
    if comm is not None and comm is not x.comm:
        return _made(make, x.shape, dtype, x.split if split is None else split, device, comm)
    layout = x.layout if split is None else x.layout.with_split(split)
    shard = make(layout.lshape(x.comm.rank), dtype=dtype, device=sanitize_device(device))
    return DNDarray(shard, layout, x.comm)


def _indexed(
    value: Callable[[torch.Tensor], torch.Tensor],
    length: int,
    dtype: torch.dtype,
    split: int | None,
    device: Device,
    comm: Communication | None,
) -> DNDarray:
    """A 1-d array whose elements are a function of their global index."""
    comm = sanitize_comm(comm)
    layout = Layout((length,), split, comm.size)
    (mine,) = layout.box(comm.rank)
    index = torch.arange(mine.start, mine.stop, device=sanitize_device(device))
    return DNDarray(value(index).to(dtype), layout, comm)
