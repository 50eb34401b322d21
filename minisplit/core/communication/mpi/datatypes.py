"""What MPI calls torch's dtypes, our reductions, and the parts of a tensor."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from minisplit.core.communication.mpi.library import MPI
from minisplit.core.communication.protocol import RECORDS, REDUCIBLE
from minisplit.core.communication.reduce_ops import RULES, MergeOp, ReduceOp
from minisplit.core.transfer import Pieces, TransferPlan

# MPI libraries before MPI 4 count in C ints, which end at 2^31 - 1: a message of more bytes than this goes in
# several.
MESSAGE_LIMIT = 2**30


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


# NumPy's name of a type of numbers is one that mpi4py knows as well.
DATATYPES = {dtype: MPI.Datatype.fromcode(_numpy_dtype(dtype).char) for dtype in REDUCIBLE}
_SHORT = {torch.uint8, torch.int8, torch.uint16, torch.int16}
_OPERATIONS = {"sum": MPI.SUM, "prod": MPI.PROD, "min": MPI.MIN, "max": MPI.MAX}


# The key is one of 6 operations and 12 dtypes, so the cache needs no limit. It makes MPI's objects at first use,
# so that the import of this module makes none.
@functools.cache
def reduction(op: ReduceOp | MergeOp, dtype: torch.dtype) -> tuple[MPI.Op, MPI.Datatype]:
    """The MPI operation of a reduction, and the datatype of what it combines."""
    if op in RECORDS:
        width, _ = RECORDS[op]
        # One element is a whole record: MPI may combine a long message in parts, which must not cut a record.
        return _numpy_operation(op, dtype, width), DATATYPES[dtype].Create_contiguous(width).Commit()
    if op in {"min", "max"} and dtype.is_floating_point:
        # MPI leaves open what MIN and MAX make of NaN. With MPICH 5 max(NaN, 1) is NaN on one of two ranks, 1 on
        # the other.
        return _numpy_operation(op, dtype, 1), DATATYPES[dtype]
    if op == "sum" and dtype in _SHORT:
        # Open MPI 5 stops at 255 where it adds uint8 by vector instructions: 86 + 86 + 85 is 1 in torch.
        return _numpy_operation(op, dtype, 1), DATATYPES[dtype]
    return _OPERATIONS[op], DATATYPES[dtype]


def _numpy_operation(op: ReduceOp | MergeOp, dtype: torch.dtype, width: int) -> MPI.Op:
    """An MPI operation that combines records of so many numbers by the rule of `reduce_ops`."""
    numbers = _numpy_dtype(dtype)

    def combine(new: Any, total: Any, _: MPI.Datatype) -> None:
        values = np.frombuffer(total, numbers).reshape(-1, width)
        values[...] = RULES[op](np.frombuffer(new, numbers).reshape(-1, width), values)

    return MPI.Op.Create(combine, commute=True)


class PieceTypes:
    """The pieces of a shard as `Alltoallw` takes them.

    Attributes
    ----------
    message : tuple
        Counts and displacements in bytes, and the datatypes, one of each per rank.
    """

    def __init__(self, pieces: Pieces, shard: tuple[int, ...], ranks: int, itemsize: int) -> None:
        inner = math.prod(shard[pieces.axis + 1 :]) * itemsize
        outer, stride = math.prod(shard[: pieces.axis]), shard[pieces.axis] * inner if shard else 0
        by_length: dict[int, MPI.Datatype] = {}
        counts, displs, types = [0] * ranks, [0] * ranks, [MPI.BYTE] * ranks
        for peer, start, length in pieces:
            if length not in by_length:
                by_length[length] = MPI.BYTE.Create_hvector(outer, length * inner, stride).Commit()
            counts[peer], displs[peer], types[peer] = 1, start * inner, by_length[length]
        self.message = (counts, displs), types
        # Not by `__del__`: when the interpreter ends, that finds the module empty. What is left then MPI frees.
        weakref.finalize(self, _free, by_length.values()).atexit = False


def _free(datatypes: Iterable[MPI.Datatype]) -> None:
    if not MPI.Is_finalized():
        for datatype in datatypes:
            datatype.Free()


# The key is a plan, of which `minisplit.core.transfer.plan` keeps 64 as well, and the bytes of an element.
@functools.lru_cache(maxsize=64)
def piece_types(plan: TransferPlan, itemsize: int) -> tuple[PieceTypes, PieceTypes]:
    """What a plan sends and receives."""
    return (
        PieceTypes(plan.send, plan.source_shape, plan.src.ranks, itemsize),
        PieceTypes(plan.recv, plan.target_shape, plan.src.ranks, itemsize),
    )


def memory(tensor: torch.Tensor) -> MPI.buffer:
    """The memory of a contiguous tensor."""
    return MPI.buffer.fromaddress(tensor.data_ptr(), tensor.nbytes)


def messages(tensor: torch.Tensor) -> list[tuple[MPI.buffer, MPI.Datatype]]:
    """The memory of a contiguous tensor as messages of at most `MESSAGE_LIMIT` bytes."""
    whole = memory(tensor)
    return [(whole[begin : begin + MESSAGE_LIMIT], MPI.BYTE) for begin in range(0, tensor.nbytes, MESSAGE_LIMIT)]
