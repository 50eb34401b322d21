"""A thread that ends the job where this rank would wait for ever, after the ranks have said where they are.

A rank whose call takes too long tells the others by messages on a communicator that only the watchdogs use. They
look for such messages also while their ranks compute, or have left their programs. Unlike signals that works
across machines. It asks for `MPI_THREAD_MULTIPLE`, which mpi4py asks for by default; with less, only the ranks
that wait too long themselves say where they are.
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
from collections.abc import Callable, Collection
from contextlib import suppress
from types import FrameType
from typing import Any

from minisplit.core.communication import Communication
from minisplit.core.debugging import call_site, described

# How long the other ranks have to say where they are, and the launcher to pass it on.
GRACE = 1.5
_STOP = 0  # the number of no signal


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
    """Ends the job if a collective call takes longer than `limit` seconds, or does not come back after Ctrl-C.

    Without a limit it sleeps until Ctrl-C. `live` holds the communicators to look at, `world` is that of all
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
        self._limit = limit or math.inf
        self._step = min(limit / 10, 0.5) if limit else None
        self._mpi = mpi
        self._abort = abort
        self._left = self._stopped = False
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
        self._left = True

    def stop(self) -> None:
        """Wait until all ranks have come here, as they must to finalise MPI, and end the thread. Collective."""
        if self._stopped:
            return
        self._left = self._stopped = True
        if self._mpi is not None:
            everybody = self._mpi.Ibarrier()
            while not everybody.Test():
                time.sleep(0.01)
        os.write(self._writer, bytes([_STOP]))
        self.join()

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
            told = [] if self._mpi is None else [self._mpi.Isend(b"", rank) for rank in self._others]
            self._end(f"waited longer than MINISPLIT_TIMEOUT={self._limit:g} s; ending the job\n")
            del told  # requests, not to be given up before
        elif self._mpi is not None and self._mpi.Iprobe():
            self._end("")

    def _see_to_interrupt(self) -> None:
        """End the job unless the main thread comes back from its call, in which it raises KeyboardInterrupt."""
        main = threading.main_thread().ident
        before = {comm: comm._calls for comm in self._calling() if comm._thread == main}
        time.sleep(GRACE)
        if any(before.get(comm) == comm._calls for comm in self._calling()):
            self._end("interrupted while it waits; ending the job\n")

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
        if self._left:
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
        text = f"waits in {described(comm._call or ['a call just ended'])}, call #{comm._calls}"
        if comm in self._waits:
            text += f", since {self._waits[comm][1]:.1f} s"
        return text + (f" at {call_site(frame)}\n" if frame else "\n")


def _forget_signals() -> None:
    """In a forked process, whose signals are not those of this rank."""
    signal.set_wakeup_fd(-1)
