"""Versions of files, who may read them, names beside them, and one job at a time."""

import itertools
import os
import socket
import stat
import struct
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
import zarr
from files import SUFFIXES, on_rank_0, wait_for_all

import minisplit as ms
from minisplit.io import atomic, collective
from minisplit.io.files import FileLock, NewName, PinnedPath, ReplacedError, beside, clear_leftovers
from minisplit.io.formats.registry import format_of

_OPEN_READER, _SYNC = collective.open_reader, atomic.sync
NAMED = ["h5", "zarr", "safetensors"]


def replace_between(monkeypatch, comm, path, times):
    """Let rank 0 save to `path` after it has opened the file, and before the others do, so many times."""
    real, left = _OPEN_READER, [times]

    def open_reader(*args):
        first = ms.get_comm().rank == 0
        reader = real(*args) if first else None
        if first and left[0]:
            left[0] -= 1
            ms.save(ms.full((6, 2), left[0] + 1.0, comm=ms.MPI_SELF), path)
        wait_for_all(ms.get_comm())  # each thread is a rank of its own
        return real(*args) if reader is None else reader

    wait_for_all(comm)
    monkeypatch.setattr("minisplit.io.api.open_reader", open_reader)


@pytest.mark.several
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F6_a_load_beside_a_save_is_of_one_version(comm, folder, monkeypatch, raises_alike, suffix):
    """Between rank 0, which has opened the old file, and the others another job saves."""
    path = folder / f"x.{suffix}"
    ms.save(ms.zeros((6, 2), split=0), path)
    replace_between(monkeypatch, comm, path, 1)
    assert torch.unique(ms.load(path, split=None).larray).tolist() == [1.0]
    replace_between(monkeypatch, comm, path, 99)
    with raises_alike(ValueError, "replaced by another one meanwhile|must see the same file"):
        ms.load(path)


@pytest.mark.serial
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F6_a_file_that_was_opened_is_read_to_its_end_or_not_at_all(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    ms.save(ms.zeros((6, 2)), path)
    x = ms.open(path)
    ms.save(ms.ones((6, 2)), path)
    if suffix == "zarr":  # its chunks are found by their names
        with pytest.raises(ValueError, match="was replaced by another one meanwhile"):
            x.load()
    else:
        assert x.load().tolist() == [[0.0, 0.0]] * 6


@pytest.mark.serial
def test_F6_a_checkpoint_is_of_one_step(tmp_path):
    """Its header was of one step, and its arrays of the next."""
    path, stop, wrong = tmp_path / "c.safetensors", [], []

    def state(step):
        return {"step": step, "x": ms.full((50,), float(step)), "y": {str(step % 3): ms.full((3,), float(step))}}

    def save():
        step = 1
        while not stop:
            ms.save_checkpoint(state(step), path)
            step += 1

    ms.save_checkpoint(state(0), path)
    thread = threading.Thread(target=save)
    thread.start()
    for _ in range(100):
        found = ms.load_checkpoint(path)
        values = {found["step"], *found["x"].tolist(), *found["y"][str(found["step"] % 3)].tolist()}
        wrong.extend([values] if len(values) > 1 else [])
    stop.append(True)
    thread.join()
    assert not wrong


def test_F8_what_is_no_regular_file_stays(comm, folder, raises_alike):
    def make():
        os.mkfifo(folder / "fifo.npy")
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(folder / "socket.npy"))
        server.close()

    on_rank_0(comm, make)
    (folder / "null.npy").symlink_to("/dev/null") if comm.rank == 0 else None
    wait_for_all(comm)
    x, before = ms.ones(3, split=0), sorted(os.listdir(folder))
    for name in before:
        for mode in ("w", "extend"):
            with raises_alike(FileExistsError, "a FIFO, a socket or a device"):
                ms.save(x, folder / name, mode=mode)
        with raises_alike(FileExistsError, "a FIFO, a socket or a device"):
            ms.save_checkpoint({"x": x}, folder / name)
        for read in (ms.load, ms.open, ms.datasets, ms.load_checkpoint):
            with raises_alike(FileExistsError, "a FIFO, a socket or a device"):
                read(folder / name)
        with raises_alike(FileExistsError, "a FIFO, a socket or a device"):
            ms.vmap(lambda v: v, out=folder / name)(x)
    wait_for_all(comm)
    assert sorted(os.listdir(folder)) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_F8_a_table_does_not_replace_a_file(comm, folder, raises_alike):
    on_rank_0(comm, lambda: (folder / "x.parquet").write_bytes(b"mine"))
    with raises_alike(FileExistsError, "which does not replace a file"):
        ms.save(ms.ones((3, 2), split=0), folder / "x.parquet")
    assert (folder / "x.parquet").read_bytes() == b"mine"


