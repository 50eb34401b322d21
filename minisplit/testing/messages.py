"""What the controller of a pool and its ranks tell each other."""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import cloudpickle
import torch

from minisplit.testing.histories import Progress

# torch pickles tensors of these dtypes, but cannot read them again.
_SENT_AS = {
    torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64,
    torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8,
}  # fmt: skip


class Hello(NamedTuple):
    """The first word of a rank."""

    rank: int
    size: int
    process: int


class Job(NamedTuple):
    """A function to run on the first `ranks` ranks.

    Examples are numbered; `generation` is the number of the communicator of so many ranks.
    """

    example: int
    ranks: int
    generation: int
    function: bytes
    arguments: bytes
    debugging: bool
    gradients: bool
    shown: bool | None


class Interrupt(NamedTuple):
    """Ends an example."""

    example: int


class Failure(NamedTuple):
    """An exception, pickled where that is possible, and as text."""

    pickled: bytes | None
    kind: str
    text: str
    trace: str


class Report(NamedTuple):
    """What a rank tells of an example.

    `clean` is False where messages of it may still be under way; `abandoned` counts the communicators that the
    rank gave up so far.
    """

    example: int
    progress: Progress
    result: bytes = b""
    failure: Failure | None = None
    clean: bool = True
    abandoned: int = 0


def class_of_controller(module: str, qualname: str) -> Any:
    """The class of that name in a module that the controller has imported."""
    return functools.reduce(getattr, qualname.split("."), sys.modules[module])


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles tensors of all dtypes."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and obj.dtype in _SENT_AS:
            return viewed, (obj.detach().view(_SENT_AS[obj.dtype]), obj.dtype)
        return super().reducer_override(obj)


def viewed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.view(dtype)


def itself(value: Any) -> Any:
    """What something is sent as in its place."""
    return value
