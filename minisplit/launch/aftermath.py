"""What a job of `python -m minisplit run` leaves behind, and the process that removes it."""

from __future__ import annotations

import os
import re
import select
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

# Files of memory that ranks share, of MPICH and Open MPI, which leave them where a job is killed.
_SHARED = re.compile(r"/dev/shm/(?:mpich_shm_|sm_segment\.)\S+")
# Seconds between two looks at the ranks, and for these to end after their launcher.
_STEP, _GRACE = 1.0, 5.0


def clean_up_after_this_process(folder: str) -> None:
    """Start a process that removes what is left once this process, and the launcher that it becomes, has ended.

    Parameters
    ----------
    folder : str
        The folder of the job, in which each rank leaves a file `started-PID`. It is removed as well.
    """
    ended = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(ended)
        return
    try:
        os.setsid()  # Ctrl-C is for the job
        if not os.fork():  # no child of the launcher, which would wait for it
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nothing, stream)
            clean_up(ended, Path(folder))
    finally:
        os._exit(0)


def clean_up(ended: int, folder: Path) -> None:
    """Wait for the end of a process, of which `ended` is the descriptor, and remove what its ranks have left."""
    found: dict[int, set[str]] = {}
    while not select.select([ended], [], [], _STEP)[0]:
        for process in ranks_of(folder):
            if not found.get(process):
                found[process] = shared_memory_of(process)
    limit = time.monotonic() + _GRACE
    while any(map(is_running, ranks_of(folder))) and time.monotonic() < limit:
        time.sleep(0.1)
    if not any(map(is_running, ranks_of(folder))):
        for name in set().union(*found.values()):
            with suppress(OSError):
                status = os.lstat(name)
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
                    os.unlink(name)
    shutil.rmtree(folder, ignore_errors=True)


def ranks_of(folder: Path) -> list[int]:
    """The processes of the ranks that have started."""
    return [int(file.name.partition("-")[2]) for file in folder.glob("started-*")]


def shared_memory_of(process: int) -> set[str]:
    """The names of the memory that a process of this user shares by MPI, which nobody else has made."""
    with suppress(OSError):
        return set(_SHARED.findall(Path(f"/proc/{process}/maps").read_text()))
    return set()


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended."""
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    return False
