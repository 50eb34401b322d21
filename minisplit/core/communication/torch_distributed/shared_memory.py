"""Records and pieces of tensors between ranks on one machine, by way of memory that their processes share.

gloo takes 70 us to gather the records of two processes by sockets, shared memory 5 to 10. Large pieces of tensors
come through it in half the time.
"""

from __future__ import annotations

import mmap
import os
import platform
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.buffers import split_into_chunks
from minisplit.core.communication.protocol import Messages
from minisplit.core.communication.torch_distributed.futex import Flags

# The longest record of a row, in bytes.
ROOM = 4096
# Most bytes of a block, by which pieces of tensors go, and of the blocks of all ranks together: at most a quarter
# of what is free, since containers often have 64 MiB for all that they run. In smaller blocks a resplit of
# 4000 x 4000 takes as long where each rank has a core, and longer where they take turns: each block is a wait.
BLOCK, ALL_BLOCKS, PAGE = 2**21, 2**23, 4096
# More ranks than this are on several machines.
MOST = 1024
NAME_BYTES = 64
# A file system in memory. A file elsewhere would be written to a disk.
FOLDER = Path("/dev/shm")
# Others must see what is written in the order in which it is written. ARM, for one, does not promise that.
_ORDERED = sys.platform == "linux" and platform.machine() == "x86_64"
# A rank that waits gives way to others for so many seconds before it sleeps. One that never slept would keep a
# core from ranks that compute, and one that slept at once would see each record 60 us late. Where four ranks take
# turns on two cores, a call of vmap of 170 us took 200 us as long as they slept after 50 us, that is in each call.
_AWAKE = 2e-4
# It is woken. Where it falls asleep at the very moment it may miss that: then it looks again after so long.
_NAPS = 1e-3, 5e-2


