"""Messages between pairs of ranks: in chunks, and staged where MPI cannot use a tensor's own memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from minisplit.core.communication.buffers import (
    is_accessible,
    is_plain,
    new_buffer,
    split_into_chunks,
    synchronise,
)
from minisplit.core.communication.mpi.datatypes import memory
from minisplit.core.communication.mpi.library import MPI
from minisplit.core.communication.protocol import Messages

# Bytes that go at a time. A chunk that has to be packed should stay in a cache between packing and sending;
# smaller ones cost time where ranks share cores. Measured by the rows "resplit" of benchmarks/rows.py, see
# docs/performance.md.
CHUNK = 2**22


@dataclass(slots=True)
class Exchange:
    """What one rank sends and receives in one exchange.

    No rank waits for another before it has started all that it can, so no order of the ranks can end in a
    deadlock. A chunk that is contiguous in memory is sent from and received at its place. Any other goes through a
    staging buffer: a queue has two of them, so that one is packed while the other is sent.
    """

    mpi: MPI.Intracomm
    tag: int
    cuda_aware: bool
    wait: Callable[[list[MPI.Request]], None]
    wait_for_some: Callable[[list[MPI.Request]], Sequence[int]]
    _direct: list[MPI.Request] = field(default_factory=list)
    _staged: list[_Staged] = field(default_factory=list)

    def run(self, send: Messages, recv: Messages) -> None:
        """Send and receive; what one rank sends to another arrives in the order in which it is listed."""
        queues: dict[tuple[bool, int], _Queue] = {}
        # Receives come first: MPI puts a message that is already awaited straight where it belongs.
        for incoming, pieces in ((True, recv), (False, send)):
            for peer, piece in pieces:
                queue = queues.setdefault((incoming, peer), _Queue(peer, incoming))
                queue.chunks.extend(split_into_chunks(piece, CHUNK))
        ready: Iterable[_Queue] = queues.values()
        while True:
            for queue in ready:
                self._start(queue)
            if not any(queue.chunks for queue in queues.values()):
                break
            done = set(self.wait_for_some([entry.request for entry in self._staged]))
            ready = dict.fromkeys([self._staged[place].finish() for place in sorted(done)])
            self._staged = [entry for place, entry in enumerate(self._staged) if place not in done]
        self.wait(self._direct + [entry.request for entry in self._staged])
        for entry in self._staged:
            entry.finish()

    def _start(self, queue: _Queue) -> None:
        """Start the next chunks of a queue, until its staging buffers are in use."""
        while queue.chunks:
            chunk = queue.chunks[0]
            if is_plain(chunk) and is_accessible(chunk, self.cuda_aware):
                synchronise(chunk)
                self._direct.append(self._request(queue, chunk))
            elif not queue.buffers:
                return  # the chunks after this one wait too: MPI matches messages in the order of their start
            else:
                buffer = self._staging_buffer(queue.buffers.pop(), chunk)
                if not queue.incoming:
                    buffer.copy_(chunk)
                    synchronise(buffer)
                self._staged.append(_Staged(self._request(queue, buffer), queue, chunk, buffer))
            queue.chunks.popleft()

    def _request(self, queue: _Queue, tensor: torch.Tensor) -> MPI.Request:
        start = self.mpi.Irecv if queue.incoming else self.mpi.Isend
        return start([memory(tensor), MPI.BYTE], queue.peer, self.tag)

    def _staging_buffer(self, used: torch.Tensor | None, chunk: torch.Tensor) -> torch.Tensor:
        """Contiguous memory for a chunk: that of a buffer used before where it fits.

        Fresh memory costs page faults, which take longer than the copy of the chunk.
        """
        # In a buffer of another dtype `copy_` would convert: in one of int8 an int64 would lose its high bits.
        if used is not None and used.dtype is chunk.dtype and used.numel() >= chunk.numel():
            return used.view(-1)[: chunk.numel()].view(chunk.shape)
        return new_buffer(chunk, self.cuda_aware)


@dataclass(slots=True, eq=False)
class _Queue:
    """The chunks that go to, or come from, one rank in an exchange, in order."""

    peer: int
    incoming: bool
    chunks: deque[torch.Tensor] = field(default_factory=deque)
    # The staging buffers that are free; None is one that is not made yet.
    buffers: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])


class _Staged(NamedTuple):
    """A request under way that carries a chunk in a staging buffer."""

    request: MPI.Request
    queue: _Queue
    chunk: torch.Tensor
    buffer: torch.Tensor

    def finish(self) -> _Queue:
        """Unpack what has come, and give the buffer back to its queue, which is returned."""
        if self.queue.incoming:
            self.chunk.copy_(self.buffer)
            synchronise(self.chunk)
        self.queue.buffers.append(self.buffer)
        return self.queue
