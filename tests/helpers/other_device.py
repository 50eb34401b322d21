"""A stand-in for a GPU: tensors that are on another device than the host for torch and for minisplit.

Their elements are in host memory, so that all that torch can compute can be tried without a GPU. Within
`OtherDevice` an operation of tensors on both sides is refused, as by CUDA, and what makes the host wait for
elements is recorded. The device is called "lazy": beside the CPU and "meta", whose tensors torch takes to have no
elements, it is the only one for which every build of torch has what autograd needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

aten: Any = torch.ops.aten
DEVICE = torch.device("lazy", 0)
torch._C._lazy_ts_backend._init()
# Each gives as many elements, or a bool, as the elements of its arguments say: the host must know them.
_ASK_FOR_ELEMENTS = {
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim,
    aten.unique_consecutive, aten.bincount,
}  # fmt: skip
_INDEX = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_COPY = {aten._to_copy, aten.copy_, aten.copy, aten.lift_fresh}


class DeviceTensor(torch.Tensor):
    """A tensor on the device; `host` has its elements, at the same places in its memory."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> DeviceTensor:
        self: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        torch._C._set_conj(self, host.is_conj())
        torch._C._set_neg(self, host.is_neg())
        self.host = host
        return self

    def untyped_storage(self) -> Any:
        return self.host.untyped_storage()

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on {DEVICE}, outside of OtherDevice")


class OtherDevice(TorchDispatchMode):
    """Torch with a device beside the host, for the present thread.

    Attributes
    ----------
    reads : list of str
        The operations that made the host wait for elements on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # `torch.tensor(..., device=...)` is the one function that makes a tensor before a mode hears of it.
        args, kwargs = _map(_as_ours, args), _map(_as_ours, kwargs or {})
        kind, tensors = func.overloadpacket, list[torch.Tensor]()
        host_args, host_kwargs = (_map(lambda x: tensors.append(x) or _host(x), each) for each in (args, kwargs))
        there = [x for x in tensors if isinstance(x, DeviceTensor)]
        if kwargs.get("device") is not None:
            is_there = kwargs["device"].type == DEVICE.type
            host_kwargs["device"] = torch.device("cpu")
        else:
            is_there = isinstance(args[0], DeviceTensor) if kind is aten.copy_ else bool(there)
        if there and kind not in _COPY | _INDEX and any(x.ndim for x in tensors if x.device.type == "cpu"):
            raise RuntimeError(f"Expected all tensors to be on the same device, found cpu and {DEVICE} in {func}")
        is_by_mask = kind in _INDEX and any(x is not None and x.dtype is torch.bool for x in args[1])
        is_repeat = func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
        is_brought = kind in _COPY and not is_there
        if there and (kind in _ASK_FOR_ELEMENTS or is_brought or is_by_mask or is_repeat):
            self.reads.append(str(kind))
        out = func(*host_args, **host_kwargs)
        if not is_there:
            # `to` gives a tensor itself where it is there already; two sides share no memory.
            return out.clone() if kind is aten._to_copy and there and out is host_args[0] else out
        wrapped = _map(DeviceTensor, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _map(function: Any, value: Any) -> Any:
    """Apply a function to the tensors in arguments or results. torch's pytree takes ten times as long."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_map(function, each) for each in value])
    if isinstance(value, dict):
        return {key: _map(function, each) for key, each in value.items()}
    return value


def _as_ours(x: torch.Tensor) -> torch.Tensor:
    return DeviceTensor(x.cpu()) if x.device.type == DEVICE.type and not isinstance(x, DeviceTensor) else x


def _host(x: torch.Tensor) -> torch.Tensor:
    return x.host if isinstance(x, DeviceTensor) else x
