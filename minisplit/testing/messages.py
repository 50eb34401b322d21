"""The messages between the controller of a pool and its ranks. Tested in tests/testing/test_pool.py."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import cloudpickle
import torch

from minisplit.testing.histories import Progress

# torch pickles tensors of these dtypes, but cannot read them again: they are sent as tensors of the others.
_SENT_AS = {
    torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64,
    torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8,
}  # fmt: skip

# The environment variable by which the ranks know the secret of the controller's socket.
SECRET = "MINISPLIT_POOL_SECRET"


class Task(NamedTuple):
    """A function to run on the first `ranks` ranks, and the modes of the caller.

    Each task is an example, with a number of its own. `generation` is the number of the communicator of so many
    ranks: another one than before where that may not be used again.
    """

    example: int
    ranks: int
    generation: int
    function: bytes
    arguments: bytes
    debugging: bool
    gradients: bool
    is_final: bool | None


class Interrupt(NamedTuple):
    """Ends an example."""

    example: int


class RaisedError(NamedTuple):
    """An exception: its pickle, empty where there is none, "type: message", and its traceback as text."""

    pickled: bytes
    text: str
    trace: str


class Report(NamedTuple):
    """How far a rank has come with an example, and what came of it.

    `clean` is False where messages of it may still be in flight; `abandoned` counts the communicators that the
    rank gave up so far.
    """

    example: int
    progress: Progress
    result: bytes = b""
    error: RaisedError | None = None
    clean: bool = True
    abandoned: int = 0


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles tensors of all dtypes."""

    @classmethod
    def dumps(cls, value: object) -> bytes:
        """Return the pickle of a value."""
        file = io.BytesIO()
        cls(file).dump(value)
        return file.getvalue()

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and obj.dtype in _SENT_AS:
            return torch.Tensor.view, (obj.detach().view(_SENT_AS[obj.dtype]), obj.dtype)
        return super().reducer_override(obj)


def identity(value: Any) -> Any:
    """Return the value: an object whose pickle is that of another one is unpickled by it."""
    return value
