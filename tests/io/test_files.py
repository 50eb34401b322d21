"""What was saved is loaded again, in every format, layout and dtype; and what other libraries saved or load."""

import contextlib
import sys
import tempfile

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st

NUMPY = (
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip
# Files cost more than arrays.
EXAMPLES = max(10, settings.default.max_examples // 2)
DTYPES = {
    "npy": NUMPY,
    "h5": NUMPY,
    "zarr": NUMPY,
    "safetensors": (*NUMPY[:-1], torch.bfloat16, torch.float8_e5m2),
}
TABLES = (
    torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64
)  # fmt: skip


@contextlib.contextmanager
def shared_folder():
    """A new folder, the same on all ranks; each rank makes one, and that of rank 0 is used."""
    with tempfile.TemporaryDirectory() as mine:
        yield ms.get_comm().broadcast_bytes(mine.encode()).decode()
        ms.get_comm().agree(np.zeros(1, dtype=np.int64))


def whole_of(x):
    return x.resplit(None).larray


@hypo.composite
def arrays(draw):
    suffix = draw(hypo.sampled_from(sorted(DTYPES)))
    return suffix, draw(st.dndarrays(dtype=st.dtypes(DTYPES[suffix])))


@settings(max_examples=EXAMPLES)
@given(saved=arrays(), split=hypo.sampled_from([0, None, -1]))
@spmd
def test_a_round_trip_changes_nothing_but_the_layout(saved, split):
    suffix, x = saved
    with shared_folder() as folder:
        ms.save(x.cut(), f"{folder}/x.{suffix}")
        y = ms.load(f"{folder}/x.{suffix}", split=split)
        assert y.dtype == x.tensor.dtype
        assert y.layout == ms.Layout(x.tensor.shape, split if x.tensor.ndim else None, ms.get_comm().size)
        assert whole_of(y).tolist() == x.tensor.tolist()
        if x.layout.split is not None:
            again = ms.load(f"{folder}/x.{suffix}", split=x.layout.split, counts=x.layout.counts)
            assert again.layout == x.layout


@settings(max_examples=EXAMPLES)
@given(
    x=st.dndarrays(shape=st.shapes(max_dims=2), dtype=st.dtypes(TABLES)).filter(
        lambda x: x.tensor.ndim and x.tensor.shape[1:] != (0,)
    ),
    suffix=hypo.sampled_from(["csv", "parquet"]),
)
@spmd
def test_a_table_is_the_same_again(x, suffix):
    with shared_folder() as folder:
        path = f"{folder}/x.{suffix}"
        ms.save(x.cut(), path)
        y = ms.load(path, split=x.layout.split, dtype=x.tensor.dtype)
        assert_equal(y, x.tensor.reshape(y.shape))
        if x.tensor.ndim == 1 and suffix == "parquet":
            assert_equal(ms.load(path, "0"), x.tensor)


def write(library, path, tensor):
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
@given(
    x=st.dndarrays(dtype=st.dtypes(NUMPY[:-1])), library=hypo.sampled_from(["npy", "h5", "zarr", "safetensors"])
)
@spmd
def test_the_libraries_and_minisplit_read_each_other_s_files(x, library):
    with shared_folder() as folder:
        if ms.get_comm().rank == 0:
            write(library, f"{folder}/theirs.{library}", x.tensor)
        ms.get_comm().agree(np.zeros(1, dtype=np.int64))
        assert_equal(ms.load(f"{folder}/theirs.{library}", split=x.layout.split), x.tensor)
        ms.save(x.cut(), f"{folder}/ours.{library}")
        theirs = read(library, f"{folder}/ours.{library}")
        assert theirs.dtype == x.tensor.dtype
        assert theirs.tolist() == x.tensor.tolist()


@pytest.mark.serial
def test_other_programs_read_the_tables(tmp_path):
    x = ms.array([[1.5, float("nan")], [float("inf"), -2e-300]], split=0)
    ms.save(x, tmp_path / "x.csv", columns=["a", "b"])
    ms.save(x, tmp_path / "x.parquet", columns=["a", "b"])
    table = np.genfromtxt(tmp_path / "x.csv", delimiter=",", names=True)
    assert table.dtype.names == ("a", "b")
    np.testing.assert_array_equal([list(row) for row in table], x.numpy())
    columns = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(columns["b"].to_numpy(), x.numpy()[:, 1])


@pytest.mark.serial
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4", [[1, 2], [3, 4]]),
        ("a,b\r\n1,2\r\n3,4\r\n\r\n", [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1e3,-inf\n", [[1000, -np.inf]]),
        ("\ufeff1,2\n", [[1, 2]]),
        ('"a","b"\n"1",\n', [[1, np.nan]]),
        ("a,a\n1,2\n", [[1, 2]]),
        ("7\n\n8\n", [[7], [np.nan], [8]]),
        ("a,b\n", np.empty((0, 2))),
    ],
)
def test_csv_as_others_write_it(tmp_path, text, expected):
    (tmp_path / "x.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(ms.load(tmp_path / "x.csv").numpy(), expected)


@pytest.mark.serial
def test_rows_of_a_csv_may_be_long(tmp_path):
    x = torch.rand(2, 100_000, dtype=torch.float64)
    ms.save(ms.array(x), tmp_path / "x.csv")
    assert torch.equal(ms.load(tmp_path / "x.csv").larray, x)


@pytest.mark.serial
def test_rows_of_a_long_csv_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("minisplit.io.formats.csv._BUFFER", 64)
    x = torch.randint(0, 10**6, (200, 3)) ** 2
    np.savetxt(tmp_path / "x.csv", x.numpy(), fmt="%d", delimiter=";", header="a;b;c", comments="")
    loaded = ms.testing.run(lambda: whole_of(ms.load(tmp_path / "x.csv", dtype=torch.int64, sep=";")), ranks=3)
    assert all(torch.equal(one, x) for one in loaded)
    assert ms.load(tmp_path / "x.csv", "b", sep=";").tolist() == x[:, 1].tolist()


@pytest.mark.parametrize("suffix", ["h5", "zarr", "safetensors"])
def test_a_dataset_is_added_and_replaced(comm, tmp_path, suffix):
    path = f"{comm.broadcast_bytes(str(tmp_path).encode()).decode()}/x.{suffix}"
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


def test_options_reach_the_library_and_ranks_take_turns(comm, tmp_path):
    folder = comm.broadcast_bytes(str(tmp_path).encode()).decode()
    x = ms.arange(40, split=0).reshape((10, 4)).redistribute([1] * (comm.size - 1) + [11 - comm.size])
    ms.save(x, f"{folder}/x.h5", compression="gzip", chunks=(3, 4))
    ms.save(x, f"{folder}/y.h5", compression="gzip")
    ms.save(ms.array(1.5), f"{folder}/z.h5", compression="gzip")
    ms.save(x, f"{folder}/x.zarr", chunks=(3, 2))
    for name in ("x.h5", "y.h5", "x.zarr"):
        for split in (0, 1, None):
            assert ms.load(f"{folder}/{name}", split=split).tolist() == x.tolist()
    with h5py.File(f"{folder}/x.h5") as file:
        assert file["data"].compression == "gzip"
    assert zarr.open_array(f"{folder}/x.zarr", mode="r").chunks == (3, 2)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr", "safetensors", "parquet"])
def test_unsigned_integers(comm, tmp_path, dtype, suffix):
    path = f"{comm.broadcast_bytes(str(tmp_path).encode()).decode()}/x.{suffix}"
    ms.save(ms.array(torch.tensor([[1], [2], [3]], dtype=dtype), split=0), path)
    loaded = ms.load(path)
    assert (loaded.dtype, loaded.tolist()) == (dtype, [[1], [2], [3]])


def test_arrays_that_need_care(comm, tmp_path):
    """Conjugates that are not computed yet, gradients, another dtype than the file's."""
    folder = comm.broadcast_bytes(str(tmp_path).encode()).decode()
    z = torch.tensor([1 + 2j, 3j])
    ms.save(ms.DNDarray(z.conj(), ms.Layout((2,), None, comm.size), comm), f"{folder}/z.npy")
    assert ms.load(f"{folder}/z.npy").tolist() == [1 - 2j, -3j]
    w = ms.array(torch.ones(3, requires_grad=True), split=0)
    ms.save(w, f"{folder}/w.npy", dtype=torch.int32)
    loaded = ms.load(f"{folder}/w.npy", dtype=torch.bfloat16)
    assert (loaded.dtype, loaded.tolist()) == (torch.bfloat16, [1.0] * 3)
    assert ms.load(f"{folder}/w.npy").dtype == torch.int32


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr", "safetensors", "csv", "parquet"])
def test_conversion_in_blocks(comm, tmp_path, monkeypatch, suffix):
    path = f"{comm.broadcast_bytes(str(tmp_path).encode()).decode()}/x.{suffix}"
    x = torch.arange(70).reshape(14, 5)
    comm.agree(np.zeros(1, dtype=np.int64))
    monkeypatch.setattr("minisplit.io.collective._BLOCK", 90)
    ms.save(ms.array(x, split=0), path, dtype=torch.float64)
    loaded = ms.load(path, dtype=torch.int16, split=1)
    assert (loaded.dtype, loaded.tolist()) == (torch.int16, x.tolist())


@pytest.mark.serial
def test_what_is_sent(tmp_path):
    """As docs/api.md says."""

    def body():
        x, sent = ms.ones((8, 4), split=0), []
        for call in (
            lambda: ms.save(x, tmp_path / "x.npy"),
            lambda: ms.load(tmp_path / "x.npy"),
            lambda: ms.load(tmp_path / "x.npy", split=1),
            lambda: ms.datasets(tmp_path / "x.npy"),
            lambda: ms.save(x, tmp_path / "x.csv"),
            lambda: ms.save_checkpoint({"x": x, "w": torch.ones(2)}, tmp_path / "c"),
            lambda: ms.load_checkpoint(tmp_path / "c"),
        ):
            with ms.testing.traffic() as seen:
                call()
            sent.append(seen.collectives)
        return sent

    assert ms.testing.run(body, ranks=3)[0] == [6, 3, 4, 2, 5 + 3, 9, 3]


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
        (lambda x: ms.save(x, "x.npy", compression=1), TypeError, "no option 'compression'"),
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
def test_what_cannot_be_loaded(comm, raises_alike, tmp_path, options, error, match):
    path = f"{comm.broadcast_bytes(str(tmp_path).encode()).decode()}/x.npy"
    ms.save(ms.ones((comm.size + 1, 2), split=0), path)
    with raises_alike(error, match):
        ms.load(path, **options)


@pytest.mark.parametrize("package", ["h5py", "zarr", "pyarrow.parquet"])
def test_a_missing_package_is_named_on_all_ranks(comm, raises_alike, tmp_path, monkeypatch, package):
    suffix = {"h5py": "h5", "zarr": "zarr", "pyarrow.parquet": "parquet"}[package]
    path = f"{comm.broadcast_bytes(str(tmp_path).encode()).decode()}/x.{suffix}"
    ms.save(ms.ones(comm.size, split=0), path)
    monkeypatch.setitem(sys.modules, package, None)
    with raises_alike(ModuleNotFoundError, 'pip install "minisplit\\[files\\]"'):
        ms.load(path)