@pytest.mark.serial
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nobody_else_may_read_what_is_written(tmp_path, monkeypatch, suffix):
    """At no moment: neither the header, nor the folder of chunks."""
    path, modes, format = tmp_path / f"x.{suffix}", [], format_of(f"x.{suffix}")
    private = 0o700 if format.folders else 0o600
    ms.save(ms.zeros((3, 2)), path, mode="extend")
    path.chmod(private)
    real = type(format).create

    def create(self, target):
        modes.append(stat.S_IMODE(os.stat(target.path).st_mode))
        real(self, target)

    monkeypatch.setattr(type(format), "create", create)
    ms.save(ms.ones((3, 2)), path)
    assert stat.S_IMODE(path.stat().st_mode) == private
    ms.save(ms.ones((3, 2)), path, mode="extend") if suffix != "h5" else None
    assert stat.S_IMODE(path.stat().st_mode) == private
    if format.contents != "columns":
        ms.vmap(lambda v: v, out=path)(ms.ones((3, 2), split=0))
        assert stat.S_IMODE(path.stat().st_mode) == private
    assert set(modes) == {private}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("length", [237, 238, 255])
def test_long_names(folder, suffix, length):
    path = folder / ("é" * 20 + "x" * (length - 41 - len(suffix)) + f".{suffix}")
    for mode in ("w", "extend") if suffix != "h5" else ("w", "w"):
        ms.save(ms.ones((3, 2), split=0), path, mode=mode)
    assert set(ms.load(path).larray.unique().tolist()) <= {1.0}
    if suffix not in {"csv", "parquet"}:
        ms.vmap(lambda v: v * 2, out=path)(ms.ones((3, 2), split=0))
        assert ms.load(path).tolist() == [[2.0, 2.0]] * 3


def test_beside() -> None:
    long = "é" * 127
    assert beside("a/x.npy", ".partial") == "a/.x.npy.partial"
    assert len(os.fsencode(beside(long, ".12345678.partial"))) <= 250
    assert beside(long, "") != beside(long + "x", "")


@pytest.mark.serial
def test_a_lock_is_held_by_one(tmp_path):
    path = str(tmp_path / "x.h5")
    with closing(FileLock(path)), pytest.raises(BlockingIOError, match="another job is writing to the file"):
        FileLock(path)
    with closing(FileLock(path)):
        pass
    assert not os.listdir(tmp_path)


def killed(path, target):
    """Begin to save, and be killed: what was written, and the file that holds the lock, stay."""
    name = NewName(str(path), "0123abcd", str(target))
    os.mkdir(name.path)
    os.close(name._lock._handle)
    return name.path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mode", ["w", "extend"])
def test_F3_what_a_killed_save_left_is_removed_by_the_next(comm, folder, suffix, mode):
    path = folder / f"x.{suffix}"
    if mode == "extend":
        ms.save(ms.zeros((1, 2), split=0), path, mode=mode)
    on_rank_0(comm, lambda: killed(path, path))
    on_rank_0(comm, (folder / f".x.{suffix}.lock").touch)
    ms.save(ms.ones((3, 2), split=0), path, mode=mode)
    assert os.listdir(folder) == [path.name]


