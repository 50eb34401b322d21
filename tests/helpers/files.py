"""What tests of files share: the formats, and steps that one rank makes while the others wait."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import torch
from hypothesis import settings

import minisplit as ms

SUFFIXES = ["npy", "h5", "zarr", "safetensors", "csv", "parquet"]
NUMPY_DTYPES = (
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip
# The dtypes of formats that hold arrays of any shape.
DTYPES = {
    "npy": NUMPY_DTYPES,
    "h5": NUMPY_DTYPES,
    "zarr": NUMPY_DTYPES,
    "safetensors": (*NUMPY_DTYPES[:-1], torch.bfloat16, torch.float8_e5m2),
}
# Files cost more than arrays.
EXAMPLES = max(10, settings.default.max_examples // 2)


def wait_for_all(comm: ms.Communication) -> None:
    comm.agree(np.zeros(1, dtype=np.int64))


def on_rank_0(comm: ms.Communication, change: Callable[[], object]) -> None:
    """Let rank 0 change the files, while the others wait."""
    if comm.rank == 0:
        change()
    wait_for_all(comm)


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A new folder, the same on all ranks; each rank makes one, and that of rank 0 is used."""
    with tempfile.TemporaryDirectory() as own:
        yield ms.get_comm().broadcast_bytes(own.encode()).decode()
        wait_for_all(ms.get_comm())
