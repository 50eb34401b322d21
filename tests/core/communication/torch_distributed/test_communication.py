"""What is of torch.distributed alone: process groups of the user, and tensors that are not gathered to be reduced.

Runs on ranks of torch.distributed. `tests/core/communication/test_protocol.py` has what all engines give.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import minisplit as ms
from minisplit.core.communication.torch_distributed import communication
from minisplit.core.communication.torch_distributed.communication import GATHERED
from minisplit.testing import assert_equal

ON_TORCH = os.environ.get("MINISPLIT_ENGINE") == "torch"
pytestmark = [] if ON_TORCH else [pytest.mark.serial]
ONE = np.zeros(1, int)
MANY = GATHERED  # elements: more bytes than are gathered
DTYPES = [
    torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int64, torch.float16, torch.bfloat16, torch.float32,
    torch.float64, torch.complex64, torch.bool,
]  # fmt: skip


@pytest.fixture
def group(default_group: Any) -> Any:
    """The default group, which the program has made after minisplit was imported."""
    return default_group


@pytest.mark.parametrize("op", ["sum", "prod", "min", "max"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_reductions(comm: Any, dtype: torch.dtype, op: Any) -> None:
    if dtype.is_complex and op in {"min", "max"}:
        return
    values = [(torch.arange(MANY + 3) % 5 + rank).to(dtype) for rank in range(comm.size)]
    stacked = torch.stack(values).to(torch.float32 if dtype in {torch.float16, torch.bfloat16} else dtype)
    if dtype is torch.bool:
        expected = stacked.any(0) if op in {"sum", "max"} else stacked.all(0)
    else:
        wide = torch.int64 if dtype is torch.uint16 else stacked.dtype
        function = {"sum": torch.sum, "prod": torch.prod, "min": torch.amin, "max": torch.amax}[op]
        expected = function(stacked.to(wide), 0).to(dtype)
    assert comm.allreduce(values[comm.rank], op).equal(expected)


def test_large_scans_and_merges(comm: Any) -> None:
    values = [torch.arange(MANY, dtype=torch.float64) + rank for rank in range(comm.size)]
    before = sum(values[: comm.rank], torch.zeros(MANY, dtype=torch.float64))
    assert comm.scan(values[comm.rank]).equal(before)
    records = torch.stack([torch.full((MANY,), comm.rank), -torch.arange(MANY)], 1)
    expected = torch.stack([torch.full((MANY,), comm.size - 1), -torch.arange(MANY)], 1)
    assert comm.merge(records, "first").equal(expected)


def test_a_nan_on_any_rank(comm: Any) -> None:
    x = torch.full((MANY,), float("nan") if comm.rank == comm.size - 1 else 1.0)
    assert comm.allreduce(x, "max").isnan().all()


def test_a_group_of_the_user(comm: Any, group: Any) -> None:
    own = ms.TorchCommunication(group)
    assert (own.rank, own.size) == (comm.rank, comm.size)
    x = ms.arange(7, split=0, comm=own)
    assert_equal(x, torch.arange(7))
    assert_equal((x + x).resplit(None), 2 * torch.arange(7))
    part = own.split(comm.rank % 2)
    assert part is not None
    assert part.allreduce(torch.ones(1)).item() == len(range(comm.rank % 2, comm.size, 2))
    part.free()
    own.free()
    assert dist.is_initialized()


def test_parts_that_are_dropped_go_once_all_ranks_have_dropped_them(comm: Any) -> None:
    own = comm.split(0)
    for _ in range(20):
        own.split(0).agree(ONE)
    communication.clear_graves()
    comm.agree(ONE)
    communication.clear_graves()
    assert len(ms.TorchCommunication.graves) < 5


def test_a_mesh(comm: Any, group: Any) -> None:
    mesh = dist.init_device_mesh("cpu", (comm.size,))
    own = ms.TorchCommunication(mesh)
    assert own.agree(np.array([comm.rank])).tolist() == [comm.size - 1]
    if comm.size == 1:
        with pytest.raises(ValueError, match="one dimension, got 2"):
            ms.TorchCommunication(dist.init_device_mesh("cpu", (1, 1)))
