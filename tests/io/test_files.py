"""What was saved is loaded again: every format, layout and dtype; and read and written by the libraries themselves."""

import tempfile

import torch
from hypothesis import given
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.testing import assert_equal, spmd
from minisplit.testing import strategies as st

NUMPY = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64,
    torch.uint64, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip


def shared(comm):
    """A new folder, the same on all ranks; whoever asks for it removes it, on rank 0."""
    return comm.broadcast_bytes(tempfile.mkdtemp().encode()).decode()


@given(
    x=st.dndarrays(dtype=st.dtypes(NUMPY)),
    split=hypo.sampled_from([None, 0, -1]),
    suffix=hypo.sampled_from(["npy", "h5", "zarr"]),
)
@spmd
def test_a_round_trip(x, split, suffix):
    comm = ms.get_comm()
    path = f"{shared(comm)}/x.{suffix}"
    ms.save(x.cut(), path)
    y = ms.load(path, split=split)
    assert y.dtype == x.tensor.dtype
    assert_equal(y, x.tensor)
