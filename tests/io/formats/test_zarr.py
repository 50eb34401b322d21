"""Zarr folders: old versions, groups, and what is pickled in them."""

import asyncio
import json
import os

import numpy as np
import pytest
import zarr
from files import on_rank_0

import minisplit as ms
from minisplit.io.formats.base import Target
from minisplit.io.formats.zarr import ZARR


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_F2_nothing_is_unpickled(comm, folder, raises_alike):
    trap = np.array([Trap(folder / "sprung")], dtype=object)

    def make():
        np.save(folder / "x.npy", trap, allow_pickle=True)
        zarr.create_array(folder / "x.zarr", shape=(1,), dtype="f8", zarr_format=2)
        metadata = json.loads((folder / "x.zarr/.zarray").read_text())
        metadata["compressor"] = {"id": "pickle", "protocol": 5}
        (folder / "x.zarr/.zarray").write_text(json.dumps(metadata))
        (folder / "x.zarr/0").write_bytes(trap.dumps())

    on_rank_0(comm, make)
    with raises_alike(TypeError, "never unpickles"):
        ms.load(folder / "x.npy")
    with raises_alike((TypeError, ValueError), "never unpickles|pickle"):
        ms.load(folder / "x.zarr")
    assert not (folder / "sprung").exists()


@pytest.mark.serial
def test_F5_nothing_is_added_where_it_would_not_be_found(tmp_path):
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    with pytest.raises(ValueError, match="version 2 of Zarr"):
        ms.save(ms.ones(3), tmp_path / "x.zarr", "y", mode="a")
    ms.save(ms.ones(3), tmp_path / "y.zarr")
    with pytest.raises(ValueError, match="is an array, and only a group takes one more dataset"):
        ms.save(ms.ones(3), tmp_path / "y.zarr", "y", mode="a")


def test_a_shard_has_one_writer(folder):
    """Each file, here of two chunks, is written by one rank, however the array is cut."""
    options, layout = {"chunks": (2,), "shards": (4,)}, ms.Layout((20,), 0, 3, (14, 3, 3))
    assert ZARR.write_layout(Target("x.zarr", None, layout, ms.float32, options)).counts == (16, 0, 4)
    ms.save(ms.arange(20, split=0), folder / "x.zarr", **options)
    assert ms.load(folder / "x.zarr").tolist() == list(range(20))
    assert zarr.open_array(folder / "x.zarr", mode="r").shards == (4,)


@pytest.mark.serial
def test_a_last_chunk_that_is_more_than_half_full(tmp_path):
    for rows, options in ((3, {"chunks": (4,)}), (1, {}), (2, {})):
        ms.save(ms.ones(rows, split=0), tmp_path / "x.zarr", mode="extend", **options)
    assert ms.load(tmp_path / "x.zarr").tolist() == [1.0] * 6


@pytest.mark.parametrize("chunk", [1024, 2**37])
def test_F1_an_array_of_which_there_is_hardly_anything(comm, folder, raises_alike, chunk):
    """1 TiB of fill values, or one chunk of them: no memory is taken for it."""
    path = folder / "x.zarr"
    on_rank_0(comm, lambda: zarr.create_array(path, shape=(2**37,), chunks=(chunk,), dtype="f8"))
    with raises_alike(ValueError, "which are too few, however they are compressed"):
        ms.load(path)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"shape": [', b'"shape": ]'), (b'"float64"', b'"object"'), (b"40\n      ]", b"0\n      ]")]
)
def test_F1_metadata_that_are_damaged(comm, folder, raises_alike, old, new):
    path = folder / "x.zarr"
    ms.save(ms.zeros(40, dtype=ms.float64, split=0), path, chunks=(40,))
    metadata = path / "zarr.json"
    on_rank_0(comm, lambda: metadata.write_bytes(metadata.read_bytes().replace(old, new)))
    with raises_alike(ValueError, "x.zarr is (no Zarr array or group, or is )?damaged"):
        ms.load(path)


@pytest.mark.serial
def test_a_failed_write_waits_for_others_and_not_for_itself(monkeypatch):
    """For itself it would wait until the time is up, and so for 10 s where nothing else runs."""
    from zarr.core.sync import sync

    from minisplit.io.formats.zarr import _wait_for_tasks

    waited = []

    async def wait(tasks, **options):
        waited.append(len(tasks))

    async def wait_beside_another():
        other = asyncio.create_task(asyncio.sleep(60))
        await _wait_for_tasks()
        other.cancel()

    monkeypatch.setattr(asyncio, "wait", wait)
    sync(_wait_for_tasks())
    assert not waited
    sync(wait_beside_another())
    assert waited == [1]