@pytest.mark.serial
def test_F3_what_another_job_writes_now_is_not_removed(tmp_path):
    path = str(tmp_path / "x.npy")
    with closing(NewName(path, "0123abcd", path)) as name:
        open(name.path, "w").close()
        ms.save(ms.ones(3), path)
        assert sorted(os.listdir(tmp_path)) == [".x.npy.0.lock", ".x.npy.0123abcd.partial", "x.npy"]
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.serial
def test_F3_a_job_on_another_machine_may_still_run(tmp_path, monkeypatch):
    """Some file systems have locks for one machine only. What it has left for an hour is removed."""
    path = tmp_path / "x.npy"
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another")
        new = killed(path, path)
    ms.save(ms.ones(3), path)
    assert os.path.exists(new)
    os.utime(new, (0, time.time() - 3700))
    ms.save(ms.ones(3), path)
    assert os.path.exists(new)
    os.utime(tmp_path / ".x.npy.0.lock", (0, time.time() - 3700))
    ms.save(ms.ones(3), path)
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize(
    ("suffix", "mode", "inner"),
    [("zarr", "a", ""), ("zarr", "extend", ""), ("zarr", "extend", "d"), ("parquet", "extend", "")],
)
def test_F10_killed_between_two_steps(comm, folder, suffix, mode, inner):
    """Where names cannot be exchanged the old folder, or a dataset, is aside for a moment: it is put back."""
    path, name = folder / f"x.{suffix}", "d" if suffix == "zarr" else None
    ms.save(ms.zeros((1, 2), split=0), path, name)

    def move_aside():
        new = killed(path, path / inner)
        os.rename(path / inner, f"{new}.old")

    on_rank_0(comm, move_aside)
    ms.save(ms.ones((1, 2), split=0), path, "e" if mode == "a" else name, mode=mode)
    assert ms.load(path, name).tolist() == [[0.0, 0.0]] + [[1.0, 1.0]] * (mode == "extend")
    assert os.listdir(folder) == [path.name]


@pytest.mark.serial
def test_F3_a_lock_that_somebody_else_wrote(tmp_path):
    """It can make this job neither move nor remove what is elsewhere."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "secret").write_text("mine")
    (work / ".x.zarr.0123abcd.partial.old").mkdir()
    host = socket.gethostname()
    for note in (f"0123abcd {host} ../../taken", f"../secret {host} .", f"0123abcd {host} ../secret"):
        (work / ".x.zarr.0.lock").write_text(note)
        (work / ".x.zarr.1.lock").symlink_to(tmp_path / "secret")
        clear_leftovers(str(work / "x.zarr"))
        ms.save(ms.ones(3), work / "x.zarr")
        (work / ".x.zarr.1.lock").unlink()
    assert sorted(os.listdir(tmp_path)) == ["secret", "work"]
    assert (tmp_path / "secret").read_text() == "mine"


def access(path):
    """Owner, group and mode of all in a folder, but for whether files may be executed; or of a file."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    found = [each.stat() for each in paths]
    return {(each.st_uid, each.st_gid, stat.S_IMODE(each.st_mode) & 0o7666) for each in found}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mode", [0o700, 0o775])
def test_owner_group_and_mode_are_kept(comm, folder, suffix, mode):
    """Also of what is in a folder: others could not read its chunks, or not remove them."""
    path = folder / f"x.{suffix}"
    # Only root may give files away.
    owner = (12345, 12346) if os.geteuid() == 0 else (os.geteuid(), os.getgroups()[-1])
    ms.save(ms.zeros((4, 2), split=0), path, mode="extend")

    def give():
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.chown(each, *owner)
            each.chmod(mode if each.is_dir() else mode & 0o666)

    on_rank_0(comm, give)
    expected, x = {(*owner, mode & 0o666)}, ms.ones((4, 2), split=0)
    assert access(path) == expected
    wait_for_all(comm)
    ms.save(x, path)
    assert access(path) == expected
    wait_for_all(comm)
    ms.save(x, path, mode="extend") if suffix != "h5" else None
    assert access(path) == expected
    wait_for_all(comm)
    if suffix not in {"csv", "parquet"}:
        ms.vmap(lambda v: v, out=path)(x)
        assert access(path) == expected
    if suffix == "zarr":
        for dataset, how in (("a", "w"), ("g/b", "a"), ("a", "extend"), ("a", "a")):
            wait_for_all(comm)
            ms.save(x, path, dataset, mode=how)
            assert access(path) == expected


