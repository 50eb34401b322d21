"""Which bytes of a file are a part of an array, and in which layouts ranks read and write long pieces."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io.formats import raw
from minisplit.io.formats.base import Target
from minisplit.io.formats.registry import format_of
from minisplit.testing import strategies as st

pytestmark = pytest.mark.serial


@hypo.composite
def boxes(draw):
    shape = draw(st.shapes())
    spans = [sorted((draw(hypo.integers(0, n)), draw(hypo.integers(0, n)))) for n in shape]
    return shape, tuple(slice(*span) for span in spans)


@settings(max_examples=60)
@given(
    drawn=boxes(),
    code=hypo.sampled_from(["<f8", ">f8", ">c16", "?", ">i2"]),
    order=hypo.sampled_from("CF"),
    sizes=hypo.sampled_from([(1, 1), (10**6, 200), (10**6, 10**6)]),
)
def test_a_part_is_read(drawn, code, order, sizes):
    shape, box = drawn
    x = np.asarray(np.arange(math.prod(shape)).reshape(shape) % 7, dtype=code, order=order)
    dtype = torch.from_numpy(x.astype(x.dtype.newbyteorder("="))).dtype
    with pytest.MonkeyPatch.context() as patch, tempfile.NamedTemporaryFile() as file:
        patch.setattr(raw, "PIECE", sizes[0])
        patch.setattr(raw, "_BUFFER", sizes[1])
        file.write(b"head" + x.tobytes(order))
        file.flush()
        opened = Path(file.name).open("rb")  # noqa: SIM115 - until `close`
        reader = raw.RawReader(opened, 4, shape, dtype, swapped=code[0] == ">", fortran=order == "F")
        found = reader.read(box)
        reader.close()
    assert found.is_contiguous()
    assert found.shape == x[box].shape
    assert found.tolist() == x[box].tolist()


@settings(max_examples=60)
@given(drawn=boxes())
def test_a_part_is_written_to_its_place_and_nowhere_else(drawn):
    shape, box = drawn
    expected = np.arange(math.prod(shape)).reshape(shape)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"head" + expected.tobytes())
        file.flush()
        writer = raw.RawWriter(file.name, 4, shape)
        writer.write(box, torch.tensor(-1 - expected[box]))
        writer.close()
        file.seek(0)
        written = file.read()
    expected[box] = -1 - expected[box]
    assert written == b"head" + expected.tobytes()


def test_what_the_system_takes_in_pieces_is_read_and_written_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(raw, "_MAX_CALL", 3)
    (tmp_path / "x").write_bytes(bytes(80))
    writer = raw.RawWriter(str(tmp_path / "x"), 0, (10,))
    writer.write((slice(0, 10),), torch.arange(10))
    writer.close()
    reader = raw.RawReader((tmp_path / "x").open("rb"), 0, (10,), torch.int64)
    assert reader.read((slice(0, 10),)).tolist() == list(range(10))
    with (
        (tmp_path / "x").open("rb") as file,
        pytest.raises(ValueError, match=r"x is truncated: its header tells of 88 bytes, but it has 80"),
    ):
        raw.RawReader(file, 8, (10,), torch.int64)
    (tmp_path / "x").write_bytes(bytes(8))
    with pytest.raises(ValueError, match="ends at byte 8"):
        reader.read((slice(0, 10),))
    reader.close()


@given(layout=st.layouts(), itemsize=hypo.sampled_from([1, 8]))
def test_long_pieces_are_spread_over_the_ranks(layout, itemsize):
    placed = raw.contiguous_layout(layout, itemsize)
    assert (placed.split is None) == (layout.split is None)
    if placed != layout:
        assert placed.split < layout.split
        assert placed.is_balanced
        assert placed.extent >= placed.ranks


def test_one_element_may_have_any_stride(tmp_path):
    """As that of x[::2], which torch calls contiguous."""
    path = tmp_path / "x"
    path.write_bytes(bytes(16))
    writer = raw.RawWriter(str(path), 0, (2,))
    writer.write((slice(1, 2),), torch.tensor([7.0, 8.0], dtype=torch.float64)[::2])
    writer.close()
    assert np.fromfile(path).tolist() == [0.0, 7.0]


@pytest.mark.parametrize("suffix", ["npy", "h5"])
def test_F7_a_file_larger_than_any_memory(tmp_path, suffix):
    path, layout = str(tmp_path / f"x.{suffix}"), ms.Layout((2**20, 2**18), 0, ranks=2**16)
    format, target = format_of(path), Target(path, None, layout, torch.float32, {})
    format.create(target)
    writer = format.open_writer(target)
    writer.write((slice(777_777, 777_778), slice(5, 9)), torch.ones(1, 4))
    writer.close()
    reader = format.open_reader(path, None, None)
    part = reader.read((slice(777_776, 777_779), slice(2, 11)))
    reader.close()
    assert part.sum() == 4
    assert part[1, 3:7].tolist() == [1.0] * 4
