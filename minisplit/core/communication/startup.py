"""What `import minisplit` does once: the communicators of the job, and what ends the job when a rank fails."""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from functools import partial
from types import TracebackType

import numpy as np
import torch
from mpi4py import MPI
from mpi4py.run import set_abort_status

from minisplit.core.communication.agreement import has_traceback_text
from minisplit.core.communication.handles import WORLD
from minisplit.core.communication.mpi import LIVE, MPICommunication
from minisplit.core.communication.protocol import set_default_comm
from minisplit.core.communication.watchdog import Watchdog, say, time_limit
from minisplit.core.devices import chosen_threads, cores, rank_environment, threads_of_rank
from minisplit.core.error_text import traceback_of

MPI_WORLD = MPICommunication(MPI.COMM_WORLD)
MPI_SELF = MPICommunication(MPI.COMM_SELF)
# That of this rank: one that it forks is no rank.
_process = os.getpid()
# The status that `notice_exit` was given, 0 before.
_exit_status = [0]


def start() -> None:
    """Make this process a rank of the job. `import minisplit` calls it once, and nothing else does.

    - New arrays use `MPI_WORLD`. When MPI is finalised, all communicators are closed.
    - With several ranks, an exception that nobody catches ends the job, and so does the watchdog where ranks would
      wait for ever. Not in an interactive session, which shows its errors and goes on.
    - Ranks that may use the same cores share them.
    - One rank whose launcher has started several is told that the launcher is of another MPI.

    Raises ValueError where MINISPLIT_TIMEOUT is no number of seconds. Collective with several ranks.
    """
    limit, watchdog = time_limit(), None
    set_default_comm(MPI_WORLD)
    MPI_WORLD._handle.set_name(WORLD)
    if MPI_WORLD.size == 1:
        _warn_of_launcher()
    else:
        if not hasattr(sys, "ps1"):
            watchdog = _start_watchdog(limit)
            sys.excepthook = end_job
            atexit.register(_leave, watchdog)
        _share_cores()
    # MPI deletes the attributes of COMM_SELF first of all when it is finalised.
    MPI.COMM_SELF.Set_attr(MPI.Comm.Create_keyval(delete_fn=partial(_close_all, watchdog)), True)


def notice_exit(status: int) -> None:
    """Let this rank's exit, of which other ranks cannot know, end the job with `status`.

    `python -m minisplit run` calls it when the program leaves by SystemExit. Python tells nobody else of it.
    """
    _exit_status[0] = status


def end_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception with its rank, then end every rank: the others may be waiting for this one."""
    if os.getpid() != _process:  # of a process that was forked its parent may hear
        sys.__excepthook__(kind, error, trace)
        say(sys.stdout.flush)
        os._exit(1)  # else it would finalise MPI, and wait for the other ranks
    # Mostly all ranks fail alike and at about the same time: then rank 0 speaks for all, and ends them meanwhile.
    try:
        time.sleep(1 if MPI_WORLD.rank else 0)
        try:
            text = "".join(traceback.format_exception(kind, error, trace, chain=not has_traceback_text(error)))
        except BaseException:  # exceptions of users may fail to show themselves
            text = f"{traceback_of(error)}\n"
        _write(f"uncaught exception; ending the job\n{text}")
        # A launcher may drop what it has not passed on yet when the job ends: seen with MPICH, once in 20 jobs.
        time.sleep(0.5)
    finally:
        if not MPI.Is_finalized():
            MPI_WORLD.abort(1)


def _start_watchdog(limit: float | None) -> Watchdog:
    """Start the watchdog, on a communicator of its own where MPI may be called by several threads. Collective."""
    has_threads = MPI.Query_thread() == MPI.THREAD_MULTIPLE

    def abort() -> None:
        if has_threads:
            MPI_WORLD.abort(1)
        os._exit(1)  # at which launchers end the job

    watchdog = Watchdog(LIVE, MPI_WORLD, limit, MPI.COMM_WORLD.Dup() if has_threads else None, abort)
    watchdog.start()
    return watchdog


def _leave(watchdog: Watchdog) -> None:
    """Before this rank leaves its program: MPI waits for every rank, so for ever where one has failed."""
    if os.getpid() != _process:
        # Python would finalise MPI next, in which a forked process would wait for the other ranks, for ever. The
        # status with which it leaves is not known here.
        _write("a forked process has left with status 1: it must end by os._exit(status), as MPI is not its own\n")
        os._exit(1)
    if MPI.Is_finalized():
        return
    watchdog.leave()
    status = _exit_status[0]
    if not status:
        watchdog.stop()
        return
    say(sys.stdout.flush)
    # Mostly all ranks leave alike and at about the same time. Once they have said why, one speaks for all.
    time.sleep(0.5 if MPI_WORLD.rank == 0 else 2)
    _write(f"left with status {status}; ending the job\n")
    time.sleep(0.5)
    set_abort_status(status)  # which mpi4py does once Python has closed the files of this rank


def _write(text: str) -> None:
    """Write about this rank to standard error, and let go of all that it has printed."""

    def write() -> None:
        sys.stderr.write(f"[rank {MPI_WORLD.rank} of {MPI_WORLD.size}] {text}")
        sys.stderr.flush()
        sys.stdout.flush()

    say(write)


def _close_all(watchdog: Watchdog | None, *_: object) -> None:
    """Before MPI is finalised: a call after that would end the process without a word from Python."""
    if os.getpid() != _process:
        return
    if watchdog is not None:
        watchdog.stop()
    for comm in list(LIVE):
        comm._close("is closed, since MPI was finalised")


def _share_cores() -> None:
    """Give torch as many threads as there are cores for this rank. Collective.

    By itself torch takes all cores for each of the ranks that share them. All ranks gather which cores they may
    use, also those whose user has chosen the number of threads.
    """
    own, number = cores()
    sets = np.empty(MPI_WORLD.size, dtype=np.int64)
    # Not by `MPI_WORLD`, whose first call makes a duplicate of the communicator: a program that does not
    # communicate need not have it.
    MPI.COMM_WORLD.Allgather(np.array([own]), sets)
    if not chosen_threads():
        torch.set_num_threads(min(torch.get_num_threads(), threads_of_rank(MPI_WORLD.rank, sets.tolist(), number)))


def _warn_of_launcher() -> None:
    """Say so if this process is one of several for its launcher, but the only one for its MPI library."""
    launched = rank_environment()
    if launched is not None and launched[1] > 1:
        sys.stderr.write(
            f"minisplit: the launcher started {launched[1]} processes, but the MPI library sees one. Launcher and "
            "library are not of one MPI: use the mpiexec that belongs to "
            f"{MPI.Get_library_version().splitlines()[0].strip()}; with srun, another of `srun --mpi=list`\n"
        )
