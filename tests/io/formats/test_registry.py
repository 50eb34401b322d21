"""The table of formats, and what is the same in all of them."""

import pytest

from minisplit.io.formats.registry import FORMATS, format_of

pytestmark = pytest.mark.serial


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x.npy", "npy"),
        ("x.HDF5", "hdf5"),
        ("x.nc", "hdf5"),
        ("folder.npy/x.zarr/", "zarr"),
        ("x.tar.safetensors", "safetensors"),
        ("x.pq", "parquet"),
        ("x.csv", "csv"),
    ],
)
def test_the_end_of_a_name_tells_the_format(path, name):
    assert format_of(path).name == name
    assert format_of("anything", name) is format_of(path)


def test_ends_of_names_are_those_of_one_format():
    suffixes = [suffix for format in FORMATS.values() for suffix in format.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert not any(one != other and other.endswith(one) for one in suffixes for other in suffixes)


def test_names_without_a_format():
    with pytest.raises(ValueError, match=r"should end in \.npy, \.h5, .*; or give format="):
        format_of("x.jpg")
    with pytest.raises(ValueError, match=r"format must be one of npy, hdf5, .*, got 'NPY'"):
        format_of("x.npy", "NPY")
