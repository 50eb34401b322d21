"""What other libraries ask of an array: its namespace, NumPy, DLPack; and torch's functions of DNDarrays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.array import DNDarray
from minisplit.core.devices import Device, sanitize_device
from minisplit.ops.elementwise import functions as elementwise
from minisplit.ops.elementwise.closeness import allclose, array_equal, isclose
from minisplit.ops.linalg import products
from minisplit.ops.linalg.cross_kron import kron
from minisplit.ops.linalg.einsum import einsum
from minisplit.ops.reductions import averages as statistics
from minisplit.ops.reductions import functions as reductions
from minisplit.ops.reductions.cumulative import cumulative_prod, cumulative_sum
from minisplit.ops.shape import broadcast, dimensions, flip, reshape, tile, transpose, triangle
from minisplit.ops.shape import join as joining
from minisplit.ops.shape import roll as turning
from minisplit.ops.sorting import search as searching

VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


def array_namespace(api_version: str | None = None) -> ModuleType:
    """The functions of the Python Array API standard for this array: minisplit. Local.

    Raises ValueError for a version that is not there.
    """
    if api_version not in {None, *VERSIONS}:
        raise ValueError(f"minisplit has the standard's versions {', '.join(VERSIONS)}, got {api_version!r}")
    return sys.modules["minisplit"]


def to_device(self: DNDarray, device: Device, /, *, stream: None = None) -> DNDarray:
    """The array on another device; itself where it is there. Local. Raises ValueError for a `stream`."""
    if stream is not None:
        raise ValueError(f"to_device takes no stream, got {stream!r}; torch's current stream is used")
    target = sanitize_device(device)
    return self if target == self.device else DNDarray(self.larray.to(target), self.layout, self.comm)


def to_numpy(self: DNDarray, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None) -> NDArray[Any]:
    """What `np.asarray(x)` gives: the global array on every rank. Collective where `x` is split, as `x.numpy()`.

    A replicated array shares its memory, unless `copy`; with `copy=False` another one is a ValueError.
    """
    shard = self.larray.detach()
    shared = self.split is None and shard.device.type == "cpu" and not (shard.is_conj() or shard.is_neg())
    array = shard.numpy() if shared and not copy else None if copy is False else self.numpy()
    if array is None or (copy is False and dtype not in {None, array.dtype}):
        wanted = dtype or "an array of NumPy"
        raise ValueError(f"copy=False, but {self.dtype} split along {self.split} becomes {wanted} by a copy")
    return array if dtype is None else array.astype(dtype, copy=False)


def to_dlpack(
    self: DNDarray,
    /,
    *,
    stream: int | None = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """The global array on every rank, by the DLPack protocol, which says what the arguments are.

    Collective where the array is split: it is gathered. A replicated one shares its memory. Raises BufferError for
    a split array with `copy=False`, and torch's error for one that requires a gradient.
    """
    if self.split is not None and copy is False:
        raise BufferError(
            f"copy=False, but an array split along {self.split} is gathered; x.larray is this rank's part"
        )
    whole = self if self.split is None else self.resplit(None)
    options: dict[str, Any] = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    return whole.larray.__dlpack__(**{name: value for name, value in options.items() if value is not None})


def to_index(self: DNDarray, /) -> int:
    """An integer of a 0-d array, as in `range(x)`. Local. TypeError for any other array."""
    if self.ndim or self.dtype.is_floating_point or self.dtype.is_complex or self.dtype is torch.bool:
        raise TypeError(f"only a 0-d array of integers is an index, got shape {self.shape} of {self.dtype}")
    return int(self.larray)


def _var(x: DNDarray, axis: Any = None, *, correction: float = 1.0, keepdims: bool = False) -> DNDarray:
    """With torch's default of `correction`."""
    return reductions.var(x, axis, correction=correction, keepdims=keepdims)


def _std(x: DNDarray, axis: Any = None, *, correction: float = 1.0, keepdims: bool = False) -> DNDarray:
    return reductions.std(x, axis, correction=correction, keepdims=keepdims)


