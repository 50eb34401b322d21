"""What `import minisplit` does once: the communicators of the job, and what ends the job when a rank fails."""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from types import TracebackType

import torch

from minisplit.core.communication.agreement import has_traceback_text
from minisplit.core.communication.engine import make_job, of_process_group
from minisplit.core.communication.handles import LIVE
from minisplit.core.communication.protocol import set_default_comm, set_form_of_groups
from minisplit.core.communication.watchdog import Watchdog, say, time_limit
from minisplit.core.error_text import traceback_of
from minisplit.core.pytorch.devices import chosen_threads, cores, threads_of_rank

JOB = make_job()
WORLD = JOB.world
SELF = JOB.own
# That of this rank: one that it forks is no rank.
_process = os.getpid()
# The status that `notice_exit` was given, 0 before.
_exit_status = [0]


def start() -> None:
    """Make this process a rank of the job. `import minisplit` calls it once, and nothing else does.

    - New arrays use `WORLD`. When no message can be sent any more, all communicators are closed.
    - With several ranks, an exception that nobody catches ends the job, and so does the watchdog where ranks would
      wait for ever. Not in an interactive session, which shows its errors and goes on.
    - Ranks that may use the same cores share them.
    - One rank whose launcher has started several is told that the launcher is of another MPI.

    Raises ValueError where MINISPLIT_TIMEOUT is no number of seconds. Collective with several ranks.
    """
    limit, watchdog = time_limit(), None
    set_default_comm(WORLD)
    set_form_of_groups(of_process_group)
    warning = JOB.warn()
    if warning:
        sys.stderr.write(f"minisplit: {warning}\n")
    # Before `_leave` is: of what is to be called at exit the last comes first.
    JOB.call_at_end(lambda: _close_all(watchdog))
    if WORLD.size > 1:
        if not hasattr(sys, "ps1"):
            watchdog = _start_watchdog(limit)
            sys.excepthook = end_job
            atexit.register(_leave, watchdog)
        _share_cores()


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
        time.sleep(1 if WORLD.rank else 0)
        try:
            text = "".join(traceback.format_exception(kind, error, trace, chain=not has_traceback_text(error)))
        except BaseException:  # exceptions of users may fail to show themselves
            text = f"{traceback_of(error)}\n"
        _write(f"uncaught exception; ending the job\n{text}")
        # A launcher may drop what it has not passed on yet when the job ends: seen with MPICH, once in 20 jobs.
        time.sleep(0.5)
    finally:
        if not JOB.is_over():
            WORLD.abort(1)


def _start_watchdog(limit: float | None) -> Watchdog:
    """Start the watchdog. Collective."""
    channel = JOB.open_channel()

    def abort() -> None:
        if channel is not None:
            WORLD.abort(1)
        os._exit(1)  # at which launchers end the job

    watchdog = Watchdog(LIVE, WORLD, limit, channel, abort)
    watchdog.start()
    return watchdog


def _leave(watchdog: Watchdog) -> None:
    """Before this rank leaves its program: MPI waits for every rank, so for ever where one has failed."""
    if os.getpid() != _process:
        # Python would finalise MPI next, in which a forked process would wait for the other ranks, for ever. The
        # status with which it leaves is not known here.
        _write("a forked process has left with status 1: it must end by os._exit(status), as it is no rank\n")
        os._exit(1)
    if JOB.is_over():
        return
    watchdog.leave()
    status = _exit_status[0]
    if not status:
        watchdog.stop()
        return
    say(sys.stdout.flush)
    # Mostly all ranks leave alike and at about the same time. Once they have said why, one speaks for all.
    time.sleep(0.5 if WORLD.rank == 0 else 2)
    _write(f"left with status {status}; ending the job\n")
    time.sleep(0.5)
    JOB.fail_at_exit(status)


def _write(text: str) -> None:
    """Write about this rank to standard error, and let go of all that it has printed."""

    def write() -> None:
        sys.stderr.write(f"[rank {WORLD.rank} of {WORLD.size}] {text}")
        sys.stderr.flush()
        sys.stdout.flush()

    say(write)


def _close_all(watchdog: Watchdog | None) -> None:
    """Before MPI is finalised: a call after that would end the process without a word from Python."""
    if os.getpid() != _process:
        return
    if watchdog is not None:
        watchdog.stop()
    for comm in list(LIVE):
        comm._close(f"is closed, since {JOB.ended}")


def _share_cores() -> None:
    """Give torch as many threads as there are cores for this rank. Collective.

    By itself torch takes all cores for each of the ranks that share them. All ranks gather which cores they may
    use, also those whose user has chosen the number of threads.
    """
    own, number = cores()
    sets = JOB.gather(own)
    if not chosen_threads():
        torch.set_num_threads(min(torch.get_num_threads(), threads_of_rank(WORLD.rank, sets, number)))
