"""Ranks open one dataset, compare it, and write their parts; one rank that fails is seen by all."""

import errno
import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from files import SUFFIXES, on_rank_0, wait_for_all

import minisplit as ms
from minisplit.io.formats.registry import format_of


@pytest.mark.several
def test_F1_ranks_see_different_files(rank, size, folder, raises_alike):
    ms.save(ms.ones(3), folder / "x.npy")
    ms.save(ms.ones((4, 2)), folder / "y.npy")
    with raises_alike(ValueError, rf"rank 0 has \(3,\) .*, rank {size - 1} has \(4, 2\)"):
        ms.load(folder / ("y.npy" if rank == size - 1 else "x.npy"))


@pytest.mark.several
@pytest.mark.parametrize("suffix", ["npy", "h5"])
def test_F1_ranks_see_the_same_numbers_in_another_order(comm, rank, size, folder, raises_alike, suffix):
    x = np.ones((40, 40))

    def make():
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", np.asfortranarray(x))
        for name, chunks in (("x", (7, 40)), ("y", (40, 7))):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file.create_dataset("data", data=x, chunks=chunks)

    on_rank_0(comm, make)
    with raises_alike(ValueError, "the ranks must see the same file"):
        ms.load(folder / f"{'y' if rank == size - 1 else 'x'}.{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_conversion_in_blocks(comm, folder, monkeypatch, suffix):
    x = torch.arange(70).reshape(14, 5)
    wait_for_all(comm)
    monkeypatch.setattr("minisplit.io.collective._BLOCK", 90)
    ms.save(ms.array(x, split=0), folder / f"x.{suffix}", dtype=torch.float64)
    loaded = ms.load(folder / f"x.{suffix}", dtype=torch.int16, split=1)
    assert (loaded.dtype, loaded.tolist()) == (torch.int16, x.tolist())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F3_the_disk_is_full_for_one_rank(comm, size, folder, raises_alike, monkeypatch, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.zeros((size, 2), split=0), path)
    format = format_of(str(path))
    open_writer = type(format).open_writer

    class Full:
        def __init__(self, target):
            self.real = open_writer(format, target)

        def write(self, box, part):
            self.real.write((slice(box[0].start, box[0].start), box[1]), part[:0])
            if ms.get_comm().rank == size - 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.real.close()

    wait_for_all(comm)
    monkeypatch.setattr(type(format), "open_writer", lambda self, target: Full(target))
    with raises_alike(OSError, rf"No space left on device\n  rank {size - 1} of {size} failed while writing"):
        ms.save(ms.ones((size, 2), split=0), path)
    assert os.listdir(folder) == [path.name]
    assert ms.load(path).tolist() == [[0.0, 0.0]] * size


@pytest.mark.several
@pytest.mark.parametrize("suffix", [*SUFFIXES, "checkpoint"])
def test_F1_copies_on_each_node(rank, size, folder, raises_alike, suffix):
    """They are read if they are of one size, time and content: two saves may be of one time, as a clock has it."""
    path, comm = folder / f"x.{suffix}", ms.get_comm()
    copy = folder / f"y.{suffix}"
    x = ms.arange(40, dtype=torch.float64, split=0).reshape(10, 4)

    def load():
        if suffix == "checkpoint":
            return ms.load_checkpoint(copy if rank == size - 1 else path)["x"]
        return ms.load(copy if rank == size - 1 else path)

    def make():
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy)

    def touch():
        os.utime(copy, ns=(0, path.stat().st_mtime_ns + 1))

    def change():
        parts = (
            [each for each in copy.rglob("*") if each.is_file() and each.suffix != ".json"]
            if copy.is_dir()
            else [copy]
        )
        part = max(parts, key=lambda each: each.stat().st_size)
        content = part.read_bytes()
        at = content.find(b"cpp") if suffix == "parquet" else len(content) - 1  # where it can still be opened
        part.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        os.utime(copy, ns=(0, path.stat().st_mtime_ns))

    ms.save_checkpoint({"x": x}, path) if suffix == "checkpoint" else ms.save(x, path)
    on_rank_0(comm, make)
    assert load().tolist() == x.tolist()
    if suffix != "checkpoint":
        stored = ms.open(copy if rank == size - 1 else path)
        assert stored.load().tolist() == x.tolist()
        if suffix != "h5":
            with raises_alike(ValueError, "the ranks must see the same file"):
                ms.save(x, copy if rank == size - 1 else path, mode="extend")
    on_rank_0(comm, change)
    with raises_alike(ValueError, "the ranks must see the same file, or copies of it with its time"):
        load()
    on_rank_0(comm, touch)
    with raises_alike(ValueError, "the ranks must see the same file, or copies of it with its time"):
        load()
