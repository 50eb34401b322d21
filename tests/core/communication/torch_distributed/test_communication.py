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
from other_device import DEVICE, DeviceTensor, OtherDevice

import minisplit as ms
from minisplit.core.communication.torch_distributed import communication, device_groups
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


def test_gathering_in_several_rounds(comm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication, "RADIX", 2)
    comm.agree(ONE)
    if comm.size > 1:
        monkeypatch.setattr(comm, "_shared", None)
    rows = comm.allgather_record(np.array([comm.rank, 7]))
    assert rows.tolist() == [[rank, 7] for rank in range(comm.size)]
    sent = 100 * comm.rank + np.arange(comm.size)
    assert comm.alltoall_record(sent).tolist() == (100 * np.arange(comm.size) + comm.rank).tolist()


def test_a_nan_on_any_rank(comm: Any) -> None:
    x = torch.full((MANY,), float("nan") if comm.rank == comm.size - 1 else 1.0)
    assert comm.allreduce(x, "max").isnan().all()


def test_a_group_of_the_user(comm: Any, group: Any) -> None:
    own = ms.Communication.from_process_group(group)
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
    own = ms.Communication.from_process_group(mesh)
    assert own.agree(np.array([comm.rank])).tolist() == [comm.size - 1]
    if comm.size == 1:
        with pytest.raises(ValueError, match="one dimension, got 2"):
            ms.Communication.from_process_group(dist.init_device_mesh("cpu", (1, 1)))


class DeviceGroup:
    """Stands for NCCL: takes contiguous tensors on the device, and of dtypes those that NCCL knows."""

    made = 0

    def __init__(self, store: Any, rank: int, size: int) -> None:
        DeviceGroup.made += 1
        self.rank, self.size, self.calls = rank, size, list[str]()
        self.gloo = dist.ProcessGroupGloo(store, rank, size, device_groups.TIMEOUT)

    def taken(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        assert all(isinstance(x, DeviceTensor) and x.is_contiguous() for x in tensors)
        assert not {x.dtype for x in tensors} & {torch.bool, torch.int16, torch.uint16, torch.complex64}
        return [x.host for x in tensors]

    def allreduce(self, tensors: list[torch.Tensor], options: Any) -> Any:
        self.calls.append("allreduce")
        return self.gloo.allreduce(self.taken(tensors), options)

    def allgather(self, rows: list[list[torch.Tensor]], tensors: list[torch.Tensor]) -> Any:
        self.calls.append("allgather")
        return self.gloo.allgather([self.taken(rows[0])], self.taken(tensors))

    def broadcast(self, tensors: list[torch.Tensor], options: Any) -> Any:
        self.calls.append("broadcast")
        return self.gloo.broadcast(self.taken(tensors), options)

    def alltoall(self, arriving: list[torch.Tensor], given: list[torch.Tensor], options: Any) -> Any:
        self.calls.append("alltoall")
        pairs = list(enumerate(zip(self.taken(arriving), self.taken(given), strict=True)))
        assert not len(given[self.rank])
        works = [self.gloo.recv([came], peer, 0) for peer, (came, _) in pairs if len(came)]
        works += [self.gloo.send([own], peer, 0) for peer, (_, own) in pairs if len(own)]
        for work in works:
            work.wait()
        return self.gloo.barrier()

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def own(comm: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A communicator of all ranks, each of which has a device of its own."""
    monkeypatch.setitem(device_groups.MAKERS, DEVICE.type, DeviceGroup)
    monkeypatch.setattr(device_groups, "name_of", lambda device: f"{device} of rank {comm.rank}")
    own = comm.split(0)
    yield own
    own.free()


@pytest.mark.parametrize("op", ["sum", "prod", "min", "max"])
@pytest.mark.parametrize("number", [3, MANY])
def test_reductions_on_a_device_of_its_own(own: Any, number: int, op: Any) -> None:
    for dtype in DTYPES:
        if dtype.is_complex and op in {"min", "max"}:
            continue
        values = ((torch.arange(number) + own.rank) % 5).to(dtype)
        with OtherDevice() as device:
            found = own.allreduce(DeviceTensor(values), op)
            scanned = own.scan(DeviceTensor(values), op) if op in {"sum", "prod"} else found
            assert not device.reads
        assert found.host.equal(own.allreduce(values, op))
        assert op in {"min", "max"} or scanned.host.equal(own.scan(values, op))


def test_arrays_on_a_device_of_its_own(own: Any) -> None:
    whole = torch.arange(24.0).reshape(6, 4)
    x = ms.array(whole, split=0, comm=own)
    with ms.debug(False), OtherDevice() as device:  # debug mode reads what it compares
        there = ms.DNDarray(DeviceTensor(x.larray), x.layout, own)
        results = [
            there.resplit(1), there.resplit(None), there.T.resplit(0), there + there.resplit(1), there.var(axis=0),
            there.argmax(axis=0), there[3], there.redistribute([0] * (own.size - 1) + [6]), there.reshape(8, 3),
            ms.concat([there, there]), *ms.vmap(torch.sum)(there), ms.cumsum(there, axis=0),
        ]  # fmt: skip
        assert not device.reads
        assert {result.device for result in results} == {DEVICE}
    wanted = [
        whole, whole, whole.T, whole * 2, whole.var(0, correction=0), whole.argmax(0), whole[3], whole,
        whole.reshape(8, 3), torch.cat([whole, whole]), whole.sum(1), whole.cumsum(0),
    ]  # fmt: skip
    for result, expected in zip(results, wanted, strict=True):
        assert_equal(ms.DNDarray(result.larray.host, result.layout, own), expected)
    if own.size > 1:
        [group] = own._on_devices.values()
        assert {"alltoall", "broadcast", "allgather"} <= set(group.calls)


def test_ranks_that_share_a_device_send_by_host_memory(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_groups, "name_of", lambda device: "the only one")
    before = DeviceGroup.made
    with OtherDevice() as device:
        total = own.allreduce(DeviceTensor(torch.ones(3)))
        assert bool(device.reads) == (own.size > 1)
        moved = own.allgather(DeviceTensor(torch.full((1,), float(own.rank))))
    assert total.host.tolist() == [own.size] * 3
    assert [x.host.item() for x in moved] == [*range(own.size)]
    assert DeviceGroup.made == before


def test_a_device_group_is_shut_down_with_its_communicator(own: Any) -> None:
    part = own.split(0)
    with OtherDevice():
        part.allreduce(DeviceTensor(torch.ones(1)))
    groups = [*part._on_devices.values()] if own.size > 1 else []
    part.free()
    own.agree(ONE)
    communication.clear_graves()
    own.agree(ONE)
    communication.clear_graves()
    assert [group.calls[-1] for group in groups] == ["shutdown"] * (own.size > 1)
