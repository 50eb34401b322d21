"""Making arrays: from data that every rank has or that the ranks hold in parts, and from a rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication import Communication, Record, sanitize_comm
from minisplit.core.devices import sanitize_device
from minisplit.core.dndarray import DNDarray, as_dndarray
from minisplit.core.dtypes import ALL_DTYPES, dtype_code, sanitize_dtype
from minisplit.core.errors import failing, raise_together
from minisplit.core.layout import Layout, as_index, normalise_axis

Device = str | torch.device | None
Shape = int | Sequence[int]


def array(
    obj: Any,
    dtype: torch.dtype | None = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = True,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make a DNDarray from a tensor, NumPy array, nested sequence, number or DNDarray.

    split: cut `obj`, a global object that every rank has, along this axis; None replicates it. No message.
    is_split: glue the ranks' own objects, of any extents along this axis, zero included, into one
        array. Collective: one small allgather; no data moves.
    copy: True makes new memory; None shares the memory of `obj` where dtype and device allow it.
    device: None keeps the device of a tensor, and is the CPU otherwise.

    A DNDarray keeps its split unless another is given, which is collective. Raises
    ValueError where both `split` and `is_split` are given, or the parts for `is_split` disagree
    (naming the ranks), IndexError for an axis out of range, TypeError for one that is no int.

    >>> import minisplit as ms
    >>> ms.array([[1, 2], [3, 4]], split=1).shape
    (2, 2)
    >>> part = ms.array([[float(ms.MPI_WORLD.rank)]], is_split=0)
    >>> part.shape == (ms.MPI_WORLD.size, 1)
    True
    """
    if split is not None and is_split is not None:
        raise ValueError(
            f"give split (cut an object that every rank has) or is_split (glue the ranks' parts), "
            f"not both; got split={split!r}, is_split={is_split!r}"
        )
    dtype = sanitize_dtype(dtype)
    if isinstance(obj, DNDarray):
        return _from_dndarray(obj, dtype, split, is_split, copy, device, comm)
    comm = sanitize_comm(comm)
    if is_split is not None:
        return _glued(obj, dtype, is_split, copy, device, comm)
    whole = _tensor(obj, dtype, device)
    layout = Layout(tuple(whole.shape), split, comm.size)
    shard = whole[layout.box(comm.rank)] if whole.ndim else whole
    return DNDarray(_owned(shard, copy), layout, comm)