class SharedMemory:
    """Memory that all ranks of a machine read, and of which each writes its own part.

    There are two rows for the records of each rank, which are used in turn. A rank that writes its row for the
    second time has seen all rows of the call between, so all ranks have read what it overwrites. Each rank has two
    blocks as well, for pieces of tensors that it sends.

    Parameters
    ----------
    descriptor : int
        The open file.
    rank, size : int
        This rank, and how many there are.

    Attributes
    ----------
    block : int
        Bytes of a block; 0 where there is no room for blocks.
    """

    __slots__ = (
        "_blocks", "_count", "_exchanges", "_flags", "_marks", "_rank", "_read", "_rows", "_size", "_turn",
        "_written", "block",
    )  # fmt: skip

    def __init__(self, descriptor: int, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._count = self._exchanges = self._turn = 0
        self.block = max(0, os.fstat(descriptor).st_size - length_for(size, 0)) // (2 * size)
        memory = memoryview(mmap.mmap(descriptor, length_for(size, self.block)))
        ends = accumulate(_parts(size, self.block), initial=0)
        blocks, rows, marks, written, read, flags = (memory[start:end] for start, end in pairwise(ends))
        self._blocks = torch.from_numpy(np.asarray(blocks)).view(2 * size, self.block).unbind()
        self._rows = np.asarray(rows).reshape(2, size, ROOM)
        self._marks = np.asarray(marks).view(np.int64).reshape(2, size)
        # What was written into each block last, and what was read from it last.
        self._written, self._read = written.cast("q"), read.cast("q")
        self._flags = Flags(flags, size)

    def gather(self, record: NDArray[Any], call: int) -> NDArray[np.uint8]:
        """Return the records of all ranks, as rows of bytes. All have one length, at most `ROOM`. Collective.

        `call` is the number of the communicator's call. Ranks in different ones wait for each other.
        """
        self._count += 1
        turn, length = self._count % 2, record.nbytes
        self._rows[turn, self._rank, :length] = record.view(np.uint8).ravel()
        # Last, since it says that the row is written. With all in it in which calls can differ: ranks in different
        # ones then wait, which the watchdog sees, and none takes what is for another call.
        mark = hash((call, self._count, length))
        marks, wanted = self._marks[turn], mark.to_bytes(8, "little", signed=True) * self._size
        marks[self._rank] = mark
        self._wait(lambda: marks.tobytes() == wanted)
        self._flags.wake_all()
        return self._rows[turn, :, :length].copy()

    def exchange(self, send: Messages, recv: Messages, call: int) -> None:
        """Send pieces of tensors, and fill others with what ranks send. Collective, with `call` as in `gather`.

        Both lists are in order of distance: to the next rank, the one after it and so on, and from those before.
        So of all that is still to go, what goes the shortest way always can: its sender and its receiver have
        nothing else to do before.
        """
        self._exchanges += 1
        outgoing, incoming = self._chunks(send, call, None), self._chunks(recv, call, self._rank)
        going, coming = next(outgoing, None), next(incoming, None)

        def is_ready() -> bool:
            return (going is not None and self._is_free()) or (coming is not None and self._has_come(coming) >= 0)

        while going or coming:
            self._wait(is_ready)
            if going and self._is_free():
                self._write(*going)
                going = next(outgoing, None)
            if coming and (place := self._has_come(coming)) >= 0:
                self._take(place, *coming)
                coming = next(incoming, None)

    def _chunks(
        self, pieces: Messages, call: int, receiver: int | None
    ) -> Iterator[tuple[int, int, torch.Tensor]]:
        """What goes at a time to or from a peer: the peer, what it is called by both, and where it is."""
        numbers: Counter[int] = Counter()
        for peer, piece in pieces:
            for chunk in split_into_chunks(piece.detach(), self.block):
                numbers[peer] += 1
                to = peer if receiver is None else receiver
                yield peer, hash((call, self._exchanges, to, numbers[peer], chunk.nbytes)), chunk

    def _is_free(self) -> bool:
        """Whether the block that is to be filled next has been read."""
        place = 2 * self._rank + self._turn
        return self._written[place] == self._read[place]

    def _has_come(self, coming: tuple[int, int, torch.Tensor]) -> int:
        """In which block a chunk is; -1 if in none yet."""
        peer, mark, _ = coming
        return next((place for place in (2 * peer, 2 * peer + 1) if self._written[place] == mark), -1)

    def _write(self, peer: int, mark: int, chunk: torch.Tensor) -> None:
        place = 2 * self._rank + self._turn
        self._part(place, chunk).copy_(chunk)
        self._written[place] = mark
        self._turn = (self._turn + 1) % 2
        self._flags.wake(peer)

    def _take(self, place: int, peer: int, mark: int, chunk: torch.Tensor) -> None:
        chunk.copy_(self._part(place, chunk))
        self._read[place] = mark
        self._flags.wake(peer)

    def _part(self, place: int, chunk: torch.Tensor) -> torch.Tensor:
        """As much of a block as a chunk takes, in its shape."""
        return self._blocks[place].narrow(0, 0, chunk.nbytes).view(chunk.dtype).view(chunk.shape)

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        if is_ready():
            return
        deadline = time.monotonic() + _AWAKE
        seconds, longest = _NAPS
        while not is_ready():
            if time.monotonic() < deadline:
                os.sched_yield()
                continue
            self._flags.raise_own(self._rank)
            # Once more, since nobody has woken this rank for what came before.
            if not is_ready():
                self._flags.sleep(self._rank, seconds)
                seconds = min(2 * seconds, longest)


def _parts(size: int, block: int) -> tuple[int, ...]:
    """Bytes of the blocks, the rows, their marks, what blocks were written and read, and the flags."""
    return 2 * size * block, 2 * size * ROOM, 2 * size * 8, 2 * size * 8, 2 * size * 8, size * 4


def length_for(size: int, block: int) -> int:
    """How many bytes of memory so many ranks share, with blocks of so many bytes."""
    return sum(_parts(size, block))


def make_file(size: int) -> str:
    """Make a file for the memory, which this user's processes can open, and return its name; "" if that fails."""
    path = FOLDER / f"minisplit-{secrets.token_hex(16)}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return ""
    try:
        # Room that is promised and not there would end the process where it is written to.
        os.posix_fallocate(descriptor, 0, length_for(size, _block_for(size, descriptor)))
    except OSError:
        remove_file(path.name)
        return ""
    finally:
        os.close(descriptor)
    return path.name


def _block_for(size: int, descriptor: int) -> int:
    """Bytes of a block where there are so many ranks, in whole pages."""
    system = os.fstatvfs(descriptor)
    room = min(ALL_BLOCKS, system.f_bavail * system.f_frsize // 4)
    return min(BLOCK, room // (2 * size)) // PAGE * PAGE


def open_file(name: str, rank: int, size: int) -> SharedMemory | None:
    """Return the memory of a file that another rank has made, None if it is not there: that is another machine."""
    if not name or not _ORDERED:
        return None
    try:
        descriptor = os.open(FOLDER / name, os.O_RDWR)
    except OSError:
        return None
    try:
        return SharedMemory(descriptor, rank, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def remove_file(name: str) -> None:
    """Remove the name of the memory, which lasts for as long as a process has it open."""
    with suppress(OSError):
        os.unlink(FOLDER / name)
