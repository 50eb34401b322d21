"""One rank of `python -m minisplit run`; run as a file: `rank.py SCRIPT ...` or `rank.py -m MODULE ...`.

Runs the program as Python would. What it adds: a rank that leaves with a failing status ends the job with that
status, and so does one that fails before it has imported minisplit, also with MPICH, whose launcher would wait for
the others for ever. One that leaves with status 0 before that import, while others wait for it in theirs, ends the
job too, and so does `os._exit(0)`, of which MPICH's launcher makes the status of a job that went well.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn


def end_job(error: BaseException) -> None:
    """Make the job end with this rank, which leaves with `error`."""
    status = exit_status(error)
    if not status:
        return
    if "mpi4py.MPI" in sys.modules:
        from mpi4py.run import set_abort_status  # noqa: PLC0415 - loads MPI

        set_abort_status(status)
        return
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    # A launcher may drop what it has not passed on when the job ends, and that of Open MPI may crash while it lets
    # other ranks in.
    time.sleep(0.5)
    # MPICH's waits, by default, for the ranks that have begun MPI: tell it what MPI_Abort would. Not SLURM's srun,
    # which sets PMI_FD as well: an option of ours has it end the job when a rank fails.
    if os.environ.get("PMI_FD", "").isdecimal() and "MPI_LOCALNRANKS" in os.environ:
        with suppress(OSError):
            os.write(int(os.environ["PMI_FD"]), b"cmd=abort exitcode=%d\n" % status)
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGTERM)  # what every launcher notices
    os._exit(status)


# The folder of the job, and how many ranks it has, as `minisplit.launch.jobs` sets them for ranks on one machine.
FOLDER, RANKS = os.environ.pop("MINISPLIT_RUN_FOLDER", ""), int(os.environ.pop("MINISPLIT_RUN_RANKS", "0"))
PROCESS = os.getpid()
exit_at_once = os._exit


class ImportWatcher:
    """Says to other ranks that this one imports minisplit, which is collective."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Find nothing, as the finders after this one are to do that."""
        if name == "minisplit":
            note("imports")


def note(step: str) -> None:
    """Leave a file that says how far this rank is."""
    if FOLDER and os.getpid() == PROCESS:
        with suppress(OSError), open(os.path.join(FOLDER, f"{step}-{PROCESS}"), "w"):
            pass


def noted(step: str) -> set[str]:
    """The processes of the ranks that have come so far."""
    with suppress(OSError):
        return {name.partition("-")[2] for name in os.listdir(FOLDER) if name.startswith(f"{step}-")}
    return set()


def wait_for_others() -> None:
    """End the job if another rank imports minisplit, which this one has left without; else wait for its end."""
    while FOLDER and os.path.isdir(FOLDER):
        if noted("imports"):
            sys.stderr.write("a rank has left its program before it imported minisplit, which others wait for\n")
            end_job(SystemExit(1))
            return
        started = noted("started")
        running = {process for process in started - noted("left") if os.path.exists(f"/proc/{process}")}
        if len(started) >= RANKS and not running:
            return
        time.sleep(0.2)


def exit_with_job(status: int) -> NoReturn:
    """Do what `os._exit` does, but end the job where others may wait for this rank."""
    mpi: Any = sys.modules.get("mpi4py.MPI")
    startup: Any = sys.modules.get("minisplit.core.communication.startup")
    if status == 0 and os.getpid() == PROCESS:
        if mpi and mpi.Is_initialized() and not mpi.Is_finalized() and mpi.COMM_WORLD.size > 1:
            os.write(2, b"a rank has left by os._exit(0), without MPI_Finalize; ending the job\n")
            time.sleep(0.5)  # a launcher may drop what it has not passed on when the job ends
            mpi.COMM_WORLD.Abort(1)
        elif not mpi and startup and not startup.JOB.is_over() and startup.WORLD.size > 1:
            os.write(2, b"a rank has left by os._exit(0); ending the job\n")
            startup.WORLD.abort(1)
    exit_at_once(status)


def exit_status(error: BaseException) -> int:
    """The exit status of a process that nobody catches this error in."""
    if isinstance(error, SystemExit):
        return error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)
    return 1


def remove_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this file and of what it runs the program with."""
    while trace and trace.tb_frame.f_code.co_filename in {__file__, "<frozen runpy>"}:
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    # In the module itself: raising again adds no frame here, and the interpreter sees the error as it was.
    try:
        del sys.argv[0]
        note("started")
        sys.meta_path.insert(0, ImportWatcher)
        os._exit = exit_with_job
        if sys.argv[0] == "-m":
            del sys.argv[0]
            sys.path[0] = os.getcwd()
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
            runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException as error:
        error.__traceback__ = remove_own_frames(error.__traceback__)
        if "minisplit" not in sys.modules:
            end_job(error)
        elif isinstance(error, SystemExit):
            # Once it is imported, minisplit ends the job by itself at any other error.
            sys.modules["minisplit.core.communication.startup"].notice_exit(exit_status(error))
        note("left")
        if "minisplit" not in sys.modules:
            wait_for_others()
        raise
    note("left")
    if "minisplit" not in sys.modules:
        wait_for_others()
