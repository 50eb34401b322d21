"""Records and pieces of tensors through shared memory, in turn, and where a rank has no such memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
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
        return [memory.gather(np.full(k, 1000 * call + rank), call) for call, k in enumerate(lengths)]

    with ThreadPoolExecutor(3) as executor:
        found = [*executor.map(run, range(3))]
    for rows in found:
        for call, each in enumerate(rows):
            k = (call * 7) % 13
            assert (each.view(np.int64) == np.repeat(1000 * call + np.arange(3), k).reshape(3, k)).all()


@serial
@needs_memory
def test_pieces_of_tensors_arrive_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any strides and dtype, longer than all blocks, from ranks that are ahead, and none for some."""
    monkeypatch.setattr(shared_memory, "BLOCK", shared_memory.PAGE)
    name = make_file(3)
    memories: list[Any] = [open_file(name, rank, 3) for rank in range(3)]
    remove_file(name)
    assert [memory.block for memory in memories] == [shared_memory.PAGE] * 3

    def made(sender: int, to: int, call: int) -> torch.Tensor | None:
        if (sender + to + call) % 4 == 0:
            return None
        rows = torch.arange(70 * (to + 1) * 40).view(70, -1) + 10**6 * call + sender
        odd = [rows.T, rows[:, 3:7], rows[3, 3], rows.to(torch.complex64).conj(), rows > 9, rows.half()]
        return odd[call % 6]

    def empty_of(x: torch.Tensor) -> torch.Tensor:
        """With the strides of Fortran."""
        return torch.empty(x.shape[::-1], dtype=x.dtype).permute([*range(x.ndim)][::-1])

    def run(rank: int) -> bool:
        is_right = True
        for call in range(24):
            after, before = [(rank + k) % 3 for k in (1, 2)], [(rank - k) % 3 for k in (1, 2)]
            send = [(to, x) for to in after if (x := made(rank, to, call)) is not None]
            wanted = [(of, x) for of in before if (x := made(of, rank, call)) is not None]
            recv = [(of, empty_of(x)) for of, x in wanted]
            memories[rank].exchange(send, recv, call)
            is_right &= all(x.equal(y) for (_, x), (_, y) in zip(recv, wanted, strict=True))
        return is_right

    with ThreadPoolExecutor(3) as executor:
        assert all(executor.map(run, range(3)))


@serial
@needs_memory
def test_a_rank_that_sleeps_is_woken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_AWAKE", 0)
    monkeypatch.setattr(shared_memory, "_NAPS", (30, 30))
    memories: list[Any] = [open_file(name, rank, 3) for rank in range(3)]
    came = torch.zeros(2)

    def wait(rank: int) -> None:
        memories[rank].exchange([], [(0, came)] if rank == 1 else [], 1)
        memories[rank].gather(np.zeros(1, int), 2)

    began = time.monotonic()
    with ThreadPoolExecutor(2) as executor:
        done = executor.map(wait, (1, 2))
        time.sleep(0.05)
        memories[0].exchange([(1, torch.ones(2))], [], 1)
        time.sleep(0.05)
        memories[0].gather(np.zeros(1, int), 2)
        assert [*done] == [None, None]
    assert came.tolist() == [1, 1]
    assert time.monotonic() - began < 10


@serial
@needs_memory
@pytest.mark.parametrize(("pages", "block"), [(2**20, 2**23 // 6 // 4096 * 4096), (4 * 7 * 6, 7 * 4096), (20, 0)])
def test_blocks_leave_room_for_others(pages: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(f_bavail=pages, f_frsize=4096)
    monkeypatch.setattr(os, "fstatvfs", lambda _: free)
    name = make_file(3)
    memory = open_file(name, 0, 3)
    remove_file(name)
    assert memory is not None
    assert memory.block == block


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
@pytest.mark.parametrize("without", [None, 0, "last", "blocks"])
def test_a_communicator_where_one_rank_has_none(
    comm: Any, rank: int, size: int, without: int | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank == (size - 1 if without == "last" else without):
        monkeypatch.setattr(shared_memory, "FOLDER", Path("/nowhere"))
    if without == "blocks":
        monkeypatch.setattr(shared_memory, "BLOCK", 0)
    part = comm.split(0)
    for length in (1, ROOM // 8, ROOM // 8 + 1, 1):
        record = torch.arange(length) + 1000 * rank
        assert all(row.equal(torch.arange(length) + 1000 * r) for r, row in enumerate(part.allgather(record)))
    assert part.broadcast(torch.full((ROOM,), rank), size - 1).eq(size - 1).all()
    has_memory = without in {None, "blocks"} and size > 1 and shared_memory._ORDERED
    assert (part._shared is not None) == has_memory
    assert not has_memory or (part._shared.block > 0) == (without is None)
