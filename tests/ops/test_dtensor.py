"""Arrays from DTensors and back, on the ranks of torch.distributed, and in one process."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh

import minisplit as ms
from minisplit.testing import assert_equal

# Ranks of MPI and threads have no process group.
pytestmark = [] if os.environ.get("MINISPLIT_ENGINE") == "torch" else [pytest.mark.serial]


@pytest.fixture(scope="module")
def mesh(default_group: Any) -> Any:
    return init_device_mesh("cpu", (default_group.size(),))


WHOLE = torch.arange(60.0).reshape(10, 3, 2)


@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Shard(-1), Replicate()], ids=str)
def test_there_and_back(mesh: Any, placement: Any) -> None:
    x = distribute_tensor(WHOLE, mesh, [placement])
    array = ms.from_dtensor(x)
    assert_equal(array, WHOLE)
    assert array.split == (placement.dim % 3 if isinstance(placement, Shard) else None)
    assert array.larray.data_ptr() == x.to_local().data_ptr()
    back = array.to_dtensor(mesh)
    assert back.placements == (Shard(array.split) if array.split is not None else Replicate(),)
    assert back.to_local().data_ptr() == x.to_local().data_ptr()
    assert torch.equal(back.full_tensor(), WHOLE)


@pytest.mark.parametrize("split", [0, 1, None])
def test_any_counts_become_those_of_torch(mesh: Any, split: int | None) -> None:
    x = ms.array(WHOLE, split=split, comm=ms.from_dtensor(distribute_tensor(WHOLE, mesh, [Shard(0)])).comm)
    if split is not None:
        x = x.redistribute([0] * (x.comm.size - 1) + [WHOLE.shape[split]])
    assert torch.equal(x.to_dtensor(mesh).full_tensor(), WHOLE)


def test_a_mesh_is_made_once_for_each_communicator(default_group: Any) -> None:
    # Torch makes a process group for each mesh, and two DTensors of different ones cannot be added.
    comm = ms.Communication.from_process_group(default_group)
    x = ms.array(WHOLE, split=0, comm=comm)
    assert torch.equal((x.to_dtensor() + x.to_dtensor()).full_tensor(), 2 * WHOLE)
    assert x.to_dtensor().device_mesh is (x + x).to_dtensor().device_mesh
    weak = weakref.ref(comm)
    comm.free()
    del comm, x
    gc.collect()
    assert weak() is None


def test_partial_is_reduced(mesh: Any) -> None:
    x = DTensor.from_local(torch.ones(3), mesh, [Partial()], run_check=False)
    assert_equal(ms.from_dtensor(x), torch.full((3,), float(mesh.size())))


@pytest.mark.parametrize("placement", [Shard(0), Replicate()], ids=str)
def test_gradients(mesh: Any, placement: Any) -> None:
    x = distribute_tensor(WHOLE, mesh, [placement]).requires_grad_()
    (y,) = ms.vmap(lambda row: (row**2).sum())(ms.from_dtensor(x).resplit(0))
    y.sum().larray.backward()
    assert torch.equal(x.grad.full_tensor(), 2 * WHOLE)


def test_what_is_refused(mesh: Any) -> None:
    with pytest.raises(TypeError, match="takes a DTensor, got Tensor"):
        ms.from_dtensor(WHOLE)  # type: ignore[arg-type]
    if mesh.size() == 1:
        square = init_device_mesh("cpu", (1, 1))
        with pytest.raises(ValueError, match="one dimension, got 2"):
            ms.from_dtensor(distribute_tensor(WHOLE, square, [Shard(0), Replicate()]))
