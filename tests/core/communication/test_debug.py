"""Debug mode: calls that differ are told before they meet, and what should be the same is compared."""

from __future__ import annotations

import runpy
import sys
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.debug import call_site, checksum, debugging, texts_by_rank

Comm = ms.Communication
ONE = torch.ones(1)
RECORD = np.zeros(1, dtype=np.int64)
SQUARE = partial(ms.zeros, (8, 8), split=0)


pytestmark = pytest.mark.several


def total(comm: Comm) -> torch.Tensor:
    return comm.allreduce(ONE)


@pytest.mark.parametrize("before", [False, True])
def test_on_for_a_block_or_from_now_on(before: bool) -> None:
    with ms.debug(before):
        assert debugging() == before
        with ms.debug():
            assert debugging()
            with ms.debug(False):
                assert not debugging()
            assert debugging()
        on = ms.debug(not before)
        assert debugging() != before
        on.__exit__(None, None, None)
        assert debugging() == before


@pytest.mark.serial
@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_turns_it_on(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPLIT_DEBUG", value)
    again = runpy.run_path(sys.modules["minisplit.core.communication.debug"].__file__ or "")
    assert again["debugging"]() == on


@pytest.mark.parametrize(
    ("mine", "others", "words"),
    [
        (total, lambda c: c.scan(ONE), r"allreduce\(torch.float32, \(1,\), sum\) .* scan"),
        (lambda c: c.agree(RECORD), lambda c: c.allgather_record(RECORD), "agree.* allgather"),
        (total, lambda c: c.allreduce(torch.ones(2)), r"allreduce\(.*\(1,\), sum.*\(2,\)"),
        (total, lambda c: c.allreduce(ONE, "max"), "allreduce.* sum.* max"),
        (lambda c: c.broadcast(ONE, 0), lambda c: c.broadcast(ONE, 1), "broadcast.* from rank 0.* from rank 1"),
        (lambda c: c.exchange([], [], ["a"]), total, "exchange.* allreduce"),
        (lambda c: c.exchange([], [], ["a"]), lambda c: c.exchange([], [], ["b"]), r"exchange\(a.* exchange\(b"),
        (lambda c: c.split(0), total, "split at .* allreduce"),
        (lambda c: c.free(), total, "free at .* allreduce"),
    ],
    ids=["kind", "small", "shape", "op", "root", "kind of exchange", "purpose", "split", "free"],
)
def test_J5_different_calls_raise_on_all_ranks(
    comm: Comm, mine: Any, others: Any, words: str, raises_alike: Any
) -> None:
    with ms.debug(), raises_alike(ms.CollectiveError, match=rf"^collective #\d+: rank 0 {words}"):
        (mine if comm.rank == 0 else others)(comm)


def test_J5_the_same_call_on_different_lines(comm: Comm, raises_alike: Any) -> None:
    with (
        ms.debug(),
        raises_alike(ms.CollectiveError, match=r"test_debug.py:\d+, ranks? 1.* at test_debug.py:\d+$"),
    ):
        if comm.rank == 0:
            comm.allreduce(ONE)
        else:
            comm.allreduce(ONE)


@pytest.mark.processes  # threads compare the calls themselves
def test_J5_a_layout_of_many_counts_is_compared_to_its_end(comm: Comm, size: int, raises_alike: Any) -> None:
    long = tuple(range(100))
    words = r"\[[0-9a-f]{16}\] at test_debug.py:\d+, rank"  # there is room for all of the line
    with ms.debug(), raises_alike(ms.CollectiveError, match=words):
        comm.exchange([], [], (long, long, comm.rank == 0))


def test_correct_programs_run_as_ever(comm: Comm, size: int) -> None:
    with ms.debug():
        x = ms.arange(10, split=0).redistribute([10] + [0] * (size - 1))
        (y,) = ms.vmap(lambda a: a * 2)(x)
        assert y.resplit(None).tolist() == list(range(0, 20, 2))
        part = comm.split(comm.rank % 2)
        assert part is not None
        assert ms.array([1, 2, 3], split=0, comm=part).resplit(None).tolist() == [1, 2, 3]


def test_A3_an_object_that_should_be_replicated(rank: int, size: int, raises_alike: Any) -> None:
    differs = torch.arange(4.0) + (rank == size - 1)
    words = f"must be the same on every rank, but rank 0 has checksum .*, rank {size - 1} has checksum .*; use is"
    with ms.debug():
        for split in (None, 0):
            with raises_alike(ValueError, match=words):
                ms.array(differs, split=split)
        with raises_alike(ValueError, match=words):
            ms.asarray(torch.zeros(2 + (rank == size - 1)))
        assert ms.array(torch.arange(4.0), split=0).tolist() == [0, 1, 2, 3]
        assert ms.array(differs, is_split=0).shape == (4 * size,)
    with ms.debug(False):
        ms.array(differs)  # undefined, and free


def test_A3_a_replicated_input_of_vmap(rank: int, size: int, raises_alike: Any) -> None:
    w = ms.array(torch.tensor(2.0))
    w.larray.add_(rank == size - 1)
    with (
        ms.debug(),
        raises_alike(ValueError, match=f"replicated input 1 must be the same .*, rank {size - 1} has"),
    ):
        ms.vmap(torch.mul)(ms.ones(5, split=0), w)


def test_off_it_sends_nothing(calls: Any) -> None:
    ms.array(torch.zeros(3))
    ms.zeros(3, split=0).to_layout(ms.zeros(3, split=0).layout)
    assert not calls


def test_the_call_site_is_the_users_line() -> None:
    assert call_site().startswith("test_debug.py:")


def test_the_call_site_is_not_where_a_context_manager_is_entered() -> None:
    code = "@contextmanager\ndef entered():\n    yield call_site()"
    names: dict[str, Any] = {"contextmanager": contextmanager, "call_site": call_site}
    exec(compile(code, ms.__file__, "exec"), names)
    with names["entered"]() as site:
        assert site.startswith("test_debug.py:")


def test_ranks_that_say_the_same_are_named_once() -> None:
    assert texts_by_rank(["a", "b", "a", "b"]) == "ranks 0, 2 a, ranks 1, 3 b"


def test_checksums_tell_dtype_shape_and_bytes() -> None:
    tensors = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.int32),
        torch.tensor([0.0, 0.0, 0.0, -0.0]),
        torch.zeros(0),
        torch.zeros(0, 2),
        torch.tensor([1j, 2]).conj(),
        torch.tensor([1j, 2]),
    ]
    sums = [checksum(x) for x in tensors]
    assert len(set(sums)) == len(sums)
    assert all(0 <= value < 2**63 for value in sums)
    assert checksum(torch.arange(6).reshape(2, 3).T) == checksum(torch.arange(6).reshape(2, 3).T.contiguous())


@pytest.mark.parametrize("shape", [(1,), (), (3,), (2, 3)], ids=str)
def test_checksums_of_tensors_without_strides(shape: tuple[int, ...]) -> None:
    """One element is contiguous to torch whatever its stride, and 0 is none to view it as bytes by."""
    broadcast = torch.tensor([7, 8])[0].expand(shape)
    assert checksum(broadcast) == checksum(torch.full(shape, 7))
