"""Arrays that stay in their file, here in memory. Sinks of files: tests/io/test_sink.py."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.storage import Box, Reader, open_sink
from minisplit.io.sink import FileSink
from minisplit.testing import assert_equal

WHOLE = torch.arange(12).reshape(4, 3)


class TensorReader(Reader):
    """A reader of a tensor, which may fail."""

    def __init__(self, whole: torch.Tensor = WHOLE, fails: bool = False) -> None:
        self.whole, self.fails, self.closed = whole, fails, 0
        self.shape, self.dtype = tuple(whole.shape), whole.dtype

    def read(self, box: Box) -> torch.Tensor:
        if self.fails:
            raise OSError("the disk is gone")
        return self.whole[box].clone()

    def close(self) -> None:
        self.closed += 1


def stored(reader: Reader, split: int | None = 0, **options: Any) -> ms.StoredArray:
    layout = ms.Layout(reader.shape, split, ms.get_comm().size)
    dtype = options.pop("dtype", reader.dtype)
    return ms.StoredArray(reader, layout, ms.get_comm(), Path("folder/x.h5"), options.pop("dataset", None), dtype)


@pytest.mark.parametrize("split", [0, 1, None])
def test_what_it_says_of_itself_is_local(comm: ms.Communication, split: int | None) -> None:
    with ms.testing.traffic() as seen:
        x = stored(TensorReader(), split, dtype=torch.float32)
        assert (x.shape, x.split, x.counts, x.dtype) == ((4, 3), split, x.layout.counts, torch.float32)
        assert (x.ndim, x.size, x.nbytes, len(x), x.device) == (2, 12, 48, 4, ms.cpu)
        assert repr(x) == f"<StoredArray {x.layout}, torch.float32, in x.h5>"
        assert "dataset 'a'" in repr(stored(TensorReader(), dataset="a"))
    assert seen.collectives == 0


@pytest.mark.parametrize("split", [0, 1, None])
def test_it_is_loaded_and_read_in_its_dtype(split: int | None) -> None:
    x = stored(TensorReader(), split, dtype=torch.float64)
    for _ in range(2):
        y = x.load()
        assert y.layout == x.layout
        assert_equal(y, WHOLE.double())
    for box in ((slice(1, 3), slice(0, 3)), (slice(0, 4), slice(2, 3))):
        part = x.read(box)
        assert part.dtype == torch.float64
        assert part.tolist() == WHOLE[box].tolist()


def test_a_rank_that_cannot_read(rank: int, size: int, raises_alike: Any) -> None:
    x = stored(TensorReader(fails=rank == size - 1))
    with raises_alike(OSError, match=rf"the disk is gone\n  rank {size - 1} of {size} failed while reading x.h5"):
        x.load()


@pytest.mark.serial
def test_the_file_is_closed_with_the_last_reference() -> None:
    reader = TensorReader()
    x = stored(reader)
    y = x
    del x
    gc.collect()
    assert reader.closed == 0
    del y
    gc.collect()
    assert reader.closed == 1


@pytest.mark.serial
def test_attributes_that_only_arrays_in_memory_have() -> None:
    x = stored(TensorReader())
    with pytest.raises(AttributeError, match=r"no attribute 'sum'; load\(\)\.sum is that of the array in memory"):
        x.sum()
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        x.nothing  # noqa: B018 - to look is enough
    for called in (np.asarray, np.sum, np.mean, np.sin):  # NumPy took it for one object
        with pytest.raises(TypeError, match=r"x\.load\(\)|does not support ufuncs"):
            called(x)
    with pytest.raises(TypeError, match="a 0-d array has no length"):
        len(stored(TensorReader(torch.tensor(1)), None))


@pytest.mark.serial
def test_outputs_of_maps_go_to_files(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "x.npy", ms.MPI_SELF, "job", resume=False)
    assert isinstance(sink, FileSink)
    assert sink.done() == []
