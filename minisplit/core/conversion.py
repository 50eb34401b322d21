"""From data to arrays: cut an object that every rank has, or join the ranks' own parts."""

from __future__ import annotations

from array import array as python_array
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import dlpack

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.agreement import Failure, failure_code, raise_together
from minisplit.core.communication.protocol import Comm, Communication, Record, first_difference, sanitize_comm
from minisplit.core.error_text import short_repr
from minisplit.core.indexing.index_arrays import refuse_masked
from minisplit.core.layout import Layout, as_index, layout_from_counts, normalise_axis
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import ALL_DTYPES, INTEGERS, Dtype, check_in_range, dtype_code, sanitize_dtype
from minisplit.core.pytorch.pytree import is_tree, pytree
from minisplit.core.pytorch.transforms import is_followed

K = TypeVar("K")
V = TypeVar("V")


@overload
def array(
    obj: dict[K, V],
    dtype: Dtype = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = True,
    device: Device = None,
    comm: Comm = None,
) -> dict[K, Any]: ...
@overload
def array(
    obj: Any,
    dtype: Dtype = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = True,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray: ...
def array(
    obj: Any,
    dtype: Dtype = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = True,
    device: Device = None,
    comm: Comm = None,
) -> Any:
    """Make an array from a tensor, a NumPy array, nested sequences, a number or an array, or from a dict of these.

    Parameters
    ----------
    obj : array_like, or a dict of these
        The whole array, which every rank gives, or with `is_split` this rank's part of it. Without `is_split` it
        may also be a dict, a tuple of dicts, or a class that is registered with torch's pytree, such as the
        parameters of a network: each leaf becomes an array.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `obj`.
    split : int, optional
        The axis along which each rank cuts its part from `obj`. By default None: every rank holds all of it. An
        `obj` that is an array keeps its split by default.
    is_split : int, optional
        The axis along which the ranks' own parts are joined to one array. Along it they may have any extents, 0
        included.
    copy : bool or None, default True
        True for new memory. None shares the memory of `obj` if dtype and device allow it, and if each element has
        its own place in memory that can be written. False raises if the memory cannot be shared, or if elements
        would have to move to other ranks.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of a tensor, else the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use, or that of an array.

    Returns
    -------
    DNDarray, or a dict of these
        The array, or arrays in the structure of `obj`.

    Raises
    ------
    ValueError
        If both `split` and `is_split` are given, the parts do not fit together (the message names the ranks),
        `copy=False` is not possible, torch can make no tensor of `obj`, or `obj` is a masked array of NumPy with
        masked elements.
    IndexError
        If an axis is out of range.
    TypeError
        If torch cannot make a tensor of `obj`, or an axis is not an int.
    OverflowError
        If a Python number is not in the range of an integer dtype.

    Communication
    -------------
    Local without `is_split`, which is collective: one allgather of shapes and dtypes. No elements move. If `obj`
    is or contains a DNDarray with another split, the array is redistributed: one exchange. The backward pass of a
    tensor that is cut is one exchange, which gives each rank the whole gradient.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> ms.array([[1, 2], [3, 4]], split=1).shape
    (2, 2)
    >>> ms.array({"weight": torch.ones(4, 3), "bias": torch.zeros(4)}, split=0)["bias"].shape
    (4,)
    >>> part = ms.array([[float(ms.MPI_WORLD.rank)]], is_split=0)
    >>> part.shape == (ms.MPI_WORLD.size, 1)
    True
    """
    if split is not None and is_split is not None:
        raise ValueError(
            f"give split (cut an object that every rank has) or is_split (join the ranks' parts), "
            f"not both, got split={short_repr(split)}, is_split={short_repr(is_split)}"
        )
    # Not of parts, of which one rank's may be a structure by mistake.
    if is_split is None and is_tree(obj):
        make = partial(array, dtype=dtype, split=split, copy=copy, device=device, comm=comm)
        return pytree.tree_map(make, obj, is_leaf=lambda x: not is_tree(x))
    dtype = sanitize_dtype(dtype)
    if isinstance(obj, DNDarray):
        return _from_dndarray(obj, dtype, split, is_split, copy, device, comm)
    comm = sanitize_comm(comm)
    if is_split is not None:
        return _join_parts(obj, dtype, is_split, copy, device, comm)
    whole = _as_tensor(obj, dtype, device)
    name = "the object given to array(), asarray() or from_numpy()"
    comm.check_replicated(whole, name, "use is_split= where each rank has a part")
    layout = Layout(tuple(whole.shape), split, comm.size)
    if split is not None and is_followed(whole):
        # Not a plain view, of whose gradient each rank would have its own part, and zeros elsewhere.
        if copy is False:
            raise ValueError(
                "copy=False, but the parts of a tensor that requires a gradient are copied; "
                "use copy=None or detach()"
            )
        return DNDarray(redistribute(whole, layout.with_split(None), layout, comm), layout, comm)
    shard = whole[layout.box(comm.rank)] if whole.ndim else whole
    return DNDarray(_apply_copy(shard, copy, _shares_memory(whole, obj)), layout, comm)


def asarray(
    obj: Any,
    dtype: Dtype = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    copy: bool | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make an array, without a copy if possible.

    Parameters
    ----------
    obj : array_like
        The whole array, which every rank gives, or with `is_split` this rank's part of it.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `obj`.
    split : int, optional
        The axis along which each rank cuts its part from `obj`. See `array`.
    is_split : int, optional
        The axis along which the ranks' own parts are joined to one array.
    copy : bool or None, default None
        None shares the memory of `obj` if dtype and device allow it. See `array`.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of a tensor, else the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use, or that of an array.

    Returns
    -------
    DNDarray
        The array.

    Communication
    -------------
    Local without `is_split`, which is collective: one allgather. See `array`.

    See Also
    --------
    array : The same function, which copies by default. It says what raises.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> part = torch.ones(3)
    >>> ms.asarray(part, is_split=0).larray is part
    True
    """
    x: DNDarray = array(obj, dtype, split=split, is_split=is_split, copy=copy, device=device, comm=comm)
    return x


def from_numpy(
    obj: NDArray[Any], *, split: int | None = None, dtype: Dtype = None, device: Device = None, comm: Comm = None
) -> DNDarray:
    """Make an array from a NumPy array, and share its memory if possible.

    Parameters
    ----------
    obj : numpy.ndarray
        The whole array, which every rank gives.
    split : int, optional
        The axis along which each rank cuts its part from `obj`. By default None: every rank holds all of it.
    dtype : torch.dtype, optional
        The dtype of the elements. By default that of `obj`.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default the CPU.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array. It is a copy if `obj` has negative strides, another byte order or read-only memory, because
        torch does not support these.

    Raises
    ------
    TypeError
        If `obj` is not a NumPy array, or torch does not have its dtype.
    IndexError
        If `split` is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms, numpy as np
    >>> ms.from_numpy(np.arange(3.0), split=0).dtype
    torch.float64
    """
    if not isinstance(obj, np.ndarray):
        raise TypeError(f"from_numpy needs a NumPy array, got {type(obj).__name__}")
    return asarray(obj, dtype, split=split, device=device, comm=comm)


def from_dlpack(
    x: Any, /, *, split: int | None = None, device: Device = None, copy: bool | None = None, comm: Comm = None
) -> DNDarray:
    """Make an array from one of another library, by the DLPack protocol.

    Parameters
    ----------
    x : array
        The whole array, which every rank gives: an object with `__dlpack__`. For a DNDarray see `asarray`.
    split : int, optional
        The axis along which each rank cuts its part from `x`. By default None: every rank holds all of it.
    device : str or torch.device, optional
        "cpu", "gpu", which is this rank's GPU, or a torch device. By default that of `x`.
    copy : bool or None, default None
        True for new memory. None and False share the memory of `x`.
    comm : Communication, optional
        The ranks that hold the array. By default the communicator in use.

    Returns
    -------
    DNDarray
        The array.

    Raises
    ------
    TypeError
        If `x` has no `__dlpack__`.
    ValueError
        If `copy` is False and `device` is another than that of `x`.
    IndexError
        If `split` is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
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


def tensor_of_numbers(
    values: Any, name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> torch.Tensor:
    """Return numbers that every rank has, such as the edges of bins, as a tensor. TypeError for anything else."""
    try:
        return torch.as_tensor(values, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError):  # torch's texts do not say of what
        raise TypeError(f"{name} must be a number, or an array of numbers, got {short_repr(values)}") from None


def _from_dndarray(
    x: DNDarray,
    dtype: torch.dtype | None,
    split: int | None,
    is_split: int | None,
    copy: bool | None,
    device: Device,
    comm: Comm,
) -> DNDarray:
    """`array` of an array. Collective where its split changes."""
    if comm is not None and comm is not x.comm:
        raise ValueError("a DNDarray stays on its communicator; gather it first (numpy()) to change that")
    axis = split if is_split is None else normalise_axis(is_split, x.ndim, "is_split")
    if is_split is not None and axis != x.split:
        raise ValueError(f"is_split must be the split of the DNDarray, {x.split}, got {is_split}; see resplit")
    layout = x.layout if axis is None else x.layout.with_split(axis)
    if copy is False:
        # Before the exchange, which would be for nothing.
        _apply_copy(x.larray, copy, layout == x.layout)
    moved = x.to_layout(layout)
    shard = _as_tensor(moved.larray, dtype, device)
    return DNDarray(_apply_copy(shard, copy, shard is moved.larray), moved.layout, x.comm)


def _as_tensor(obj: Any, dtype: torch.dtype | None, device: Device, *, is_part: bool = False) -> torch.Tensor:
    """Return `obj` as a tensor, which shares its memory where that is possible.

    is_part: whether each rank has another `obj`. Then arrays in it cannot be gathered, since other ranks may not
        have them in theirs.
    """
    if obj is None:
        raise TypeError(
            "an array cannot be made of None: with split= every rank gives the whole object, with is_split= its "
            "own part, which may be an empty one such as torch.empty(0, 6)"
        )
    if isinstance(obj, torch.nn.Module):
        raise TypeError(
            "an array cannot be made of a module: give its parameters, dict(module.named_parameters()) or those "
            "of torch.func.stack_module_state; to have rank 0's values on all ranks see minisplit.replicate"
        )
    if isinstance(obj, torch.Tensor):
        if obj.layout is not torch.strided:
            raise TypeError(f"a DNDarray holds dense tensors, got a sparse one ({obj.layout}); use to_dense()")
        return obj.to(dtype=dtype or obj.dtype, device=obj.device if device is None else sanitize_device(device))
    refuse_masked(obj)
    if _is_numeric_buffer(obj):
        obj = np.asarray(obj)
        native = obj.dtype.newbyteorder("=")
        # torch has neither negative strides nor such as are no multiple of an item, and writes to what it shares.
        # max: an item of an empty text has no bytes.
        is_sharable = obj.flags.writeable and all(s >= 0 and s % max(obj.itemsize, 1) == 0 for s in obj.strides)
        if obj.dtype != native or not is_sharable:
            obj = np.array(obj, dtype=native)
    if isinstance(obj, (list, tuple)):
        arrays: list[DNDarray] = []
        obj = _as_numbers(obj, arrays, is_part)
        # Their elements are Python numbers now, which have lost their dtypes.
        if arrays and dtype is None:
            dtype = reduce(torch.promote_types, [x.dtype for x in arrays])
        if obj and all(isinstance(item, np.ndarray) for item in obj):
            obj = np.array(obj)  # torch would go through all elements
    device = sanitize_device(device)
    try:
        _check_range(obj, dtype)
        return torch.as_tensor(obj, dtype=dtype, device=device)
    except OverflowError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # torch's texts do not say of what
        if "Overflow when unpacking" in str(error):
            raise OverflowError(
                f"an int of this {type(obj).__name__} is not in int64: give dtype=float, or torch.uint64 if it is "
                "in that"
            ) from None
        # For an object that is no number torch raises a RuntimeError.
        kind = TypeError if "infer dtype" in str(error) else type(error)
        raise kind(f"an array cannot be made of this {type(obj).__name__}: {error}") from None


def _check_range(obj: Any, dtype: torch.dtype | None) -> None:
    """Raise OverflowError for Python's numbers that are not in a dtype of integers: torch takes -1 for 255."""
    # torch refuses by itself what is not in a dtype of 64 bits.
    if dtype not in INTEGERS or dtype.itemsize == 8 or not isinstance(obj, (list, tuple, int, float)):
        return
    numbers = torch.as_tensor(obj)
    # Integers of NumPy and torch are cast, modulo 2**bits, as NumPy and torch cast them.
    if numbers.dtype is not torch.int64:
        numbers = torch.as_tensor(obj, dtype=torch.float64)
    for end in (numbers.min(), numbers.max()) if numbers.numel() else ():
        check_in_range(end.item(), dtype, f"the numbers of this {type(obj).__name__}")


def _as_numbers(obj: Any, arrays: list[DNDarray], is_part: bool) -> Any:
    """Replace arrays in nested sequences by lists, and add them to `arrays`. Collective where one is split."""
    if isinstance(obj, DNDarray):
        if is_part and obj.split is not None:
            raise ValueError(
                f"a rank's own part for is_split holds an array split along {obj.split}, and other ranks may "
                "not have one: use its larray, or call resplit(x, None) before"
            )
        arrays.append(obj)
        return obj.tolist()
    if isinstance(obj, (list, tuple)):
        return [_as_numbers(item, arrays, is_part) for item in obj]
    refuse_masked(obj)
    return np.asarray(obj) if _is_numeric_buffer(obj) else obj


def _is_numeric_buffer(obj: Any) -> bool:
    """Whether NumPy knows the dtype of the numbers in an object, for which torch would take its default dtype."""
    if isinstance(obj, (torch.Tensor, bytes, bytearray)):
        return False
    return isinstance(obj, (python_array, memoryview)) or (
        hasattr(obj, "__array__") and not hasattr(obj, "__cuda_array_interface__")
    )


def _apply_copy(shard: torch.Tensor, copy: bool | None, shares_memory: bool) -> torch.Tensor:
    """The shard or a copy of it, as `copy` says. `shares_memory`: whether it is in memory of the user's object."""
    if copy is None and _is_writable(shard):
        return shard
    if copy is True or copy is None:
        return shard.clone(memory_format=torch.contiguous_format)
    if copy is not False:
        raise ValueError(f"copy must be True, False or None, got {short_repr(copy)}")
    if not shares_memory or not _is_writable(shard):
        raise ValueError(
            "copy=False, but with this dtype, device and split the object must be copied; use copy=None"
        )
    return shard


def _is_writable(shard: torch.Tensor) -> bool:
    """Whether a rank can set single elements of a shard, which another rank may not know of its own."""
    if shard.is_inference() and not torch.is_inference_mode_enabled():
        return False
    # An expanded tensor has elements in one place. `reach`: how far the axes with smaller strides go.
    reach = 0
    for stride, extent in sorted(zip(shard.stride(), shard.shape, strict=True)):
        if extent > 1:
            if stride <= reach:
                return not shard.numel()
            reach += stride * (extent - 1)
    return True


def _shares_memory(whole: torch.Tensor, obj: Any) -> bool:
    """Whether the tensor that was made of `obj` has its memory."""
    if _is_numeric_buffer(obj):
        obj = np.asarray(obj)
        # Of an empty array the address says nothing.
        return not whole.numel() or whole.data_ptr() == obj.__array_interface__["data"][0]
    return whole is obj


# The record of a part: these numbers, of which all but the first must be the same on all ranks, and its extents.
_FIELDS = ("failure", "is_split", "number of dimensions", "dtype", "device", "requires_grad")
_NDIM = _FIELDS.index("number of dimensions")
# A record has room for 8 extents, which is enough for nearly all arrays. Others take a second allgather, with room
# for the 64 that torch and NumPy allow.
_FEW_DIMS, _ALL_DIMS = 8, 64
_DEVICE_TYPES = ("cpu", "cuda")
# How error messages show a field, where it is not the number.
_SHOW: dict[str, Callable[[int], Any]] = {
    "dtype": ALL_DTYPES.__getitem__,
    "device": lambda code: "another" if code < 0 else _DEVICE_TYPES[code],
    "requires_grad": bool,
}


def _join_parts(
    obj: Any, dtype: torch.dtype | None, is_split: int, copy: bool | None, device: Device, comm: Communication
) -> DNDarray:
    """Join the ranks' own parts to one array. Collective: one allgather, two for more than 8 dimensions."""
    axis, part, error = 0, torch.empty(0), None
    try:
        axis = as_index(is_split, "is_split")
        part = _as_tensor(obj, dtype, device, is_part=True)
        part = _apply_copy(part, copy, _shares_memory(part, obj))
    except Exception as caught:  # another rank may have no error, so that all ranks have to hear of this one
        error = caught
    table = comm.allgather_record(_part_record(part, axis, failure_code(comm, error), _FEW_DIMS))
    if table[:, 0].max() != failure_code(comm, None):
        failure = None if error is None else Failure(error, "converting its part for is_split to a tensor")
        raise_together(comm, -int(table[:, 0].max()), failure)
    if table[:, _NDIM].max() > _FEW_DIMS:
        table = comm.allgather_record(_part_record(part, axis, failure_code(comm, None), _ALL_DIMS))
    for name, column in zip(_FIELDS[1:], table.T[1:], strict=False):
        _check_same(column, name, _SHOW.get(name, int))
    # Only now: all ranks have the same axis and number of dimensions, and so the same error.
    axis = normalise_axis(axis, part.ndim, "is_split")
    extents = table[:, len(_FIELDS) :]
    for other in range(part.ndim):
        if other != axis:
            name = f"extent of axis {other} (parts may differ along axis {axis} only)"
            _check_same(extents[:, other], name, int)
    return DNDarray(part, layout_from_counts(extents[:, axis].tolist(), part.shape, axis), comm)


def _part_record(part: torch.Tensor, axis: int, failure: int, dims: int) -> Record:
    """What the ranks compare of a part, with room for so many extents."""
    kind = part.device.type
    # Of other types of devices all that is compared is that there is one.
    device = _DEVICE_TYPES.index(kind) if kind in _DEVICE_TYPES else -1
    fields = (failure, axis, part.ndim, dtype_code(part.dtype), device, part.requires_grad, *part.shape[:dims])
    record = np.zeros(len(_FIELDS) + dims, dtype=np.int64)
    record[: len(fields)] = fields
    return record


def _check_same(column: Record, name: str, show: Callable[[int], Any]) -> None:
    """Raise ValueError, the same on every rank, unless all ranks gave the same number."""
    other = first_difference(column)
    if other is not None:
        raise ValueError(
            f"the ranks' parts for is_split must have the same {name}: "
            f"rank 0 has {show(int(column[0]))}, rank {other} has {show(int(column[other]))}"
        )
