"""A thread that ends the job where this rank would wait for ever, after the ranks have said where they are.

It is certain that a rank waits for ever where it waits in a collective call of `MPI_WORLD`, and another rank has
left its program after fewer calls, or waits in a different call of the same number. A rank that waits for a while,
or has left, sends its state to rank 0, which compares the states. So calls cost nothing, and while all goes well
nothing is sent. Other waits end by `MINISPLIT_TIMEOUT`.

The watchdogs have a communicator of their own, on which they send while their ranks compute, or have left their
programs. Unlike signals that works across machines. It needs `MPI_THREAD_MULTIPLE`, for which mpi4py asks by
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

# Seconds that the other ranks have to say where they are, and the launcher to pass it on.
GRACE = 1.5
# After how many seconds a rank that waits, or has left, sends its state to rank 0.
PATIENCE = 5.0
# Seconds between two looks at this rank.
_STEP = 0.5
# What wakes the thread to end it, where else is the number of a signal: no signal has this one.
_STOP = 0
# The tags of messages: to end the job, and with the state of a rank.
_END, _STATE = 0, 1
_RULE = ": all ranks must make the same calls; ending the job\n"


def time_limit() -> float | None:
    """Return the seconds of `MINISPLIT_TIMEOUT`, or None for no limit; ValueError where it is no such number."""
    text = os.environ.get("MINISPLIT_TIMEOUT", "").strip()
    try:
        limit = float(text or 0)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ValueError(f"MINISPLIT_TIMEOUT must be a number of seconds, or 0 for no limit, got {text!r}")
    return limit if 0 < limit < math.inf else None


class Watchdog(threading.Thread):
    """Ends the job if a collective call cannot end, takes longer than the limit, or stays after Ctrl-C.

    Parameters
    ----------
    live : Collection of Communication
        The communicators to look at.
    world : Communication
        That of all ranks.
    limit : float or None
        The seconds that a call may take, None for no limit.
    mpi : mpi4py.MPI.Intracomm or None
        A communicator of all ranks for the watchdogs alone. None where threads may not call MPI.
    abort : callable
        Ends the job.
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
        self._prefix = f"[rank {world.rank} of {world.size}] "
        self._world = world
        self._limit = limit or math.inf
        self._step = min(limit / 10, _STEP) if limit else _STEP if mpi is not None else None
        self._mpi = mpi
        self._abort = abort
        self._stopped = False
        # When this rank left its program.
        self._left_at: float | None = None
        # The state of a rank that has waited or left for a while: how many calls it has made, and a checksum of
        # the one in which it waits, 0 where it has left. Rank 0 has the states of all, the others their own.
        self._states: dict[int, tuple[int, int]] = {}
        self._sent: list[Any] = []
        self._received = 0
        # Of each communicator in a call: the number of that call, and for how long it was seen to be in it.
        self._waits: dict[Communication, tuple[int, float]] = {}
        self._checked_at = time.monotonic()
        # This pipe wakes the thread. The interpreter writes the number of each signal into it, also while the main
        # thread is inside of MPI, where it cannot raise KeyboardInterrupt.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def start(self) -> None:
        """Start the thread, and take the numbers of signals where nobody else does."""
        if threading.current_thread() is threading.main_thread():
            before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            if before == -1:
                # A forked process has the same pipe, but its signals are not those of this rank.
                os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
            else:
                signal.set_wakeup_fd(before)
        super().start()

    def run(self) -> None:
        """Look at this rank from time to time, until `stop` is called."""
        while True:
            ready, _, _ = select.select([self._reader], [], [], self._step)
            signals = os.read(self._reader, 4096) if ready else b""
            if _STOP in signals:
                return
            if signal.SIGINT in signals and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._check_interrupt()
            if self._step:
                self._check(self._step)

    def leave(self) -> None:
        """Say "has left" from now on."""
        self._left_at = self._left_at or time.monotonic()

    def stop(self) -> None:
        """Wait until all ranks have come here, as they must to finalise MPI, and end the thread. Collective."""
        if self._stopped:
            return
        self._stopped = True
        self.leave()
        if self._mpi is not None:
            # Not a plain barrier: the watchdog must be able to look while this rank waits for the others.
            barrier = self._mpi.Ibarrier()
            while not barrier.Test():
                time.sleep(0.01)
        os.write(self._writer, bytes([_STOP]))
        self.join()
        if self._mpi is not None:
            self._receive_rest()

    def _check(self, step: float) -> None:
        """End the job if this rank has waited for too long, or another rank ends it."""
        now = time.monotonic()
        # The time for which the whole process was stopped does not count.
        passed, self._checked_at = min(now - self._checked_at, 2 * step), now
        waits = {}
        for comm in self._active():
            number, seconds = self._waits.get(comm, (0, 0.0))
            waits[comm] = (comm._calls, seconds + passed if number == comm._calls else 0.0)
        self._waits = waits
        if any(seconds > self._limit for _, seconds in waits.values()):
            self._end_all(f"waited longer than MINISPLIT_TIMEOUT={self._limit:g} s; ending the job\n")
        elif self._mpi is not None:
            self._send_state(now)
            if self._world.rank == 0:
                self._compare_states()
            if self._mpi.Iprobe(tag=_END):
                self._end("")

    def _send_state(self, now: float) -> None:
        """Send rank 0 the number and a checksum of the call in which this rank has waited for a while; once."""
        world, rank, left_at = self._world, self._world.rank, self._left_at
        number, seconds = self._waits.get(world, (0, 0.0)) if left_at is None else (world._calls, now - left_at)
        call = world._call if left_at is None else ()
        if call is None or seconds < PATIENCE:
            return
        state = number, 1 + zlib.crc32(describe_call(call).encode()) if call else 0
        if self._states.get(rank) == state:
            return
        self._states[rank] = state
        if rank:
            self._sent.append(self._mpi.Isend(np.array([rank, *state]), 0, _STATE))

    def _compare_states(self) -> None:
        """On rank 0: end the job if a rank waits in a call that another has not made, nor ever will."""
        while self._mpi.Iprobe(tag=_STATE):
            self._receive_state()
        left = {rank: number for rank, (number, call) in self._states.items() if not call}
        waiting = {rank: state for rank, state in self._states.items() if state[1]}
        if not waiting:
            return
        rank = max(waiting, key=lambda rank: waiting[rank][0])
        number, call = waiting[rank]
        text = f"rank {rank} waits in collective call #{number}, but "
        gone = min(left, key=left.__getitem__, default=rank)
        others = [other for other, state in waiting.items() if state[0] == number and state[1] != call]
        # A rank that has left after as many calls has done its part, as the root of a broadcast may.
        if left.get(gone, number) < number:
            self._end_all(f"{text}rank {gone} has left its program after #{left[gone]}{_RULE}")
        elif others:
            self._end_all(f"{text}rank {others[0]} in another one{_RULE}")

    def _receive_state(self) -> None:
        message = np.empty(3, np.int64)
        self._mpi.Recv(message, tag=_STATE)
        self._received += 1
        rank, number, call = message.tolist()
        self._states[rank] = number, call

    def _receive_rest(self) -> None:
        """Receive the states that are still under way, as MPI asks before it is finalised. Collective."""
        sent = np.zeros(1, np.int64)
        self._mpi.Reduce(np.array([len(self._sent)]), sent)
        while self._world.rank == 0 and self._received < sent[0]:
            self._receive_state()
        for request in self._sent:
            request.Wait()

    def _check_interrupt(self) -> None:
        """End the job unless the main thread comes back from its call, in which it raises KeyboardInterrupt."""
        main = threading.main_thread().ident
        before = {comm: comm._calls for comm in self._active() if comm._thread == main}
        time.sleep(GRACE)
        if any(before.get(comm) == comm._calls for comm in self._active()):
            self._end("interrupted while it waits; ending the job\n")

    def _end_all(self, cause: str) -> None:
        """Let all ranks say where they are, and end the job."""
        peers = range(self._world.size) if self._mpi is not None else ()
        requests = [self._mpi.Isend(b"", rank, _END) for rank in peers if rank != self._world.rank]
        self._end(cause)
        del requests  # MPI may still read them until here

    def _end(self, cause: str) -> None:
        """Say why and where this rank is, and end the job."""
        text = cause + self._report()
        # Not by `sys.stderr`, which a test tool may keep to itself. The launcher may mix the lines of ranks.
        lines = "".join(self._prefix + line for line in text.splitlines(keepends=True))
        os.write(2, lines.encode(errors="replace"))
        time.sleep(GRACE)
        self._abort()

    def _active(self) -> list[Communication]:
        """The communicators on which this rank is in a call."""
        with suppress(RuntimeError):  # one was made or freed meanwhile
            return [comm for comm in self._live if comm._call is not None]
        return []

    def _report(self) -> str:
        """Where this rank is: its collective calls, and the stack of each thread."""
        if self._left_at is not None:
            return "has left its program\n"
        frames = sys._current_frames()
        calls = [self._describe(comm, frames.get(comm._thread or 0)) for comm in self._active()]
        threads = {thread.ident: thread.name for thread in threading.enumerate() if thread is not self}
        stacks = [
            f"{threads[ident]}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in frames.items()
            if ident in threads
        ]
        return "".join([*(calls or ["is in no collective call\n"]), *stacks])

    def _describe(self, comm: Communication, frame: FrameType | None) -> str:
        """The call that this rank is in on a communicator, and its line."""
        text = f"waits in {describe_call(comm._call or ['a call just ended'])}, call #{comm._calls}"
        if comm in self._waits:
            text += f", since {self._waits[comm][1]:.1f} s"
        return text + (f" at {call_site(frame)}\n" if frame else "\n")
