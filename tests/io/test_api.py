"""`load`, `save`, `datasets`, `open`: what holds in every format, layout and dtype."""

import math
import os
import sys
import threading
from collections import Counter

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
import zarr
from files import DTYPES, EXAMPLES, NUMPY_DTYPES, SUFFIXES, on_rank_0, temporary_folder, wait_for_all
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io.formats import raw
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st


@hypo.composite
def arrays(draw):
    suffix = draw(hypo.sampled_from(sorted(DTYPES)))
    return suffix, draw(st.dndarrays(dtype=st.dtypes(DTYPES[suffix])))


@settings(max_examples=EXAMPLES)
@given(saved=arrays(), split=hypo.sampled_from([0, None, -1]))
@spmd
def test_a_round_trip_changes_nothing_but_the_layout(saved, split):
    suffix, x = saved
    with temporary_folder() as folder:
        path = f"{folder}/x.{suffix}"
        ms.save(x.cut(), path)
        y = ms.load(path, split=split)
        assert y.dtype == x.tensor.dtype
        assert y.layout == ms.Layout(x.tensor.shape, split if x.tensor.ndim else None, ms.get_comm().size)
        assert y.tolist() == x.tensor.tolist()
        if x.layout.split is not None:
            again = ms.load(path, split=x.layout.split, counts=x.layout.counts)
            assert again.layout == x.layout


def write_unusually(library, path, tensor):
    """Write as the library does, in its less usual ways."""
    array = tensor.numpy()
    if library == "npy":
        np.save(path, np.asarray(array, dtype=array.dtype.newbyteorder(">"), order="F"))
    elif library == "h5":
        with h5py.File(path, "w") as file:
            chunks = tuple(min(n, 2) for n in array.shape)
            options = {"chunks": chunks, "compression": "gzip"} if array.ndim and array.size else {}
            file.create_dataset("g/x", data=array, **options)
    elif library == "zarr":
        zarr.create_array(path, data=array, chunks=(2,) * array.ndim)
    else:
        safetensors.torch.save_file({"x": tensor}, path)


def read(library, path):
    if library == "npy":
        return torch.from_numpy(np.array(np.load(path, allow_pickle=False)))
    if library == "h5":
        with h5py.File(path) as file:
            return torch.from_numpy(np.array(file["data"]))
    if library == "zarr":
        return torch.from_numpy(np.array(zarr.open_array(path, mode="r")))
    return safetensors.torch.load_file(path)["data"]


@settings(max_examples=EXAMPLES)
@given(x=st.dndarrays(dtype=st.dtypes(NUMPY_DTYPES[:-1])), library=hypo.sampled_from(sorted(DTYPES)))
@spmd
def test_the_libraries_and_minisplit_read_each_other_s_files(x, library):
    with temporary_folder() as folder:
        on_rank_0(ms.get_comm(), lambda: write_unusually(library, f"{folder}/theirs.{library}", x.tensor))
        assert_equal(ms.load(f"{folder}/theirs.{library}", split=x.layout.split), x.tensor)
        ms.save(x.cut(), f"{folder}/ours.{library}")
        theirs = read(library, f"{folder}/ours.{library}")
        assert theirs.dtype == x.tensor.dtype
        assert theirs.tolist() == x.tensor.tolist()


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_a_dataset_is_added_and_replaced(folder, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.arange(5, split=0), path, "g/a")
    ms.save(ms.ones((2, 3), split=1), path, "b", mode="a")
    ms.save(ms.full(4, 7, dtype=torch.int16), path, "g/a", mode="a")
    assert sorted(ms.datasets(path)) == ["b", "g/a"]
    assert ms.load(path, "g/a").tolist() == [7] * 4
    if suffix != "safetensors":
        ms.save(ms.zeros(1), path, "/g/c", mode="a")
        assert ms.datasets(path) == ["b", "g/a", "g/c"]
        assert ms.load(path, "/g/c").tolist() == [0]
    assert ms.load(path, "b", split=1).tolist() == [[1.0] * 3] * 2
    ms.save(ms.zeros(1), path, "c")
    assert ms.datasets(path) == ["c"]


