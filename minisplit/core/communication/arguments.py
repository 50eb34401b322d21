"""The arguments of a communicator's methods: checked before the first message, so that all ranks raise.

What reaches MPI unchecked is read as bytes: floats come back as integers, a short record is read past its end, and
a root that does not exist leaves the others waiting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.core.transfer import TransferPlan

_INT64 = np.dtype(np.int64)


def check_tensor(value: object, name: str) -> None:
    """TypeError unless `value` is a tensor."""
    if not isinstance(value, torch.Tensor):
        hint = ": torch.from_numpy makes one of it" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}{hint}")


def check_record(value: object) -> NDArray[np.int64]:
    """Return `value`, contiguous; TypeError or ValueError unless it is an array of integers with one axis."""
    # First what nearly all records are: each mapped call has one.
    if type(value) is np.ndarray and value.dtype is _INT64 and value.strides == (8,):
        return value
    if not isinstance(value, np.ndarray) or value.dtype != _INT64:
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"record must be a NumPy array of int64, got {kind}; allgather takes tensors of any dtype")
    if value.ndim != 1:
        raise ValueError(f"record must have one axis, got shape {value.shape}")
    return value if value.flags.c_contiguous else value.copy()


def check_bytes(value: object) -> None:
    """TypeError unless `value` is bytes. Also on ranks that only receive, so that all of them raise."""
    if not isinstance(value, (bytes, bytearray)):
        hint = ": str.encode makes bytes of it" if isinstance(value, str) else ""
        raise TypeError(f"data must be bytes on every rank, got {type(value).__name__}{hint}")


def check_rank(value: object, name: str, size: int) -> int:
    """Return `value` as an int; TypeError or ValueError unless it is a rank."""
    rank = value if type(value) is int else as_index(value, name)
    if not 0 <= rank < size:
        raise ValueError(f"{name} must be a rank from 0 to {size - 1}, got {rank}")
    return rank


def check_color(color: object, key: object) -> None:
    """TypeError or ValueError unless these are what MPI splits a communicator by."""
    if color is not None and not 0 <= as_index(color, "color") < 2**31:
        raise ValueError(f"color must be from 0 to 2**31 - 1, or None, got {color}")
    if not -(2**31) <= as_index(key, "key") < 2**31:
        raise ValueError(f"key must be from -2**31 to 2**31 - 1, got {key}")


def check_messages(send: Any, recv: Any, rank: int, size: int) -> None:
    """TypeError or ValueError unless these are what a rank can exchange with others."""
    for name, pieces in (("send", send), ("recv", recv)):
        for piece in pieces:
            if not isinstance(piece, tuple) or len(piece) != 2:
                raise TypeError(f"{name} must have pairs of a rank and a tensor, got {short_repr(piece)}")
            peer, tensor = piece
            check_tensor(tensor, f"what {name} has")
            if check_rank(peer, f"the ranks of {name}", size) == rank:
                raise ValueError(f"{name} has the rank that calls: no rank exchanges with itself")
    for _, tensor in recv:
        check_writable(tensor, "what recv has")


def check_writable(tensor: torch.Tensor, name: str) -> None:
    """ValueError where elements of a tensor share memory, or must not be written into."""
    if not tensor.is_contiguous() and any(
        stride == 0 and n > 1 for stride, n in zip(tensor.stride(), tensor.shape, strict=True)
    ):
        raise ValueError(f"{name} cannot be written into: elements of it share memory, as in an expanded tensor")
    if tensor.requires_grad and tensor.is_leaf:
        raise ValueError(f"{name} cannot be written into: it requires a gradient; give its .detach()")


def check_plan(source: object, target: object, plan: object, rank: int, size: int) -> None:
    """TypeError or ValueError unless a plan is for these shards of this rank."""
    check_tensor(source, "source")
    check_tensor(target, "target")
    assert isinstance(source, torch.Tensor)
    assert isinstance(target, torch.Tensor)
    if not isinstance(plan, TransferPlan):
        raise TypeError(f"plan must be a TransferPlan, got {type(plan).__name__}")
    if (plan.rank, plan.src.ranks) != (rank, size):
        raise ValueError(
            f"plan must be that of the calling rank, of {size} ranks, got one of {plan.src.ranks} ranks"
        )
    if source.dtype is not target.dtype:
        raise ValueError(f"source and target must have one dtype, got {source.dtype} and {target.dtype}")
    sides = ("source", source, plan.src, plan.source_shape), ("target", target, plan.dst, plan.target_shape)
    for name, tensor, layout, shape in sides:
        if tensor.shape != shape:
            raise ValueError(f"{name} must be the rank's shard of {layout}, got shape {tuple(tensor.shape)}")
    if not target.is_contiguous():
        raise ValueError(f"target must be contiguous, got strides {target.stride()}")


def to_json(value: object) -> str:
    """Return a value as JSON; TypeError or ValueError where that has no such value."""
    _check_keys(value)
    return json.dumps(value)


def _check_keys(value: object) -> None:
    """TypeError for a key that is no text: JSON would make one of it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be texts, as JSON has them, got {short_repr(key)}")
            _check_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item)
