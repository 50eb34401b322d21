"""`Communication`, what minisplit needs of a message-passing library, and the communicator in use.

Its form for MPI is in `minisplit.core.communication.mpi`, that for threads of one process in
`minisplit.testing.threads`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.arguments import (
    check_bytes,
    check_color,
    check_messages,
    check_plan,
    check_rank,
    check_record,
    check_tensor,
    to_json,
)
from minisplit.core.communication.debug import (
    CollectiveError,
    Setting,
    call_site,
    checksum,
    debugging,
    describe_call,
    texts_by_rank,
)
from minisplit.core.communication.handles import Handle
from minisplit.core.communication.inside_vmap import inside_vmap, refuse
from minisplit.core.communication.reduce_ops import MergeOp, ReduceOp
from minisplit.core.error_text import encoded, said_by
from minisplit.core.pytorch.devices import cpu
from minisplit.core.pytorch.dtypes import WIDER_HALVES
from minisplit.core.transfer import TransferPlan

# A few integers.
Record = NDArray[np.int64]
# What kind of call a rank makes, then what must be the same on all ranks.
Call = tuple[object, ...]
# So many of its last calls a rank can tell to others.
KEPT = 1024
# Tensors, each with the rank that it goes to or comes from.
Messages = Sequence[tuple[int, torch.Tensor]]
# Called before each collective call, with the call and what it carries. What it returns is called after the call.
# See `minisplit.testing.traffic` and `minisplit.profile`.
Observer = Callable[[Call, tuple[Any, ...]], Callable[[], object] | None]
Result = TypeVar("Result")

# The longest text that ranks compare in debug mode.
TEXT_BYTES = 512
# The dtypes that both MPI and NumPy can add up.
REDUCIBLE = frozenset(
    {
        torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float32, torch.float64, torch.complex64, torch.complex128,
    }
)  # fmt: skip
# The dtype in which another one is reduced. Halves would be rounded after each rank: 256 + 0.5 is 256 in bfloat16.
_ACCUMULATE = {torch.bool: torch.uint8, **WIDER_HALVES}
# Of bool a sum is "any" and a product "all". A sum of uint8 would be 0 for True on 256 ranks.
_BOOL_OPS: dict[ReduceOp, ReduceOp] = {"sum": "max", "prod": "min", "min": "min", "max": "max"}
# Numbers per record of a merge, and their dtype.
RECORDS: dict[MergeOp, tuple[int, torch.dtype]] = {"first": (2, torch.int64), "moments": (3, torch.float64)}
# Of two threads that make a first call at the same time one is refused. One lock serves all communicators, since
# each takes it a few times in its life.
_claim_lock = threading.Lock()


class Communication(ABC):
    """A group of ranks that exchange data.

    Every rank of the group must call the same methods in the same order: they are collective, but for `taken_over`
    and `abort`. Tensors may have any strides and any dtype, and results are on the device of the argument.

    One thread makes the calls on a communicator: the first that makes one. For any other thread a call is a
    RuntimeError, since the calls of two threads could be taken for one another. So is any call once the
    communicator was freed.

    A subclass carries the bytes, in the methods whose names begin with an underscore.

    Parameters
    ----------
    rank : int
        The number of this rank.
    size : int
        The number of ranks.

    Attributes
    ----------
    rank : int
        The number of this rank in the group, from 0 to `size - 1`.
    size : int
        The number of ranks in the group.
    """

    __slots__ = (
        "__weakref__",
        "_call",
        "_calls",
        "_closed",
        "_handle",
        "_observer",
        "_recent",
        "_thread",
        "rank",
        "size",
    )

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        # How many calls this rank has made; number and kind of the one that it is in; and the last ones, that of
        # number n at place n % KEPT. Number and kind are one value, since the watchdog reads them in a thread of
        # its own: the number of one call and the kind of the next would be a call that no other rank has made.
        self._calls = 0
        self._call: tuple[int, Call] | None = None
        self._recent: list[tuple[int, Call] | None] = [None] * KEPT
        self._handle = Handle(self._recent)
        # The thread that makes the calls, None before the first one.
        self._thread: int | None = None
        # Why no call can be made any more, "" while calls can be made.
        self._closed = ""
        self._observer: Observer | None = None

    @staticmethod
    def from_process_group(group: Any = None) -> Communication:
        """Return a communicator of the ranks of a process group of torch.distributed.

        The messages go by groups of minisplit's own, so that they are never taken for those of the caller.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup or torch.distributed.device_mesh.DeviceMesh, optional
            The group, or a mesh of one dimension. By default that of all processes. It stays the caller's.

        Returns
        -------
        TorchCommunication
            The communicator, on any engine.

        Raises
        ------
        ValueError
            If this process is not in the group, or a mesh has several dimensions.

        Communication
        -------------
        Local.

        Examples
        --------
        >>> import torch.distributed as dist
        >>> import minisplit as ms
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> comm = ms.Communication.from_process_group(dist.group.WORLD)
        >>> ms.arange(6, split=0, comm=comm).sum().item()
        15
        >>> dist.destroy_process_group()
        """
        return _of_group[0](group)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return the communicator itself: the copy of an array stays on the array's communicator."""
        return self

    def exchange(
        self, send: Messages, recv: Messages, purpose: Sequence[object] = (), device: torch.device = cpu
    ) -> None:
        """Send tensors to other ranks, and fill tensors with what they send.

        What one rank sends to another arrives in the order in which it is listed. Both list the same shapes and
        dtypes. No rank sends to itself.

        Parameters
        ----------
        send : sequence of (int, Tensor)
            The ranks to send to, and what. May be empty.
        recv : sequence of (int, Tensor)
            The ranks to receive from, and the tensors to fill. May be empty.
        purpose : sequence of object, default ()
            What the exchange is for, the same on all ranks. Debug mode compares it.
        device : torch.device, default minisplit.cpu
            Where the tensors are, of one type on all ranks. What is elsewhere goes through host memory.

        Raises
        ------
        TypeError
            If these are no pairs of ranks and tensors.
        ValueError
            If there is no such rank, or it is this one; or if a tensor to fill cannot be written into.

        Communication
        -------------
        Collective: one exchange. A rank that neither sends nor receives waits for nobody, but in the first call
        on a communicator, and on a `device` whose process group all ranks have to use together.
        """
        check_messages(send, recv, self.rank, self.size)
        if self.size > 1:
            self._collective(("exchange", *purpose), self._exchange, send, recv, device)

    def transfer(self, source: torch.Tensor, target: torch.Tensor, plan: TransferPlan) -> None:
        """Bring an array from one layout to another.

        Parameters
        ----------
        source : Tensor
            This rank's shard under `plan.src`.
        target : Tensor
            This rank's shard under `plan.dst`, to be filled. It is contiguous.
        plan : TransferPlan
            What this rank sends and receives.

        Raises
        ------
        TypeError
            If these are no tensors and no plan.
        ValueError
            If the plan is not for this rank and these shards, their dtypes differ, or `target` is not contiguous.

        Communication
        -------------
        Collective: one exchange.
        """
        check_plan(source, target, plan, self.rank, self.size)
        if self.size > 1:
            call = ("exchange", source.dtype, plan.src, "to", plan.dst)
            self._collective(call, self._transfer, source, target, plan)
        else:
            messages_of(source, target, plan)

    def allreduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        """Reduce tensors of one shape and dtype elementwise over the ranks.

        float16 and bfloat16 are accumulated in float32. NaN on any rank gives NaN.

        Parameters
        ----------
        tensor : Tensor
            This rank's contribution.
        op : {"sum", "prod", "min", "max"}, default "sum"
            The reduction. Of bool, "sum" and "max" mean any, "prod" and "min" mean all.

        Returns
        -------
        Tensor
            The reduced tensor, the same on all ranks, of the dtype of `tensor`.

        Raises
        ------
        ValueError
            If `op` is no such reduction.
        TypeError
            If `tensor` is no tensor, or its dtype cannot be reduced. Complex numbers have no "min" and "max".

        Communication
        -------------
        Collective: one allreduce.
        """
        check_tensor(tensor, "tensor")
        if op not in _BOOL_OPS:
            raise ValueError(f"op must be one of {', '.join(_BOOL_OPS)}, got {op!r}")
        if tensor.dtype.is_complex and op in {"min", "max"}:
            raise TypeError(f"complex numbers have no order: op {op!r} of {tensor.dtype}")
        total = _reducible(tensor)
        if self.size > 1:
            chosen = _BOOL_OPS[op] if tensor.dtype is torch.bool else op
            call = ("allreduce", tensor.dtype, tuple(tensor.shape), op)
            self._collective(call, self._allreduce, total, chosen)
        return total.to(tensor.dtype)

    def merge(self, records: torch.Tensor, op: MergeOp) -> torch.Tensor:
        """Merge records of several numbers over the ranks.

        Parameters
        ----------
        records : Tensor
            This rank's records, of one shape on all ranks. A record lies along the last axis.
        op : {"first", "moments"}
            The rule. "first" keeps the lexicographically greatest pair of int64. "moments" makes count, mean and
            sum of squared deviations of all samples together from those of each, in float64.

        Returns
        -------
        Tensor
            The merged records, the same on all ranks.

        Raises
        ------
        TypeError
            If `records` is not a tensor.
        ValueError
            If there is no such rule, or the records have another dtype or length than it asks for.

        Communication
        -------------
        Collective: one allreduce.
        """
        check_tensor(records, "records")
        if op not in RECORDS:
            raise ValueError(f"op of a merge must be one of {', '.join(RECORDS)}, got {op!r}")
        width, dtype = RECORDS[op]
        if records.dtype is not dtype or records.shape[-1:] != (width,):
            raise ValueError(
                f"records for {op!r} are {width} numbers of {dtype} along the last axis, "
                f"got {records.dtype} of shape {tuple(records.shape)}"
            )
        merged = _reducible(records)
        if self.size > 1:
            self._collective(("merge", tuple(records.shape), op), self._allreduce, merged, op)
        return merged

    def scan(self, tensor: torch.Tensor, op: Literal["sum", "prod"] = "sum") -> torch.Tensor:
        """Reduce tensors of one shape and dtype elementwise over the ranks before this one.

        Parameters
        ----------
        tensor : Tensor
            This rank's contribution.
        op : {"sum", "prod"}, default "sum"
            The reduction. Of bool, "sum" means any and "prod" means all.

        Returns
        -------
        Tensor
            The tensors of the lower ranks, reduced, of the dtype of `tensor`. Zeros or ones on rank 0.

        Raises
        ------
        ValueError
            If `op` is no such reduction.
        TypeError
            If `tensor` is no tensor, or its dtype cannot be reduced.

        Communication
        -------------
        Collective: one exclusive scan.
        """
        check_tensor(tensor, "tensor")
        if op not in {"sum", "prod"}:
            raise ValueError(f"op of a scan must be sum or prod, got {op!r}")
        own = _reducible(tensor)
        before = torch.zeros_like(own) if op == "sum" else torch.ones_like(own)
        if self.size > 1:
            chosen = _BOOL_OPS[op] if tensor.dtype is torch.bool else op
            call = ("scan", tensor.dtype, tuple(tensor.shape), op)
            self._collective(call, self._scan, own, before, chosen)
        return before.to(tensor.dtype)

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> torch.Tensor:
        """Return the tensor of one rank on all ranks.

        Parameters
        ----------
        tensor : Tensor
            On rank `root`, what to send. On the others its shape and dtype say what comes; it is not changed.
        root : int, default 0
            The rank that sends.

        Returns
        -------
        Tensor
            The tensor of rank `root`, in memory of its own.

        Raises
        ------
        TypeError
            If `tensor` is no tensor, or `root` no int.
        ValueError
            If there is no rank `root`.

        Communication
        -------------
        Collective: one broadcast.
        """
        check_tensor(tensor, "tensor")
        root = check_rank(root, "root", self.size)
        if self.size == 1:
            return tensor.detach().clone()
        call = ("broadcast", tensor.dtype, tuple(tensor.shape), f"from rank {root}")
        return self._collective(call, self._broadcast, tensor, root)

    def broadcast_bytes(self, data: bytes, root: int = 0) -> bytes:
        """Return the bytes of one rank on all ranks.

        Parameters
        ----------
        data : bytes
            On rank `root`, what to send, of any length. On the others any bytes.
        root : int, default 0
            The rank that sends.

        Returns
        -------
        bytes
            The bytes of rank `root`.

        Raises
        ------
        TypeError
            If `data` is not bytes, or `root` no int.
        ValueError
            If there is no rank `root`.

        Communication
        -------------
        Collective: two broadcasts, of the length and of the bytes.
        """
        check_bytes(data)
        root = check_rank(root, "root", self.size)
        if self.size == 1:
            return bytes(data)
        return self._collective(("broadcast_bytes", f"from rank {root}"), self._broadcast_bytes, data, root)

    def allgather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors of all ranks on all ranks.

        Parameters
        ----------
        tensor : Tensor
            This rank's tensor, of any dtype. The ranks' first axes may differ in length; all else is the same.

        Returns
        -------
        list of Tensor
            The tensors in the order of the ranks, each in memory of its own, on the device of `tensor`.

        Raises
        ------
        TypeError
            If `tensor` is not a tensor.
        ValueError
            On all ranks, if dtypes, numbers of axes or the extents of other axes than the first differ.

        Communication
        -------------
        Collective: one allgather of 16 bytes and one exchange.

        Examples
        --------
        >>> import minisplit as ms
        >>> ms.MPI_SELF.allgather(torch.tensor([1.5, 2.5]))
        [tensor([1.5000, 2.5000])]
        """
        check_tensor(tensor, "tensor")
        own = tensor.detach()
        extents = [":", *map(str, own.shape[1:])] if own.ndim else []
        kind = f"{own.dtype} of shape ({', '.join(extents)})"
        table = self.allgather_record(np.array([checksum(kind), len(own) if own.ndim else 0]))
        if (other := first_difference(table[:, 0])) is not None:
            first, differing = (self.broadcast_bytes(kind.encode(), root).decode() for root in (0, other))
            raise ValueError(
                "tensors to gather may differ in the length of their first axis only, but rank 0 has "
                f"{first}, rank {other} has {differing}"
            )
        shapes = [(n, *own.shape[1:]) if own.ndim else () for n in table[:, 1].tolist()]
        gathered = [torch.empty(shape, dtype=own.dtype, device=own.device) for shape in shapes]
        gathered[self.rank].copy_(own)
        others = [rank for rank in range(self.size) if rank != self.rank]
        self.exchange(
            [(rank, own) for rank in others],
            [(rank, gathered[rank]) for rank in others],
            ("allgather", kind),
            own.device,
        )
        return gathered

    def allgather_object(self, value: object) -> list[Any]:
        """Return the values of all ranks, which JSON must have, on all ranks.

        Parameters
        ----------
        value : object
            This rank's value: texts, numbers, bools, None, and lists and dicts of them with texts as keys. It is
            sent as JSON, so nothing is ever unpickled, and tuples come back as lists.

        Returns
        -------
        list
            The values in the order of the ranks.

        Raises
        ------
        TypeError
            On all ranks, if JSON has not the value of one of them.

        Communication
        -------------
        Collective: what `allgather` is.

        Examples
        --------
        >>> import minisplit as ms
        >>> ms.MPI_SELF.allgather_object({"loss": 0.5, "shape": (2, 3)})
        [{'loss': 0.5, 'shape': [2, 3]}]
        """
        try:
            data = b"1" + to_json(value).encode()
        except Exception as error:  # of this rank alone, so it is sent in place of the value
            data = b"0" + encoded(f"{type(error).__name__}: {said_by(error)}")
        gathered = self.allgather(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        parts = [part.numpy().tobytes() for part in gathered]
        for rank, part in enumerate(parts):
            if part[:1] == b"0":
                raise TypeError(
                    "values to gather must be what JSON has, texts, numbers, bools, None, lists and dicts of "
                    f"them, but rank {rank} failed with {part[1:].decode()}; tensors go by allgather"
                )
        return [json.loads(part[1:]) for part in parts]

    def allgather_record(self, record: Record) -> Record:
        """Return a few integers of all ranks on all ranks: the fastest way to gather.

        Parameters
        ----------
        record : ndarray of int64
            This rank's numbers, as many on all ranks.

        Returns
        -------
        ndarray of int64
            The ranks' numbers as the rows of a `(size, len(record))` array.

        Raises
        ------
        TypeError
            If `record` is no array of int64.
        ValueError
            If it has not one axis.

        Communication
        -------------
        Collective: one allgather.
        """
        record = check_record(record)
        if self.size == 1:
            return record[None].copy()
        return self._collective(("allgather", len(record)), self._allgather, record)

    def alltoall_record(self, record: Record) -> Record:
        """Send one integer to each rank, and return what each has for this one: MPI's `Alltoall`.

        Parameters
        ----------
        record : ndarray of int64
            A number for each rank, in their order.

        Returns
        -------
        ndarray of int64
            The number of each rank for this one.

        Raises
        ------
        TypeError
            If `record` is no array of int64.
        ValueError
            If it has not one axis with a number for each rank.

        Communication
        -------------
        Collective: one all-to-all.
        """
        record = check_record(record)
        if len(record) != self.size:
            raise ValueError(f"record must have a number for each of {self.size} ranks, got {len(record)}")
        if self.size == 1:
            return record.copy()
        return self._collective(("alltoall",), self._alltoall, record)

    def compare(self, record: Record) -> Record:
        """Do `allgather_record` for a check of debug mode, which an observer does not see.

        Parameters
        ----------
        record : ndarray of int64
            This rank's numbers, as many on all ranks.

        Returns
        -------
        ndarray of int64
            The ranks' numbers as the rows of a `(size, len(record))` array.

        Communication
        -------------
        Collective: one allgather.
        """
        with self._unobserved():
            return self.allgather_record(record)

    def agree(self, record: Record) -> Record:
        """Return the elementwise maximum of the ranks' records: the fastest question to all ranks.

        Parameters
        ----------
        record : ndarray of int64
            This rank's numbers, as many on all ranks.

        Returns
        -------
        ndarray of int64
            The greatest of each, the same on all ranks.

        Raises
        ------
        TypeError
            If `record` is no array of int64.
        ValueError
            If it has not one axis.

        Communication
        -------------
        Collective: one allreduce.
        """
        record = check_record(record)
        if self.size == 1:
            return record
        return self._collective(("agree", len(record)), self._agree, record)

    def check_same(self, value: torch.Tensor | str, name: str, *, description: str = "", hint: str = "") -> None:
        """Raise an error on all ranks unless a value is the same on all of them.

        Parameters
        ----------
        value : Tensor or str
            The value. Ranks compare its `checksum`.
        name : str
            What the error calls it.
        description : str, default ""
            What the error shows of it, instead of the checksum.
        hint : str, default ""
            What to do, with which the error ends.

        Raises
        ------
        ValueError
            If the values differ. The text has those of rank 0 and of the first rank that differs.

        Communication
        -------------
        Collective: one allgather of 8 bytes, and four broadcasts where the values differ.
        """
        if not isinstance(value, str):
            check_tensor(value, "what is compared")
        if self.size == 1:
            return
        number = checksum(value)
        other = first_difference(self.allgather_record(np.array([number])))
        if other is None:
            return
        description = description or f"checksum {number:x}"
        first, differing = (self.broadcast_bytes(encoded(description), root).decode() for root in (0, other))
        raise ValueError(
            f"{name} must be the same on every rank, but rank 0 has {first}, rank {other} has {differing}"
            f"{hint and '; '}{hint}"
        )

    def check_replicated(self, value: torch.Tensor | str, name: str, hint: str = "") -> None:
        """Do `check_same` in debug mode, and nothing without it.

        Nothing in a mapped function either, which each rank runs by itself. An observer does not see it.

        Parameters
        ----------
        value : Tensor or str
            The value.
        name : str
            What the error calls it.
        hint : str, default ""
            What to do, with which the error ends.

        Raises
        ------
        ValueError
            If debug mode is on and the values differ.

        Communication
        -------------
        Local. Collective in debug mode: one allgather of 8 bytes.
        """
        if debugging() and not inside_vmap():
            with self._unobserved():
                self.check_same(value, name, hint=hint)

    def split(self, color: int | None, key: int = 0) -> Communication | None:
        """Make communicators of parts of the ranks.

        Parameters
        ----------
        color : int or None
            Ranks that give the same number get one communicator. With None a rank gets none.
        key : int, default 0
            By this number the ranks of a communicator are ordered, and by their present rank where it is equal.

        Returns
        -------
        Communication or None
            The new communicator of this rank, None for `color=None`.

        Raises
        ------
        TypeError
            If these are no ints.
        ValueError
            If `color` is negative, or one of them has more than 32 bits.
        RuntimeError
            If MPI has no room for more communicators.

        Communication
        -------------
        Collective.
        """
        check_color(color, key)
        return self._collective(("split",), self._split, color, key)

    def free(self) -> None:
        """Give back what the communicator holds. A later call on it is a RuntimeError.

        Communication
        -------------
        Collective.
        """
        self._collective(("free",), self._free)
        self._close("was freed")

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Let the present thread make the calls for the length of a `with` block.

        The thread that made them until then must wait meanwhile.

        Yields
        ------
        None
            Nothing.

        Communication
        -------------
        Local.
        """
        before, self._thread = self._thread, None if self._closed else get_ident()
        try:
            yield
        finally:
            self._thread = None if self._closed else before

    @abstractmethod
    def abort(self, status: int = 1) -> None:
        """End every rank of the job.

        Parameters
        ----------
        status : int, default 1
            The exit status of the job.

        Communication
        -------------
        Local: it is enough that one rank calls it.
        """

    def _collective(self, call: Call, method: Callable[..., Result], *args: Any) -> Result:
        """Make one call, `method(*args)`, that all ranks make alike."""
        if self._thread != get_ident():
            self._claim()
        if inside_vmap():
            refuse(call)
        self._calls = number = self._calls + 1
        self._call = self._recent[number % KEPT] = number, call
        end = None if self._observer is None else self._observer(call, args)
        try:
            if debugging():
                self._compare(call)
            return method(*args)
        except Exception as error:
            self._explain(error, call)
            raise
        finally:
            self._call = None
            if end is not None:
                end()

    def _explain(self, error: Exception, call: Call) -> None:  # noqa: B027 - most need no explanation
        """Add a note to what a call has raised, if the message-passing library does not say what to do."""

    def compare_call(self, call: Call) -> None:
        """Raise an error on all ranks, in debug mode, unless all are about to make this call of minisplit.

        Parameters
        ----------
        call : tuple
            The name of a function, and texts that say what its arguments are.

        Raises
        ------
        CollectiveError
            If the calls differ. The text has those of all ranks, and the lines of the program.

        Communication
        -------------
        Collective in debug mode: one allgather.
        """
        if self.size > 1:
            with self._unobserved():
                self._collective(call, self._meet)

    def is_usable(self) -> bool:
        """Return whether the present thread can make collective calls.

        Returns
        -------
        bool
            False after `free`, and where another thread makes the calls.

        Communication
        -------------
        Local.
        """
        return not self._closed and self._thread in {None, get_ident()}

    def _members(self) -> tuple[int, ...]:
        """The ranks by their numbers among all of the job; none where not all of them are of this job."""
        return ()

    def _meet(self) -> None:  # noqa: B027 - `_compare` compares the calls of most forms
        """Wait for the other ranks, if `_compare` did not compare the calls."""

    def _by_distance(self, pieces: Messages, step: int) -> Messages:
        """Order by distance from this rank, so that not every rank sends to rank 0 first."""
        return sorted(pieces, key=lambda piece: step * (piece[0] - self.rank) % self.size)

    def _claim(self) -> None:
        """Make this thread the one that makes the calls, or raise RuntimeError."""
        if self._closed:
            raise RuntimeError(f"the communicator of {self.size} ranks {self._closed}: no call can be made on it")
        with _claim_lock:
            # A thread that has ended leaves the communicator to the next one.
            owner = next((thread for thread in threading.enumerate() if thread.ident == self._thread), None)
            if owner is not None:
                raise RuntimeError(
                    f"this communicator is used by thread {owner.name!r}, so {threading.current_thread().name!r} "
                    "cannot make collective calls on it: MPI could mix up the calls of two threads. Give this "
                    "thread its own communicator (comm.split(0), called by the first thread), or call within "
                    "comm.taken_over() while the first thread waits"
                )
            self._thread = get_ident()

    def _close(self, reason: str) -> None:
        """Refuse all calls from now on: "the communicator {reason}"."""
        self._closed = reason
        # No thread has this number, so every call comes to `_claim`: only there `_closed` needs to be looked at.
        self._thread = None

    @contextmanager
    def _unobserved(self) -> Iterator[None]:
        """Hide from the observer what debug mode sends beside the program."""
        observer, self._observer = self._observer, None
        try:
            yield
        finally:
            self._observer = observer

    def _compare(self, call: Call) -> None:
        """Raise CollectiveError, the same on every rank, unless all ranks make this call on the same line."""
        # As bytes that UTF-8 can read again: names of files may hold others.
        text, site = (encoded(part).decode() for part in (describe_call(call), f" at {call_site()[-80:]}"))
        room = TEXT_BYTES - len(site.encode())
        if len(text.encode()) > room:  # the counts of many ranks: their end is compared by a hash
            end = f" ... [{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}]"
            text = text.encode()[: room - len(end)].decode(errors="ignore") + end
        texts = self._allgather_text(text + site)
        if len(set(texts)) > 1:
            raise CollectiveError(f"collective #{self._calls}: {texts_by_rank(texts)}")

    @abstractmethod
    def _exchange(self, send: Messages, recv: Messages, device: torch.device) -> None: ...

    def _transfer(self, source: torch.Tensor, target: torch.Tensor, plan: TransferPlan) -> None:
        self._exchange(*messages_of(source, target, plan), source.device)

    @abstractmethod
    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        """Reduce in place; `total` is contiguous, on the device of its array, and of a dtype in `REDUCIBLE`.

        For a merge, the last axis of `total` is a record, which must not be cut.
        """

    @abstractmethod
    def _scan(self, tensor: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        """Fill `before`, except on rank 0; both are like the argument of `_allreduce`."""

    @abstractmethod
    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor: ...

    @abstractmethod
    def _broadcast_bytes(self, data: bytes, root: int) -> bytes: ...

    @abstractmethod
    def _allgather(self, record: Record) -> Record: ...

    @abstractmethod
    def _alltoall(self, record: Record) -> Record: ...

    @abstractmethod
    def _allgather_text(self, text: str) -> list[str]:
        """The ranks' texts, each of at most `TEXT_BYTES` bytes."""

    @abstractmethod
    def _agree(self, record: Record) -> Record: ...

    @abstractmethod
    def _split(self, color: int | None, key: int) -> Communication | None: ...

    @abstractmethod
    def _free(self) -> None: ...


def first_difference(rows: Record) -> int | None:
    """Return the first rank whose row, of those that all ranks have gathered, is not that of rank 0.

    >>> first_difference(np.array([[1, 2], [1, 2], [1, 3]])), first_difference(np.array([7, 7]))
    (2, None)
    """
    others = np.flatnonzero((rows != rows[0]).reshape(len(rows), -1).any(axis=1))
    return int(others[0]) if len(others) else None


def messages_sent(call: Call, args: tuple[Any, ...]) -> tuple[int, int]:
    """How many messages a call sends to other ranks, and their bytes, given what an observer is given."""
    match call, args:
        case ("exchange", *_), (torch.Tensor() as source, _, TransferPlan() as plan):
            return plan.messages_sent, plan.elements_sent * source.itemsize
        case ("exchange", *_), (send, _, _):
            return len(send), sum(tensor.nbytes for _, tensor in send)
    return 0, 0


def messages_of(source: torch.Tensor, target: torch.Tensor, plan: TransferPlan) -> tuple[Messages, Messages]:
    """What a plan sends and receives, as views of the shards; what stays on this rank is copied at once."""
    send = {peer: source.narrow(plan.send.axis, start, length) for peer, start, length in plan.send}
    recv = {peer: target.narrow(plan.recv.axis, start, length) for peer, start, length in plan.recv}
    if plan.rank in recv:
        recv.pop(plan.rank).copy_(send.pop(plan.rank))
    return list(send.items()), list(recv.items())


def _reducible(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy of `tensor`, in a dtype that every communicator can reduce."""
    dtype = _ACCUMULATE.get(tensor.dtype, tensor.dtype)
    if dtype not in REDUCIBLE:
        raise TypeError(f"reductions over ranks are not defined for {tensor.dtype}")
    own = tensor.detach().to(dtype).resolve_conj().resolve_neg()
    return own.clone(memory_format=torch.contiguous_format)


# What makes the form of torch.distributed, which is above this module.
_of_group: list[Callable[[Any], Communication]] = []


def set_form_of_groups(form: Callable[[Any], Communication]) -> None:
    """Set what `Communication.from_process_group` calls."""
    _of_group[:] = [form]


_current: ContextVar[Communication] = ContextVar("minisplit_comm")
_default: list[Communication] = []


def get_comm() -> Communication:
    """Return the communicator that new arrays use.

    Returns
    -------
    Communication
        The one of `use_comm`, else `MPI_WORLD`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.get_comm() is ms.MPI_WORLD
    True
    """
    return _current.get(_default[0])


def set_default_comm(comm: Communication) -> None:
    """Set what `get_comm` returns where `use_comm` was not called."""
    _default[:] = [comm]


# As an argument: None stands for the communicator in use.
Comm = Communication | None


def sanitize_comm(comm: Comm) -> Communication:
    """Return `comm`, or the one in use for None; TypeError for anything else."""
    if comm is None:
        return get_comm()
    if not isinstance(comm, Communication):
        raise TypeError(f"comm must be a minisplit Communication or None, got {type(comm).__name__}")
    return comm


class use_comm(Setting):  # noqa: N801 - used like a function
    """Use a communicator for new arrays, from now on or for the length of a `with` block.

    The choice holds for the present thread or asynchronous task.

    Parameters
    ----------
    comm : Communication
        The communicator.

    Raises
    ------
    TypeError
        If it is no `Communication`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> with ms.use_comm(ms.MPI_SELF):
    ...     ms.zeros(3, split=0).comm is ms.MPI_SELF
    True
    """

    __slots__ = ()

    def __init__(self, comm: Communication) -> None:
        super().__init__(_current.set(sanitize_comm(comm)))
