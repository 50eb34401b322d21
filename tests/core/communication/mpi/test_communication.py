"""What is MPI's alone: the duplicate of a communicator, and GPU memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpi4py import MPI

import minisplit as ms
from minisplit.core.communication.mpi import communication as mpi

Comm = ms.Communication
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
pytestmark = pytest.mark.mpi


def test_messages_do_not_meet_those_of_the_caller(comm: Comm, rank: int, size: int) -> None:
    theirs = np.array([rank])
    request = MPI.COMM_WORLD.Isend(theirs, (rank + 1) % size, tag=comm._tag + 1)
    after, before, mine = (rank + 1) % size, (rank - 1) % size, torch.zeros(3, dtype=torch.int64)
    if size > 1:
        comm.exchange([(after, torch.full((3,), rank))], [(before, mine)])
        assert mine.tolist() == [before] * 3
    got = np.array([-1])
    MPI.COMM_WORLD.Recv(got, (rank - 1) % size)
    request.Wait()
    assert got[0] == (rank - 1) % size


@GPU
def test_tensors_on_a_gpu_are_staged_through_the_host(comm: Comm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "cuda_aware", False)
    x = ms.array(torch.arange(35.0).reshape(5, 7), split=0, device="gpu")
    y = x.resplit(1)
    assert y.device == x.device
    np.testing.assert_array_equal(y.numpy(), np.arange(35.0).reshape(5, 7))


@pytest.mark.parametrize(("value", "aware"), [("1", True), ("0", False), ("", False)])
def test_the_environment_says_whether_MPI_reads_GPU_memory(
    value: str, aware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINISPLIT_CUDA_AWARE", value)
    assert mpi._query_cuda_aware.__wrapped__() == aware


def test_a_communicator_that_was_freed_before_its_first_use(comm: Comm) -> None:
    given = MPI.COMM_WORLD.Dup()
    late = ms.MPICommunication(given)
    given.Free()
    with pytest.raises(RuntimeError, match="was freed before its first use"):
        late.mpi  # noqa: B018
