"""Files and folders as one rank sees them: which version is there, who may read it, and names beside it. Local."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

# Bytes of a name at most, of which some are left for what libraries put behind it.
_MAX_NAME = 255 - 5
# How the names of locks end: of jobs that add to what is there, one at a time, and of those that save.
_ADDING, _SAVING = ".lock", (".0.lock", ".1.lock", ".2.lock", ".3.lock")
# What is in the lock of a job that saves, and its bytes at most: the token in the name of the new file, the name
# of the machine, and where the file is to be, seen from the old one.
_NOTE, _MAX_NOTE = re.compile(r"(?P<token>[0-9a-f]{8}) (?P<host>\S*) (?P<target>.*)", re.DOTALL), 2**14
# Seconds in which a job on another machine has written nothing, after which it is taken for one that was killed.
_LEFT = 3600
# Bytes of which a digest is made at once.
_PART = 2**22
# Where Linux has the lists of users who may do more, or less, than the mode says.
_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
# How often what cannot be removed is tried again, and seconds between.
_REMOVALS, _PAUSE = 5, 0.02
# How often a move waits so long for another.
_MOVES = 50


class ReplacedError(ValueError):
    """A file was replaced by another one while it was opened or read: what was read may be of both."""


class PinnedPath:
    """A file or folder that is kept open, so that it can be told whether it is still that which has the name.

    While it is open the system gives its number to no other one. Whoever reads by names, as Zarr's and Parquet's
    libraries do, has read from this one if it has its name afterwards: one that was replaced never comes back.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.version = file_version(self._handle)

    def check(self, *, within: bool = True) -> None:
        """Raise ReplacedError unless it has its name still, and, with `within`, nothing in a folder has moved."""
        with suppress(OSError):
            same = os.path.samestat(os.fstat(self._handle), os.stat(self._path))
            if same and (not within or file_version(self._handle) == self.version):
                return
        raise ReplacedError(f"{self._path} was replaced by another one meanwhile; try again")

    def close(self) -> None:
        """Keep it no longer."""
        os.close(self._handle)


@contextmanager
def open_pinned(path: str) -> Iterator[PinnedPath]:
    """Let the block read what is at `path` by names; ReplacedError, whatever it raised, if it was replaced."""
    with closing(PinnedPath(path)) as pinned:
        try:
            yield pinned
        finally:
            pinned.check()


def file_version(handle: int) -> str:
    """Return a text that is another one for another version of an open file."""
    status = os.fstat(handle)
    return f"{inode(handle)}, {status.st_size} bytes, mtime {status.st_mtime_ns} ns"


def inode(handle: int) -> str:
    """Return a text that is another one for another file: with this every `version` begins."""
    # Without the number of the device: of a file system in a network each machine has its own.
    return f"inode {os.fstat(handle).st_ino}"


def size_and_time(path: str) -> list[int]:
    """Return what a copy of a file has as well if it was made with its time; of a folder only the time."""
    status = os.stat(path)
    return [0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns]


def digest(path: str) -> str:
    """Return a text that is another one for other contents of a file, or of the files in a folder."""
    sums = hashlib.blake2b()
    folders = sorted(os.walk(path)) if os.path.isdir(path) else [("", (), [path])]
    for folder, _, names in folders:
        for name in sorted(names):
            file = os.path.join(folder, name)
            sums.update(f"{os.path.relpath(file, path)} {os.path.getsize(file)} ".encode(errors="surrogateescape"))
            with open(file, "rb") as content:
                while part := content.read(_PART):
                    sums.update(part)
    return sums.hexdigest()


def check_regular(path: str) -> None:
    """Raise an OSError if there is something at `path` that is neither a file nor a folder, as a FIFO."""
    # Reading would wait for another program, and saving replace it by a file.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise FileExistsError(errno.EEXIST, "this is a FIFO, a socket or a device, not a file", path)


def has_content(path: str) -> bool:
    """Whether there is a file that is not empty: `make_empty` makes files before a format fills them."""
    return os.path.exists(path) and os.path.getsize(path) > 0


def make_empty(new: str, *, like: str, folder: bool = False) -> None:
    """Make an empty file or folder, for the same users as what is at `like`, if there is something."""
    # Before there is anything in it that others could read.
    if folder:
        os.mkdir(new)
    else:
        open(new, "xb").close()
    if os.path.exists(like):
        status = os.stat(like)
        for owner, group in ((status.st_uid, -1), (-1, status.st_gid)):
            with suppress(OSError):  # only root may give files away, and to other groups than its own nobody else
                os.chown(new, owner, group)
        # Who writes it must be able to.
        os.chmod(new, stat.S_IMODE(status.st_mode) | stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR * folder)
        for name in _ACCESS_LISTS:
            with suppress(OSError, AttributeError):  # there are none, or not on this system
                os.setxattr(new, name, os.getxattr(like, name))


def share_access(path: str, folder: str) -> None:
    """Let those who may use a folder use what is in it: the libraries make that by the rights of this process."""
    status, own = os.stat(folder), os.stat(path)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        with suppress(OSError):  # as above
            os.chown(path, status.st_uid, status.st_gid)
    mode = stat.S_IMODE(status.st_mode) & (0o7777 if stat.S_ISDIR(own.st_mode) else 0o666)
    if stat.S_IMODE(own.st_mode) != mode:
        os.chmod(path, mode)


