"""A thread that ends the job where this rank would wait for ever, after the ranks have said where they are.

For ever is certain where a rank waits in a collective call of `MPI_WORLD` and another has left its program after
fewer calls, or waits in a different call of the same number. Each tells rank 0 after a while, which compares; so
calls cost nothing, and while all goes well nothing is sent. Other waits end by `MINISPLIT_TIMEOUT`.

The watchdogs talk on a communicator that only they use, also while their ranks compute, or have left their
programs. Unlike signals that works across machines. It asks for `MPI_THREAD_MULTIPLE`, which mpi4py asks for by
default; with less there is only the time limit, and only the ranks that wait too long say where they are.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np

from minisplit.core.communication.debug import call_site, describe_call
from minisplit.core.communication.protocol import Communication

# How long the other ranks have to say where they are, and the launcher to pass it on.
GRACE = 1.5
# After how many seconds a rank that waits, or has left, tells rank 0.
PATIENCE = 5.0
_STEP = 0.5
_STOP = 0  # the number of no signal
_END, _FACT = 0, 1  # tags
_RULE = ": all ranks must make the same calls; ending the job\n"


def time_limit() -> float | None:
    """The seconds of `MINISPLIT_TIMEOUT`, or None for no limit; ValueError where it is no such number."""
    text = os.environ.get("MINISPLIT_TIMEOUT", "").strip()
    try:
        limit = float(text or 0)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ValueError(f"MINISPLIT_TIMEOUT must be a number of seconds, or 0 for no limit, got {text!r}")
    return limit if 0 < limit < math.inf else None


class Watchdog(threading.Thread):
    """Ends the job if a collective call cannot end, takes longer than `limit` seconds, or stays after Ctrl-C.

    `live` holds the communicators to look at, `world` is that of all
    ranks, `mpi` an mpi4py communicator of all ranks for the watchdogs alone, None where threads may not call
    MPI; `abort` ends the job.
    """

    def __init__(
        self,
        live: Collection[Communication],
        world: Communication,
        limit: float | None,
        mpi: Any,
        abort: Callable[[], object],
    ) -> None:
        super().__init__(name="minisplit-watchdog", daemon=True)
        self._live = live
        self._me = f"[rank {world.rank} of {world.size}] "
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._world = world
        self._limit = limit or math.inf
        self._step = min(limit / 10, _STEP) if limit else _STEP if mpi is not None else None
        self._mpi = mpi
        self._abort = abort
        self._stopped = False
        self._left: float | None = None
        # Of a rank that has waited or left for a while: how many calls it has made, and a number for the one in
        # which it waits, 0 where it has left. What this rank has told, and on rank 0 what all have.
        self._facts: dict[int, tuple[int, int]] = {}
        self._sent: list[Any] = []
        self._heard = 0
        # Of each communicator in a call: the number of that call, and for how long it was seen to be in it.
        self._waits: dict[Communication, tuple[int, float]] = {}
        self._looked = time.monotonic()
        # To wake the thread. The interpreter writes the number of each signal that comes, also while the main
        # thread is inside of MPI, where it cannot raise KeyboardInterrupt.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            if before == -1:
                os.register_at_fork(after_in_child=_forget_signals)
            else:
                signal.set_wakeup_fd(before)  # somebody else's
        super().start()

    def run(self) -> None:
        while True:
            ready, _, _ = select.select([self._reader], [], [], self._step)
            signals = os.read(self._reader, 4096) if ready else b""
            if _STOP in signals:
                return
            if signal.SIGINT in signals and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._see_to_interrupt()
            if self._step:
                self._look(self._step)

    def leave(self) -> None:
        """Say "has left" from now on."""
        self._left = self._left or time.monotonic()

    def stop(self) -> None:
        """Wait until all ranks have come here, as they must to finalise MPI, and end the thread. Collective."""
        if self._stopped:
            return
        self._stopped = True
        self.leave()
        if self._mpi is not None:
            everybody = self._mpi.Ibarrier()
            while not everybody.Test():
                time.sleep(0.01)
        os.write(self._writer, bytes([_STOP]))
        self.join()
        if self._mpi is not None:
            self._hear_out()

    def _look(self, step: float) -> None:
        """End the job if this rank has waited for too long, or another rank has."""
        now = time.monotonic()
        # The time for which the whole process was stopped does not count.
        passed, self._looked = min(now - self._looked, 2 * step), now
        waits = {}
        for comm in self._calling():
            number, seconds = self._waits.get(comm, (0, 0.0))
            waits[comm] = (comm._calls, seconds + passed if number == comm._calls else 0.0)
        self._waits = waits
        if any(seconds > self._limit for _, seconds in waits.values()):
            self._end_all(f"waited longer than MINISPLIT_TIMEOUT={self._limit:g} s; ending the job\n")
        elif self._mpi is not None:
            self._tell(now)
            if self._world.rank == 0:
                self._compare()
            if self._mpi.Iprobe(tag=_END):
                self._end("")

    def _tell(self, now: float) -> None:
        """Let rank 0 know of what this rank has done, or waited in, for a while; once."""
        world, rank, left = self._world, self._world.rank, self._left
        number, seconds = self._waits.get(world, (0, 0.0)) if left is None else (world._calls, now - left)
        call = world._call if left is None else ()
        if call is None or seconds < PATIENCE:
            return
        fact = number, 1 + zlib.crc32(describe_call(call).encode()) if call else 0
        if self._facts.get(rank) == fact:
            return
        self._facts[rank] = fact
        if rank:
            self._sent.append(self._mpi.Isend(np.array([rank, *fact]), 0, _FACT))

    def _compare(self) -> None:
        """On rank 0: end the job if a rank waits in a call that another has not made, nor ever will."""
        while self._mpi.Iprobe(tag=_FACT):
            self._hear()
        left = {rank: number for rank, (number, call) in self._facts.items() if not call}
        waiting = {rank: fact for rank, fact in self._facts.items() if fact[1]}
        if not waiting:
            return
        rank = max(waiting, key=lambda rank: waiting[rank][0])
        number, call = waiting[rank]
        waits = f"rank {rank} waits in collective call #{number}, but "
        gone = min(left, key=left.__getitem__, default=rank)
        others = [other for other, fact in waiting.items() if fact[0] == number and fact[1] != call]
        if left.get(gone, number) < number:
            self._end_all(f"{waits}rank {gone} has left its program after #{left[gone]}{_RULE}")
        elif others:
            self._end_all(f"{waits}rank {others[0]} in another one{_RULE}")

    def _hear(self) -> None:
        message = np.empty(3, np.int64)
        self._mpi.Recv(message, tag=_FACT)
        self._heard += 1
        rank, number, call = message.tolist()
        self._facts[rank] = number, call

    def _hear_out(self) -> None:
        """Receive what is still on its way, as MPI asks before it is finalised. Collective."""
        sent = np.zeros(1, np.int64)
        self._mpi.Reduce(np.array([len(self._sent)]), sent)
        while self._world.rank == 0 and self._heard < sent[0]:
            self._hear()
        for request in self._sent:
            request.Wait()

    def _see_to_interrupt(self) -> None:
        """End the job unless the main thread comes back from its call, in which it raises KeyboardInterrupt."""
        main = threading.main_thread().ident
        before = {comm: comm._calls for comm in self._calling() if comm._thread == main}
        time.sleep(GRACE)
        if any(before.get(comm) == comm._calls for comm in self._calling()):
            self._end("interrupted while it waits; ending the job\n")

    def _end_all(self, cause: str) -> None:
        told = [] if self._mpi is None else [self._mpi.Isend(b"", rank, _END) for rank in self._others]
        self._end(cause)
        del told  # requests, not to be given up before

    def _end(self, cause: str) -> None:
        text = cause + self._report()
        # Not by `sys.stderr`, which a test tool may keep to itself. The launcher may mix the lines of ranks.
        os.write(2, "".join(self._me + line for line in text.splitlines(keepends=True)).encode(errors="replace"))
        time.sleep(GRACE)
        self._abort()

    def _calling(self) -> list[Communication]:
        """The communicators on which this rank is in a call."""
        with suppress(RuntimeError):  # one was made or freed meanwhile
            return [comm for comm in self._live if comm._call is not None]
        return []

    def _report(self) -> str:
        """Where this rank is: its collective calls, and the stack of each thread."""
        if self._left is not None:
            return "has left its program\n"
        frames = sys._current_frames()
        calls = [self._described(comm, frames.get(comm._thread or 0)) for comm in self._calling()]
        threads = {thread.ident: thread.name for thread in threading.enumerate() if thread is not self}
        stacks = [
            f"{threads[ident]}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in frames.items()
            if ident in threads
        ]
        return "".join([*(calls or ["is in no collective call\n"]), *stacks])

    def _described(self, comm: Communication, frame: FrameType | None) -> str:
        text = f"waits in {describe_call(comm._call or ['a call just ended'])}, call #{comm._calls}"
        if comm in self._waits:
            text += f", since {self._waits[comm][1]:.1f} s"
        return text + (f" at {call_site(frame)}\n" if frame else "\n")


def _forget_signals() -> None:
    """In a forked process, whose signals are not those of this rank."""
    signal.set_wakeup_fd(-1)
