"""A job of MPI, and the messages of its watchdogs. Tested in tests/test_jobs.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minisplit.core.communication.handles import WORLD
from minisplit.core.communication.job import Channel, Job
from minisplit.core.communication.mpi.communication import MPICommunication
from minisplit.core.communication.mpi.library import MPI, set_abort_status
from minisplit.core.pytorch.devices import rank_environment


class MPIChannel(Channel):
    """A communicator of its own for the watchdogs."""

    def __init__(self, mpi: MPI.Intracomm) -> None:
        super().__init__(mpi.rank, mpi.size)
        self._mpi = mpi
        self._requests: list[Any] = []
        self._barrier: Any = None
        # How many messages were sent to each rank with each tag, and how many were received.
        self._sent = np.zeros((mpi.size, 3), np.int64)
        self._received = np.zeros(3, np.int64)

    def send(self, message: object, rank: int, tag: int) -> None:
        self._sent[rank, tag] += 1
        self._requests = [request for request in self._requests if not request.Test()]
        self._requests.append(self._mpi.isend(message, rank, tag))

    def receive(self, tag: int) -> object | None:
        if not self._mpi.Iprobe(tag=tag):
            return None
        self._received[tag] += 1
        message: object = self._mpi.recv(tag=tag)
        return message

    def has_come(self, tag: int) -> bool:
        return bool(self._mpi.Iprobe(tag=tag))

    def all_have_left(self) -> bool:
        # Not a plain barrier: the watchdog must be able to look while this rank waits for the others.
        self._barrier = self._barrier or self._mpi.Ibarrier()
        return bool(self._barrier.Test())

    def close(self) -> None:
        # MPI asks for it before it is finalised.
        expected = np.empty(3, np.int64)
        total = np.empty_like(self._sent)
        self._mpi.Allreduce(self._sent, total)
        expected[:] = total[self._mpi.rank]
        for tag, number in enumerate(expected):
            while self._received[tag] < number:
                self._mpi.recv(tag=tag)
                self._received[tag] += 1
        for request in self._requests:
            request.Wait()


class MPIJob(Job):
    """The job of `MPI.COMM_WORLD`."""

    ended = "MPI was finalised"

    def __init__(self) -> None:
        self.world = MPICommunication(MPI.COMM_WORLD)
        self.own = MPICommunication(MPI.COMM_SELF)
        self.world._handle.set_name(WORLD)

    def open_channel(self) -> Channel | None:
        """Return a channel where MPI may be called by several threads."""
        return MPIChannel(MPI.COMM_WORLD.Dup()) if MPI.Query_thread() == MPI.THREAD_MULTIPLE else None

    def gather(self, number: int) -> list[int]:
        # Not by `world`, whose first call makes a duplicate of the communicator: a program that does not
        # communicate need not have it.
        numbers = np.empty(self.world.size, dtype=np.int64)
        MPI.COMM_WORLD.Allgather(np.array([number]), numbers)
        return [int(number) for number in numbers]

    def is_over(self) -> bool:
        return bool(MPI.Is_finalized())

    def call_at_end(self, close: Callable[[], None]) -> None:
        # MPI deletes the attributes of COMM_SELF first of all when it is finalised.
        MPI.COMM_SELF.Set_attr(MPI.Comm.Create_keyval(delete_fn=lambda *_: close()), True)

    def fail_at_exit(self, status: int) -> None:
        set_abort_status(status)  # which mpi4py does

    def warn(self) -> str:
        """One rank whose launcher has started several: the launcher is of another MPI."""
        launched = rank_environment()
        if self.world.size > 1 or launched is None or launched.size == 1:
            return ""
        return (
            f"the launcher started {launched.size} processes, but the MPI library sees one. Launcher and "
            "library are not of one MPI: use the mpiexec that belongs to "
            f"{MPI.Get_library_version().splitlines()[0].strip()}; with srun, another of `srun --mpi=list`"
        )
