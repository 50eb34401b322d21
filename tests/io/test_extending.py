"""Rows that are put behind those of a dataset in a file."""

import errno
import fcntl
import itertools
import os

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io import atomic
from minisplit.io.chunks import chunk_aligned_layout
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st
from tests.io.test_faults import everyone, folder_of, once
from tests.io.test_files import DTYPES, EXAMPLES, shared_folder, whole_of

SUFFIXES = ["npy", "h5", "zarr", "safetensors", "csv", "parquet"]


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
    with shared_folder() as folder:
        path = f"{folder}/x.{suffix}"
        for part in parts:
            ms.save(part.cut(), path, mode="extend")
        found = ms.load(path)
        assert found.dtype == parts[0].tensor.dtype
        assert whole_of(found).tolist() == torch.cat([part.tensor for part in parts]).tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("split", [0, 1, None])
def test_others_read_the_rows(comm, size, tmp_path, suffix, split):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
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


def test_rows_take_the_dtype_that_is_there(comm, raises_alike, tmp_path):
    path = folder_of(comm, tmp_path) / "x.npy"
    ms.save(ms.ones(2, dtype=torch.float32, split=0), path)
    ms.save(ms.arange(5, dtype=torch.int16, split=0), path, mode="extend")
    assert_equal(ms.load(path), torch.tensor([1, 1, 0, 1, 2, 3, 4.0]))
    with raises_alike(TypeError, "holds torch.float32, which torch.complex64 cannot become"):
        ms.save(ms.ones(2, dtype=torch.complex64), path, mode="extend")


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_a_dataset_beside_others_grows(comm, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    ms.save(ms.zeros((2, 2), split=0), path, "b")
    for start in (0, 3):
        ms.save(
            ms.arange(start, start + 3, split=0), path, "g/a" if suffix != "safetensors" else "a", mode="extend"
        )
    name = next(name for name in ms.datasets(path) if name != "b")
    assert_equal(ms.load(path, name), torch.arange(6))
    assert_equal(ms.load(path, "b"), torch.zeros(2, 2))


def test_columns_stay_what_they_are(comm, raises_alike, tmp_path):
    folder = folder_of(comm, tmp_path)
    for path in (folder / "x.csv", folder / "x.parquet"):
        for start in (0, 5):
            ms.save(ms.arange(start, start + 5, split=0), path, "time", mode="extend")
        assert ms.datasets(path) == ["time"]
        assert_equal(ms.load(path, "time", dtype=torch.int64), torch.arange(10))
        with raises_alike(ValueError, "'time', got"):
            ms.save(ms.ones((4, 1), dtype=torch.int64, split=0), path, mode="extend", columns=["space"])


def test_a_last_line_without_an_end(comm, tmp_path):
    path = folder_of(comm, tmp_path) / "x.csv"
    once(comm, lambda: path.write_bytes(b"a;b\n1;2\n\n\n3;4"))
    once(comm, lambda: path.write_bytes(b"a;b\n1;2\n3;4\n\n"))
    ms.save(ms.ones((3, 2), split=0), path, mode="extend", sep=";")
    assert ms.load(path, sep=";").tolist() == [[1, 2], [3, 4], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_another_length(comm, raises_alike, tmp_path, suffix):
    path = folder_of(comm, tmp_path) / f"x.{suffix}"
    ms.save(ms.ones((4, 2), split=0), path, mode="extend")
    with raises_alike(ValueError, r"x.* has shape \(4, 2\), got shape \(4, 3\)"):
        ms.save(ms.ones((4, 3), split=1), path, mode="extend")
    with raises_alike(ValueError, r"\(4, 2\), got shape \(\)"):
        ms.save(ms.ones(()), path, mode="extend")
    assert_equal(ms.load(path), torch.ones(4, 2, dtype=ms.load(path).dtype))


def test_what_cannot_grow(comm, raises_alike, tmp_path):
    folder, rows = folder_of(comm, tmp_path), ms.ones((2, 3), dtype=torch.float64, split=0)
    once(comm, lambda: np.save(folder / "f.npy", np.asfortranarray(np.ones((4, 3)))))
    once(comm, lambda: np.save(folder / "b.npy", np.ones((4, 3), ">f8")))
    once(comm, lambda: pyarrow.parquet.write_table(pyarrow.table({"a": [1.0]}), folder / "one.parquet"))
    mixed = pyarrow.table({"a": [1.0], "b": [1]})
    once(comm, lambda: ((folder / "m.pq").mkdir(), pyarrow.parquet.write_table(mixed, folder / "m.pq" / "part-0")))
    ms.save(rows, folder / "x.h5")
    with raises_alike(ValueError, "column-major"):
        ms.save(rows, folder / "f.npy", mode="extend")
    with raises_alike(ValueError, "big-endian"):
        ms.save(rows, folder / "b.npy", mode="extend")
    with raises_alike(ValueError, "is one file"):
        ms.save(rows[:, 0], folder / "one.parquet", mode="extend")
    with raises_alike(TypeError, "of one dtype"):
        ms.save(rows[:, :2], folder / "m.pq", mode="extend")
    with raises_alike(ValueError, "'data' in .* can have 2 rows at most, not 4"):
        ms.save(rows, folder / "x.h5", mode="extend")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F3_a_failed_extension_changes_nothing(comm, size, raises_alike, tmp_path, monkeypatch, suffix):
    folder = folder_of(comm, tmp_path)
    path = folder / f"x.{suffix}"
    ms.save(ms.ones((4, 2), split=0), path, mode="extend")
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    everyone(comm)

    def sync(path, *_):
        if ms.get_comm().rank == size - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr("minisplit.io.atomic.sync", sync)
    with raises_alike(OSError, "No space left"):
        ms.save(ms.zeros((3, 2), split=0), path, mode="extend")
    everyone(comm)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == before


def test_F6_two_jobs_add_to_one_file(comm, raises_alike, tmp_path):
    """What another job does to the file before this one holds it, while it does, and while this one writes."""
    path = folder_of(comm, tmp_path) / "x.npy"
    ms.save(ms.ones(4, split=0), path)
    if comm.rank == 0:
        other = path.open()
        fcntl.flock(other, fcntl.LOCK_EX)
    with raises_alike(BlockingIOError, "another job is adding to the file"):
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
        once(comm, lambda: setattr(atomic, name, lambda *_: None if ms.get_comm().rank else happens()))
        try:
            with raises_alike(kind, text):
                ms.save(ms.ones(3, split=0), path, mode="extend")
        finally:
            once(comm, lambda: setattr(atomic, name, real))

    meanwhile("_lock", grown, ValueError, r"had the shape \(4,\), but meanwhile \(5,\)")
    meanwhile("_lock", replaced, ValueError, r"had the shape \(5,\), but meanwhile \(2,\)")
    meanwhile("sync", replaced, FileExistsError, "replaced by another while it grew")
    assert np.load(path).tolist() == [0, 0]


@pytest.mark.serial
def test_chunks_of_a_dataset_that_has_rows_go_to_one_rank_each():
    for ranks, rows, first, step in itertools.product((1, 2, 3), (0, 1, 5, 12), range(5), (1, 2, 5)):
        layout = chunk_aligned_layout(ms.Layout((rows, 2), 0, ranks), (step, 2), first)
        borders = [first + end for end in itertools.accumulate(layout.counts)][:-1]
        assert sum(layout.counts) == rows
        assert all(border % step == 0 or border in {first, first + rows} for border in borders)


@pytest.mark.serial
@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_last_chunk_that_is_more_than_half_full(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    options = {"maxshape": (None,)} if suffix == "h5" else {}
    for rows in (3, 1, 2):
        ms.save(ms.ones(rows, split=0), path, mode="extend", **({"chunks": (4,), **options} if rows == 3 else {}))
    assert ms.load(path).tolist() == [1.0] * 6


@pytest.mark.serial
def test_text_keeps_its_integers(tmp_path):
    for _ in range(2):
        ms.save(ms.array([[2**53 + 1]]), tmp_path / "x.csv", mode="extend")
    assert (tmp_path / "x.csv").read_text() == f"{2**53 + 1}\n" * 2


@pytest.mark.serial
def test_parts_that_others_have_named(tmp_path):
    (tmp_path / "x.parquet").mkdir()
    for i in range(2):
        pyarrow.parquet.write_table(
            pyarrow.table({"a": [float(i)]}), tmp_path / f"x.parquet/part-0000{i}-ab.parquet"
        )
    with pytest.raises(ValueError, match="no new one would come behind it"):
        ms.save(ms.ones((1, 1)), tmp_path / "x.parquet", mode="extend")