def asarray(
    obj: Any,
    dtype: torch.dtype | None = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make a DNDarray without a copy where that can be: `array` with `copy=None`. Collective as that is.

    >>> import minisplit as ms, torch
    >>> part = torch.ones(3)
    >>> ms.asarray(part, is_split=0).larray is part
    True
    """
    return array(obj, dtype, split=split, is_split=is_split, copy=copy, device=device, comm=comm)


def from_numpy(
    obj: NDArray[Any],
    *,
    split: int | None = None,
    dtype: torch.dtype | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Cut a NumPy array that every rank has along `split`, sharing its memory where that can be. Local.

    >>> import minisplit as ms, numpy as np
    >>> ms.from_numpy(np.arange(3.0), split=0).dtype
    torch.float64
    """
    if not isinstance(obj, np.ndarray):
        raise TypeError(f"from_numpy needs a NumPy array, got {type(obj).__name__}")
    return asarray(obj, dtype, split=split, device=device, comm=comm)


def full(
    shape: Shape,
    fill_value: complex,
    *,
    dtype: torch.dtype | None = None,
    split: int | None = None,
    device: Device = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Make an array of one value; its dtype is torch's for that value unless given. Local.

    >>> import minisplit as ms
    >>> ms.full((2, 2), 7, split=0).tolist()
    [[7, 7], [7, 7]]
    """

    def make(lshape: Sequence[int], **options: Any) -> torch.Tensor:
        return torch.full(lshape, fill_value, **options)

    return _made(make, shape, dtype, split, device, comm)


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
    fill_value: complex,
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

    def make(lshape: Sequence[int], **options: Any) -> torch.Tensor:
        return torch.full(lshape, fill_value, **options)

    return _like(make, x, dtype, split, device, comm)


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
    start, stop, step = (_number(value) for value in (start, stop, step))
    if step == 0:
        raise ValueError("arange needs a step other than 0")
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
    start, stop = _number(start), _number(stop)
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


def _number(value: Any) -> Any:
    """A Python int, float or complex for a number of any kind, NumPy's included; TypeError for another thing."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, numbers.Complex):
        return complex(value)
    raise TypeError(f"expected a number, got {value!r} of type {type(value).__name__}")


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
    if layout.split == x.split:
        layout = x.layout
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


def _from_dndarray(
    x: DNDarray,
    dtype: torch.dtype | None,
    split: int | None,
    is_split: int | None,
    copy: bool | None,
    device: Device,
    comm: Communication | None,
) -> DNDarray:
    if comm is not None and comm is not x.comm:
        raise ValueError("a DNDarray stays on its communicator; gather it first (numpy()) to change that")
    axis = split if is_split is None else normalise_axis(is_split, x.ndim, "is_split")
    if is_split is not None and axis != x.split:
        raise ValueError(f"is_split={is_split!r}, but the DNDarray is split along {x.split}")
    moved = x if axis is None or normalise_axis(axis, x.ndim) == x.split else x.resplit(axis)
    shard = _tensor(moved.larray, dtype, device)
    return DNDarray(_owned(shard, copy), moved.layout, x.comm)


def _tensor(obj: Any, dtype: torch.dtype | None, device: Device) -> torch.Tensor:
    if isinstance(obj, torch.Tensor):
        if obj.layout is not torch.strided:
            raise TypeError(f"a DNDarray holds dense tensors, got a sparse one ({obj.layout}); use to_dense()")
        return obj.to(dtype=dtype or obj.dtype, device=obj.device if device is None else sanitize_device(device))
    if isinstance(obj, (np.ndarray, np.generic)):
        obj = np.asarray(obj)
        native = obj.dtype.newbyteorder("=")
        sharable = obj.flags.writeable and all(s >= 0 and s % max(obj.itemsize, 1) == 0 for s in obj.strides)
        if obj.dtype != native or not sharable:
            obj = np.array(obj, dtype=native)
    return torch.as_tensor(obj, dtype=dtype, device=sanitize_device(device))


def _owned(shard: torch.Tensor, copy: bool | None) -> torch.Tensor:
    """`shard` in memory of its own if `copy`; as it is where `copy` is None."""
    if copy is None:
        return shard
    if copy is not True:
        raise ValueError(f"copy must be True or None, got {copy!r}")
    return shard.clone(memory_format=torch.contiguous_format)


# A part's record: failure, is_split, dtype, device type, requires_grad, ndim, and so many extents.
_FEW_DIMS, _ALL_DIMS, _HEAD = 8, 64, 6


def _glued(
    obj: Any,
    dtype: torch.dtype | None,
    is_split: int,
    copy: bool | None,
    device: Device,
    comm: Communication,
) -> DNDarray:
    """The ranks' own parts as one array. Collective: one allgather, two for more than 8 dimensions."""
    axis, part, error = 0, torch.empty(0), None
    try:
        axis = as_index(is_split, "is_split")
        part = _owned(_tensor(obj, dtype, device), copy)
    except Exception as caught:
        error = caught
    table = comm.allgather(_part_record(part, axis, failing(comm, error), _FEW_DIMS))
    if table[:, 0].max() != failing(comm, None):
        raise_together(comm, -int(table[:, 0].max()), error, "converting its part for is_split to a tensor")
    if table[:, 5].max() > _FEW_DIMS:
        table = comm.allgather(_part_record(part, axis, failing(comm, None), _ALL_DIMS))
    names = ((1, "is_split"), (5, "number of dimensions"), (2, "dtype"), (3, "device"), (4, "requires_grad"))
    for column, name in names:
        _check_same(table[:, column], name, _SHOW.get(name, int))
    axis = normalise_axis(axis, part.ndim, "is_split")
    extents = table[:, _HEAD : _HEAD + part.ndim]
    for other in range(part.ndim):
        if other != axis:
            _check_same(
                extents[:, other], f"extent of axis {other} (parts may differ along axis {axis} only)", int
            )
    counts = tuple(extents[:, axis].tolist())
    shape = (*part.shape[:axis], sum(counts), *part.shape[axis + 1 :])
    return DNDarray(part, Layout(shape, axis, comm.size, counts), comm)


_DEVICE_TYPES = ("cpu", "cuda")
_SHOW: dict[str, Callable[[int], Any]] = {
    "dtype": ALL_DTYPES.__getitem__,
    "requires_grad": bool,
    "device": lambda code: "another" if code < 0 else _DEVICE_TYPES[code],
}


def _part_record(part: torch.Tensor, axis: int, failure: int, dims: int) -> Record:
    record = np.zeros(_HEAD + dims, dtype=np.int64)
    kind = part.device.type
    device = _DEVICE_TYPES.index(kind) if kind in _DEVICE_TYPES else -1
    record[:_HEAD] = failure, axis, dtype_code(part.dtype), device, part.requires_grad, part.ndim
    extents = part.shape[:dims]
    record[_HEAD : _HEAD + len(extents)] = extents
    return record


def _check_same(column: Record, name: str, show: Callable[[int], Any]) -> None:
    """ValueError, the same on every rank, unless all ranks gave the same number."""
    if (column == column[0]).all():
        return
    other = int(np.flatnonzero(column != column[0])[0])
    raise ValueError(
        f"the ranks' parts for is_split must have the same {name}: "
        f"rank 0 has {show(int(column[0]))}, rank {other} has {show(int(column[other]))}"
    )
