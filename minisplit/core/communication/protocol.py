"""The protocol that carries bytes between ranks, and the communicator in use.

`Communication` is what everything above needs of a message-passing library. Its MPI form is
`minisplit.core.communication.mpi`; `minisplit.testing.threads` is the one for threads of one process.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from threading import get_ident
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.debug import (
    CollectiveError,
    call_site,
    checksum,
    debugging,
    describe_call,
    texts_by_rank,
)
from minisplit.core.communication.reduce_ops import MergeOp, ReduceOp
from minisplit.core.inside_vmap import inside_vmap, refuse
from minisplit.core.transfer import TransferPlan

Record = NDArray[np.int64]
Call = tuple[object, ...]
# What goes to, or comes from, which rank.
Messages = list[tuple[int, torch.Tensor]]
# See `minisplit.testing.traffic` and `minisplit.profile`.
Observer = Callable[[Call, tuple[Any, ...]], Callable[[], object] | None]
Result = TypeVar("Result")

# The longest text that ranks compare in debug mode.
TEXT_BYTES = 512
REDUCIBLE = frozenset(
    {
        torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float32, torch.float64, torch.complex64, torch.complex128,
    }
)  # fmt: skip
# The type in which another dtype is accumulated.
_ACCUMULATE = {
    torch.bool: torch.uint8,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}
# Of two threads that begin at once one is refused. For all communicators, as each claims few times.
_claiming = threading.Lock()
# Numbers per record of a merge, and their dtype.
RECORDS: dict[MergeOp, tuple[int, torch.dtype]] = {"first": (2, torch.int64), "moments": (3, torch.float64)}
_BOOL_OPS: dict[ReduceOp, ReduceOp] = {"sum": "max", "prod": "min", "min": "min", "max": "max"}


class Communication(ABC):
    """A group of ranks that exchange data. All methods but `taken_over` and `abort` are collective.

    Tensors may have any strides and any dtype; results are on the device of the argument. One thread makes the
    calls on a communicator: the first that makes one. A RuntimeError meets any other thread, since the
    calls of two threads could be taken for one another, and all calls once the communicator was freed.

    A new form subclasses it and carries bytes in the methods that begin with an underscore.
    """

    __slots__ = ("__weakref__", "_call", "_calls", "_closed", "_observer", "_thread", "rank", "size")

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        # The call that this rank is in, as (kind, what must be alike on all ranks ...), and how many it has made.
        self._call: Call | None = None
        self._calls = 0
        self._thread: int | None = None
        self._closed = ""
        # Called before each collective call, with it and what it carries; what it returns is called after.
        self._observer: Observer | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: the copy of an array stays on the array's communicator."""
        return self

    def exchange(
        self,
        send: Sequence[tuple[int, torch.Tensor]],
        recv: Sequence[tuple[int, torch.Tensor]],
        purpose: Sequence[object] = (),
    ) -> None:
        """Send each `(peer, tensor)` of `send` and fill each `(peer, tensor)` of `recv`.

        What one rank sends to another, never to itself, arrives in the order in which it is listed, and both
        sides give the same shapes and dtypes. A rank with nothing to send or receive passes
        empty lists, and no message is sent for it. `purpose`, the same on all ranks, is compared in debug mode.
        """
        if self.size > 1:
            self._collective(("exchange", *purpose), self._exchange, send, recv)

    def transfer(self, source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> None:
        """An exchange that fills `target`, this rank's shard under `steps.dst`, from the ranks' shards `source`.

        `target` is contiguous.
        """
        if self.size > 1:
            call = ("exchange", source.dtype, steps.src, "to", steps.dst)
            self._collective(call, self._transfer, source, target, steps)
        else:
            messages_of(source, target, steps)

    def allreduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        """Reduce elementwise over the ranks; `tensor` has one shape and dtype on all.

        float16 and bfloat16 are accumulated in float32, bool as "any" (sum, max) or "all" (prod,
        min); NaN propagates. Complex numbers have no min or max: TypeError.
        """
        if op not in _BOOL_OPS:
            raise ValueError(f"op must be one of {', '.join(_BOOL_OPS)}, got {op!r}")
        if tensor.dtype.is_complex and op in {"min", "max"}:
            raise TypeError(f"complex numbers have no order: op {op!r} of {tensor.dtype}")
        total = _reducible(tensor)
        if self.size > 1:
            chosen = _BOOL_OPS[op] if tensor.dtype is torch.bool else op
            call = ("allreduce", tensor.dtype, tuple(tensor.shape), op)
            self._collective(call, self._allreduce, total, chosen)
        return total.to(device=tensor.device, dtype=tensor.dtype)

    def merge(self, records: torch.Tensor, op: MergeOp) -> torch.Tensor:
        """Merge the ranks' records, which lie along the last axis of `records`, of one shape on all.

        "first" keeps the lexicographically greatest of pairs of int64; "moments" merges count, mean and sum of
        squared deviations, as float64.
        """
        width, dtype = RECORDS[op]
        if records.dtype is not dtype or records.shape[-1:] != (width,):
            raise ValueError(
                f"records for {op!r} are {width} numbers of {dtype} along the last axis, "
                f"got {records.dtype} of shape {tuple(records.shape)}"
            )
        merged = _reducible(records)
        if self.size > 1:
            self._collective(("merge", tuple(records.shape), op), self._allreduce, merged, op)
        return merged.to(records.device)

    def scan(self, tensor: torch.Tensor, op: Literal["sum", "prod"] = "sum") -> torch.Tensor:
        """Elementwise sum or product (of bool: "any", "all") over the ranks before this one.

        On rank 0 that of nothing: zeros or ones.
        """
        if op not in {"sum", "prod"}:
            raise ValueError(f"op of a scan must be sum or prod, got {op!r}")
        mine = _reducible(tensor)
        before = torch.zeros_like(mine) if op == "sum" else torch.ones_like(mine)
        if self.size > 1:
            chosen = _BOOL_OPS[op] if tensor.dtype is torch.bool else op
            call = ("scan", tensor.dtype, tuple(tensor.shape), op)
            self._collective(call, self._scan, mine, before, chosen)
        return before.to(device=tensor.device, dtype=tensor.dtype)

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> torch.Tensor:
        """Return the `tensor` of rank `root`; elsewhere it gives the shape and dtype, and is not changed."""
        if self.size == 1:
            return tensor.detach().clone()
        call = ("broadcast", tensor.dtype, tuple(tensor.shape), f"from rank {root}")
        return self._collective(call, self._broadcast, tensor, root)

    def broadcast_bytes(self, data: bytes, root: int = 0) -> bytes:
        """Return the `data` of rank `root`, of any length."""
        if self.size == 1:
            return data
        return self._collective(("broadcast_bytes", f"from rank {root}"), self._broadcast_bytes, data, root)

    def allgather(self, record: Record) -> Record:
        """Return the ranks' records, integers of one length, as the rows of a `(size, length)` array."""
        if self.size == 1:
            return record[None].copy()
        return self._collective(("allgather", len(record)), self._allgather, record)

    def compare(self, record: Record) -> Record:
        """`allgather` for what debug mode asks beside the program: an observer does not see it."""
        with self._unobserved():
            return self.allgather(record)

    def agree(self, record: Record) -> Record:
        """Return the elementwise maximum of the ranks' records, integers of one length. Small and fast."""
        if self.size == 1:
            return record
        return self._collective(("agree", len(record)), self._agree, record)

    def split(self, color: int | None, key: int = 0) -> Communication | None:
        """Make one communicator per `color`, its ranks ordered by `key`; None for `color=None`."""
        return self._collective(("split",), self._split, color, key)

    def free(self) -> None:
        """Give back what the communicator holds. A later call on it raises RuntimeError."""
        self._collective(("free",), self._free)
        self._close("was freed")

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Let this thread make the calls for the length of a `with` block; their usual thread waits. Local."""
        before, self._thread = self._thread, None if self._closed else get_ident()
        try:
            yield
        finally:
            self._thread = None if self._closed else before

    def check_same(self, value: torch.Tensor | str, name: str, *, shown: str = "", hint: str = "") -> None:
        """Raise ValueError, the same on every rank, unless `value` is the same on all ranks. Collective."""
        if self.size == 1:
            return
        number = checksum(value)
        other = first_difference(self.allgather(np.array([number])))
        if other is None:
            return
        shown = shown or f"checksum {number:x}"
        first, differing = (self.broadcast_bytes(shown.encode(), root).decode() for root in (0, other))
        raise ValueError(
            f"{name} must be the same on every rank, but rank 0 has {first}, rank {other} has {differing}"
            f"{hint and '; '}{hint}"
        )

    def check_replicated(self, value: torch.Tensor | str, name: str, hint: str = "") -> None:
        """In debug mode `check_same`, which an observer does not see; else nothing.

        Nothing in a mapped function either, which ranks run by themselves.
        """
        if debugging() and not inside_vmap():
            with self._unobserved():
                self.check_same(value, name, hint=hint)

    @contextmanager
    def _unobserved(self) -> Iterator[None]:
        """Keep from the observer what debug mode sends beside the program."""
        observer, self._observer = self._observer, None
        try:
            yield
        finally:
            self._observer = observer

    def _collective(self, call: Call, carry: Callable[..., Result], *args: Any) -> Result:
        """Make one call that all ranks make alike."""
        if self._thread != get_ident():
            self._claim()
        refuse(call)
        self._calls += 1
        self._call = call
        over = None if self._observer is None else self._observer(call, args)
        try:
            if debugging():
                self._compare(call)
            return carry(*args)
        finally:
            self._call = None
            if over is not None:
                over()

    def _claim(self) -> None:
        """Make this thread the one that makes the calls, or raise RuntimeError."""
        if self._closed:
            raise RuntimeError(f"the communicator of {self.size} ranks {self._closed}: no call can be made on it")
        with _claiming:
            owner = next((thread for thread in threading.enumerate() if thread.ident == self._thread), None)
            if owner is not None:
                raise RuntimeError(
                    f"this communicator is used by thread {owner.name!r}, so {threading.current_thread().name!r} "
                    "cannot make collective calls on it: those of two threads could be taken for one another. "
                    "Give it one of its own (comm.split(0), called by the first), or call within "
                    "comm.taken_over() while the first waits"
                )
            self._thread = get_ident()

    def _close(self, reason: str) -> None:
        self._closed = reason
        self._thread = None  # which is nobody's, so every call meets `_claim`

    def _compare(self, call: Call) -> None:
        """CollectiveError, the same on every rank, unless all ranks make this call, on the same line."""
        said, site = describe_call(call), f" at {call_site()[-80:]}"
        room = TEXT_BYTES - len(site.encode())
        if len(said.encode()) > room:  # the counts of many ranks
            end = f" ... [{hashlib.blake2b(said.encode(), digest_size=8).hexdigest()}]"
            said = said.encode()[: room - len(end)].decode(errors="ignore") + end
        texts = self._allgather_text(said + site)
        if len(set(texts)) > 1:
            raise CollectiveError(f"collective #{self._calls}: {texts_by_rank(texts)}")

    @abstractmethod
    def _exchange(
        self, send: Sequence[tuple[int, torch.Tensor]], recv: Sequence[tuple[int, torch.Tensor]]
    ) -> None: ...

    def _transfer(self, source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> None:
        self._exchange(*messages_of(source, target, steps))

    @abstractmethod
    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        """Reduce in place; `total` is contiguous, in host memory, and of a dtype in `REDUCIBLE`.

        For a merge, the last axis of `total` is a record, which must not be cut.
        """

    @abstractmethod
    def _scan(self, mine: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        """Fill `before`, except on rank 0; both are like the argument of `_allreduce`."""

    @abstractmethod
    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor: ...

    @abstractmethod
    def _broadcast_bytes(self, data: bytes, root: int) -> bytes: ...

    @abstractmethod
    def _allgather(self, record: Record) -> Record: ...

    @abstractmethod
    def _allgather_text(self, text: str) -> list[str]:
        """The ranks' texts, each of at most `TEXT_BYTES` bytes."""

    @abstractmethod
    def _agree(self, record: Record) -> Record: ...

    @abstractmethod
    def _split(self, color: int | None, key: int) -> Communication | None: ...

    @abstractmethod
    def _free(self) -> None: ...

    @abstractmethod
    def abort(self, status: int = 1) -> None:
        """End every rank of the job. Not collective: one rank is enough."""


def first_difference(rows: Record) -> int | None:
    """Return the first rank whose row, of those that all ranks have gathered, is not that of rank 0.

    >>> first_difference(np.array([[1, 2], [1, 2], [1, 3]])), first_difference(np.array([7, 7]))
    (2, None)
    """
    others = np.flatnonzero((rows != rows[0]).reshape(len(rows), -1).any(axis=1))
    return int(others[0]) if len(others) else None


def messages_sent(call: Call, args: tuple[Any, ...]) -> tuple[int, int]:
    """How many parcels a call sends to other ranks, and their bytes, given what an observer is given."""
    match call, args:
        case ("exchange", *_), (torch.Tensor() as source, _, TransferPlan() as steps):
            return steps.messages_sent, steps.elements_sent * source.itemsize
        case ("exchange", *_), (send, _):
            return len(send), sum(tensor.nbytes for _, tensor in send)
    return 0, 0


def messages_of(source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> tuple[Messages, Messages]:
    """What a plan sends and receives, as views of the shards; what stays on this rank is copied at once."""
    send = {peer: source.narrow(steps.send.axis, start, length) for peer, start, length in steps.send}
    recv = {peer: target.narrow(steps.recv.axis, start, length) for peer, start, length in steps.recv}
    if steps.rank in recv:
        recv.pop(steps.rank).copy_(send.pop(steps.rank))
    return list(send.items()), list(recv.items())


def _reducible(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy of `tensor` in host memory, in a dtype that every communicator can reduce."""
    dtype = _ACCUMULATE.get(tensor.dtype, tensor.dtype)
    if dtype not in REDUCIBLE:
        raise TypeError(f"reductions over ranks are not defined for {tensor.dtype}")
    host = tensor.detach().to(device="cpu", dtype=dtype).resolve_conj().resolve_neg()
    return host.clone(memory_format=torch.contiguous_format)


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
