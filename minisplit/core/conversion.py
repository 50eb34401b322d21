"""From data to arrays: cut an object that every rank has, or glue the ranks' own parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import dlpack

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import Failure, failure_code, raise_together
from minisplit.core.communication.protocol import Communication, Record, sanitize_comm
from minisplit.core.devices import Device, sanitize_device
from minisplit.core.dtypes import ALL_DTYPES, dtype_code, sanitize_dtype
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_index, layout_from_counts, normalise_axis


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
    copy: True makes new memory; None shares the memory of `obj` where dtype and device allow it; False is a
        ValueError where they do not, or rows would have to move.
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
            f"not both, got split={short_repr(split)}, is_split={short_repr(is_split)}"
        )
    dtype = sanitize_dtype(dtype)
    if isinstance(obj, DNDarray):
        return _from_dndarray(obj, dtype, split, is_split, copy, device, comm)
    comm = sanitize_comm(comm)
    if is_split is not None:
        return _glued(obj, dtype, is_split, copy, device, comm)
    whole = _tensor(obj, dtype, device)
    comm.check_replicated(whole, "the object given to array(), asarray() or from_numpy()")
    layout = Layout(tuple(whole.shape), split, comm.size)
    shard = whole[layout.box(comm.rank)] if whole.ndim else whole
    return DNDarray(_owned(shard, copy, _is_shared(whole, obj)), layout, comm)


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


def from_dlpack(
    x: Any,
    /,
    *,
    split: int | None = None,
    device: Device = None,
    copy: bool | None = None,
    comm: Communication | None = None,
) -> DNDarray:
    """Cut an array of another library that every rank has along `split`, by the DLPack protocol. Local.

    copy: True makes new memory; None and False share that of `x`. A DNDarray is treated as `asarray` does.

    Raises TypeError for an object without `__dlpack__`, ValueError for `copy=False` and another device.

    >>> import minisplit as ms, numpy as np
    >>> ms.from_dlpack(np.arange(3.0), split=0).tolist()
    [0.0, 1.0, 2.0]
    """
    if isinstance(x, DNDarray):
        return asarray(x, split=split, device=device, copy=copy, comm=comm)
    if not hasattr(x, "__dlpack__"):
        raise TypeError(f"from_dlpack needs an array with __dlpack__, got {type(x).__name__}; see minisplit.array")
    whole = dlpack.from_dlpack(x)
    if copy is False and device is not None and sanitize_device(device) != whole.device:
        raise ValueError(f"copy=False, but going from {whole.device} to {device} is a copy")
    return array(whole, split=split, copy=copy or None, device=device, comm=comm)


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
        raise ValueError(f"is_split must be the split of the DNDarray, {x.split}, got {is_split}; see resplit")
    layout = x.layout if axis is None else x.layout.with_split(axis)
    if copy is False:
        _owned(x.larray, copy, layout == x.layout)
    moved = x.to_layout(layout)
    shard = _tensor(moved.larray, dtype, device)
    return DNDarray(_owned(shard, copy, shard is moved.larray), moved.layout, x.comm)


def _tensor(obj: Any, dtype: torch.dtype | None, device: Device, *, own: bool = False) -> torch.Tensor:
    """`obj` as a tensor; `own` is whether each rank has another, so that nothing in it may be gathered."""
    if obj is None:
        raise TypeError(
            "an array cannot be made of None: with split= every rank gives the whole object, with is_split= its "
            "own part, which may be an empty one such as torch.empty(0, 6)"
        )
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
    if isinstance(obj, (list, tuple)):
        arrays: list[DNDarray] = []
        obj = _unwrapped(obj, arrays, own)
        if arrays and dtype is None:
            dtype = reduce(torch.promote_types, [x.dtype for x in arrays])
    device = sanitize_device(device)
    try:
        return torch.as_tensor(obj, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's texts do not say of what
        kind = TypeError if "infer dtype" in str(error) else type(error)
        raise kind(f"an array cannot be made of this {type(obj).__name__}: {error}") from None


def _unwrapped(obj: Any, arrays: list[DNDarray], own: bool) -> Any:
    """Nested sequences with numbers for the arrays in them, which `arrays` gets; split ones are gathered."""
    if isinstance(obj, DNDarray):
        if own and obj.split is not None:
            raise ValueError(
                f"a rank's own part for is_split holds an array split along {obj.split}, of which other ranks may "
                "not know: use its larray, or resplit(x, None) before"
            )
        arrays.append(obj)
        return obj.tolist()
    return [_unwrapped(item, arrays, own) for item in obj] if isinstance(obj, (list, tuple)) else obj


def _owned(shard: torch.Tensor, copy: bool | None, shared: bool) -> torch.Tensor:
    """`shard` in memory of its own if `copy`, as it is if not; `shared` is whether that is the user's object's."""
    if copy is None:
        return shard
    if copy is True:
        return shard.clone(memory_format=torch.contiguous_format)
    if copy is not False:
        raise ValueError(f"copy must be True, False or None, got {short_repr(copy)}")
    if not shared:
        raise ValueError(
            "copy=False, but with this dtype, device and split the object must be copied; use copy=None"
        )
    return shard


def _is_shared(whole: torch.Tensor, obj: Any) -> bool:
    """Whether the tensor that was made of `obj` has its memory."""
    if isinstance(obj, np.ndarray):
        return not whole.numel() or whole.data_ptr() == obj.__array_interface__["data"][0]
    return whole is obj


# A part's record: these numbers, which must be the same on all ranks but for the first, and so many extents.
_FIELDS = ("failure", "is_split", "number of dimensions", "dtype", "device", "requires_grad")
_HEAD, _NDIM = len(_FIELDS), _FIELDS.index("number of dimensions")
_FEW_DIMS, _ALL_DIMS = 8, 64
_DEVICE_TYPES = ("cpu", "cuda")
_SHOW: dict[str, Callable[[int], Any]] = {
    "dtype": ALL_DTYPES.__getitem__,
    "device": lambda code: "another" if code < 0 else _DEVICE_TYPES[code],
    "requires_grad": bool,
}


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
        part = _tensor(obj, dtype, device, own=True)
        part = _owned(part, copy, _is_shared(part, obj))
    except Exception as caught:
        error = caught
    table = comm.allgather(_part_record(part, axis, failure_code(comm, error), _FEW_DIMS))
    if table[:, 0].max() != failure_code(comm, None):
        failure = None if error is None else Failure(error, "converting its part for is_split to a tensor")
        raise_together(comm, -int(table[:, 0].max()), failure)
    if table[:, _NDIM].max() > _FEW_DIMS:
        table = comm.allgather(_part_record(part, axis, failure_code(comm, None), _ALL_DIMS))
    for name, column in zip(_FIELDS[1:], table.T[1:_HEAD], strict=True):
        _check_same(column, name, _SHOW.get(name, int))
    axis = normalise_axis(axis, part.ndim, "is_split")
    extents = table[:, _HEAD : _HEAD + part.ndim]
    for other in range(part.ndim):
        if other != axis:
            _check_same(
                extents[:, other], f"extent of axis {other} (parts may differ along axis {axis} only)", int
            )
    return DNDarray(part, layout_from_counts(extents[:, axis].tolist(), part.shape, axis), comm)


def _part_record(part: torch.Tensor, axis: int, failure: int, dims: int) -> Record:
    record = np.zeros(_HEAD + dims, dtype=np.int64)
    kind = part.device.type
    device = _DEVICE_TYPES.index(kind) if kind in _DEVICE_TYPES else -1
    record[:_HEAD] = failure, axis, part.ndim, dtype_code(part.dtype), device, part.requires_grad
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
