"""HDF5 files: what is no array of numbers in them, and datasets that grow. A full disk: tests/test_jobs.py."""

import zlib

import h5py
import numpy as np
import pytest
import torch
from files import on_rank_0

import minisplit as ms
from minisplit.io.formats import raw
from minisplit.io.formats.base import Target
from minisplit.io.formats.hdf5 import HDF5, Hdf5Writer


def test_F5_no_numbers(comm, folder, raises_alike):
    path = folder / "x.h5"

    def make():
        with h5py.File(path, "w") as file:
            file["text"] = "words"
            file["void"] = h5py.Empty("f8")

    on_rank_0(comm, make)
    with raises_alike(TypeError, "'text' in .*x.h5"):
        ms.load(path, "text")
    with raises_alike(ValueError, "has no shape"):
        ms.load(path, "void")


@pytest.mark.serial
def test_F5_a_type_is_no_dataset(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kind"] = np.dtype("f8")
        file["x"] = np.arange(3)
    assert ms.datasets(tmp_path / "x.h5") == ["x"]
    assert ms.load(tmp_path / "x.h5").tolist() == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_a_dataset_in_a_dataset(folder, raises_alike, options):
    path = folder / "x.h5"
    ms.save(ms.ones(3, split=0), path, "a")
    with raises_alike(ValueError, "'a/b' in .* cannot be a dataset"):
        ms.save(ms.ones(3, split=0), path, "a/b", mode="a", **options)
    ms.save(ms.ones(3, split=0), path, "g/h/", mode="a", **options)
    assert ms.datasets(path) == ["a", "g/h"]


def test_a_dataset_that_cannot_grow(folder, raises_alike):
    ms.save(ms.ones((2, 3), split=0), folder / "x.h5")
    with raises_alike(ValueError, "'data' in .* can have 2 rows at most, not 4"):
        ms.save(ms.ones((2, 3), split=0), folder / "x.h5", mode="extend")


@pytest.mark.serial
def test_a_last_chunk_that_is_more_than_half_full(tmp_path):
    for rows, options in ((3, {"chunks": (4,), "maxshape": (None,)}), (1, {}), (2, {})):
        ms.save(ms.ones(rows, split=0), tmp_path / "x.h5", mode="extend", **options)
    assert ms.load(tmp_path / "x.h5").tolist() == [1.0] * 6


@pytest.mark.serial
@pytest.mark.parametrize(("options", "writer"), [({}, raw.RawWriter), ({"compression": "gzip"}, Hdf5Writer)])
def test_who_writes(tmp_path, options, writer):
    """All ranks at once, to the place that the library has given to a plain dataset; else the library."""
    target = Target(str(tmp_path / "x.h5"), None, ms.Layout((40, 3), 0, 2), ms.float32, options)
    HDF5.create(target)
    opened = HDF5.open_writer(target)
    opened.close()
    assert type(opened) is writer
    assert HDF5.serial_writes(options) == (writer is Hdf5Writer)


def test_F9_another_file_is_read_only_where_asked_for(comm, folder, raises_alike):
    """A file could make `load` return the bytes of any other."""
    path, secret = folder / "x.h5", folder / "secret"

    def make():
        secret.write_bytes(np.arange(5, dtype=np.uint8).tobytes())
        with h5py.File(folder / "y.h5", "w") as file:
            file["x"] = np.arange(5, dtype=np.uint8)
        with h5py.File(path, "w") as file:
            file["link"] = h5py.ExternalLink(str(folder / "y.h5"), "x")
            file["file"] = h5py.ExternalLink(str(folder / "y.h5"), "/")
            file["soft"] = h5py.SoftLink("/link")
            file["g/soft"] = h5py.SoftLink("/file")
            file.create_dataset("raw", (5,), "u1", external=[(str(secret), 0, 5)])
            layout = h5py.VirtualLayout((5,), "u1")
            layout[:] = h5py.VirtualSource(str(folder / "y.h5"), "x", (5,))
            file.create_virtual_dataset("virtual", layout)
            layout = h5py.VirtualLayout((5,), "u1")
            layout[:] = h5py.VirtualSource(".", "raw", (5,))
            file.create_virtual_dataset("virtual of raw", layout)

    on_rank_0(comm, make)
    for name in ("link", "file/x", "soft", "g/soft/x", "raw", "virtual", "virtual of raw"):
        for read in (ms.load, ms.open):
            with raises_alike(ValueError, "takes its numbers from another file"):
                read(path, name)
        assert ms.load(path, name, external=True).tolist() == [0, 1, 2, 3, 4]
    with raises_alike(ValueError, "takes its numbers from another file"):
        ms.save(ms.ones(2, split=0), path, "raw", mode="extend")


def test_F9_links_within_the_file(comm, folder, raises_alike):
    path = folder / "x.h5"

    def make():
        with h5py.File(path, "w") as file:
            file["g/x"] = np.arange(3)
            file["soft"] = h5py.SoftLink("/g/x")
            file["g/soft"] = h5py.SoftLink("x")
            file["round"] = h5py.SoftLink("/round")
            layout = h5py.VirtualLayout((3,), "i8")
            layout[:] = h5py.VirtualSource(".", "g/x", (3,))
            file.create_virtual_dataset("virtual", layout)

    on_rank_0(comm, make)
    for name in ("g/x", "soft", "g/soft", "virtual"):
        assert ms.load(path, name).tolist() == [0, 1, 2]
    with raises_alike(ValueError, "without end"):
        ms.load(path, "round")


def test_F1_a_file_that_tells_of_more_than_it_has(comm, folder, raises_alike):
    """1 TiB of fill values, and chunks of 2 GiB, in 2 kB: no memory is taken for it."""
    path = folder / "x.h5"

    def make():
        with h5py.File(path, "w") as file:
            file.create_dataset("chunks", (2**37,), "f8", chunks=(1024,))
            file.create_dataset("plain", (2**37,), "f8")
            file.create_dataset("long chunks", (2**37,), "f8", chunks=(2**28,), compression="gzip")
            file.create_dataset("zeros", (2**20,), "f8", chunks=(1024,))

    on_rank_0(comm, make)
    for name in ("chunks", "plain"):
        for options in ({}, {"dtype": ms.float32}):
            with raises_alike(ValueError, "which are too few, however they are compressed"):
                ms.load(path, name, **options)
        with raises_alike(ValueError, "which are too few, however they are compressed"):
            ms.open(path, name).load()
    for read in (ms.load, ms.open):
        with raises_alike(ValueError, "a chunk of 'long chunks' in .* is to be of 2147483648 bytes"):
            read(path, "long chunks")
    assert ms.load(path, "zeros").sum().item() == 0


def test_F1_a_chunk_that_is_not_as_long_as_its_filters_make_it(comm, folder, raises_alike):
    """The library returned its own memory behind the bytes of a chunk that is said to be uncompressed."""
    path, numbers = folder / "x.h5", np.arange(1000.0)

    def make():
        with h5py.File(path, "w") as file:
            for name, options, data, mask in (
                ("damaged", {}, zlib.compress(numbers), 1),
                ("plain", {}, numbers, 1),
                ("shuffled too", {"shuffle": True}, numbers, 3),
                (
                    "bytes shuffled alone",
                    {"shuffle": True},
                    np.ascontiguousarray(numbers.view("u1").reshape(-1, 8).T),
                    2,
                ),
            ):
                x = file.create_dataset(name, (2000,), "f8", chunks=(1000,), compression="gzip", **options)
                x[:] = numbers[0]
                x.id.write_direct_chunk((1000,), data, filter_mask=mask)

    on_rank_0(comm, make)
    for name in ("plain", "shuffled too", "bytes shuffled alone"):
        assert ms.load(path, name)[1000:].tolist() == numbers.tolist()
    assert ms.load(path, "damaged", slices=[slice(1000)]).tolist() == [0.0] * 1000
    with raises_alike(ValueError, r"the chunk of '/damaged' at \(1000,\) .* takes 8000 bytes, but it has"):
        ms.load(path, "damaged")


@pytest.mark.parametrize("dataset", [None, "x"])
def test_F1_a_file_that_is_damaged(comm, folder, raises_alike, dataset):
    path = folder / "x.h5"
    ms.save(ms.arange(40, split=0), path, "x")

    def damage():
        content = path.read_bytes()
        for old, new in ((40, 2**37), (320, 2**40)):
            content = content.replace(old.to_bytes(8, "little"), new.to_bytes(8, "little"))
        path.write_bytes(content.replace(b"HEAP", b"HEEP") if dataset is None else content)

    on_rank_0(comm, damage)
    with raises_alike(ValueError, "cannot be listed" if dataset is None else "'x' in .* cannot be opened"):
        ms.load(path, dataset)


def test_netcdf_variables_are_unpacked(comm, folder, raises_alike):
    path = folder / "x.nc"

    def write():
        with h5py.File(path, "w") as file:
            rows = file.create_dataset("time", data=np.arange(5.0))
            rows.make_scale("time")
            packed = file.create_dataset(
                "t", data=np.array([[0, 10], [-99, 7], [5, 5], [1, 2], [3, -99]], np.int16)
            )
            packed.attrs.update({"scale_factor": 0.5, "add_offset": [100.0], "_FillValue": np.int16(-99)})
            packed.dims[0].attach_scale(rows)
            other = file.create_group("more")
            plain = other.create_dataset("f", data=np.array([1.0, 9.96921e36, 3.0], np.float32))
            plain.attrs["missing_value"] = np.float32(9.96921e36)
            other.create_dataset("n", data=np.array([1, -99], np.int32)).attrs["_FillValue"] = np.int32(-99)

    on_rank_0(comm, write)
    wanted = np.array([[100, 105], [np.nan, 103.5], [102.5, 102.5], [100.5, 101], [101.5, np.nan]])
    for split in (None, 0, 1):
        np.testing.assert_equal(ms.load(path, "t", split=split).numpy(), wanted)
    assert ms.load(path, "more/f").dtype is torch.float32
    np.testing.assert_equal(ms.load(path, "more/f").numpy(), np.array([1, np.nan, 3], np.float32))
    assert ms.load(path, "more/n").tolist() == [1, -99]
    assert ms.datasets(path) == ["more/f", "more/n", "t", "time"]
    with raises_alike(ValueError, match="It has 'more/f', 'more/n', 't': give dataset="):
        ms.load(path)
    with raises_alike(ValueError, match=r"netCDF files are read, not written: save to a name that ends in \.h5"):
        ms.save(ms.ones(3, split=0), folder / "y.nc")
