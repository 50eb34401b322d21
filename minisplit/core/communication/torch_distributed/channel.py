"""The messages of watchdogs, by way of the store that the processes of torch.distributed have met at."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

from minisplit.core.communication.job import Channel
from minisplit.core.communication.torch_distributed.library import Store, dist
from minisplit.core.communication.watchdog import say

# Seconds for which the first rank waits at its end for those that have left their programs as well.
LAST_WORDS = 10.0


class StoreChannel(Channel):
    """Messages under the keys of a store: `tag/receiver/number`.

    Parameters
    ----------
    store : torch.distributed.Store
        A connection of its own: another thread may wait for a long time on that of the program.
    rank, size : int
        This rank, and how many there are.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._store = store
        self._received = [0, 0, 0]
        self._has_left = False

    def send(self, message: object, rank: int, tag: int) -> None:
        number = self._ask(lambda: self._store.add(f"{tag}/{rank}", 1))
        self._ask(lambda: self._store.set(f"{tag}/{rank}/{number}", json.dumps(message)))

    def receive(self, tag: int) -> object | None:
        if not self.has_come(tag):
            return None
        self._received[tag] += 1
        key = f"{tag}/{self.rank}/{self._received[tag]}"
        message: object = _tuples(json.loads(self._ask(lambda: self._store.get(key))))
        self._ask(lambda: self._store.delete_key(key))
        return message

    def has_come(self, tag: int) -> bool:
        key = f"{tag}/{self.rank}/{self._received[tag] + 1}"
        return bool(self._ask(lambda: self._store.check([key])))

    def all_have_left(self) -> bool:
        left = self._ask(lambda: self._store.add("left", 0 if self._has_left else 1))
        self._has_left = True
        return bool(left == self.size)

    def close(self) -> None:
        # The process that has the store must not be gone before the others have read that all have left. One
        # that is killed before it has says nothing.
        closed, ends = self._ask(lambda: self._store.add("closed", 1)), time.monotonic() + LAST_WORDS
        while self.rank == 0 and closed < self.size and time.monotonic() < ends:
            time.sleep(0.01)
            closed = self._ask(lambda: self._store.add("closed", 0))

    def _ask(self, question: Any) -> Any:
        """Ask the store, by a new connection if the old one has broken.

        Where the store is gone, so is the process that had it, and the job has ended.
        """
        with suppress(dist.DistError):
            return question()
        try:
            self._store = self._store.clone()
            return question()
        except dist.DistError as error:
            text = (
                f"minisplit: rank {self.rank} has lost the store of its job, and leaves with status 1: {error}\n"
            )
            say(lambda: os.write(2, text.encode(errors="replace")))
            os._exit(1)


def _tuples(value: Any) -> Any:
    """Lists, of which JSON makes tuples, as tuples again."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
