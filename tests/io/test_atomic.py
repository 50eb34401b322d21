"""Files that are replaced at once or not at all.

A rank that is killed while it saves, and a disk that is full, are in tests/test_jobs.py.
"""

import contextlib
import errno
import os
import stat

import pytest
import torch
from files import on_rank_0, wait_for_all

import minisplit as ms
from minisplit.io import atomic


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("how", ["w", "extend"])
def test_the_new_file_is_for_the_same_users_as_the_old_one(comm, folder, mode, how):
    """Files of all formats are replaced in one way; Zarr and Parquet folders are made anew."""
    for name in ("x.npy", "x.h5", "x.safetensors", "x.csv"):
        ms.save(ms.zeros(3, split=0), folder / name, mode="extend")
        on_rank_0(comm, lambda path=folder / name: path.chmod(mode))
        ms.save(ms.ones(4, split=0), folder / name, mode=how)
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode
        wait_for_all(comm)


@pytest.mark.serial
@pytest.mark.parametrize("name", ["x.npy", "x.h5", "x.safetensors", "x.csv", "checkpoint"])
@pytest.mark.parametrize("mode", ["w", "a", "extend"])
def test_what_only_its_owner_may_read_nobody_else_may_while_it_is_written(tmp_path, monkeypatch, name, mode):
    path, real, modes = tmp_path / name, atomic.sync, []

    def sync(new, *args):
        modes.append(stat.S_IMODE(os.stat(new).st_mode))
        real(new, *args)

    def save(x):
        if name == "checkpoint":
            ms.save_checkpoint({"x": x}, path)
        else:
            ms.save(x, path, mode="w" if mode == "a" and path.suffix in {".npy", ".csv"} else mode, **more)

    more = {"dataset": "y"} if mode == "a" and path.suffix in {".h5", ".safetensors"} else {}
    save(ms.zeros(3))
    path.chmod(0o600)
    monkeypatch.setattr(atomic, "sync", sync)
    save(ms.ones(3))
    assert modes == [0o600]


def test_a_link_stays_a_link(comm, folder):
    (folder / "elsewhere").mkdir(exist_ok=True)
    on_rank_0(comm, lambda: (folder / "x.npy").symlink_to(folder / "elsewhere" / "y.npy"))
    ms.save(ms.ones(3, split=0), folder / "x.npy")
    assert (folder / "x.npy").is_symlink()
    assert ms.load(folder / "elsewhere" / "y.npy").tolist() == [1.0] * 3


def test_F3_no_permission(folder, raises_alike, monkeypatch):
    ms.save(ms.zeros(3, split=0), folder / "x.npy")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root is never refused
    with raises_alike(PermissionError, "x.npy may not be written"):
        ms.save(ms.ones(3, split=0), folder / "x.npy")
    assert ms.load(folder / "x.npy").tolist() == [0.0] * 3


@pytest.mark.serial
@pytest.mark.parametrize("failing", [False, True])
def test_F3_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch, failing):
    path, real = tmp_path / "x.zarr", os.rename
    ms.save(ms.zeros(3), path)

    def rename(source, target):
        if failing and str(source).endswith(".partial"):
            raise OSError(errno.EIO, "no luck")
        real(source, target)

    monkeypatch.setattr("minisplit.io.atomic._exchange_names", lambda *_: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="no luck") if failing else contextlib.nullcontext():
        ms.save(ms.ones(3), path)
    assert os.listdir(tmp_path) == ["x.zarr"]
    assert ms.load(path).tolist() == [0.0 if failing else 1.0] * 3


@pytest.mark.serial
@pytest.mark.parametrize("links", [True, False])
def test_rows_are_added_to_a_folder_by_links_where_there_are_any(tmp_path, monkeypatch, links):
    path = tmp_path / "x.parquet"
    ms.save(ms.zeros((3, 2)), path)
    part = path / "part-000000000000000.parquet"
    before = part.stat().st_ino
    if not links:

        def link(*_args, **_options):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", link)
    ms.save(ms.ones((1, 2)), path, mode="extend")
    assert (part.stat().st_ino == before) == links
    assert ms.load(path).tolist() == [[0.0, 0.0]] * 3 + [[1.0, 1.0]]
    assert os.listdir(tmp_path) == ["x.parquet"]


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_F6_two_writers_of_one_file(comm, rank, folder, suffix):
    path = folder / f"x.{suffix}"
    part = comm.split(rank % 2)
    for _ in range(3):
        ms.save(ms.full((40, 50), rank % 2, split=0, comm=part), path)
    wait_for_all(comm)
    assert len(torch.unique(ms.load(path, split=None).larray)) == 1
    assert os.listdir(folder) == [path.name]
    part.free()
