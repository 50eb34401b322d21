"""The time limit of collective calls; `tests/test_jobs.py` has the jobs that it ends."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from minisplit.core.communication.job import Channel
from minisplit.core.communication.single import SingleCommunication
from minisplit.core.communication.watchdog import Watchdog, time_limit


@pytest.mark.parametrize(
    ("text", "limit"), [("", None), ("0", None), ("inf", None), (" 2.5 ", 2.5), ("1e3", 1000.0)]
)
def test_J3_the_limit_is_in_seconds(monkeypatch: pytest.MonkeyPatch, text: str, limit: float | None) -> None:
    monkeypatch.setenv("MINISPLIT_TIMEOUT", text)
    assert time_limit() == limit


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "60s"])
def test_J3_the_limit_must_be_a_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MINISPLIT_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"must be a number of seconds, or 0 for no limit, got '{text}'"):
        time_limit()


def test_J3_there_is_no_limit_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINISPLIT_TIMEOUT", raising=False)
    assert time_limit() is None


class Slow(Channel):
    """A channel to ranks that are about to leave, half a second from now."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.asked, self.end = 0, time.monotonic() + 0.5

    def send(self, message: object, rank: int, tag: int) -> None: ...

    def receive(self, tag: int) -> object | None: ...

    def has_come(self, tag: int) -> bool:
        return False

    def all_have_left(self) -> bool:
        self.asked += 1
        return time.monotonic() > self.end

    def close(self) -> None: ...


@pytest.mark.serial
def test_a_rank_that_has_left_asks_seldom_whether_the_others_have() -> None:
    channel = Slow()
    watchdog = Watchdog([], SingleCommunication(), None, channel, lambda: None)
    watchdog.start()
    watchdog.stop()
    # Of each rank of a large job the store of torch.distributed was asked 100 times per second.
    assert channel.asked < 20
    assert time.monotonic() < channel.end + 0.3


@pytest.mark.serial
def test_a_communicator_that_was_seen_in_a_call_is_freed_once_it_is_dropped() -> None:
    comm = SingleCommunication()
    comm._call = (1, ("allreduce",))
    watchdog = Watchdog(weakref.WeakSet([comm]), SingleCommunication(), None, None, lambda: None)
    watchdog._check(0.5)
    dropped = weakref.ref(comm)
    del comm
    gc.collect()
    assert dropped() is None
