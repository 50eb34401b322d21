"""One rank of `python -m minisplit run`; run as a file: `rank.py SCRIPT ...` or `rank.py -m MODULE ...`.

Runs the program as Python would. What it adds: a rank that leaves with a failing status ends the job with that
status, and so does one that fails before it has imported minisplit, also with MPICH, whose launcher would wait for
the others for ever.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from contextlib import suppress
from types import TracebackType


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
        raise
