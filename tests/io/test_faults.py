"""What goes wrong with files: the rows F1 to F7 of the list of faults, by their ids; F3 also in test_jobs.py."""

import contextlib
import errno
import json
import math
import os
import threading
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import zarr

import minisplit as ms
from minisplit.io.formats import raw
from minisplit.io.formats.registry import format_of

FORMATS = ["npy", "h5", "zarr", "safetensors", "csv", "parquet"]


def folder_of(comm, tmp_path):
    return Path(comm.broadcast_bytes(str(tmp_path).encode()).decode())


def everyone(comm):
    comm.agree(np.zeros(1, dtype=np.int64))


def once(comm, make):
    """Let rank 0 do something to the files, while the others wait."""
    if comm.rank == 0:
        make()
    everyone(comm)


@pytest.mark.parametrize("suffix", FORMATS)
def test_F1_a_file_is_missing_on_one_rank(comm, rank, size, raises_alike, tmp_path, suffix):
    folder = folder_of(comm, tmp_path)
    ms.save(ms.ones((size + 1, 2), split=0), folder / f"x.{suffix}")
    with raises_alike(FileNotFoundError, f"missing.{suffix}"):
        ms.load(folder / (f"missing.{suffix}" if rank == size - 1 else f"x.{suffix}"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_F1_a_file_is_of_another_format(comm, raises_alike, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    once(comm, lambda: path.write_bytes(b"names,of,some\nthings,that,are\nno,numbers,\xff\n" * 9))
    with raises_alike((ValueError, OSError), r"rank 0 of \d+ failed while (opening|reading its part of)"):
        ms.load(path)


@pytest.mark.parametrize("suffix", ["npy", "h5", "safetensors", "parquet"])
@pytest.mark.parametrize("left", [0, 3, 60, -9])
def test_F1_a_file_is_truncated(comm, raises_alike, tmp_path, suffix, left):
    folder = folder_of(comm, tmp_path)
    path = folder / f"x.{suffix}"

    def truncate():
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.table({"a": np.arange(1000.0)}), path)
        os.truncate(path, left % path.stat().st_size)

    if suffix != "parquet":
        ms.save(ms.ones((1000,), split=0), path)
    once(comm, truncate)
    with raises_alike((ValueError, OSError), f"x.{suffix}"):
        ms.load(path)


def test_F1_ranks_see_different_files(comm, rank, size, raises_alike, tmp_path):
    folder = folder_of(comm, tmp_path)
    ms.save(ms.ones(3), folder / "x.npy")
    ms.save(ms.ones((4, 2)), folder / "y.npy")
    if size > 1:
        with raises_alike(ValueError, rf"rank 0 has \(3,\) .*, rank {size - 1} has \(4, 2\)"):
            ms.load(folder / ("y.npy" if rank == size - 1 else "x.npy"))


@pytest.mark.parametrize("suffix", ["npy", "h5"])
def test_F1_ranks_see_the_same_numbers_in_another_order(comm, rank, size, raises_alike, tmp_path, suffix):
    folder = folder_of(comm, tmp_path)
    x = np.ones((40, 40))

    def make():
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", np.asfortranarray(x))
        for name, chunks in (("x", (7, 40)), ("y", (40, 7))):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file.create_dataset("data", data=x, chunks=chunks)

    once(comm, make)
    if size > 1:
        with raises_alike(ValueError, "the ranks must see the same file"):
            ms.load(folder / f"{'y' if rank == size - 1 else 'x'}.{suffix}")


class Trap:
    """What unpickles this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_F2_nothing_is_unpickled(comm, raises_alike, tmp_path):
    folder = folder_of(comm, tmp_path)
    trap = np.array([Trap(folder / "sprung")], dtype=object)
    once(comm, lambda: np.save(folder / "x.npy", trap, allow_pickle=True))
    with raises_alike(TypeError, "never unpickles"):
        ms.load(folder / "x.npy")

    def through_zarr():
        zarr.create_array(folder / "x.zarr", shape=(1,), dtype="f8", zarr_format=2)
        told = json.loads((folder / "x.zarr/.zarray").read_text())
        (folder / "x.zarr/.zarray").write_text(json.dumps({**told, "compressor": {"id": "pickle", "protocol": 5}}))
        (folder / "x.zarr/0").write_bytes(trap.dumps())

    once(comm, through_zarr)
    with raises_alike((TypeError, ValueError), "never unpickles|pickle"):
        ms.load(folder / "x.zarr")
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_F3_the_disk_is_full_for_one_rank(comm, size, raises_alike, tmp_path, monkeypatch, suffix):
    folder = folder_of(comm, tmp_path)
    path = folder / f"x.{suffix}"
    ms.save(ms.zeros((size, 2), split=0), path)
    row = format_of(str(path))
    kind = type(row)
    writer = kind.writer

    class Full:
        def __init__(self, *args):
            self.real = writer(row, *args)

        def write(self, box, part):
            self.real.write((slice(box[0].start, box[0].start), box[1]), part[:0])
            if ms.get_comm().rank == size - 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.real.close()

    everyone(comm)
    monkeypatch.setattr(kind, "writer", lambda self, *args: Full(*args))
    with raises_alike(OSError, rf"No space left on device\n  rank {size - 1} of {size} failed while writing"):
        ms.save(ms.ones((size, 2), split=0), path)
    assert os.listdir(folder) == [path.name]
    assert ms.load(path).tolist() == [[0.0, 0.0]] * size


def test_F3_no_permission(comm, raises_alike, tmp_path, monkeypatch):
    folder = folder_of(comm, tmp_path)
    ms.save(ms.zeros(3, split=0), folder / "x.npy")
    monkeypatch.setattr(os, "access", lambda *_: False)  # who may do everything is not refused
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

    monkeypatch.setattr("minisplit.io.atomic._exchanged", lambda *_: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="no luck") if failing else contextlib.nullcontext():
        ms.save(ms.ones(3), path)
    assert os.listdir(tmp_path) == ["x.zarr"]
    assert ms.load(path).tolist() == [0.0 if failing else 1.0] * 3


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("code", ["<f4", ">f8", ">c16", "?", ">i2", "u1"])
def test_F4_orders_of_bytes_and_axes(comm, tmp_path, order, code):
    folder = folder_of(comm, tmp_path)
    x = np.asarray(np.arange(70 * 30).reshape(7, 30, 10) % 5, dtype=code, order=order)
    once(comm, lambda: np.save(folder / "x.npy", x))
    for split in (None, 0, 1, 2):
        assert ms.load(folder / "x.npy", split=split).tolist() == x.tolist()


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr", "safetensors"])
def test_F4_no_axes_no_elements(comm, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    for x in (ms.array(True), ms.zeros((0, 3), split=0), ms.zeros((3, 0), split=0)):
        ms.save(x, path)
        y = ms.load(path)
        assert (y.shape, y.dtype, y.tolist()) == (x.shape, x.dtype, x.tolist())


def test_F4_bfloat16(comm, raises_alike, tmp_path):
    folder = folder_of(comm, tmp_path)
    x = ms.arange(9, dtype=torch.bfloat16, split=0)
    ms.save(x, folder / "x.safetensors")
    assert ms.load(folder / "x.safetensors").dtype == torch.bfloat16
    for suffix in ("npy", "h5", "zarr", "csv", "parquet"):
        with raises_alike(TypeError, "have no torch.bfloat16: convert it"):
            ms.save(x, folder / f"x.{suffix}")
        ms.save(x, folder / f"x.{suffix}", dtype=torch.float32)


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors", "csv", "parquet"])
def test_F5_a_dataset_is_missing(comm, raises_alike, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    ms.save(ms.ones(3, split=0), path, "there")
    with raises_alike(KeyError, "no (dataset|column) 'here', but 'there'"):
        ms.load(path, "here")


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_F5_which_of_several(comm, raises_alike, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    ms.save(ms.ones(3, split=0), path, "g/a")
    ms.save(ms.ones(3, split=0), path, "g/b", mode="a")
    with raises_alike(ValueError, "which dataset .*'g/a', 'g/b': give dataset="):
        ms.load(path)
    with raises_alike((ValueError, KeyError), "'g' .*'g/a', 'g/b'|no dataset 'g', but 'g/a', 'g/b'"):
        ms.load(path, "g")
    if suffix != "safetensors":
        with raises_alike(ValueError, "'g' in .* is a group"):
            ms.save(ms.ones(3, split=0), path, "g", mode="a")


def test_F5_no_numbers(comm, raises_alike, tmp_path):
    path = folder_of(comm, tmp_path) / "x.h5"

    def make():
        with h5py.File(path, "w") as file:
            file["text"] = "words"
            file["void"] = h5py.Empty("f8")

    once(comm, make)
    with raises_alike(TypeError, "'text' in .*x.h5"):
        ms.load(path, "text")
    with raises_alike(ValueError, "has no shape"):
        ms.load(path, "void")


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_F6_two_writers_of_one_file(comm, rank, tmp_path, suffix):
    folder = folder_of(comm, tmp_path)
    part = comm.split(rank % 2)
    for _ in range(3):
        ms.save(ms.full((40, 50), rank % 2, split=0, comm=part), folder / f"x.{suffix}")
    everyone(comm)
    found = set(ms.load(folder / f"x.{suffix}", split=None).larray.reshape(-1).tolist())
    assert len(found) == 1
    assert os.listdir(folder) == [f"x.{suffix}"]
    part.free()


@pytest.mark.parametrize("split", [0, 1, 2])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_F7_a_rank_reads_its_part_only(comm, tmp_path, monkeypatch, suffix, split):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    shape = (40, 60, 30)
    x = torch.arange(40 * 60 * 30, dtype=torch.float64).reshape(shape)
    ms.save(ms.array(x, split=0), path)
    everyone(comm)
    real, mine = os.preadv, Counter()

    def counting(*args):
        done = real(*args)
        mine[threading.get_ident()] += done  # where ranks are threads, all pass here
        return done

    monkeypatch.setattr(os, "preadv", counting)
    everyone(comm)
    y = ms.load(path, split=split)
    assert torch.equal(y.larray, x[y.layout.box(comm.rank)])
    # Short pieces are read as long ones, which the ranks then exchange: as many bytes.
    assert mine[threading.get_ident()] == math.prod(raw.in_pieces(y.layout, 8).lshape(comm.rank)) * 8


@pytest.mark.serial
def test_F5_a_type_is_no_dataset(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kind"] = np.dtype("f8")
        file["x"] = np.arange(3)
    assert ms.datasets(tmp_path / "x.h5") == ["x"]
    assert ms.load(tmp_path / "x.h5").tolist() == [0, 1, 2]


@pytest.mark.serial
def test_F5_nothing_is_added_where_it_would_not_be_found(tmp_path):
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    with pytest.raises(ValueError, match="version 2 of Zarr"):
        ms.save(ms.ones(3), tmp_path / "x.zarr", "y", mode="a")


@pytest.mark.serial
def test_F5_one_array_of_several_cannot_be_read(tmp_path):
    told = {"a": ("F4", 2, [0, 1]), "b": ("U8", 2, [1, 3])}
    header = {name: {"dtype": code, "shape": [n], "data_offsets": ends} for name, (code, n, ends) in told.items()}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes([9, 7, 8]))
    assert ms.load(tmp_path / "x.safetensors", "b").tolist() == [7, 8]
    with pytest.raises(TypeError, match=r"'a' in .* holds F4, which no array can"):
        ms.load(tmp_path / "x.safetensors", "a")
    with pytest.raises(TypeError, match="holds F4"):
        ms.save(ms.ones(3), tmp_path / "x.safetensors", "c", mode="a")


@pytest.mark.serial
@pytest.mark.parametrize("column", [["text"], [[1.0, 2.0]], [None]], ids=str)
def test_F1_columns_of_something_else(tmp_path, column):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0], "b": column}), tmp_path / "x.parquet")
    with pytest.raises(TypeError, match=r"the column 'b' of .* holds (string|list|null).*, no numbers"):
        ms.load(tmp_path / "x.parquet")
    assert ms.load(tmp_path / "x.parquet", "a").tolist() == [1.0]


@pytest.mark.serial
@pytest.mark.parametrize("suffix", ["npy", "h5"])
def test_F7_a_file_larger_than_any_memory(tmp_path, suffix):
    path, shape = str(tmp_path / f"x.{suffix}"), (2**20, 2**18)
    row, layout = format_of(path), ms.Layout(shape, 0, ranks=2**16)
    row.create(path, None, layout, torch.float32, {})
    writer = row.writer(path, None, layout, torch.float32, {})
    try:
        writer.write((slice(777_777, 777_778), slice(5, 9)), torch.ones(1, 4))
    finally:
        writer.close()
    reader = row.open(path)
    try:
        part = reader.read((slice(777_776, 777_779), slice(2, 11)))
    finally:
        reader.close()
    assert part.sum() == 4
    assert part[1, 3:7].tolist() == [1.0] * 4
