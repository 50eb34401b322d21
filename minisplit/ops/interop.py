"""The protocols by which other libraries use a DNDarray: NumPy's, DLPack, the Array API standard, torch functions.

The methods of `DNDarray` call these functions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.array import DNDarray
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.devices import Device, sanitize_device
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.ops import autograd, losses
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


# Names of torch's functions that minisplit has too, with the same meaning of the same arguments in the same
# places.
_SAME = """
    abs acos acosh add all allclose any argmax argmin asin asinh atan atan2 atanh bitwise_and
    bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_to ceil clip column_stack concat
    conj copysign cos cosh count_nonzero deg2rad divide dot einsum exp exp2 expm1 fix flip floor floor_divide
    fmax fmin fmod gcd greater greater_equal heaviside hstack hypot imag inner isclose isfinite isinf isnan
    isneginf isposinf isreal kron lcm less less_equal log log10 log1p log2 logaddexp logical_and logical_not
    logical_or logical_xor logsumexp matmul maximum mean minimum moveaxis multiply nanmean nansum negative
    nextafter not_equal outer positive pow prod rad2deg ravel real reciprocal remainder reshape roll round sign
    signbit sin sinc sinh sqrt square squeeze stack std subtract sum swapaxes tan tanh tile tril triu trunc var
    vstack where
"""
# Where minisplit has another name: torch's, and that.
_RENAMED = """
    amax:max amin:min bitwise_not:bitwise_invert cat:concat clamp:clip cumprod:cumulative_prod
    cumsum:cumulative_sum div:divide eq:equal equal:array_equal ge:greater_equal gt:greater le:less_equal
    lt:less movedim:moveaxis mul:multiply ne:not_equal neg:negative permute:permute_dims sgn:sign sub:subtract
    transpose:swapaxes unsqueeze:expand_dims
"""
_NAMES: dict[Callable[..., Any], str] = {getattr(torch, name): name for name in _SAME.split()}
_NAMES |= {getattr(torch, name): ours for name, ours in (pair.split(":") for pair in _RENAMED.split())}
# What takes torch's arguments as torch has them.
_AS_TORCH: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.autograd.grad: autograd.grad,
    torch.autograd.backward: autograd.backward,
    **losses.LOSSES,
}
# NumPy's names of functions, where minisplit has another.
_NUMPY_RENAMED = {"amax": "max", "amin": "min", "around": "round"}
# NumPy's names of parameters, where minisplit has another.
_NUMPY_PARAMETERS = {"a_min": "min", "a_max": "max"}
# Facts about an array, which need no elements.
_FACTS: dict[str, Callable[..., Any]] = {
    "shape": lambda a: a.shape,
    "ndim": lambda a: a.ndim,
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis],
    "iscomplexobj": lambda x: x.dtype.is_complex,
    "isrealobj": lambda x: not x.dtype.is_complex,
}
# torch's names of parameters, where minisplit has another.
_PARAMETERS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "shifts": "shift"}


def call_numpy(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a function of NumPy, called with DNDarrays, means. TypeError where minisplit has no such one.

    NumPy would gather the arrays on every rank without a word.
    """
    name, space = function.__name__, function.__module__.removeprefix("numpy").removeprefix(".")
    if not space and name in _FACTS:
        return _FACTS[name](*args, **kwargs)
    if not space and name == "where" and len(args) == 1:
        name = "nonzero"
    ours_name = _NUMPY_RENAMED.get(name, name)
    spaces = {
        "": sys.modules["minisplit"],
        "linalg": sys.modules["minisplit"].linalg,
        "fft": sys.modules["minisplit"].fft,
    }
    ours = getattr(spaces.get(space), ours_name, None)
    if not inspect.isfunction(ours) or name == "save":  # np.save has its arguments in another order
        instead = "minisplit.save(x, path)" if name == "save" else "x.numpy() is the global array, on every rank"
        raise TypeError(f"{function.__module__}.{name} takes arrays of NumPy, got a DNDarray: {instead}")
    parameters = list(inspect.signature(ours).parameters.values())
    try:
        signature = inspect.signature(function)
    except ValueError:  # functions of NumPy 2.0 in C, such as `concatenate`, do not show theirs
        return ours(*args, **kwargs)
    arguments = signature.bind(*args, **kwargs).arguments
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for place, parameter in enumerate(signature.parameters.values()):
        given = arguments.get(parameter.name, parameter.default)
        if given is parameter.default:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += given
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= given
        elif parameter.default is parameter.empty or (
            place < len(parameters) and parameters[place].kind is parameter.POSITIONAL_ONLY
        ):
            positional.append(given)
        else:
            named[_NUMPY_PARAMETERS.get(parameter.name, parameter.name)] = given
    unknown = sorted(set(named) - {each.name for each in parameters})
    if unknown and parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        raise TypeError(
            f"minisplit.{ours_name} has no {', '.join(unknown)}, which {function.__module__}.{name} has"
        )
    return ours(*positional, **named)


def call_torch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a function of torch, called with DNDarrays, means. TypeError where minisplit has no such one."""
    # By name, when all modules are imported: this one is imported first, since methods of arrays call it.
    minisplit = sys.modules["minisplit"]
    ours = _NAMES.get(function)
    if ours is not None:
        kwargs = {_PARAMETERS.get(key, key): value for key, value in kwargs.items()}
        if ours in {"std", "var"}:
            kwargs.setdefault("correction", 1.0)  # torch's default; ours is that of the standard
        return getattr(minisplit, ours)(*args, **kwargs)
    as_torch = _AS_TORCH.get(function)
    if as_torch is not None:
        return as_torch(*args, **kwargs)
    name = getattr(function, "__name__", str(function))
    space, _, last = name.partition("_") if name.startswith(("linalg_", "fft_")) else ("", "", name)
    suggestion = f"minisplit.{space and space + '.'}{last}"
    is_there = hasattr(getattr(minisplit, space) if space else minisplit, last)
    instead = f"{suggestion} takes arrays; " if is_there else ""
    if getattr(torch.nn.functional, name, None) is function:
        instead = f"minisplit.vmap({name})(...) maps it over samples, as it does a module; "
    raise TypeError(
        f"torch's {name} takes tensors, got a DNDarray: {instead}x.larray is this rank's part as a tensor, "
        "and minisplit.array(..., split=...) makes a DNDarray of a tensor"
    )
