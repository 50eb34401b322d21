"""torch.distributed's form of `Communication`: gloo carries what is in host memory, NCCL what is on GPUs."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from minisplit.core.communication.buffers import (
    as_bytes,
    broadcast_buffer,
    in_host_memory,
    is_accessible,
    is_plain,
    new_buffer,
    send_buffer,
)
from minisplit.core.communication.handles import LIVE
from minisplit.core.communication.job import Channel
from minisplit.core.communication.protocol import (
    RECORDS,
    TEXT_BYTES,
    Call,
    Communication,
    Messages,
    Record,
    Result,
)
from minisplit.core.communication.reduce_ops import SIGNED, MergeOp, ReduceOp, fold
from minisplit.core.communication.torch_distributed import shared_memory
from minisplit.core.communication.torch_distributed.device_groups import TIMEOUT, make_group
from minisplit.core.communication.torch_distributed.library import Store, dist
from minisplit.core.pytorch.devices import cpu
from minisplit.core.pytorch.transforms import is_transformed, outside_transforms, unwrap

# Up to so many bytes each rank gets the contributions of all and reduces them itself, in the order of the ranks:
# one round of messages instead of two.
GATHERED = 2**15
# To so many ranks less one each sends at a time what it has gathered.
RADIX = 8
_REDUCE_OPS = {
    "sum": dist.ReduceOp.SUM,
    "prod": dist.ReduceOp.PRODUCT,
    "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX,
}
# What gloo and NCCL reduce by themselves. Of a NaN their minimum and maximum depend on the order.
_NATIVE = {
    "sum": {torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float64},
    "min": {torch.uint8, torch.int8, torch.int32, torch.int64},
}
_NATIVE["prod"], _NATIVE["max"] = _NATIVE["sum"], _NATIVE["min"]
# Far fewer exchanges than this can be under way at once.
_TAG_CYCLE = 2**14


@dataclass(eq=False)
class _Grave:
    """The process groups of a communicator that this rank has given up.

    If they were gone at once, gloo would fail on ranks that are still in their last call.
    """

    groups: list[Any]
    store: Store
    size: int
    is_known: bool = False

    def is_given_up(self) -> bool:
        """Whether all ranks have given it up. The first time it tells them that this one has."""
        number = self.store.add("given up", 0 if self.is_known else 1)
        self.is_known = True
        return bool(number == self.size)


class TorchCommunication(Communication):
    """The ranks of a process group of torch.distributed, as `Communication.from_process_group` gives them.

    minisplit sends its messages on a gloo group of its own, made at the first collective call. Tensors on GPUs go
    by an NCCL group of its own, made at the first call with one. Where a rank has no GPU to itself, or torch no
    NCCL, they go through host memory.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or torch.distributed.device_mesh.DeviceMesh, optional
        The group, or a mesh of one dimension. By default that of all processes. It stays the caller's.

    Raises
    ------
    ValueError
        If this process is not in the group, or a mesh has several dimensions.

    Communication
    -------------
    Local.
    """

    __slots__ = ("_gloo", "_on_devices", "_parts", "_ranks", "_shared", "_store", "_tag")

    # By which the watchdogs of other ranks hear that the job ends.
    channel: ClassVar[Channel | None] = None
    # Here, since the module is empty when the interpreter ends.
    grave: ClassVar[type[_Grave]] = _Grave
    graves: ClassVar[list[_Grave]] = []

    def __init__(self, group: Any = None) -> None:
        if isinstance(group, dist.DeviceMesh):
            if group.ndim != 1:
                raise ValueError(f"a mesh must have one dimension, got {group.ndim}; give it mesh['name']")
            group = group.get_group()
        ranks = dist.get_process_group_ranks(group)
        if dist.get_rank() not in ranks:
            raise ValueError(f"process {dist.get_rank()} is not in the group of the processes {ranks}")
        name = f"minisplit/{group.group_name if group is not None else 'all'}"
        number = _MADE[name] = _MADE.get(name, 0) + 1
        store = dist.PrefixStore(f"{name}/{number}", default_store())
        self._begin(store, ranks.index(dist.get_rank()), ranks)

    @classmethod
    def from_store(cls, store: Store, rank: int, ranks: Sequence[int]) -> TorchCommunication:
        """Return the communicator of `ranks`, whose processes have a store that nothing else uses."""
        self = cls.__new__(cls)
        self._begin(store, rank, ranks)
        return self

    def _begin(self, store: Store, rank: int, ranks: Sequence[int]) -> None:
        Communication.__init__(self, rank, len(ranks))
        self._store = store
        self._ranks = tuple(ranks)
        self._gloo: Any = None
        # Where all ranks are on one machine.
        self._shared: shared_memory.SharedMemory | None = None
        # By the type of a device the group of its tensors; None where they go through host memory.
        self._on_devices: dict[str, Any] = {}
        self._parts = 0
        self._tag = 0
        LIVE.add(self)

    def __del__(self) -> None:
        if hasattr(self, "_tag"):
            self._handle.give_up(False)
            self._bury()

    def _bury(self) -> None:
        """Give up the process group, once all ranks have."""
        if self._gloo is not None and self.size > 1:
            groups = [self._gloo, *filter(None, self._on_devices.values())]
            self.graves.append(self.grave(groups, self._store, self.size))
        self._gloo = self._shared = None
        self._on_devices = {}

    def __repr__(self) -> str:
        return f"<TorchCommunication rank {self.rank} of {self.size}>"

    def _members(self) -> tuple[int, ...]:
        return self._ranks

    @property
    def gloo(self) -> Any:
        """The process group of minisplit's messages. Collective at first use, which makes it."""
        if self._closed:
            raise RuntimeError(f"the communicator of {self.size} ranks {self._closed}")
        if self._gloo is None:
            self._gloo = dist.ProcessGroupGloo(
                dist.PrefixStore("gloo", self._store), self.rank, self.size, TIMEOUT
            )
            self._shared = self._share_memory()
        return self._gloo

    def _share_memory(self) -> shared_memory.SharedMemory | None:
        """Memory that all ranks share, None where one of them cannot. Collective."""
        if not 1 < self.size <= shared_memory.MOST:
            return None
        name = shared_memory.make_file(self.size) if self.rank == 0 else ""
        names = self._gather(_as_row(name, shared_memory.NAME_BYTES), self._gloo)
        shared = shared_memory.open_file(_text_of(names[0]), self.rank, self.size)
        have = self._gather(torch.tensor([shared is not None]), self._gloo)
        shared_memory.remove_file(name)
        return shared if have.all() else None

    def _blocks_for(self, group: Any) -> shared_memory.SharedMemory | None:
        """The shared memory through which what a group would carry goes; None where the group carries it."""
        is_ours = group is None or group is self.gloo
        return self._shared if is_ours and self._shared is not None and self._shared.block else None

    def _others(self) -> list[int]:
        """All ranks but this one."""
        return [rank for rank in range(self.size) if rank != self.rank]

    def _collective(self, call: Call, method: Callable[..., Result], *args: Any) -> Result:
        # Within transforms of `torch.func` the tensors made here would be theirs, which have no memory.
        if not is_transformed():
            return super()._collective(call, method, *args)
        with outside_transforms():
            plain = [unwrap(x) if isinstance(x, torch.Tensor) else x for x in args]
            return super()._collective(call, method, *plain)

    def _device_group(self, device: torch.device) -> Any:
        """The group that carries tensors of a device from and to where they are; None where gloo has to.

        Collective at first use with a kind of device.
        """
        if device.type == "cpu":
            return None
        if device.type not in self._on_devices:
            store = dist.PrefixStore(device.type, self._store)
            self._on_devices[device.type] = make_group(device, store, self.rank, self.size, self._allgather)
        return self._on_devices[device.type]

    def _reach(self, tensor: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """A group, and a contiguous tensor where that group reads and writes it: itself, or a copy of it."""
        group = self._device_group(tensor.device)
        return (group, tensor) if group is not None else (self.gloo, in_host_memory(tensor))

    def _exchange(self, send: Messages, recv: Messages, device: torch.device) -> None:
        group = self._device_group(device)
        if group is not None:
            _all_to_all(group, self.size, send, recv, device)
            return
        gloo = self.gloo  # which all ranks make in their first call, also one without a part in it
        send, recv = (_with_elements(self._by_distance(*each)) for each in ((send, +1), (recv, -1)))
        if (shared := self._blocks_for(group)) is not None:
            shared.exchange(send, recv, self._calls)
            return
        # Not by gloo's all-to-all, for which all would be packed, and in which a rank without a part would wait
        # for others. A resplit of 4000 x 4000 took 1.4 to 2 times as long by it, that of 64 x 64 as long.
        # Every rank counts its exchanges, also those in which it has no part: see `MPICommunication`.
        self._tag = (self._tag + 1) % _TAG_CYCLE
        works, landed = [], []
        # Receives come first, so that what comes has a place.
        for peer, piece in recv:
            in_place = is_plain(piece) and is_accessible(piece, cuda_aware=False)
            buffer = piece if in_place else new_buffer(piece, cuda_aware=False)
            landed.append((piece, buffer))
            works.append(gloo.recv([as_bytes(buffer)], peer, self._tag))
        packed = []  # kept until they are sent; each is on its way while the next one is packed
        for peer, piece in send:
            packed.append(send_buffer(piece, cuda_aware=False))
            works.append(gloo.send([as_bytes(packed[-1])], peer, self._tag))
        for work in works:
            work.wait()
        for piece, buffer in landed:
            if buffer is not piece:
                piece.copy_(buffer)

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        if not total.numel():
            return
        group, values = self._reach(total)
        is_staged, numbers = values is not total, values
        if op in {"sum", "prod"} and numbers.dtype in SIGNED:
            numbers = numbers.view(SIGNED[numbers.dtype])
        if op == "sum" and numbers.dtype.is_complex:
            numbers = torch.view_as_real(numbers)
        is_native = numbers.dtype in _NATIVE.get(op, ())
        # NCCL's own takes one call whatever the size.
        if values.nbytes <= GATHERED and not (is_native and group is not self.gloo):
            values.copy_(fold(self._gather(values, group), op))
        elif is_native and self._blocks_for(group) is None:
            options = dist.AllreduceOptions()
            options.reduceOp = _REDUCE_OPS[op]
            group.allreduce([numbers], options).wait()
        else:
            self._reduce_shares(values, op)
        if is_staged:
            total.copy_(values)

    def _gather(self, tensor: torch.Tensor, group: Any) -> torch.Tensor:
        """The ranks' contiguous tensors of one shape, as rows, where the group reads and writes."""
        if group is self.gloo and self._shared is not None and tensor.nbytes <= shared_memory.ROOM:
            found = torch.from_numpy(self._shared.gather(as_bytes(tensor).numpy(), self._calls))
            return found.view(tensor.dtype).view(self.size, *tensor.shape)
        rows = torch.empty((self.size, *tensor.shape), dtype=tensor.dtype, device=tensor.device)
        if group is not self.gloo:
            group.allgather([list(as_bytes(rows).view(self.size, -1))], [as_bytes(tensor)]).wait()
            return rows
        if self._blocks_for(group) is not None:
            rows[self.rank] = tensor
            others = self._others()
            self._exchange([(peer, tensor) for peer in others], [(peer, rows[peer]) for peer in others], cpu)
            return rows
        # gloo's own collectives pass through threads of theirs: its allgather takes 150 us between two processes
        # of one machine, this 70. Row k is that of the k-th rank from here on, and with each round a rank has
        # `RADIX` times as many. Bruck et al.: Efficient algorithms for all-to-all communications in
        # multiport message-passing systems, IEEE TPDS 8 (1997).
        self._tag = (self._tag + 1) % _TAG_CYCLE
        # Where ranks make different calls they must wait, which the watchdog sees: for a message of another length
        # gloo ends the process without a word. So its tag is none of an exchange's or of another length's.
        tag = self._tag + _TAG_CYCLE * (1 + tensor.nbytes % 2**16)
        own = as_bytes(rows).view(self.size, -1)
        own[0] = as_bytes(tensor)
        have = 1
        while have < self.size:
            works = []
            for start in range(have, min(RADIX * have, self.size), have):
                more = min(have, self.size - start)
                works += [
                    group.recv([own[start : start + more].view(-1)], (self.rank + start) % self.size, tag),
                    group.send([own[:more].view(-1)], (self.rank - start) % self.size, tag),
                ]
            for work in works:
                work.wait()
            have *= RADIX
        return own.roll(self.rank, 0).view(rows.dtype).view(rows.shape)

    def _reduce_shares(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        """Let each rank reduce a share of the numbers, and send it to all."""
        width = RECORDS[op][0] if op in RECORDS else 1
        shares = torch.tensor_split(total.view(-1, width), self.size)
        own, others = shares[self.rank], self._others()
        rows = torch.empty((self.size, *own.shape), dtype=total.dtype, device=total.device)
        rows[self.rank] = own
        theirs = [(peer, shares[peer]) for peer in others]
        self._exchange(theirs, [(peer, rows[peer]) for peer in others], total.device)
        own.copy_(fold(rows, op))
        self._exchange([(peer, own) for peer in others], theirs, total.device)

    def _scan(self, tensor: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        if not tensor.numel():
            return
        group, own = self._reach(tensor)
        if tensor.nbytes <= GATHERED:
            rows = self._gather(own, group)
            if self.rank:
                before.copy_(fold(rows[: self.rank], op))
            return
        # To ranks at a distance of 1, 2, 4 ...: `carried` is of as many ranks up to this one.
        # Hillis and Steele: Data parallel algorithms, Communications of the ACM 29 (1986).
        carried, is_first, step = own, True, 1
        while step < self.size:
            came = torch.empty_like(own)
            self._exchange(
                [(self.rank + step, carried)] if self.rank + step < self.size else [],
                [(self.rank - step, came)] if self.rank >= step else [],
                own.device,
            )
            if self.rank >= step:
                before.copy_(came if is_first else fold(torch.stack([came, before.to(came.device)]), op))
                carried, is_first = fold(torch.stack([came, carried]), op), False
            step *= 2

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        group = self._device_group(tensor.device)
        buffer = broadcast_buffer(tensor, self.rank == root, cuda_aware=group is not None)
        if not buffer.numel():
            return buffer.to(tensor.device)
        if self._blocks_for(group) is not None:
            self._broadcast_shares(as_bytes(buffer), root)
        else:
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = root, 0
            (group or self.gloo).broadcast([as_bytes(buffer)], options).wait()
        return buffer.to(tensor.device)

    def _broadcast_shares(self, whole: torch.Tensor, root: int) -> None:
        """Let the root send a share to each rank, which sends it to the others; of few bytes, all to each."""
        is_root, others = self.rank == root, self._others()
        is_small = whole.nbytes <= GATHERED
        shares = [whole] * self.size if is_small else torch.tensor_split(whole, self.size)
        own = shares[self.rank]
        self._exchange(
            [(peer, shares[peer]) for peer in others if is_root], [] if is_root else [(root, own)], whole.device
        )
        if not is_small:
            theirs = [] if is_root else [(peer, shares[peer]) for peer in others]
            self._exchange([(peer, own) for peer in others if peer != root], theirs, whole.device)

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        length = int(self._broadcast(torch.tensor([len(data)]), root))
        text = bytearray(data) if self.rank == root else bytearray(length)
        if not length:
            return b""
        return self._broadcast(torch.frombuffer(text, dtype=torch.uint8), root).numpy().tobytes()

    def _allgather(self, record: Record) -> Record:
        if not len(record):
            return np.empty((self.size, 0), dtype=np.int64)
        if self._shared is not None and record.nbytes <= shared_memory.ROOM:
            return self._shared.gather(record, self._calls).view(np.int64)  # as `_gather`, without torch
        return self._gather(torch.from_numpy(record.copy()), self.gloo).numpy()

    def _alltoall(self, record: Record) -> Record:
        self.gloo  # noqa: B018 - all ranks make the group in their first call, and find out what memory they share
        if self._shared is not None and record.nbytes <= shared_memory.ROOM:
            return self._allgather(record)[:, self.rank].copy()
        # In as many rounds as a rank's number has bits (Bruck et al., see `_gather`). `blocks[k]` is at first for
        # the k-th rank from here on, and in the end of the k-th before.
        blocks, distances = np.roll(record, -self.rank), np.arange(self.size)
        for step in [1 << bit for bit in range((self.size - 1).bit_length())]:
            moving = np.flatnonzero(distances & step)
            came = torch.empty(len(moving), dtype=torch.int64)
            to, source = (self.rank + step) % self.size, (self.rank - step) % self.size
            self._exchange([(to, torch.from_numpy(blocks[moving]))], [(source, came)], came.device)
            blocks[moving] = came.numpy()
        return np.roll(blocks[::-1], self.rank + 1)

    def _allgather_text(self, text: str) -> list[str]:
        return [_text_of(row) for row in self._gather(_as_row(text, TEXT_BYTES), self.gloo)]

    def _agree(self, record: Record) -> Record:
        highest: Record = np.maximum.reduce(self._allgather(record))
        return highest

    def _split(self, color: int | None, key: int) -> TorchCommunication | None:
        clear_graves()
        rows = self._allgather(np.array([color is not None, color or 0, key]))
        self._parts += 1
        if color is None:
            return None
        mates = sorted(np.flatnonzero(rows[:, 0] & (rows[:, 1] == color)).tolist(), key=lambda rank: rows[rank, 2])
        ranks = [self._ranks[rank] for rank in mates]
        name = f"{self._handle.name}/{self._parts}/{color}"
        store = dist.PrefixStore(f"part/{self._parts}/{color}", self._store)
        part = TorchCommunication.from_store(store, mates.index(self.rank), ranks)
        if self._handle.name:
            part._handle.set_name(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest()) + 2)
        return part

    def _free(self) -> None:
        clear_graves()
        if self._gloo is not None:
            self.gloo.barrier().wait()
        self._handle.give_up(False)
        self._bury()

    def abort(self, status: int = 1) -> None:
        """End every rank of the job, also those that are not in this communicator.

        Parameters
        ----------
        status : int, default 1
            The exit status of this process, at which torchrun ends the others. Where it is not there, their
            watchdogs do.

        Communication
        -------------
        Local: it is enough that one rank calls it.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        self.end_others()
        os._exit(status)

    @classmethod
    def end_others(cls) -> None:
        """Let the watchdogs of the other ranks end them."""
        if cls.channel is not None:
            cls.channel.end_others()


# How many communicators were made of each group of the user.
_MADE: dict[str, int] = {}


def _as_row(text: str, length: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode().ljust(length, b"\0")), dtype=torch.uint8)


def _text_of(row: torch.Tensor) -> str:
    return row.numpy().tobytes().rstrip(b"\0").decode()


def clear_graves() -> None:
    """Let go of the process groups that all their ranks have given up."""
    graves = TorchCommunication.graves[:]
    kept = [grave for grave in graves if not grave.is_given_up()]
    # Others may have come meanwhile: communicators are given up whenever the interpreter finds that.
    TorchCommunication.graves[: len(graves)] = kept
    for grave in graves:
        if grave not in kept:
            shut_down(grave.groups)


def shut_down(groups: Sequence[Any]) -> None:
    """End process groups: NCCL's complain of it where nobody does."""
    for group in groups:
        if not isinstance(group, dist.ProcessGroupGloo):
            group.shutdown()


def shut_down_all() -> None:
    """End the process groups of devices, once all ranks have left their programs."""
    for comm in LIVE:
        if isinstance(comm, TorchCommunication):
            shut_down([group for group in comm._on_devices.values() if group is not None])
    for grave in TorchCommunication.graves:
        shut_down(grave.groups)


def default_store() -> Any:
    """The store of the default group. A name of torch's own: it has no public one for a group made by others."""
    return dist.distributed_c10d._get_default_store()


def _with_elements(pieces: Messages) -> Messages:
    return [piece for piece in pieces if piece[1].numel()]


def _all_to_all(group: Any, size: int, send: Messages, recv: Messages, device: torch.device) -> None:
    """Make an exchange by one call of the group of a device, in which all ranks take part.

    For each other rank there is one tensor of bytes: the pieces one after the other, or the one piece itself.
    """
    nothing = torch.empty(0, dtype=torch.uint8, device=device)
    given: list[list[torch.Tensor]] = [[] for _ in range(size)]
    for peer, piece in send:
        given[peer].append(as_bytes(send_buffer(piece.to(device), cuda_aware=True)))
    wanted: list[list[torch.Tensor]] = [[] for _ in range(size)]
    landed = []
    for peer, piece in recv:
        in_place = is_plain(piece) and piece.device == device
        landed.append((piece, piece if in_place else torch.empty(piece.shape, dtype=piece.dtype, device=device)))
        wanted[peer].append(as_bytes(landed[-1][1]))

    def joined(parts: list[torch.Tensor]) -> torch.Tensor:
        return parts[0] if len(parts) == 1 else torch.cat([nothing, *parts])

    arrived = [joined(parts) for parts in wanted]
    group.alltoall(arrived, [joined(parts) for parts in given], dist.AllToAllOptions()).wait()
    for parts, whole in zip(wanted, arrived, strict=True):
        if len(parts) > 1:
            for part, came in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
                part.copy_(came)
    for piece, buffer in landed:
        if buffer is not piece:
            piece.copy_(buffer)
