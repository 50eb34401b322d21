"""MPI's datatypes and operations: the right ones, also when they are used again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from mpi4py import MPI

import minisplit as ms
from minisplit.core.communication.mpi import datatypes
from minisplit.core.communication.mpi.datatypes import PieceTypes, piece_types, reduction
from minisplit.core.transfer import plan

Comm = ms.Communication
pytestmark = pytest.mark.mpi


@pytest.mark.mpi
@pytest.mark.parametrize("limit", [1, 8, 64])
def test_A6_messages_above_the_limit_go_in_several(
    comm: Comm, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(datatypes, "MESSAGE_LIMIT", limit)
    whole = torch.arange(9, dtype=torch.int64)
    lengths = [len(part[0]) for part in datatypes.messages(whole)]
    assert sum(lengths) == 72
    assert max(lengths) == limit
    assert torch.equal(comm.broadcast(whole + comm.rank, comm.size - 1), whole + comm.size - 1)


def test_an_operation_is_made_once_for_each_kind_and_dtype() -> None:
    kinds: list[tuple[Any, torch.dtype]] = [
        ("max", torch.float32),
        ("max", torch.float64),
        ("min", torch.float32),
        ("max", torch.int64),
        ("first", torch.int64),
        ("moments", torch.float64),
    ]
    made = [reduction(*kind) for kind in kinds]
    assert [reduction(*kind) for kind in kinds] == made
    assert len({(op.handle, datatype.handle) for op, datatype in made}) == len(kinds)
    assert [datatype.Get_size() for _, datatype in made] == [4, 8, 4, 8, 16, 24]


def test_transfers_of_several_plans_and_element_sizes_in_turn(
    comm: Comm, rank: int, size: int, calls: Counter[str]
) -> None:
    """The derived datatypes are kept with the plan, for each size of an element."""
    rows, columns = (ms.Layout((6, 5), split, size) for split in (0, 1))
    uneven = ms.Layout((6, 5), 0, size, (6,) + (0,) * (size - 1))
    ways = [(rows, columns), (columns, rows), (rows, uneven), (uneven, columns), (columns, rows.with_split(None))]
    for _ in range(2):
        for dtype in (torch.int8, torch.float32, torch.int32, torch.complex128):
            for src, dst in ways:
                whole = torch.arange(30).reshape(6, 5).to(dtype)
                target = torch.zeros(dst.lshape(rank), dtype=dtype)
                comm.transfer(whole[src.box(rank)].contiguous(), target, plan(src, dst, rank))
                assert torch.equal(target, whole[dst.box(rank)])
    assert calls["Alltoallw"] == (2 * 4 * len(ways) if size > 1 else 0)


def test_datatypes_are_made_once_for_each_plan_and_element_size(rank: int, size: int) -> None:
    one, other = (plan(ms.Layout((6, 5), 0, size), ms.Layout((6, 5), split, size), rank) for split in (1, None))
    made = [piece_types(steps, itemsize) for steps in (one, other) for itemsize in (4, 8)]
    assert [piece_types(steps, itemsize) for steps in (one, other) for itemsize in (4, 8)] == made
    for (small, _), (large, _) in (made[:2], made[2:]):
        ((counts, displs), types), ((large_counts, large_displs), large_types) = small.message, large.message
        assert large_counts == counts
        assert large_displs == [2 * place for place in displs]
        sizes = [2 * datatype.Get_size() if count else 1 for count, datatype in zip(counts, types, strict=True)]
        assert [datatype.Get_size() for datatype in large_types] == sizes


def test_datatypes_are_freed_with_what_they_are_for(rank: int, size: int) -> None:
    layout = ms.Layout((6, 5), 0, size)
    steps = plan(layout, layout, rank)
    pieces = PieceTypes(steps.send, layout.lshape(rank), size, 4)
    kept = [datatype for count, datatype in zip(pieces.message[0][0], pieces.message[1], strict=True) if count]
    assert MPI.DATATYPE_NULL not in kept
    del pieces
    assert all(datatype == MPI.DATATYPE_NULL for datatype in kept)