@pytest.mark.serial
@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_a_list_of_users_is_kept(tmp_path, suffix):
    path, name = tmp_path / f"x.{suffix}", "system.posix_acl_access"
    ms.save(ms.zeros(3), path)
    # Version 2; user, user 12345, group, mask, others: what they may, and who.
    entries = [(1, 6, -1), (2, 4, 12345), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    users = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, name, users)
    except OSError:  # a file system without such lists
        return
    ms.save(ms.ones(3), path)
    assert os.getxattr(path, name)[4:] == users[4:]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("suffix", "how"), [*itertools.product(NAMED, ["a", "extend"]), ("parquet", "extend"), ("csv", "extend")]
)
def test_F6_a_file_that_is_replaced_between_the_last_look_and_the_move(tmp_path, monkeypatch, suffix, how):
    """The save returned, and then what grew took its place, as if there had been none."""
    path, check, started = tmp_path / f"x.{suffix}", PinnedPath.check, []
    name, other = "d" if suffix in NAMED else None, ms.full((3, 2), 7.0, comm=ms.MPI_SELF.split(0))
    ms.save(ms.zeros((4, 2)), path, name, mode="extend")

    def check_then_wait(pinned, **options):
        check(pinned, **options)
        if not started and options:
            started.append(threading.Thread(target=ms.save, args=(other, path, name)))
            started[0].start()
            time.sleep(0.3)

    monkeypatch.setattr(PinnedPath, "check", check_then_wait)
    ms.save(ms.ones((4, 2)), path, name, mode=how)
    started[0].join()
    assert ms.load(path, name).tolist() == [[7.0, 7.0]] * 3


@pytest.mark.serial
@pytest.mark.parametrize("folder", [True, False])
def test_a_path_that_is_pinned(tmp_path, folder):
    def make(name):
        (tmp_path / name).mkdir() if folder else (tmp_path / name).write_text(name)

    make("x")
    with closing(PinnedPath(str(tmp_path / "x"))) as pinned:
        pinned.check()
        make("y")
        os.rename(tmp_path / "y", tmp_path / "x")
        with pytest.raises(ReplacedError):
            pinned.check()


def meanwhile(comm, monkeypatch, how):
    """Let another job do something once this one has begun to write."""
    done = []

    def sync(*args):
        if ms.get_comm().rank == 0 and not done:
            done.append(True)
            how()
        _SYNC(*args)

    wait_for_all(comm)
    monkeypatch.setattr(atomic, "sync", sync)


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors", "parquet", "csv"])
@pytest.mark.parametrize("named", [True, False])
def test_F6_of_two_jobs_that_extend_one_file_one_is_refused(comm, folder, monkeypatch, suffix, named):
    path, name = folder / f"x.{suffix}", "d" if named and suffix in NAMED else None
    ms.save(ms.zeros((4, 2), split=0), path, name, mode="extend")

    def other():
        with pytest.raises(BlockingIOError, match="another job is writing to the file"):
            ms.save(ms.ones((3, 2), comm=ms.MPI_SELF), path, name, mode="extend")

    meanwhile(comm, monkeypatch, other)
    ms.save(ms.full((2, 2), 2.0, split=0), path, name, mode="extend")
    assert ms.load(path, name).tolist() == [[0.0, 0.0]] * 4 + [[2.0, 2.0]] * 2
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors", "parquet", "csv"])
def test_F6_a_file_that_is_replaced_while_it_grows(comm, folder, monkeypatch, raises_alike, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.zeros((4, 2), split=0), path, mode="extend")
    meanwhile(comm, monkeypatch, lambda: ms.save(ms.ones((3, 2), comm=ms.MPI_SELF), path))
    with raises_alike(ValueError, "replaced by another one meanwhile"):
        ms.save(ms.full((2, 2), 2.0, split=0), path, mode="extend")
    assert ms.load(path).tolist() == [[1.0, 1.0]] * 3