# torch's names of parameters, where ours are others.
_PARAMETERS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "shifts": "shift"}
# torch's functions whose first arguments mean what ours do.
_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(torch, name): function
    for name, function in vars(elementwise).items()
    if getattr(function, "__module__", None) == "minisplit" and name != "equal" and hasattr(torch, name)
} | {
    torch.all: reductions.all,
    torch.allclose: allclose,
    torch.amax: reductions.max,
    torch.amin: reductions.min,
    torch.any: reductions.any,
    torch.argmax: searching.argmax,
    torch.argmin: searching.argmin,
    torch.bitwise_not: elementwise.bitwise_invert,
    torch.broadcast_to: broadcast.broadcast_to,
    torch.cat: lambda arrays, axis=0: joining.concat(arrays, axis=axis),
    torch.clamp: elementwise.clip,
    torch.clip: elementwise.clip,
    torch.column_stack: joining.column_stack,
    torch.concat: lambda arrays, axis=0: joining.concat(arrays, axis=axis),
    torch.count_nonzero: reductions.count_nonzero,
    torch.cumprod: lambda x, axis, *, dtype=None: cumulative_prod(x, axis=axis, dtype=dtype),
    torch.cumsum: lambda x, axis, *, dtype=None: cumulative_sum(x, axis=axis, dtype=dtype),
    torch.div: elementwise.divide,
    torch.dot: products.dot,
    torch.einsum: einsum,
    torch.eq: elementwise.equal,
    torch.equal: array_equal,
    torch.flip: lambda x, axis: flip.flip(x, axis=axis),
    torch.ge: elementwise.greater_equal,
    torch.gt: elementwise.greater,
    torch.hstack: joining.hstack,
    torch.inner: products.inner,
    torch.isclose: isclose,
    torch.kron: kron,
    torch.le: elementwise.less_equal,
    torch.logsumexp: statistics.logsumexp,
    torch.lt: elementwise.less,
    torch.matmul: products.matmul,
    torch.mean: reductions.mean,
    torch.moveaxis: transpose.moveaxis,
    torch.movedim: transpose.moveaxis,
    torch.mul: elementwise.multiply,
    torch.nanmean: statistics.nanmean,
    torch.nansum: reductions.nansum,
    torch.ne: elementwise.not_equal,
    torch.neg: elementwise.negative,
    torch.outer: products.outer,
    torch.permute: transpose.permute_dims,
    torch.prod: reductions.prod,
    torch.ravel: reshape.ravel,
    torch.reshape: reshape.reshape,
    torch.roll: lambda x, shift, axis=None: turning.roll(x, shift, axis=axis),
    torch.sgn: elementwise.sign,
    torch.squeeze: dimensions.squeeze,
    torch.stack: lambda arrays, axis=0: joining.stack(arrays, axis=axis),
    torch.std: _std,
    torch.sub: elementwise.subtract,
    torch.sum: reductions.sum,
    torch.swapaxes: transpose.swapaxes,
    torch.tile: tile.tile,
    torch.transpose: transpose.swapaxes,
    torch.tril: triangle.tril,
    torch.triu: triangle.triu,
    torch.unsqueeze: lambda x, axis: dimensions.expand_dims(x, axis=axis),
    torch.var: _var,
    torch.vstack: joining.vstack,
    torch.where: elementwise.where,
}


def call_torch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a function of torch, called with DNDarrays, means. TypeError where minisplit has not the same."""
    name = getattr(function, "__name__", str(function))
    if function in _FUNCTIONS:
        return _FUNCTIONS[function](*args, **{_PARAMETERS.get(key, key): value for key, value in kwargs.items()})
    space, _, last = name.partition("_") if name.startswith(("linalg_", "fft_")) else ("", "", name)
    here = sys.modules["minisplit"]
    ours = f"minisplit.{space and space + '.'}{last}"
    instead = f"{ours} takes arrays; " if hasattr(getattr(here, space) if space else here, last) else ""
    raise TypeError(
        f"torch's {name} takes tensors, got a DNDarray: {instead}x.larray is this rank's part as a tensor, "
        "and minisplit.array(..., split=...) makes a DNDarray of a tensor"
    )
