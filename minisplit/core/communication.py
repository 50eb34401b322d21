"""The protocol that carries bytes between ranks, and the communicator in use.

`Communication` is what everything above needs of a message-passing library; `minisplit.core.mpi` is its MPI
form. Another form (threads of one process, say) implements the same members.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

Record = NDArray[np.int64]
ReduceOp = Literal["sum", "prod", "min", "max"]


class Communication(ABC):
    """A group of ranks that exchange data. All methods but `abort` are collective.

    Tensors may have any strides and any dtype; results are on the device of the argument.
    """

    __slots__ = ("rank", "size")
    rank: int
    size: int

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: the copy of an array stays on the array's communicator."""
        return self

    @abstractmethod
    def exchange(self, send: Sequence[tuple[int, torch.Tensor]], recv: Sequence[tuple[int, torch.Tensor]]) -> None:
        """Send each `(peer, tensor)` of `send` and fill each `(peer, tensor)` of `recv`.

        At most one tensor goes from one rank to another, never to itself, and both
        sides give it the same shape and dtype. A rank with nothing to send or receive passes
        empty lists, and no message is sent for it.
        """

    @abstractmethod
    def allreduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        """Reduce elementwise over the ranks; `tensor` has one shape and dtype on all.

        float16 and bfloat16 are accumulated in float32, bool as "any" (sum, max) or "all" (prod,
        min); NaN propagates. Complex numbers have no min or max: TypeError.
        """

    @abstractmethod
    def scan(self, tensor: torch.Tensor) -> torch.Tensor:
        """Elementwise sum (of bool: "any") over the ranks before this one; zeros on rank 0."""

    @abstractmethod
    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> torch.Tensor:
        """Return the `tensor` of rank `root`; elsewhere it gives the shape and dtype, and is not changed."""

    @abstractmethod
    def broadcast_bytes(self, data: bytes, root: int = 0) -> bytes:
        """Return the `data` of rank `root`, of any length."""

    @abstractmethod
    def allgather(self, record: Record) -> Record:
        """Return the ranks' records, integers of one length, as the rows of a `(size, length)` array."""

    @abstractmethod
    def agree(self, record: Record) -> Record:
        """Return the elementwise maximum of the ranks' records, integers of one length. Small and fast."""

    @abstractmethod
    def split(self, color: int | None, key: int = 0) -> Communication | None:
        """Make one communicator per `color`, its ranks ordered by `key`; None for `color=None`."""

    @abstractmethod
    def abort(self, status: int = 1) -> None:
        """End every rank of the job. Not collective: one rank is enough."""


_current: ContextVar[Communication] = ContextVar("minisplit_comm")
_defaults: list[Communication] = []


def get_comm() -> Communication:
    """Return the communicator that new arrays use: the one of `use_comm`, else `MPI_WORLD`. Local.

    >>> import minisplit as ms
    >>> ms.get_comm() is ms.MPI_WORLD
    True
    """
    return _current.get(_defaults[0])


def set_default_comm(comm: Communication) -> None:
    """Set what `get_comm` returns where `use_comm` was not called."""
    _defaults[:] = [comm]


def sanitize_comm(comm: Communication | None) -> Communication:
    """Return `comm`, or the one in use for None; TypeError for anything else."""
    if comm is None:
        return get_comm()
    if not isinstance(comm, Communication):
        raise TypeError(f"comm must be a minisplit Communication or None, got {type(comm).__name__}")
    return comm


class use_comm:  # noqa: N801 - used like a function
    """Use `comm` for new arrays, from now on or for the length of a `with` block. Local.

    The choice holds for the present thread or asynchronous task.

    >>> import minisplit as ms
    >>> with ms.use_comm(ms.MPI_SELF):
    ...     ms.zeros(3, split=0).comm is ms.MPI_SELF
    True
    """

    __slots__ = ("_token",)

    def __init__(self, comm: Communication) -> None:
        self._token: Token[Communication] = _current.set(sanitize_comm(comm))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
