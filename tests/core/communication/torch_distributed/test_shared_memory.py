"""Records through shared memory: of every length, in turn, and where a rank has no such memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minisplit.core.communication.torch_distributed import shared_memory
from minisplit.core.communication.torch_distributed.shared_memory import ROOM, make_file, open_file, remove_file

ON_TORCH = os.environ.get("MINISPLIT_ENGINE") == "torch"
serial = pytest.mark.serial
needs_memory = pytest.mark.skipif(
    not (shared_memory.FOLDER.is_dir() and shared_memory._ORDERED), reason="needs /dev/shm and an x86-64"
)


@pytest.fixture
def name() -> Iterator[str]:
    name = make_file(3)
    yield name
    remove_file(name)


@serial
@needs_memory
def test_each_call_has_the_rows_of_its_own(name: str) -> None:
    memories = [open_file(name, rank, 3) for rank in range(3)]
    remove_file(name)
    assert all(memories)

    def run(rank: int) -> list[Any]:
        memory: Any = memories[rank]
        lengths = [(call * 7) % 13 for call in range(300)]
        return [memory.gather(np.full(k, 1000 * call + rank)) for call, k in enumerate(lengths)]

    with ThreadPoolExecutor(3) as executor:
        found = [*executor.map(run, range(3))]
    for rows in found:
        for call, each in enumerate(rows):
            k = (call * 7) % 13
            assert (each.view(np.int64) == np.repeat(1000 * call + np.arange(3), k).reshape(3, k)).all()


@serial
@needs_memory
def test_the_file_is_of_this_user_alone_and_leaves_no_name(name: str) -> None:
    path = shared_memory.FOLDER / name
    assert path.stat().st_mode & 0o777 == 0o600
    memory = open_file(name, 0, 3)
    remove_file(name)
    assert memory is not None
    assert not path.exists()
    assert open_file(name, 1, 3) is None


@serial
def test_without_such_memory_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "FOLDER", tmp_path / "missing")
        assert make_file(3) == ""
        assert open_file("name", 0, 3) is None
    assert open_file("", 0, 3) is None
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    (tmp_path / "short").write_bytes(bytes(10))
    assert open_file("short", 0, 3) is None  # not of this length
    monkeypatch.setattr(shared_memory, "_ORDERED", False)
    assert open_file(make_file(3), 0, 3) is None


@serial
def test_no_room_is_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert make_file(3) == ""
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not ON_TORCH, reason="of the ranks of torch.distributed")
@pytest.mark.parametrize("without", [None, 0, "last"])
def test_a_communicator_where_one_rank_has_none(
    comm: Any, rank: int, size: int, without: int | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank == (size - 1 if without == "last" else without):
        monkeypatch.setattr(shared_memory, "FOLDER", Path("/nowhere"))
    part = comm.split(0)
    for length in (1, ROOM // 8, ROOM // 8 + 1, 1):
        record = torch.arange(length) + 1000 * rank
        assert all(row.equal(torch.arange(length) + 1000 * r) for r, row in enumerate(part.allgather(record)))
    assert (part._shared is None) == (without is not None or size == 1 or not shared_memory._ORDERED)
