"""A job of torch.distributed: of torchrun, of a program that has made its process group, or of `env://`.

Tested in tests/test_torch_jobs.py.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

from minisplit.core.communication.handles import WORLD
from minisplit.core.communication.job import Channel, Job
from minisplit.core.communication.torch_distributed.channel import StoreChannel
from minisplit.core.communication.torch_distributed.communication import (
    TorchCommunication,
    default_store,
    shut_down_all,
)
from minisplit.core.communication.torch_distributed.device_groups import TIMEOUT
from minisplit.core.communication.torch_distributed.library import dist


class TorchJob(Job):
    """The processes that have met at a store: that of the program's default group, or else that of `env://`."""

    def __init__(self) -> None:
        if dist.is_initialized():
            store, rank, size = default_store(), dist.get_rank(), dist.get_world_size()
        else:
            store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
        self._store = dist.PrefixStore("minisplit", store)
        self.world = TorchCommunication.from_store(dist.PrefixStore("world", self._store), rank, range(size))
        self.world._handle.set_name(WORLD)
        self.own = TorchCommunication.from_store(dist.HashStore(), 0, [rank])

    def open_channel(self) -> Channel | None:
        # Of its own: what waits at the store in one thread keeps others from asking it.
        store = dist.PrefixStore("watchdog", self._store).clone()
        TorchCommunication.channel = StoreChannel(store, self.world.rank, self.world.size)
        return TorchCommunication.channel

    def gather(self, number: int) -> list[int]:
        self._store.set(f"cores/{self.world.rank}", str(number))
        texts = self._store.multi_get([f"cores/{rank}" for rank in range(self.world.size)])
        return [int(text) for text in texts]

    def is_over(self) -> bool:
        return False

    def call_at_end(self, close: Callable[[], None]) -> None:
        atexit.register(shut_down_all)  # after the other
        atexit.register(close)

    def fail_at_exit(self, status: int) -> None:
        # The process itself leaves with the status, which its program has asked for.
        TorchCommunication.end_others()
