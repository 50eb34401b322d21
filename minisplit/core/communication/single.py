"""One process that nobody has started as a rank: a communicator of one, which needs no library."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable

import torch

from minisplit.core.communication.buffers import broadcast_buffer
from minisplit.core.communication.handles import LIVE
from minisplit.core.communication.job import Channel, Job
from minisplit.core.communication.protocol import Communication, Messages, Record
from minisplit.core.communication.reduce_ops import MergeOp, ReduceOp


class SingleCommunication(Communication):
    """This process alone."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0, 1)
        LIVE.add(self)

    def __repr__(self) -> str:
        return "<SingleCommunication rank 0 of 1>"

    def _exchange(self, send: Messages, recv: Messages, device: torch.device) -> None:
        pass

    def _allreduce(self, total: torch.Tensor, op: ReduceOp | MergeOp) -> None:
        pass

    def _scan(self, tensor: torch.Tensor, before: torch.Tensor, op: ReduceOp) -> None:
        pass

    def _broadcast(self, tensor: torch.Tensor, root: int) -> torch.Tensor:
        return broadcast_buffer(tensor, is_root=True, cuda_aware=True)

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        return data

    def _allgather(self, record: Record) -> Record:
        return record[None].copy()

    def _alltoall(self, record: Record) -> Record:
        return record.copy()

    def _allgather_text(self, text: str) -> list[str]:
        return [text]

    def _agree(self, record: Record) -> Record:
        return record.copy()

    def _split(self, color: int | None, key: int) -> SingleCommunication | None:
        return None if color is None else SingleCommunication()

    def _free(self) -> None:
        pass

    def abort(self, status: int = 1) -> None:
        """End the process at once.

        Parameters
        ----------
        status : int, default 1
            The exit status.

        Communication
        -------------
        Local.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class SingleJob(Job):
    """The job of one process."""

    def __init__(self) -> None:
        self.world = SingleCommunication()
        self.own = SingleCommunication()

    def open_channel(self) -> Channel | None:
        return None

    def gather(self, number: int) -> list[int]:
        return [number]

    def is_over(self) -> bool:
        return False

    def call_at_end(self, close: Callable[[], None]) -> None:
        atexit.register(close)

    def fail_at_exit(self, status: int) -> None:
        pass
