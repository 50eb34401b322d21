"""Who is stuck, and which calls differ, from what each rank has called."""

from __future__ import annotations

from typing import Any

import pytest

from minisplit.testing.histories import (
    CallRecord,
    History,
    Key,
    Progress,
    deadlocked_ranks,
    different_calls,
    missing_calls,
)

pytestmark = pytest.mark.serial
CALL, OTHER = CallRecord("agree(1)", "f.py:1"), CallRecord("split", "f.py:2")
PART: Key = ((1, 0),)


def progress(state: Any, *calls: CallRecord, waits_on: Key | None = None) -> Progress:
    return Progress(state, {(): History((0, 1), list(calls))}, waits_on)


@pytest.mark.parametrize(
    ("ranks", "stuck"),
    [
        ([progress("waiting", CALL, waits_on=()), progress("running")], []),
        ([progress("waiting", CALL, waits_on=()), progress("returned")], [0]),
        ([progress("waiting", CALL, waits_on=()), progress("raised")], [0]),
        ([progress("waiting", CALL, waits_on=()), progress("waiting", CALL, waits_on=())], []),
        ([progress("waiting", CALL, CALL, waits_on=()), progress("waiting", CALL, waits_on=())], []),
        ([progress("waiting", CALL, waits_on=()), progress("returned", CALL)], []),
    ],
)
def test_who_is_stuck(ranks: list[Progress], stuck: list[int]) -> None:
    assert deadlocked_ranks(ranks) == stuck


def test_ranks_that_wait_for_each_other_on_two_communicators() -> None:
    """Each has made the call for which the other one waits not yet."""
    first = Progress("waiting", {(): History((0, 1), [OTHER, CALL]), PART: History((0, 1), [])}, ())
    second = Progress("waiting", {(): History((0, 1), [OTHER]), PART: History((0, 1), [CALL])}, PART)
    assert deadlocked_ranks([first, second]) == [0, 1]
    second.state = "running"
    assert deadlocked_ranks([first, second]) == []
    second.state = "waiting"
    text = "collective #2: rank 0 waited in agree(1) at f.py:1, rank 1 waited in agree(1) at f.py:1, on another"
    assert missing_calls([first, second]).startswith(text)


def test_who_waits_for_a_stuck_rank_is_stuck() -> None:
    members = (0, 1, 2)
    states: list[Progress] = [
        Progress("waiting", {(): History(members, [CALL])}, ()),
        Progress("waiting", {(): History(members, []), PART: History((1, 2), [CALL])}, PART),
        Progress("returned", {(): History(members, [])}),
    ]
    assert deadlocked_ranks(states) == [0, 1]


def test_texts_of_calls_that_differ() -> None:
    ranks = [progress("returned", CALL, CALL), progress("returned", CALL, OTHER)]
    assert different_calls(ranks) == "collective #2: rank 0 agree(1) at f.py:1, rank 1 split at f.py:2"
    assert different_calls(ranks[:1] * 2) == ""
    assert missing_calls(ranks) == ""
    ranks = [progress("returned", CALL), progress("returned")]
    assert missing_calls(ranks) == "collective #1: rank 0 agree(1) at f.py:1, rank 1 returned"


def test_texts_of_messages_without_a_counterpart() -> None:
    send = CallRecord("exchange", "f.py:1", sends={1: "torch.int64 (2,)"})
    recv = CallRecord("exchange", "f.py:2", recvs={0: "torch.int64 (3,)"})
    text = (
        "collective #1: rank 0 sends torch.int64 (2,) to rank 1 (exchange at f.py:1), "
        "which expects torch.int64 (3,) (exchange at f.py:2)"
    )
    assert different_calls([progress("running", send), progress("running", recv)]) == text
    matching = recv._replace(recvs={0: "torch.int64 (2,)"})
    assert different_calls([progress("running", send), progress("running", matching)]) == ""
