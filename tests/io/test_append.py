"""Rows that are added behind those of a dataset in a file."""

import errno
import fcntl
import os

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import torch
import zarr
from files import DTYPES, EXAMPLES, SUFFIXES, on_rank_0, temporary_folder, wait_for_all
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io import atomic
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st


@hypo.composite
def several(draw):
    """A format and up to three arrays that fit behind one another, split in ways of their own."""
    suffix = draw(hypo.sampled_from(sorted(DTYPES)))
    dtype = draw(st.dtypes(DTYPES[suffix]))
    rest = draw(st.shapes(max_dims=2))
    arrays = st.dndarrays(shape=hypo.integers(0, 6).map(lambda rows: (rows, *rest)), dtype=dtype)
    return suffix, [draw(arrays) for _ in range(draw(hypo.integers(1, 3)))]


@settings(max_examples=EXAMPLES)
@given(drawn=several())
@spmd
def test_rows_follow_one_another(drawn):
    suffix, parts = drawn
    with temporary_folder() as folder:
        path = f"{folder}/x.{suffix}"
        for part in parts:
            ms.save(part.cut(), path, mode="extend")
        found = ms.load(path)
        assert found.dtype == parts[0].tensor.dtype
        assert found.tolist() == torch.cat([part.tensor for part in parts]).tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("split", [0, 1, None])
def test_others_read_the_rows(comm, size, folder, suffix, split):
    path = folder / f"x.{suffix}"
    whole = torch.arange(6.0 * size + 9).reshape(-1, 3)
    for rows in whole.tensor_split([size + 1]):
        ms.save(ms.array(rows, split=split), path, mode="extend")
    readers = {
        "npy": np.load,
        "h5": lambda path: h5py.File(path)["data"][:],
        "zarr": lambda path: zarr.open_array(path)[:],
        "safetensors": lambda path: ms.load(path, split=None).numpy(),
        "csv": lambda path: np.loadtxt(path, delimiter=","),
        "parquet": lambda path: np.transpose(pyarrow.parquet.read_table(path).columns),
    }
    assert readers[suffix](path).tolist() == whole.tolist()


def test_rows_take_the_dtype_that_is_there(comm, raises_alike, folder):
    path = folder / "x.npy"
    ms.save(ms.ones(2, dtype=torch.float32, split=0), path)
    ms.save(ms.arange(5, dtype=torch.int16, split=0), path, mode="extend")
    assert_equal(ms.load(path), torch.tensor([1, 1, 0, 1, 2, 3, 4.0]))
    with raises_alike(TypeError, "holds torch.float32, which torch.complex64 cannot become"):
        ms.save(ms.ones(2, dtype=torch.complex64), path, mode="extend")


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_a_dataset_beside_others_grows(comm, folder, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.zeros((2, 2), split=0), path, "b")
    for start in (0, 3):
        ms.save(
            ms.arange(start, start + 3, split=0), path, "g/a" if suffix != "safetensors" else "a", mode="extend"
        )
    name = next(name for name in ms.datasets(path) if name != "b")
    assert_equal(ms.load(path, name), torch.arange(6))
    assert_equal(ms.load(path, "b"), torch.zeros(2, 2))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_another_length(comm, raises_alike, folder, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.ones((4, 2), split=0), path, mode="extend")
    with raises_alike(ValueError, r"x.* has shape \(4, 2\), got shape \(4, 3\)"):
        ms.save(ms.ones((4, 3), split=1), path, mode="extend")
    with raises_alike(ValueError, r"\(4, 2\), got shape \(\)"):
        ms.save(ms.ones(()), path, mode="extend")
    assert_equal(ms.load(path), torch.ones(4, 2, dtype=ms.load(path).dtype))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F3_a_failed_extension_changes_nothing(comm, size, raises_alike, folder, monkeypatch, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.ones((4, 2), split=0), path, mode="extend")
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    wait_for_all(comm)

    def sync(path, *_):
        if ms.get_comm().rank == size - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr("minisplit.io.atomic.sync", sync)
    with raises_alike(OSError, "No space left"):
        ms.save(ms.zeros((3, 2), split=0), path, mode="extend")
    wait_for_all(comm)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == before


def test_F6_two_jobs_add_to_one_file(comm, raises_alike, folder):
    """What another job does to the file before this one holds it, while it does, and while this one writes."""
    path = folder / "x.npy"
    ms.save(ms.ones(4, split=0), path)
    if comm.rank == 0:
        other = path.open()
        fcntl.flock(other, fcntl.LOCK_EX)
    with raises_alike(BlockingIOError, "another job is writing to the file"):
        ms.save(ms.ones(3, split=0), path, mode="extend")
    if comm.rank == 0:
        other.close()

    def grown():
        np.save(path, np.ones(5))

    def replaced():
        np.save(path.with_suffix(".new.npy"), np.zeros(2))
        os.replace(path.with_suffix(".new.npy"), path)

    def meanwhile(name, happens, kind, text):
        """Rows are added, while on rank 0 a function of `atomic` does something else."""
        real = getattr(atomic, name)
        on_rank_0(comm, lambda: setattr(atomic, name, lambda *_: None if ms.get_comm().rank else happens()))
        try:
            with raises_alike(kind, text):
                ms.save(ms.ones(3, split=0), path, mode="extend")
        finally:
            on_rank_0(comm, lambda: setattr(atomic, name, real))

    meanwhile("lock", grown, ValueError, r"had the shape \(4,\), but was changed meanwhile")
    meanwhile("lock", replaced, ValueError, r"had the shape \(5,\), but was changed meanwhile")
    meanwhile("sync", replaced, FileExistsError, "replaced by another while it grew")
    assert np.load(path).tolist() == [0, 0]
