"""Files that change at once, or not at all: they are written beside those they replace, or behind their end."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def replacing(
    comm: Communication, path: str, check_old: Callable[[str], None], *, copied: bool = False
) -> Iterator[str]:
    """The name of a file beside `path`, which takes its place if the block ends well, else is removed. Collective.

    The block makes it, a file or a folder, by calls that raise on all ranks or on none. `copied`: it begins as a
    copy of what is at `path`, if there is something. `check_old` raises if what is there must not be replaced.

    A job that is killed leaves what it had written, under a name that begins with a dot and ends in ".partial".
    """
    folder, name = os.path.split(os.path.realpath(path))
    token = comm.broadcast_bytes(secrets.token_hex(4).encode()).decode()
    beside = os.path.join(folder, f".{name}.{token}.partial")
    target = os.path.join(folder, name)
    first = comm.rank == 0
    try:
        with agreement(comm, f"preparing to write {path}"):
            if first:
                check_place(folder, target, check_old)
            if first and copied and os.path.exists(target):
                _copy(target, beside)
        yield beside
        with agreement(comm, f"handing {path} to the disk"):
            sync(beside, comm.rank, comm.size)
        with agreement(comm, f"putting {path} in its place"):
            if first:
                replace(beside, target)
                _sync_folder(folder)
    finally:
        if first:
            remove(beside)


@contextmanager
def behind_the_end(
    comm: Communication, path: str, check_old: Callable[[str], None], told: tuple[int, bytes]
) -> Iterator[None]:
    """Let the block write behind the end of the file at `path`, which is then told of it. Collective.

    told: at which byte of the file it says how much of it counts, and what it says after the block. If the block
    fails, what it wrote is cut off again. `check_old` is called once no other job can do the same.
    """
    target, handle, end = os.path.realpath(path), -1, 0
    try:
        with agreement(comm, f"preparing to write {path}"):
            if comm.rank == 0:
                handle = os.open(target, os.O_RDWR | os.O_CLOEXEC)
                _claim(handle, path)
                check_place(os.path.dirname(target), target, check_old)
                end = os.path.getsize(target)
        yield
        with agreement(comm, f"handing {path} to the disk"):
            sync(target, comm.rank, comm.size)
        with agreement(comm, f"putting what was added to {path} in its place"):
            if comm.rank == 0:
                if not os.path.samestat(os.fstat(handle), os.stat(target)):
                    raise FileExistsError(errno.EEXIST, "the file was replaced by another while it grew", path)
                end = 0
                os.pwrite(handle, told[1], told[0])
                os.fsync(handle)
    except BaseException:
        if end:
            os.ftruncate(handle, end)
        raise
    finally:
        if handle >= 0:
            os.close(handle)


def _claim(handle: int, path: str) -> None:
    """Be the only one who adds to a file, until it is closed; BlockingIOError where another does."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another job is adding to the file", path) from None
    except OSError:
        pass  # a file system without locks


def _copy(old: str, new: str) -> None:
    """Copy a file; of a folder, the files of which are only ever replaced, make another with the same files."""
    if not os.path.isdir(old):
        shutil.copyfile(old, new)
        return
    try:
        shutil.copytree(old, new, copy_function=os.link)
    except (shutil.Error, OSError):  # not every file system can
        remove(new)
        shutil.copytree(old, new)


def check_place(folder: str, target: str, check_old: Callable[[str], None]) -> None:
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}: there is no folder {folder}")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)}: {target} may not be written")
    if os.path.exists(target):
        check_old(target)


def sync(path: str, rank: int, size: int) -> None:
    """Hand what this rank has in memory of a file to the disk, or its share of the files of a folder."""
    if not os.path.isdir(path):
        _sync_file(path)
        return
    walked = sorted((folder, sorted(names)) for folder, _, names in os.walk(path))
    files = [os.path.join(folder, name) for folder, names in walked for name in names]
    for file in files[rank::size]:
        _sync_file(file)
    for folder, _ in walked[rank::size]:
        _sync_folder(folder)


def _sync_file(path: str) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def replace(new: str, target: str) -> None:
    """Put `new` in the place of `target`. What was there has then the name `new`, or is gone."""
    if os.path.isfile(new) and not os.path.isdir(target):
        if os.path.exists(target):
            shutil.copymode(target, new)
        os.replace(new, target)
        return
    try:
        os.rename(new, target)  # a folder, where nothing is
    except OSError:
        if not os.path.exists(target):
            raise
        if not _exchanged(new, target):
            # No one step for folders here: for a moment there is nothing at `target`.
            aside = f"{new}.old"
            os.rename(target, aside)
            try:
                os.rename(new, target)
            except OSError:
                os.rename(aside, target)
                raise
            os.rename(aside, new)


def _exchanged(one: str, other: str) -> bool:
    """Exchange two names in one step, where the system can."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return exchange is not None and not exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)


def remove(path: str) -> None:
    """Remove what may be there: the rest of a failed save, or what a folder replaced."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.remove(path)
