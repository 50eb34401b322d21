"""The communicator of one process. Its calls come to it only where `Communication` leaves none out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minisplit.core.communication.single import SingleCommunication, SingleJob

pytestmark = pytest.mark.serial


def test_every_call_gives_what_one_rank_has() -> None:
    comm, x = SingleCommunication(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).mT
    assert comm.allreduce(x).equal(x)
    assert comm.scan(x).equal(torch.zeros(2, 2))
    assert comm.merge(torch.tensor([[3, -1]]), "first").tolist() == [[3, -1]]
    copy = comm.broadcast(x)
    assert copy.equal(x)
    assert copy.data_ptr() != x.data_ptr()
    assert comm.broadcast_bytes(b"ab") == b"ab"
    assert comm.allgather_record(np.array([1, 2])).tolist() == [[1, 2]]
    assert comm.allgather(x)[0].equal(x)
    assert comm.allgather_object({"a": [1]}) == [{"a": [1]}]
    assert comm.agree(np.array([3])).tolist() == [3]
    comm.exchange([], [])


def test_parts_and_the_end() -> None:
    comm = SingleCommunication()
    assert comm.split(None) is None
    part = comm.split(0)
    assert part is not None
    part.free()
    with pytest.raises(RuntimeError, match="was freed"):
        part.split(0)


def test_the_job_is_one_process() -> None:
    job = SingleJob()
    assert (job.world.size, job.own.size, job.gather(7), job.open_channel(), job.is_over()) == (
        1,
        1,
        [7],
        None,
        False,
    )
