"""When MPI gets a communicator back; `tests/test_jobs.py` has thousands of them."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import minisplit as ms
from minisplit.core.communication import handles

pytestmark = pytest.mark.mpi
ONE = np.ones(1, dtype=np.int64)


@pytest.fixture
def fresh(comm: Any) -> Any:
    """A communicator of all ranks of which nothing was split off."""
    part = comm.split(0)
    yield part
    part.free()


def kept(comm: Any) -> int:
    return len(comm._handle.parts)


def test_J10_what_all_ranks_have_dropped_is_freed_at_the_next_split(fresh: Any, rank: int, size: int) -> None:
    parts = [fresh.split(rank % 2) for _ in range(5)]
    assert kept(fresh) == 5
    if rank == 0:
        first = parts[0]
    del parts
    gc.collect()
    last = fresh.split(0)
    assert kept(fresh) == 2, "rank 0 has the first, and the last is new"
    if rank == 0:
        del first
    fresh.split(None)
    assert kept(fresh) == 2, "the last, and the one that no rank got"
    assert last.agree(ONE).tolist() == [1]


def test_J10_a_part_waits_for_its_own_parts(fresh: Any, rank: int) -> None:
    half = fresh.split(rank % 2)
    inner = half.split(0)
    half.free()
    assert half._handle.mpi is not None
    fresh.split(0)
    assert inner.agree(ONE).tolist() == [1]
    del inner
    fresh.split(0)
    assert half._handle.mpi is None


def test_each_communicator_has_one_name_on_its_ranks(fresh: Any, rank: int, size: int) -> None:
    part, given = fresh.split(0), ms.MPICommunication(fresh.mpi)
    assert (given._handle.name, given.agree(ONE).tolist()) == (0, [1])
    names = [comm._handle.name for comm in (ms.MPI_WORLD, part, given)]
    assert (fresh.allgather_record(np.array(names)) == names).all()
    if size > 1:
        assert names[0] == handles.WORLD
        assert len(set(names)) == 3
        assert handles.HANDLES[names[1]] is part._handle
