"""`@spmd`: the number of ranks, what a failure tells, and planted faults, found and shrunk."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers

import minisplit as ms
from minisplit.testing import Whole, spmd
from minisplit.testing import strategies as st

pytestmark = pytest.mark.serial
ONE = torch.ones(1)


@spmd
def size_is(expected: int) -> None:
    assert ms.get_comm().size == expected


def test_the_number_of_ranks() -> None:
    size_is(3, ranks=3)
    with pytest.raises(TypeError, match=r"unknown: give ranks=, or draw it with strategies\.ranks\(\)"):
        size_is(3)


def test_it_is_that_of_the_arrays() -> None:
    @spmd
    def check(x: Whole, others: list[Whole], expected: int) -> None:
        assert ms.get_comm().size == expected == x.cut().comm.size

    two, three = (Whole(torch.zeros(3), ms.Layout((3,), 0, ranks)) for ranks in (2, 3))
    check(two, [two, two], 2)
    check(three, [], expected=3, ranks=3)
    with pytest.raises(ValueError, match=r"different numbers of ranks: \[2, 3\]"):
        check(two, [three], 2)


@given(ranks=st.ranks())
@spmd
def test_a_test_may_ask_for_the_number_of_ranks(ranks: int) -> None:
    assert ms.get_comm().size == ranks


@spmd(ranks=(1, 2, 5))
def test_a_fixed_set_of_rank_counts(tmp_path: Path) -> None:
    assert ms.get_comm().size in {1, 2, 5}
    assert tmp_path.is_dir()


@spmd(ranks=(2, 3))
def test_a_fixed_set_that_the_test_sees(ranks: int) -> None:
    assert ms.get_comm().size == ranks


@given(x=st.tensors((3,), torch.float32))
@settings(max_examples=10)
@spmd(ranks=(2, 3))
def test_a_fixed_set_with_drawn_values(x: torch.Tensor) -> None:
    assert ms.array(x, split=0).resplit(None).larray.tolist() == x.tolist()


def misplaces_what_follows_an_empty_shard(x: Whole) -> None:
    mine = x.cut()
    if mine.split != 0:
        return
    assert mine.counts is not None
    start = sum(max(count, 1) for count in mine.counts[: mine.comm.rank])
    whole = torch.zeros(len(mine) + mine.comm.size, *mine.shape[1:])
    whole[start : start + mine.lshape[0]] = mine.larray
    assert torch.equal(mine.comm.allreduce(whole)[: len(mine)], x.tensor)


def skips_a_collective(x: Whole) -> None:
    mine = x.cut()
    if mine.comm.rank != 1:
        mine.resplit(None)


def fails_on_one_rank(x: Whole) -> None:
    mine = x.cut()
    if mine.comm.rank == mine.comm.size - 1 and mine.size > 2:
        raise ZeroDivisionError("planted")
    mine.resplit(None)


def asks_its_shard_what_to_do(x: Whole) -> None:
    comm = x.cut().comm
    steps = [lambda: comm.allreduce(ONE), lambda: comm.scan(ONE)]
    for step in steps if x.cut().larray.numel() else reversed(steps):
        step()


@pytest.mark.parametrize("ranks_are", ["threads", "pool"])
@pytest.mark.parametrize(
    ("fault", "kind", "words", "shape", "ranks"),
    [
        (misplaces_what_follows_an_empty_shard, AssertionError, "torch.equal", (1,), 2),
        (skips_a_collective, ms.CollectiveError, r"rank 0 (waited in )?exchange\(.* rank 1 returned", (0,), 2),
        (fails_on_one_rank, ZeroDivisionError, "planted", (3,), 1),
        (asks_its_shard_what_to_do, ms.CollectiveError, r"rank 0 \w+\(.*test_properties.py:\d+, rank 1 ", (1,), 2),
    ],
)
def test_planted_faults_are_found_and_shrunk(
    fault: Any, kind: Any, words: str, shape: Any, ranks: int, ranks_are: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", ranks_are)
    drawn = given(x=st.dndarrays(st.shapes(min_dims=1), torch.float32, elements=integers(1, 8)))
    with pytest.raises(kind) as caught:
        drawn(spmd(fault))()
    notes = "\n".join(caught.value.__notes__)
    assert re.search(words, str(caught.value))
    call = re.search(rf"To run this example alone:\n(?:    .*\n)+    {fault.__name__}.alone\((.*)\)\n", notes)
    assert call, notes
    arguments = eval(f"dict({call[1]})", {"torch": torch, "Layout": ms.Layout, "Whole": Whole})
    assert (arguments["x"].layout.shape, arguments["ranks"]) == (shape, ranks)
    with pytest.raises(type(caught.value)):
        spmd(fault).alone(**arguments)  # type: ignore[attr-defined]


def test_threads_or_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", "pools")
    with pytest.raises(ValueError, match="MINISPLIT_TESTING must be threads or pool, got 'pools'"):
        size_is(1, ranks=1)


def test_minisplit_needs_no_test_tools() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("hypothesis", "pytest", "cloudpickle")))
import minisplit as ms
assert ms.testing.run(lambda: 1, ranks=2) == [1, 1]
try:
    ms.testing.spmd
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'minisplit.testing.spmd needs pytest: pip install "minisplit[test]"' in done.stdout
