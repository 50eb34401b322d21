"""The messages of watchdogs by way of a store."""

from __future__ import annotations

import os

import pytest
import torch.distributed as dist

from minisplit.core.communication.job import ASK, END, TELL
from minisplit.core.communication.torch_distributed import channel
from minisplit.core.communication.torch_distributed.channel import StoreChannel

pytestmark = pytest.mark.serial


def test_messages_come_in_order_and_once() -> None:
    store = dist.HashStore()
    first, second = (StoreChannel(store, rank, 2) for rank in (0, 1))
    assert first.receive(TELL) is None
    second.send((1, "a", (2, 3)), 0, TELL)
    second.send((1, "b", ()), 0, TELL)
    assert first.receive(ASK) is None
    assert first.receive(TELL) == (1, "a", (2, 3))
    assert first.receive(TELL) == (1, "b", ())
    assert first.receive(TELL) is None


def test_all_hear_of_the_end() -> None:
    store = dist.HashStore()
    channels = [StoreChannel(store, rank, 3) for rank in range(3)]
    channels[1].end_others()
    assert [channel.has_come(END) for channel in channels] == [True, False, True]


def test_the_first_rank_does_not_wait_for_ever_for_one_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LAST_WORDS", 0.05)
    StoreChannel(dist.HashStore(), 0, 2).close()


def test_all_have_left_once_the_last_one_has() -> None:
    store = dist.HashStore()
    first, second = (StoreChannel(store, rank, 2) for rank in (0, 1))
    assert [first.all_have_left(), first.all_have_left(), second.all_have_left(), first.all_have_left()] == [
        False, False, True, True,
    ]  # fmt: skip
    second.close()
    first.close()


def test_a_connection_that_breaks_is_made_anew() -> None:
    class Broken:
        def __init__(self, store: dist.Store) -> None:
            self.store = store

        def check(self, keys: list[str]) -> bool:
            raise dist.DistNetworkError("Connection was likely closed")

        def clone(self) -> dist.Store:
            return self.store

    store = dist.HashStore()
    StoreChannel(store, 1, 2).send("a message", 0, TELL)
    assert StoreChannel(Broken(store), 0, 2).receive(TELL) == "a message"


def test_a_rank_says_that_the_store_is_gone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It had left with status 1 without a word."""

    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise dist.DistNetworkError("Connection was likely closed")

        def clone(self) -> dist.Store:
            raise dist.DistNetworkError("Connection refused")

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit):
        StoreChannel(Gone(), 1, 2).receive(TELL)
    assert "rank 1 has lost the store of its job" in capfd.readouterr().err
