"""safetensors files: headers that are wrong, and dtypes that torch does not have."""

import json

import pytest
import safetensors.torch
import torch

import minisplit as ms

pytestmark = pytest.mark.serial


def file_of(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_F5_one_array_of_several_cannot_be_read(tmp_path):
    arrays = {"a": ("F4", 2, [0, 1]), "b": ("U8", 2, [1, 3])}
    header = {
        name: {"dtype": code, "shape": [n], "data_offsets": ends} for name, (code, n, ends) in arrays.items()
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header, bytes([9, 7, 8])))
    assert ms.load(path, "b").tolist() == [7, 8]
    with pytest.raises(TypeError, match=r"'a' in .* holds F4, which no array can"):
        ms.load(path, "a")
    with pytest.raises(TypeError, match="holds F4"):
        ms.save(ms.ones(3), path, "c", mode="a")
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


ONE = '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
TWICE = (len(ONE) * 2 + 3).to_bytes(8, "little") + f"{{{ONE},{ONE}}}1".encode()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "should have a header of 0 bytes, and has 0"),
        ((10**9).to_bytes(8, "little") + b"{}", "should have a header of 1000000000 bytes, and has 2"),
        (file_of([]), "its header is wrong"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}), "its header is wrong: KeyError"),
        (file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}), "has 4 bytes"),
        (file_of({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}), "its header is wrong"),
        (file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "is truncated"),
        (file_of({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, b"123"), "1 bytes behind its last"),
        (file_of({"a": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"123"), "'a' has a gap before it"),
        (
            file_of(
                {name: {"dtype": "U8", "shape": [2], "data_offsets": [i, i + 2]} for i, name in enumerate("ab")}
            ),
            "'b' begins before the end of the one before it",
        ),
        ((36).to_bytes(8, "little") + b'{"a":{"a":1},"a":{"a":2},"b":{"c":1}', "its header is wrong"),
        (TWICE, "names are there twice"),
    ],
)
def test_F1_headers_that_are_wrong(tmp_path, text, match):
    (tmp_path / "x.safetensors").write_bytes(text)
    with pytest.raises(ValueError, match=match):
        ms.load(tmp_path / "x.safetensors")


def test_metadata_and_other_arrays_stay(tmp_path):
    """A longer header moves the numbers behind it, and those that are kept are copied."""
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(3, dtype=torch.int8), "b": torch.arange(4.0)}
    safetensors.torch.save_file(tensors, path, {"made": "elsewhere"})
    ms.save(ms.ones((20, 2), split=0), path, "a much longer name than before", mode="a")
    ms.save(ms.ones(2, split=0), path, "b", mode="extend")
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"made": "elsewhere"}
        assert file.get_tensor("a").tolist() == [0, 1, 2]
        assert file.get_tensor("b").tolist() == [0, 1, 2, 3, 1, 1]
        assert file.get_tensor("a much longer name than before").sum() == 40


def test_a_name_that_the_format_keeps_to_itself(tmp_path):
    with pytest.raises(ValueError, match="cannot have the name '__metadata__'"):
        ms.save(ms.ones(2), tmp_path / "x.safetensors", "__metadata__")
    assert not list(tmp_path.iterdir())