def test_options_reach_the_library_and_ranks_take_turns(comm, folder):
    x = ms.arange(40, split=0).reshape((10, 4)).redistribute([1] * (comm.size - 1) + [11 - comm.size])
    ms.save(x, folder / "x.h5", compression="gzip", chunks=(3, 4))
    ms.save(x, folder / "y.h5", compression="gzip")
    ms.save(ms.array(1.5), folder / "z.h5", compression="gzip")
    ms.save(x, folder / "x.zarr", chunks=(3, 2))
    for name in ("x.h5", "y.h5", "x.zarr"):
        for split in (0, 1, None):
            assert ms.load(folder / name, split=split).tolist() == x.tolist()
    with h5py.File(folder / "x.h5") as file:
        assert file["data"].compression == "gzip"
    assert zarr.open_array(folder / "x.zarr", mode="r").chunks == (3, 2)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr", "safetensors", "parquet"])
def test_unsigned_integers(folder, dtype, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.array(torch.tensor([[1], [2], [3]], dtype=dtype), split=0), path)
    loaded = ms.load(path)
    assert (loaded.dtype, loaded.tolist()) == (dtype, [[1], [2], [3]])


def test_arrays_that_need_care(comm, folder):
    """Conjugates that are not computed yet, gradients, another dtype than the file's."""
    z = torch.tensor([1 + 2j, 3j])
    ms.save(ms.DNDarray(z.conj(), ms.Layout((2,), None, comm.size), comm), folder / "z.npy")
    assert ms.load(folder / "z.npy").tolist() == [1 - 2j, -3j]
    w = ms.array(torch.ones(3, requires_grad=True), split=0)
    ms.save(w, folder / "w.npy", dtype=torch.int32)
    loaded = ms.load(folder / "w.npy", dtype=torch.bfloat16)
    assert (loaded.dtype, loaded.tolist()) == (torch.bfloat16, [1.0] * 3)
    assert ms.load(folder / "w.npy").dtype == torch.int32


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr", "safetensors"])
def test_F4_no_axes_no_elements(folder, suffix):
    path = folder / f"x.{suffix}"
    for x in (ms.array(True), ms.zeros((0, 3), split=0), ms.zeros((3, 0), split=0)):
        ms.save(x, path)
        y = ms.load(path)
        assert (y.shape, y.dtype, y.tolist()) == (x.shape, x.dtype, x.tolist())


def test_F4_bfloat16(folder, raises_alike):
    x = ms.arange(9, dtype=torch.bfloat16, split=0)
    ms.save(x, folder / "x.safetensors")
    assert ms.load(folder / "x.safetensors").dtype == torch.bfloat16
    for suffix in ("npy", "h5", "zarr", "csv", "parquet"):
        with raises_alike(TypeError, "have no torch.bfloat16: convert it"):
            ms.save(x, folder / f"x.{suffix}")
        ms.save(x, folder / f"x.{suffix}", dtype=torch.float32)


@pytest.mark.serial
def test_messages(tmp_path):
    """As the docstrings say: with one exchange where parts move, and for CSV one message more for each rank."""

    def body():
        x, sent = ms.ones((8, 4), split=0), []
        for call in (
            lambda: ms.save(x, tmp_path / "x.npy"),
            lambda: ms.load(tmp_path / "x.npy"),
            lambda: ms.load(tmp_path / "x.npy", split=1),
            lambda: ms.datasets(tmp_path / "x.npy"),
            lambda: ms.open(tmp_path / "x.npy"),
            lambda: ms.save(x, tmp_path / "x.npy", mode="extend"),
            lambda: ms.save(x, tmp_path / "x.zarr"),
            lambda: ms.save(x, tmp_path / "x.zarr", mode="extend"),
            lambda: ms.save(x, tmp_path / "x.csv"),
            lambda: ms.load(tmp_path / "x.csv"),
            lambda: ms.open(tmp_path / "x.csv"),
            lambda: ms.save_checkpoint({"x": x, "w": torch.ones(2)}, tmp_path / "c"),
            lambda: ms.load_checkpoint(tmp_path / "c"),
        ):
            with ms.testing.traffic() as seen:
                call()
            sent.append(seen.collectives)
        return sent

    assert ms.testing.run(body, ranks=3)[0] == [7, 3, 4, 2, 2, 10, 7, 12 + 1, 6 + 3, 5, 4, 9, 3]


