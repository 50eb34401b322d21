"""The peers that a benchmark has beside minisplit: Heat, PyTorch's DTensor over gloo, JAX, hand-written mpi4py."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from mpi4py import MPI

import minisplit as ms

WORLD = MPI.COMM_WORLD


class _StandIn(ModuleType):
    """For torchvision, which Heat imports and does not use in what is measured."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in() -> None:
    """Let Heat import a torchvision, where there is none."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        top = sys.modules["torchvision"] = _StandIn("torchvision")
        for name in ("transforms", "datasets"):
            part = sys.modules[f"torchvision.{name}"] = _StandIn(name)
            setattr(top, name, part)


def heat() -> Any:
    """Heat, or None where it is not installed."""
    stand_in()
    with contextlib.suppress(ImportError):
        return importlib.import_module("heat")
    return None


class Jax:
    """JAX on one core, compiled: what it can do with the shard of a rank."""

    def __init__(self) -> None:
        os.environ |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "NPROC": "1", "JAX_PLATFORMS": "cpu"}
        self.jax = importlib.import_module("jax")
        self.numpy = importlib.import_module("jax.numpy")

    def mapped(self, func: Any, *shards: torch.Tensor) -> Any:
        """A call of `jax.jit(jax.vmap(func))`."""
        f, arrays = self.jax.jit(self.jax.vmap(func)), [self.numpy.asarray(x.numpy()) for x in shards]
        return lambda: f(*arrays).block_until_ready()


def jax() -> Jax | None:
    """JAX, or None where it is not installed."""
    try:
        return Jax()
    except ImportError:
        return None


class DTensors:
    """DTensors over gloo on the ranks of the MPI job."""

    def __init__(self) -> None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        dist, tensor = (importlib.import_module(f"torch.distributed{name}") for name in ("", ".tensor"))
        meeting = WORLD.bcast(tempfile.mktemp() if WORLD.rank == 0 else None)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=WORLD.rank, world_size=WORLD.size)
        self.tensor = tensor
        self.mesh = dist.device_mesh.init_device_mesh("cpu", (WORLD.size,))

    def placement(self, split: int | None) -> Any:
        return [self.tensor.Replicate() if split is None else self.tensor.Shard(split)]

    def of(self, x: ms.DNDarray) -> Any:
        """The same array, whose counts must be the default ones."""
        return self.tensor.DTensor.from_local(x.larray.clone(), self.mesh, self.placement(x.split))

    def move(self, x: Any, split: int | None) -> Any:
        return x.redistribute(self.mesh, self.placement(split))


def dtensors() -> DTensors | None:
    try:
        return DTensors()
    except (ImportError, RuntimeError):
        return None


def counts_of(n: int) -> tuple[list[int], list[int]]:
    layout = ms.Layout((n,), 0, WORLD.size)
    return list(layout.counts or ()), list(layout.displs or ())


def packed_rows_to_columns(shard: torch.Tensor, n: int) -> torch.Tensor:
    """0 -> 1 of an (n, n) array by Alltoallv: columns are packed, and arrive as rows that fit together."""
    counts, displs = counts_of(n)
    rows, columns = shard.shape[0], counts[WORLD.rank]
    send = torch.cat([shard[:, d : d + c].flatten() for c, d in zip(counts, displs, strict=True)])
    recv = torch.empty(n, columns, dtype=shard.dtype)
    out, into = [rows * c for c in counts], [c * columns for c in counts]
    WORLD.Alltoallv(
        [as_bytes(send), bytes_of(out, shard), MPI.BYTE], [as_bytes(recv), bytes_of(into, shard), MPI.BYTE]
    )
    return recv


def columns_to_packed_rows(shard: torch.Tensor, n: int) -> torch.Tensor:
    """1 -> 0 of an (n, n) array by Alltoallv: rows are sent as they are, and what arrives is unpacked."""
    counts, displs = counts_of(n)
    columns, rows = shard.shape[1], counts[WORLD.rank]
    recv = torch.empty(rows * n, dtype=shard.dtype)
    out, into = [c * columns for c in counts], [rows * c for c in counts]
    WORLD.Alltoallv(
        [as_bytes(shard), bytes_of(out, shard), MPI.BYTE], [as_bytes(recv), bytes_of(into, shard), MPI.BYTE]
    )
    result = torch.empty(rows, n, dtype=shard.dtype)
    for c, d, part in zip(counts, displs, recv.split(into), strict=True):
        result[:, d : d + c] = part.reshape(rows, c)
    return result


class DerivedTypes:
    """0 -> 1 or 1 -> 0 of an (n, n) array by Alltoallw with derived datatypes, made once."""

    def __init__(self, n: int, have: int, want: int, like: torch.Tensor) -> None:
        counts, displs = counts_of(n)
        rank, one = WORLD.rank, MPI.BYTE.Create_contiguous(like.itemsize)
        self.shapes = tuple([counts[rank] if axis == split else n for axis in (0, 1)] for split in (have, want))
        source, target = self.shapes
        self.send, self.recv = [], []
        for c, d in zip(counts, displs, strict=True):
            block = [c if axis == want else source[axis] for axis in (0, 1)]
            self.send.append(
                one.Create_subarray(source, block, [d if axis == want else 0 for axis in (0, 1)]).Commit()
            )
            block = [c if axis == have else target[axis] for axis in (0, 1)]
            self.recv.append(
                one.Create_subarray(target, block, [d if axis == have else 0 for axis in (0, 1)]).Commit()
            )
        self.ones, self.zeros = [1] * WORLD.size, [0] * WORLD.size

    def __call__(self, shard: torch.Tensor) -> torch.Tensor:
        result = torch.empty(self.shapes[1], dtype=shard.dtype)
        WORLD.Alltoallw(
            [as_bytes(shard), (self.ones, self.zeros), self.send],
            [as_bytes(result), (self.ones, self.zeros), self.recv],
        )
        return result


def gathered(shard: torch.Tensor, n: int) -> torch.Tensor:
    """0 -> None of an (n, n) array by Allgatherv."""
    counts, _ = counts_of(n)
    result = torch.empty(n, n, dtype=shard.dtype)
    WORLD.Allgatherv(as_bytes(shard), [as_bytes(result), bytes_of([c * n for c in counts], shard), MPI.BYTE])
    return result


def as_bytes(x: torch.Tensor) -> Any:
    return x.numpy().reshape(-1).view(np.uint8)


def bytes_of(counts: list[int], like: torch.Tensor) -> list[int]:
    return [c * like.itemsize for c in counts]
