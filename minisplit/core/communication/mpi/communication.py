"""MPI's form of `Communication`."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from minisplit.core.communication.buffers import (
    broadcast_buffer,
    in_host_memory,
    is_accessible,
    send_buffer,
    synchronise,
)
from minisplit.core.communication.debug import describe_call
from minisplit.core.communication.handles import LIVE
from minisplit.core.communication.mpi.datatypes import memory, messages, piece_types, reduction
from minisplit.core.communication.mpi.exchange import Exchange
from minisplit.core.communication.mpi.handles import MPIHandle
from minisplit.core.communication.mpi.library import MPI
from minisplit.core.communication.protocol import TEXT_BYTES, Call, Communication, Messages, Record
from minisplit.core.communication.reduce_ops import MergeOp, ReduceOp
from minisplit.core.transfer import TransferPlan

# Bytes of an average piece up to which `_transfer` makes one call of MPI's: where the pieces lie scattered in the
# shard that is sent (the target is split along another axis than 0), and where each lies in one place. Measured on
# shared memory by the rows "resplit" of benchmarks/rows.py, see "What made it fast" in docs/performance.md.
SCATTERED, IN_ONE_PLACE = (2**18, 2**18) if MPI.get_vendor()[0] == "Open MPI" else (2**13, 2**16)
# MPI promises tags up to 2^15 - 1. Far fewer exchanges than this can be under way at once.
_TAG_CYCLE = 2**14


# It has no arguments, so the cache holds one answer: to load the library again for each communicator would take
# long.
@functools.cache
def _query_cuda_aware() -> bool:
    """Whether the MPI library reads and writes GPU memory, or MINISPLIT_CUDA_AWARE says that it does."""
    chosen = os.environ.get("MINISPLIT_CUDA_AWARE")
    if chosen is not None:
        return chosen not in {"", "0"}
    try:
        return bool(ctypes.CDLL(MPI.__file__).MPIX_Query_cuda_support())
    except (OSError, AttributeError):
        return False


class MPICommunication(Communication):
    """The ranks of an mpi4py communicator.

    minisplit sends its messages on a duplicate of it, made at the first collective call, so that they are never
    taken for those of the caller. A tensor on a GPU is staged through pinned host memory, unless the MPI library
    is CUDA-aware.

    A communicator that was split off and that no variable has any more on any rank is freed at the next `split` of
    the one it came from. One that was made of a communicator of mpi4py stays with MPI until `free`.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        The communicator. It must not be freed before the first collective call.

    Attributes
    ----------
    cuda_aware : bool
        Whether the MPI library reads and writes GPU memory itself. MINISPLIT_CUDA_AWARE=0 or 1 overrides what it
        says.

    Raises
    ------
    RuntimeError
        If MPI was finalised.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> from mpi4py import MPI
    >>> ms.MPICommunication(MPI.COMM_SELF).size
    1
    """

    __slots__ = ("_duplicate", "_given", "_is_part", "_tag", "cuda_aware")

    def __init__(self, comm: MPI.Intracomm) -> None:
        if MPI.Is_finalized():
            raise RuntimeError("no communicator can be made: MPI was finalised")
        super().__init__(comm.Get_rank(), comm.Get_size())
        self._given = comm
        self._duplicate: MPI.Intracomm | None = None
        self._handle: MPIHandle = MPIHandle(self._recent)
        self._is_part = False
        self._tag = 0
        self.cuda_aware = _query_cuda_aware()
        LIVE.add(self)

    def _members(self) -> tuple[int, ...]:
        try:
            group = (self._handle.mpi or self._given).Get_group()
            ranks = tuple(MPI.Group.Translate_ranks(group, None, MPI.COMM_WORLD.Get_group()))
        except MPI.Exception:  # it was freed meanwhile
            return ()
        return () if MPI.UNDEFINED in ranks else ranks

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.give_up(self._is_part)

    def __repr__(self) -> str:
        return f"<MPICommunication rank {self.rank} of {self.size}>"

    @property
    def mpi(self) -> MPI.Intracomm:
        """The mpi4py communicator of minisplit's messages. Collective at first use, which makes it."""
        if self._closed:
            raise RuntimeError(f"the communicator of {self.size} ranks {self._closed}")
        if self._duplicate is None:
            if self._given == MPI.COMM_NULL:
                raise RuntimeError(
                    "the mpi4py communicator of this MPICommunication was freed before its first use"
                )
            self._duplicate = self._handle.mpi = self._given.Dup()
            if not self._handle.name:
                self._handle.choose_name()
        return self._duplicate

    def _explain(self, error: Exception, call: Call) -> None:
        if isinstance(error, MPI.Exception):
            error.add_note(
                f"in {describe_call(call)}, call #{self._calls} of this rank. Where a message is truncated, or "
                "none is named, other ranks have most likely made another call: MINISPLIT_DEBUG=1 names it"
            )

    def _exchange(self, send: Messages, recv: Messages, device: torch.device) -> None:
        # Every rank counts its exchanges, also those in which it has no part: so a message can only be taken for
        # the exchange it was sent in, where a rank runs ahead of its peers.
        self._tag = (self._tag + 1) % _TAG_CYCLE
        mpi = self.mpi  # which all ranks make in their first call, also one without a part in it
        if send or recv:
            exchange = Exchange(mpi, self._tag, self.cuda_aware, self._wait, self._wait_for_some)
            exchange.run(self._by_distance(send, +1), self._by_distance(recv, -1))

    def _wait(self, requests: list[MPI.Request]) -> None:
        """Wait for all requests."""
        MPI.Request.Waitall(requests)

    def _wait_for_some(self, requests: list[MPI.Request]) -> Sequence[int]:
        """Wait for one request at least, and return which are done."""
        return MPI.Request.Waitsome(requests) or ()

    def _transfer(self, source: torch.Tensor, target: torch.Tensor, plan: TransferPlan) -> None:
        # Small pieces go by one call with derived datatypes, by which MPI itself finds them in the shards: that
        # saves the Python of a request per piece. For large ones packing by torch into a buffer that is used again
        # is faster than MPI's own. The choice follows from the layouts, so all ranks make the same one.
        limit = SCATTERED if plan.dst.split else IN_ONE_PLACE
        is_small = plan.src.size * source.element_size() <= limit * self.size**2
        if not (is_small and is_accessible(source, self.cuda_aware)):
            super()._transfer(source, target, plan)
            return
        packed = send_buffer(source, self.cuda_aware)
        synchronise(packed)
        send, recv = piece_types(plan, source.element_size())
        self.mpi.Alltoallw([memory(packed), *send.message], [memory(target), *recv.message])

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        operation, datatype = reduction(op, total.dtype)
        host = in_host_memory(total)
        self.mpi.Allreduce(MPI.IN_PLACE, (memory(host), datatype), operation)
        if host is not total:
            total.copy_(host)

    def _scan(self, tensor: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        operation, datatype = reduction(op, tensor.dtype)
        own = in_host_memory(tensor)
        # On rank 0 MPI leaves the result undefined.
        result = before if self.rank and own is tensor else torch.empty_like(own)
        self.mpi.Exscan((memory(own), datatype), (memory(result), datatype), operation)
        if self.rank and result is not before:
            before.copy_(result)

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        buffer = broadcast_buffer(tensor, self.rank == root, self.cuda_aware)
        synchronise(buffer)
        for message in messages(buffer):
            self.mpi.Bcast(message, root)
        return buffer.to(tensor.device)

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        length = np.array([len(data)])
        self.mpi.Bcast(length, root)
        text = bytearray(data) if self.rank == root else bytearray(int(length[0]))
        self.mpi.Bcast([text, MPI.BYTE], root)
        return bytes(text)

    def _allgather(self, record: Record) -> Record:
        rows = np.empty((self.size, len(record)), dtype=np.int64)
        self.mpi.Allgather(record, rows)
        return rows

    def _alltoall(self, record: Record) -> Record:
        received = np.empty_like(record)
        self.mpi.Alltoall(record, received)
        return received

    def _allgather_text(self, text: str) -> list[str]:
        rows = np.zeros((self.size, TEXT_BYTES), dtype=np.uint8)
        self.mpi.Allgather(np.frombuffer(text.encode().ljust(TEXT_BYTES, b"\0"), dtype=np.uint8), rows)
        return [row.tobytes().rstrip(b"\0").decode() for row in rows]

    def _agree(self, record: Record) -> Record:
        highest = np.empty_like(record)
        self.mpi.Allreduce(record, highest, MPI.MAX)
        return highest

    def _split(self, color: int | None, key: int) -> MPICommunication | None:
        mpi, parts = self.mpi, self._handle.parts
        self._handle.free_parts()
        parts[self._calls] = None
        try:
            part = mpi.Split(MPI.UNDEFINED if color is None else color, key)
        except MPI.Exception as error:
            raise RuntimeError(
                f"MPI has no room for another communicator, with {len(parts) - 1} in use that were split off this "
                "one: call free() on those that are not needed"
            ) from error
        if part == MPI.COMM_NULL:
            return None
        result = MPICommunication(cast(MPI.Intracomm, part))
        result._duplicate = result._given  # no duplicate is needed of what nobody else has
        result._is_part = True
        parts[self._calls] = handle = result._handle
        handle.mpi = result._duplicate
        handle.choose_name()
        return result

    def _free(self) -> None:
        self._handle.free()
        self._handle.give_up(self._is_part)

    def abort(self, status: int = 1) -> None:
        """End every rank of the job, also those that are not in this communicator.

        Parameters
        ----------
        status : int, default 1
            The exit status of the job.

        Raises
        ------
        RuntimeError
            If MPI was finalised.

        Communication
        -------------
        Local: it is enough that one rank calls it.
        """
        if MPI.Is_finalized():
            raise RuntimeError("the job cannot be ended: MPI was finalised")
        MPI.COMM_WORLD.Abort(status)