@pytest.mark.parametrize("split", [0, 1, 2])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_F7_a_rank_reads_its_part_only(comm, folder, monkeypatch, suffix, split):
    path = folder / f"x.{suffix}"
    shape = (40, 60, 30)
    x = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    ms.save(ms.array(x, split=0), path)
    wait_for_all(comm)
    preadv, bytes_read = os.preadv, Counter()

    def counting(*args):
        done = preadv(*args)
        bytes_read[threading.get_ident()] += done  # where ranks are threads, all call this function
        return done

    monkeypatch.setattr(os, "preadv", counting)
    wait_for_all(comm)
    y = ms.load(path, split=split)
    assert torch.equal(y.larray, x[y.layout.box(comm.rank)])
    # Short pieces are read as long ones, which the ranks then exchange: as many bytes.
    expected = math.prod(raw.contiguous_layout(y.layout, 8).lshape(comm.rank)) * 8
    assert bytes_read[threading.get_ident()] == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F1_a_file_is_missing_on_one_rank(rank, size, folder, raises_alike, suffix):
    ms.save(ms.ones((size + 1, 2), split=0), folder / f"x.{suffix}")
    with raises_alike(FileNotFoundError, f"missing.{suffix}"):
        ms.load(folder / (f"missing.{suffix}" if rank == size - 1 else f"x.{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_F1_a_file_is_of_another_format(comm, folder, raises_alike, suffix):
    path = folder / f"x.{suffix}"
    on_rank_0(comm, lambda: path.write_bytes(b"names,of,some\nthings,that,are\nno,numbers,\xff\n" * 9))
    with raises_alike((ValueError, OSError), r"rank 0 of \d+ failed while (opening|reading its part of)"):
        ms.load(path)


@pytest.mark.parametrize("suffix", ["npy", "h5", "safetensors", "parquet"])
@pytest.mark.parametrize("left", [0, 3, 60, -9])
def test_F1_a_file_is_truncated(comm, folder, raises_alike, suffix, left):
    path = folder / f"x.{suffix}"

    def truncate():
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.table({"a": np.arange(1000.0)}), path)
        os.truncate(path, left % path.stat().st_size)

    if suffix != "parquet":
        ms.save(ms.ones((1000,), split=0), path)
    on_rank_0(comm, truncate)
    with raises_alike((ValueError, OSError), f"x.{suffix}"):
        ms.load(path)


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors", "csv", "parquet"])
def test_F5_a_dataset_is_missing(folder, raises_alike, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.ones(3, split=0), path, "there")
    with raises_alike(KeyError, "no (dataset|column) 'here', but 'there'"):
        ms.load(path, "here")


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_F5_which_of_several(folder, raises_alike, suffix):
    path = folder / f"x.{suffix}"
    ms.save(ms.ones(3, split=0), path, "g/a")
    ms.save(ms.ones(3, split=0), path, "g/b", mode="a")
    with raises_alike(ValueError, "which dataset .*'g/a', 'g/b': give dataset="):
        ms.load(path)
    with raises_alike((ValueError, KeyError), "'g' .*'g/a', 'g/b'|no dataset 'g', but 'g/a', 'g/b'"):
        ms.load(path, "g")
    if suffix != "safetensors":
        with raises_alike(ValueError, "'g' in .* is a group"):
            ms.save(ms.ones(3, split=0), path, "g", mode="a")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: ms.save(x, "x.jpg"), ValueError, "should end in .npy, .h5"),
        (lambda x: ms.save(x, "x", format="jpg"), ValueError, "format must be one of npy, hdf5"),
        (lambda x: ms.save(x.larray, "x.npy"), TypeError, "must be a DNDarray"),
        (lambda x: ms.save(x, b"x.npy"), TypeError, "path must be"),
        (lambda x: ms.save(x, "x.npy", "a"), ValueError, "no name, got dataset='a'"),
        (lambda x: ms.save(x, "x.h5", 3), TypeError, "dataset must be"),
        (lambda x: ms.save(x, "x.npy", mode="a"), ValueError, "none can be added"),
        (lambda x: ms.save(x, "x.zarr", mode="a"), ValueError, "give its name"),
        (lambda x: ms.save(x, "x.zarr", "../x", mode="a"), ValueError, "dataset must be names"),
        (lambda x: ms.save(x, "x.zarr", "/", mode="a"), ValueError, "dataset must be names"),
        (lambda x: ms.save(x, "x.h5", mode="r"), ValueError, "mode must be"),
        (lambda x: ms.save(x, "x.npy", compression=1), TypeError, "npy files have no option 'compression'"),
        (lambda x: ms.save(x, "x.csv", compression=1), TypeError, "csv files have no option 'compression'"),
        (lambda x: ms.save(x, "x.parquet", sep=";"), TypeError, "parquet files have no option 'sep'"),
        (lambda x: ms.save(x, "x.zarr", chunks=(1, 1, 1)), ValueError, "do not fit the shape"),
        (lambda x: ms.save(x, "x.csv", columns=["a"]), ValueError, "2 different names"),
        (lambda x: ms.save(ms.zeros((1, 1, 1)), "x.csv"), ValueError, "1 or 2 axes"),
        (lambda x: ms.save(x, "x.csv", dtype=torch.complex64), TypeError, "no torch.complex64"),
        (lambda x: ms.save(x, "x.csv", columns=["2019", "2020"]), ValueError, "would be read as a row"),
        (lambda x: ms.save(x[:, :0], "x.csv"), ValueError, "no rows without columns"),
        (lambda x: ms.save(x[:, :0], "x.parquet"), ValueError, "no rows without columns"),
        (lambda x: ms.save(x, "no/folder/x.npy"), FileNotFoundError, "there is no folder"),
        (lambda x: ms.save(x, "tests", format="npy"), IsADirectoryError, "no npy file"),
        (lambda x: ms.save(x, "tests", format="zarr"), FileExistsError, "no Zarr array"),
        (lambda x: ms.save(x, "tests", format="parquet"), FileExistsError, "something else"),
    ],
)
def test_what_cannot_be_saved(raises_alike, call, error, match, request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    with raises_alike(error, match):
        call(ms.ones((4, 2), split=0))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"split": 2}, IndexError, "split 2 is out of range"),
        ({"counts": [1]}, ValueError, "counts"),
        ({"device": "quantum"}, ValueError, "device must be 'cpu', .* got 'quantum'"),
        ({"dtype": 3}, TypeError, "dtype must be"),
        ({"sep": ","}, TypeError, "no option 'sep'"),
    ],
)
def test_what_cannot_be_loaded(comm, folder, raises_alike, options, error, match):
    ms.save(ms.ones((comm.size + 1, 2), split=0), folder / "x.npy")
    with raises_alike(error, match):
        ms.load(folder / "x.npy", **options)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda folder: ms.open(folder / "none.npy"), FileNotFoundError, r"none\.npy"),
        (lambda folder: ms.open(folder / "x.npy", split=2), IndexError, "split 2 is out of range"),
        (lambda folder: ms.open(folder / "x.what"), ValueError, "does not tell its format"),
        (lambda folder: ms.open(3), TypeError, "path must be a str or a pathlib.Path, got 3"),
        (lambda folder: ms.open(folder / "x.npy", dtype="flaot"), TypeError, "dtype must be"),
    ],
)
def test_what_cannot_be_opened(folder, raises_alike, call, kind, match):
    ms.save(ms.ones((4, 2), split=0), folder / "x.npy")
    with raises_alike(kind, match=match):
        call(folder)


