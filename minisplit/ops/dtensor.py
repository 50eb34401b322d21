"""Arrays from DTensors of torch, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication, get_comm
from minisplit.core.layout import Layout

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def from_dtensor(x: DTensor) -> DNDarray:
    """Make an array from a DTensor, with the same parts on the same processes.

    Parameters
    ----------
    x : torch.distributed.tensor.DTensor
        On a mesh of one dimension. Its placement is `Shard` along an axis, `Replicate`, or `Partial`.

    Returns
    -------
    DNDarray
        The array, split along the axis of the shards with their counts, or replicated. Its communicator has the
        mesh's processes; it is `minisplit.get_comm()` if that is one of torch.distributed with these processes.
        The array shares memory with the DTensor's local tensor, unless that was partial. Gradients flow back.

    Raises
    ------
    TypeError
        If `x` is not a DTensor.
    ValueError
        If its mesh has several dimensions, or its placement is another one.

    Communication
    -------------
    Local. Collective where the placement is `Partial`: one allreduce.

    See Also
    --------
    minisplit.DNDarray.to_dtensor : The other way.

    Examples
    --------
    >>> import minisplit as ms
    >>> import torch.distributed as dist
    >>> from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> mesh = init_device_mesh("cpu", (1,))
    >>> x = ms.from_dtensor(distribute_tensor(torch.ones(6, 2), mesh, [Shard(0)]))
    >>> x.shape, x.split
    ((6, 2), 0)
    >>> dist.destroy_process_group()
    """
    from torch.distributed.tensor import DTensor, Replicate  # noqa: PLC0415 - takes 0.5 s

    if not isinstance(x, DTensor):
        raise TypeError(f"from_dtensor takes a DTensor, got {type(x).__name__}")
    mesh = x.device_mesh
    if mesh.ndim != 1:
        raise ValueError(
            f"the mesh must have one dimension, got {mesh.ndim}: {mesh}; redistribute to one of its parts"
        )
    placement: Any = x.placements[0]
    if placement.is_partial():
        x = x.redistribute(placements=[Replicate()])
        [placement] = x.placements
    shape = tuple(x.shape)
    if placement.is_replicate():
        split, counts = None, None
        # By the rule of minisplit each rank has the whole gradient of what is replicated.
        local = x.to_local(grad_placements=[Replicate()])
    elif placement.is_shard():
        split = placement.dim % x.ndim
        counts, local = _shard_counts(shape[split], mesh.size()), x.to_local()
    else:
        raise ValueError(f"the placement must be Shard, Replicate or Partial, got {placement}")
    return DNDarray(local, Layout(shape, split, mesh.size(), counts), _communicator(mesh))


def to_dtensor(x: DNDarray, mesh: DeviceMesh | None = None) -> DTensor:
    """Make a DTensor of an array, which has its parts on the same processes.

    See `DNDarray.to_dtensor`.
    """
    import torch.distributed as dist  # noqa: PLC0415 - takes 0.1 s
    from torch.distributed.device_mesh import DeviceMesh  # noqa: PLC0415 - takes 0.5 s
    from torch.distributed.tensor import DTensor, Replicate, Shard  # noqa: PLC0415 - takes 0.5 s

    if not dist.is_initialized():
        raise RuntimeError(
            "DTensors need a process group of torch.distributed, which this program has not made: call "
            "torch.distributed.init_process_group() in a job of torchrun, or give a mesh"
        )
    if mesh is None:
        mesh = _mesh(x.comm, x.device.type, dist, DeviceMesh)
    if mesh.ndim != 1 or mesh.size() != x.comm.size:
        raise ValueError(
            f"the mesh must have one dimension of {x.comm.size} processes, as the array has, got {mesh}"
        )
    shard, layout = x.larray, x.layout
    if layout.split is None:
        return DTensor.from_local(shard, mesh, [Replicate()], run_check=False)
    wanted = Layout(layout.shape, layout.split, layout.ranks, _shard_counts(layout.extent, layout.ranks))
    if wanted != layout:
        shard = redistribute(shard, layout, wanted, x.comm)
    stride = torch.empty(layout.shape, device="meta").stride()
    return DTensor.from_local(
        shard, mesh, [Shard(layout.split)], run_check=False, shape=torch.Size(layout.shape), stride=stride
    )


def _mesh(comm: Communication, device: str, dist: Any, make: Any) -> DeviceMesh:
    """The mesh of a communicator's processes: one for each, since torch makes a process group for every mesh.

    Collective at first use.
    """
    world, meshes = dist.group.WORLD, _MESHES.setdefault(comm, {})
    if device not in meshes or meshes[device][0] is not world:  # the program may have made another group since
        meshes[device] = world, make(device, list(comm._members()) or list(range(dist.get_world_size())))
    mesh: DeviceMesh = meshes[device][1]
    return mesh


def _shard_counts(extent: int, ranks: int) -> tuple[int, ...]:
    """The counts that torch gives the shards of an axis: as many as fit of equal ones, then a rest, then none.

    >>> _shard_counts(10, 4), _shard_counts(4, 3)
    ((3, 3, 3, 1), (2, 2, 0))
    """
    step = -(-extent // ranks)
    return tuple([max(0, min(step, extent - rank * step)) for rank in range(ranks)])


def _communicator(mesh: Any) -> Communication:
    """The communicator in use where it has the mesh's processes, else one of theirs."""
    from minisplit.core.communication.torch_distributed.communication import (  # noqa: PLC0415 - takes 0.1 s
        TorchCommunication,
    )

    comm, ranks = get_comm(), tuple(mesh.mesh.flatten().tolist())
    if isinstance(comm, TorchCommunication) and comm._members() == ranks:
        return comm
    # One for each group: arrays of different ones cannot be added.
    group = mesh.get_group()
    if group not in _COMMUNICATORS:
        _COMMUNICATORS[group] = TorchCommunication(group)
    return _COMMUNICATORS[group]


# By communicator and the type of a device, with the default group in which the mesh was made.
_MESHES: WeakKeyDictionary[Communication, dict[str, tuple[Any, Any]]] = WeakKeyDictionary()
# By process group, for the life of the program: torch keeps its groups as well.
_COMMUNICATORS: dict[Any, Communication] = {}