def test_F6_two_jobs_add_datasets_to_one_store(comm, folder, monkeypatch):
    """Also below one group that was not there: the second would have replaced that of the first."""
    path = folder / "x.zarr"
    ms.save(ms.zeros(3, split=0), path, "a")

    def other():
        with pytest.raises(BlockingIOError, match="another job is writing to the file"):
            ms.save(ms.ones(3, comm=ms.MPI_SELF), path, "g/c", mode="a")

    meanwhile(comm, monkeypatch, other)
    ms.save(ms.ones(3, split=0), path, "g/b", mode="a")
    monkeypatch.undo()
    wait_for_all(comm)
    ms.save(ms.ones(3, split=0), path, "g/c", mode="a")
    assert ms.datasets(path) == ["a", "g/b", "g/c"]


@pytest.mark.parametrize("mode", ["a", "extend"])
def test_F10_a_save_into_a_zarr_group_is_one_step(comm, folder, monkeypatch, raises_alike, mode):
    """Before its last step other programs find what was there, with no half of a dataset and no empty group."""
    path = folder / "x.zarr"
    ms.save(ms.zeros((3, 2), split=0), path, "a", mode="extend")

    def stop(*_args):
        raise OSError("killed")

    wait_for_all(comm)
    monkeypatch.setattr(atomic, "move_into_place", stop)
    monkeypatch.setattr(atomic, "remove", lambda _: None)
    for name in ("g/h/b", "a", "c"):
        with raises_alike(OSError, "killed"):
            ms.save(ms.ones((3, 2), split=0), path, name, mode=mode)
        assert sorted(zarr.open_group(path, mode="r").keys()) == ["a"]
        assert ms.load(path).tolist() == [[0.0, 0.0]] * 3
    monkeypatch.undo()
    wait_for_all(comm)
    ms.save(ms.ones((3, 2), split=0), path, "g/h/b", mode=mode)
    assert ms.datasets(path) == ["a", "g/h/b"]


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("mode", ["a", "extend"])
def test_zarr_consolidated(comm, folder, mode):
    """Other programs read the shape that the store had when its metadata were put together."""
    path = folder / "x.zarr"
    ms.save(ms.zeros((3, 2), split=0), path, "g/a", mode="extend")

    def consolidate():
        zarr.consolidate_metadata(path)
        zarr.consolidate_metadata(path, path="g")

    on_rank_0(comm, consolidate)
    ms.save(ms.ones((5, 2), split=0), path, "g/a", mode=mode)
    ms.save(ms.ones(2, split=0), path, "g/b", mode="a")
    group = zarr.open_group(path, mode="r")
    assert group["g/a"].shape == ((8, 2) if mode == "extend" else (5, 2))
    assert group["g"]["a"].shape == group["g/a"].shape
    assert sorted(group["g"].keys()) == ["a", "b"]


def test_a_full_disk_leaves_nothing_of_a_zarr_array(comm, folder, monkeypatch, raises_alike):
    """One chunk fails, and the library goes on with the others in threads of its own."""
    import time

    from zarr.storage import _local

    real = _local._put

    def put(path, *args, **kwargs):
        if "/c/" in str(path):
            if str(path).endswith("0"):
                raise OSError(28, "No space left on device")
            time.sleep(0.2)
        return real(path, *args, **kwargs)

    wait_for_all(comm)
    monkeypatch.setattr(_local, "_put", put)
    with raises_alike(OSError, "No space left"):
        ms.save(ms.ones(60, split=0), folder / "x.zarr", chunks=(2,))
    wait_for_all(comm)
    time.sleep(0.4)
    assert not os.listdir(folder)


def test_npy_version_3(comm, folder):
    """What NumPy writes for names outside of Latin-1; arrays of numbers may have it as well."""
    path = folder / "x.npy"

    def make():
        with path.open("wb") as file:
            np.lib.format.write_array(file, np.arange(5.0), version=(3, 0))

    on_rank_0(comm, make)
    assert ms.load(path).tolist() == [0, 1, 2, 3, 4]
    ms.save(ms.ones(2, split=0), path, mode="extend")
    assert ms.load(path).tolist() == [0, 1, 2, 3, 4, 1, 1]