def beside(path: str, end: str) -> str:
    """Return a hidden name in the folder of `path`, which tells of it and ends so.

    >>> beside("a/x.npy", ".partial")
    'a/.x.npy.partial'
    """
    folder, name = os.path.split(path)
    room = _MAX_NAME - 1 - len(end)
    if len(os.fsencode(name)) > room:
        # Two long names may begin alike.
        name = os.fsencode(name)[: room - 8].decode(errors="ignore") + f"{zlib.crc32(os.fsencode(name)):08x}"
    return os.path.join(folder, f".{name}{end}")


class FileLock:
    """A right that one job has at a time; BlockingIOError where another has it.

    It is a file beside `path`, whose name ends so, and which is removed in the end. The system takes the right
    from a job that is killed.
    """

    def __init__(self, path: str, end: str = _ADDING) -> None:
        self.name = beside(path, end)
        while True:
            self._handle = _open_lock(self.name)
            try:
                self.works = lock(self._handle, path)
                # Its last owner may have removed it since it was opened: then it keeps nobody else away.
                if os.path.samestat(os.fstat(self._handle), os.lstat(self.name)):
                    return
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(self._handle)
                raise
            os.close(self._handle)

    @property
    def text(self) -> str:
        """What its owner, or the last one that was killed, has noted in it."""
        return os.pread(self._handle, _MAX_NOTE, 0).decode(errors="replace")

    def note(self, text: str) -> None:
        """Let others find a text in it."""
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, text.encode(), 0)

    def close(self, *, keep: bool = False) -> None:
        """Let others have it, and, with `keep`, find what was noted."""
        if not keep:
            with suppress(OSError):
                os.remove(self.name)
        os.close(self._handle)


def _open_lock(name: str) -> int:
    # No link, which in a folder of many users could name a file that another one is not to change.
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(name, flags | os.O_RDWR, 0o666)
    except PermissionError:
        # It is another user's, who was killed: whoever may read it may have the lock all the same.
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


class NewName:
    """A hidden name beside `path` for a new file, which is to take the place of `target` there, or in it.

    No other job has it. What this one leaves there if it is killed is removed by the next that saves to `path`:
    until it has ended well it holds a lock, in which the name is.
    """

    def __init__(self, path: str, token: str, target: str) -> None:
        self.path = partial_name(path, token)
        self._lock: FileLock | None = None
        clear_leftovers(path)
        for end in _SAVING:
            with suppress(OSError):  # another job saves to the same name, or there is no right to
                lock = FileLock(path, end)
                if lock.text:  # of a job on another machine
                    lock.close(keep=True)
                    continue
                try:
                    lock.note(f"{token} {socket.gethostname()} {os.path.relpath(target, path)}")
                except OSError:
                    lock.close()
                    raise
                self._lock = lock
                return

    def close(self) -> None:
        """Remove what is there, and let others have the name."""
        remove(self.path)
        if self._lock is not None:
            self._lock.close()


def clear_leftovers(path: str) -> None:
    """Remove what jobs that were killed while they saved to `path` have left beside it. Local.

    Where a folder had been moved aside, and the new one not yet into its place, the old one is put back.
    """
    for end in (_ADDING, *_SAVING):
        if os.path.lexists(beside(path, end)):
            with suppress(OSError):  # it is held where the job still runs
                lock = FileLock(path, end)
                found = _NOTE.fullmatch(lock.text) if lock.works else None
                if found and not _is_left(lock, partial_name(path, found["token"]), found["host"]):
                    lock.close(keep=True)
                    continue
                with closing(lock):
                    if found is None:
                        continue
                    target, root = os.path.realpath(os.path.join(path, found["target"])), os.path.realpath(path)
                    if f"{target}/".startswith(f"{root}/"):  # whoever wrote the lock
                        clear_leftover(partial_name(path, found["token"]), target)


def _is_left(lock: FileLock, new: str, host: str) -> bool:
    """Whether the job that had a lock does not run any more. Some file systems have locks for one machine only."""
    times = [os.stat(each).st_mtime for each in (lock.name, new) if os.path.exists(each)]
    return host == socket.gethostname() or time.time() - max(times) > _LEFT


def clear_leftover(new: str, target: str) -> None:
    """Remove what a killed job has left of the file at `new`, which was to take the place of that at `target`."""
    if os.path.isdir(aside(new)) and not os.path.exists(target):
        os.rename(aside(new), target)
    for rest in (new, aside(new), f"{new}.new"):
        remove(rest)


def partial_name(path: str, token: str) -> str:
    """Return the name of a new file while it is written, to take the place of that at `path`."""
    return beside(path, f".{token}.partial")


def aside(new: str) -> str:
    """Return the name of an old folder, for the moment until the one at `new` has taken its place."""
    return f"{new}.old"


def lock(handle: int, path: str) -> bool:
    """Be the only job that changes a file, until it is closed; BlockingIOError where another one does.

    False where the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another job is writing to the file", path) from None
    except OSError:
        return False
    return True


@contextmanager
def one_move_at_a_time(folder: str) -> Iterator[None]:
    """Let the block check what is in a folder, and move files there, while no other job does."""
    handle = -1
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        # Not without end: another program may hold the lock for a purpose of its own.
        for _ in range(_MOVES):
            with suppress(BlockingIOError):
                lock(handle, folder)
                break
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def remove(path: str) -> None:
    """Remove what may be there: the rest of a failed save, or what a folder replaced. Local."""
    if os.path.isdir(path):
        # Again where a thread of a library has put a file into a folder that was just emptied.
        for _ in range(_REMOVALS):
            shutil.rmtree(path, ignore_errors=True)
            if not os.path.exists(path):
                break
            time.sleep(_PAUSE)
    else:
        with suppress(OSError):
            os.remove(path)