@pytest.mark.serial
def test_what_could_not_be_opened_is_closed(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(3))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(IndexError, match="split 7 is out of range"):
        ms.open(tmp_path / "x.npy", split=7)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("package", ["h5py", "zarr", "pyarrow.parquet"])
def test_a_missing_package_is_named_on_all_ranks(comm, folder, raises_alike, monkeypatch, package):
    suffix = {"h5py": "h5", "zarr": "zarr", "pyarrow.parquet": "parquet"}[package]
    ms.save(ms.ones(comm.size, split=0), folder / f"x.{suffix}")
    monkeypatch.setitem(sys.modules, package, None)
    with raises_alike(ModuleNotFoundError, 'pip install "minisplit\\[files\\]"'):
        ms.load(folder / f"x.{suffix}")


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda x, wrong, path: ms.save(x, wrong), TypeError, "path must be a str or a pathlib.Path"),
        (lambda x, wrong, path: ms.load(wrong), TypeError, "path must be a str or a pathlib.Path"),
        (lambda x, wrong, path: ms.datasets(wrong), TypeError, "path must be a str or a pathlib.Path"),
        (lambda x, wrong, path: ms.save_checkpoint({"x": x}, wrong), TypeError, "path must be a str"),
        (lambda x, wrong, path: ms.load_checkpoint(wrong), TypeError, "path must be a str"),
        (lambda x, wrong, path: ms.save_checkpoint({wrong: x}, path), TypeError, "the keys of a dict"),
        (lambda x, wrong, path: ms.save(x, path, mode=wrong), ValueError, "mode must be 'w'"),
        (lambda x, wrong, path: ms.save(x, path, format=wrong), ValueError, "format must be one of"),
        (lambda x, wrong, path: ms.load(path, format=wrong), ValueError, "format must be one of"),
        (lambda x, wrong, path: ms.load(path, split=wrong), TypeError, "split must be an int"),
        (lambda x, wrong, path: ms.save(x, path, dataset=wrong), TypeError, "dataset must be a str"),
        (
            lambda x, wrong, path: ms.load(path, columns=wrong, format="csv"),
            (TypeError, ValueError, KeyError),
            "column",
        ),
    ],
)
def test_errors_show_no_rank_s_own_part(comm, folder, raises_alike, call, kind, match):
    """Not the elements, nor the shape, of a shard, nor which rank it is."""
    x, path = ms.arange(7, dtype=torch.float64, split=0), folder / "x.h5"
    ms.save(x, folder / "x.csv") if match == "column" else ms.save(x, path)
    for wrong in (x, x.larray):
        # Debug mode says itself that the ranks' tensors are not the same.
        with ms.debug(False), raises_alike(kind, match) as caught:
            call(x, wrong, folder / "x.csv" if match == "column" else path)
        said = str(caught.value).split(" failed while ")[0]
        assert "tensor(" not in said
        assert f"of {comm.size} holds" not in str(caught.value)


@pytest.mark.parametrize("option", ["columns", "chunks", "what"])
def test_an_option_cannot_be_an_array_of_all_ranks(folder, raises_alike, option):
    """Rank 0 alone asked for its elements, for which the others waited with another call."""
    x = ms.ones((4, 3), split=0)
    path = folder / ("x.csv" if option == "columns" else "x.h5")
    with raises_alike(TypeError, f"the option '{option}' of .* files cannot be a DNDarray"):
        ms.save(x, path, **{option: x[0]})
