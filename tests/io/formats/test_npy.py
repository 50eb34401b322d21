"""npy files as NumPy writes them, and as it does not."""

import io

import numpy as np
import pytest
from files import on_rank_0

import minisplit as ms
from minisplit.io.formats.npy import NPY

NEGATIVE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("code", ["<f4", ">f8", ">c16", "?", ">i2", "u1"])
def test_F4_orders_of_bytes_and_axes(comm, folder, order, code):
    x = np.asarray(np.arange(70 * 30).reshape(7, 30, 10) % 5, dtype=code, order=order)
    on_rank_0(comm, lambda: np.save(folder / "x.npy", x))
    for split in (None, 0, 1, 2):
        assert ms.load(folder / "x.npy", split=split).tolist() == x.tolist()


def test_what_cannot_grow(comm, folder, raises_alike):
    on_rank_0(comm, lambda: np.save(folder / "f.npy", np.asfortranarray(np.ones((4, 3)))))
    on_rank_0(comm, lambda: np.save(folder / "b.npy", np.ones((4, 3), ">f8")))
    for name, order in (("f", "column-major"), ("b", "big-endian")):
        with raises_alike(ValueError, f"is {order}, so no rows can be added"):
            ms.save(ms.ones((2, 3), dtype=ms.float64, split=0), folder / f"{name}.npy", mode="extend")


@pytest.mark.serial
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_header_says_more_rows_in_the_same_bytes(tmp_path, version):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(6.0).reshape(3, 2), version)
    before = path.read_bytes()
    for rows in (3, 10**18):
        start, text, _ = NPY.header_of_shape(str(path), (rows, 2))
        assert before[start + len(text) :] == np.arange(6.0).tobytes()
        with io.BytesIO(before[:start] + text) as file:
            assert np.lib.format.read_magic(file) == version
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            assert read(file) == ((rows, 2), False, np.dtype("f8"))
    # The header of an array of many rows is longer than NumPy left room for.
    with pytest.raises(ValueError, match="has no room for the shape"):
        NPY.header_of_shape(str(path), (10**40, 10**40, 10**40))
    ms.save(ms.ones((2, 2), split=0), path, mode="extend")
    assert np.load(path).tolist() == [[0, 1], [2, 3], [4, 5], [1, 1], [1, 1]]


def test_F3_rows_that_a_killed_job_did_not_finish_are_cut_off(comm, folder):
    path = folder / "x.npy"
    ms.save(ms.zeros((3, 2), split=0), path)
    on_rank_0(comm, lambda: path.write_bytes(path.read_bytes() + bytes(1000)))
    ms.save(ms.ones((2, 2), split=0), path, mode="extend")
    assert path.stat().st_size == 128 + 5 * 8
    assert ms.load(path).tolist() == [[0, 0]] * 3 + [[1, 1]] * 2


def test_rows_do_not_replace_a_second_array(comm, folder, raises_alike):
    """As `numpy.save` writes it to an open file, one after the other."""

    def make():
        with (folder / "x.npy").open("wb") as file:
            np.save(file, np.zeros(3))
            np.save(file, np.ones(5))

    on_rank_0(comm, make)
    with raises_alike(ValueError, "has another array behind the first"):
        ms.save(ms.ones(2, split=0), folder / "x.npy", mode="extend")
    assert ms.load(folder / "x.npy").tolist() == [0, 0, 0]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "of 1 bytes, is no .npy file"),
        (b"\x93NUMPY\x04\x00", r"its version is \(4, 0\)"),
        (b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': (".ljust(117), "is no .npy file"),
        (b"\x93NUMPY\x01\x00\x76\x00" + NEGATIVE.ljust(117), r"its header tells of shape \(-1,\)"),
    ],
)
def test_F1_headers_that_are_wrong(tmp_path, text, match):
    (tmp_path / "x.npy").write_bytes(text + b"\n")
    with pytest.raises(ValueError, match=match):
        ms.load(tmp_path / "x.npy")
