"""Files that change at once, or not at all: they are written beside those they replace, or behind their end."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.io.files import (
    FileLock,
    NewName,
    PinnedPath,
    aside,
    check_regular,
    clear_leftovers,
    lock,
    make_empty,
    one_move_at_a_time,
    partial_name,
    remove,
    share_access,
)

# Of Linux's <fcntl.h>, for `renameat2`: paths as of the current folder, and two names that are exchanged.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What is done to a path, or checked of it.
PathAction = Callable[[str], None]


@contextmanager
def atomic_replacement(
    comm: Communication,
    path: str,
    check_replaceable: PathAction,
    create: PathAction,
    *,
    folder: bool = False,
    copied: bool = False,
    store: str | None = None,
) -> Iterator[str]:
    """Yield the name of a new file, which replaces that at `path` once the block has ended well. Collective.

    It is an empty one, or a `folder`, which `create` fills on rank 0; with `copied` it is a copy of what is at
    `path`, which one job at a time may change so. The block writes to it, by calls that raise on all ranks or on
    none; if they raise, it is removed. `check_replaceable` raises if what is at `path` must stay.

    `store` is the folder of datasets to which `path` belongs, or will: the new one is made beside that, so that
    nobody takes it for a dataset, and one job at a time adds to it.

    A job that is killed leaves what it had written, under a name that begins with a dot and ends in ".partial",
    which the next one to save there removes.
    """
    # Behind a symbolic link, as the link is to stay one; in the same folder, as a name moves within a disk only.
    target = os.path.realpath(path)
    # Two jobs that save to one name must not write to the same new file.
    token = comm.broadcast_bytes(secrets.token_hex(4).encode()).decode()
    place = os.path.realpath(store or path)
    new = partial_name(place, token)
    first = comm.rank == 0
    with ExitStack() as stack:
        pinned = None
        with agreement(comm, f"preparing to write {path}"):
            if first:
                check_folder(target)
                stack.enter_context(closing(NewName(place, token, target)))
                if copied or store:
                    stack.enter_context(closing(FileLock(place)))
                check_target(target, check_replaceable)
                # What is added to, or the store to which what is added belongs.
                old = target if copied else place
                if (copied or store) and os.path.exists(old):
                    pinned = stack.enter_context(closing(PinnedPath(old)))
                if copied and os.path.exists(target):
                    _copy(target, new)
                else:
                    make_empty(new, like=target if os.path.exists(target) else place, folder=folder)
        with agreement(comm, f"making {path}"):
            if first:
                create(new)
        yield new
        with agreement(comm, f"handing {path} to the disk"):
            sync(new, comm.rank, comm.size)
        with agreement(comm, f"putting {path} in its place"):
            if first:
                move_into_place(new, target, partial(_check_pinned, pinned, within=copied), place)
                stack.close()


@contextmanager
def append_in_place(
    comm: Communication, path: str, check_unchanged: PathAction, header: tuple[int, bytes, int]
) -> Iterator[None]:
    """Let the block write behind the end of the file at `path`, and then rewrite the header. Collective.

    `header` is where in the file it says how much of it counts, what it says after the block, and where that ends
    which counts before. Until then the file is the old one for all who read it. If the block fails, what it wrote
    is cut off again, and so is before it what a killed job has written.
    `check_unchanged` is called once no other job can do the same.
    """
    target, handle, old_size = os.path.realpath(path), -1, 0
    try:
        with agreement(comm, f"preparing to write {path}"):
            if comm.rank == 0:
                handle = os.open(target, os.O_RDWR | os.O_CLOEXEC)
                lock(handle, path)
                check_target(target, check_unchanged)
                clear_leftovers(target)
                old_size = header[2]
                os.truncate(handle, old_size)
        yield
        # Before the header: if power fails between the two, the numbers are there but do not count.
        with agreement(comm, f"handing {path} to the disk"):
            sync(target, comm.rank, comm.size)
        with agreement(comm, f"putting what was added to {path} in its place"):
            if comm.rank == 0:
                if not os.path.samestat(os.fstat(handle), os.stat(target)):
                    raise FileExistsError(errno.EEXIST, "the file was replaced by another while it grew", path)
                # Once the header may be the new one the file must not be cut short.
                old_size = 0
                os.pwrite(handle, header[1], header[0])
                os.fsync(handle)
    except BaseException:
        if old_size:
            os.ftruncate(handle, old_size)
        raise
    finally:
        if handle >= 0:
            os.close(handle)


def _check_pinned(pinned: PinnedPath | None, *, within: bool) -> None:
    if pinned is not None:
        pinned.check(within=within)


def _copy(old: str, new: str) -> None:
    """Copy a file, or a folder by hard links to its files: these are only ever replaced, never changed."""
    if not os.path.isdir(old):
        make_empty(new, like=old)
        shutil.copyfile(old, new)
        return
    make_empty(new, like=old, folder=True)
    try:
        shutil.copytree(old, new, copy_function=os.link, dirs_exist_ok=True)
    except (shutil.Error, OSError):  # some file systems have no hard links
        remove(new)
        make_empty(new, like=old, folder=True)
        shutil.copytree(old, new, dirs_exist_ok=True)


def check_folder(target: str) -> None:
    """Raise FileNotFoundError unless there is the folder of `target`. Local."""
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}: there is no folder {folder}")


def check_target(target: str, check_replaceable: PathAction) -> None:
    """Raise an OSError unless what is at `target` may be replaced, if there is something. Local."""
    check_folder(target)
    check_regular(target)
    if os.path.exists(target):
        # To replace a file its folder must be writable, not the file; but who made it read-only wants to keep it.
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)}: {target} may not be written")
        check_replaceable(target)


def sync(path: str, rank: int, size: int) -> None:
    """Hand what this rank has in memory of a file to the disk, or its share of the files of a folder. Local."""
    paths = [path]
    if os.path.isdir(path):
        # With "" for the folders themselves, which hold the names of the files.
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in ("", *names))
        paths = files[rank::size]
        for each in paths:
            share_access(each, path)
    for each in paths:
        _fsync(each)


def _fsync(path: str) -> None:
    is_folder = os.path.isdir(path)
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        if not is_folder:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def move_into_place(
    new: str, target: str, check: Callable[[], None] = lambda: None, store: str | None = None
) -> None:
    """Put `new` in the place of `target`. A folder that was there has then the name `new`. Local.

    `check` is called while no other job moves anything to `target`, or to the `store` in which that is.
    """
    with one_move_at_a_time(os.path.dirname(os.path.abspath(store or target))):
        check()
        _rename(new, target)
    # A rename is on the disk once its folder is.
    _fsync(os.path.dirname(os.path.abspath(target)))


def _rename(new: str, target: str) -> None:
    if os.path.isfile(new) and not os.path.isdir(target):
        os.replace(new, target)
        return
    try:
        os.rename(new, target)  # a folder, where nothing is
    except OSError:
        if not os.path.exists(target):
            raise
        if not _exchange_names(new, target):
            # No one step for folders here: for a moment there is nothing at `target`.
            os.rename(target, aside(new))
            try:
                os.rename(new, target)
            except OSError:
                os.rename(aside(new), target)
                raise
            os.rename(aside(new), new)


def _exchange_names(one: str, other: str) -> bool:
    """Exchange two names in one step, where the system can."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)
    return exchange is not None and not exchange(*names, _RENAME_EXCHANGE)
