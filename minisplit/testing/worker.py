"""A rank of a `Pool`: `python -m minisplit.testing.worker ADDRESS`, started by mpiexec.

It waits for functions on a socket, not in MPI, so an idle pool costs no time. While a function runs, every wait
for other ranks looks at that socket too, so that the controller can end it.
"""

from __future__ import annotations

import contextvars
import faulthandler
import functools
import hashlib
import io
import os
import pickle
import random
import select
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from mpi4py import MPI

from minisplit.core.communication.debug import call_site, debug, describe_call
from minisplit.core.communication.mpi import MPICommunication
from minisplit.core.communication.protocol import Call, messages_of, set_default_comm
from minisplit.core.communication.startup import MPI_WORLD
from minisplit.core.inside_vmap import refuse
from minisplit.core.transfer import TransferPlan
from minisplit.testing.examples import in_example
from minisplit.testing.histories import Entry, History, Key, Progress
from minisplit.testing.messages import Failure, Hello, Interrupt, Job, Pickler, Report, class_of_controller

# Seconds that a wait gives its core to others before it sleeps; that it lasts before the controller is told; and
# between two signs of life of a rank that makes many calls.
SPIN = 0.0002
TELL_AFTER = 0.005
SIGN_OF_LIFE = 1.0
_CREATE_TAG = 2**14
# The collective calls of MPI that have a form which does not wait.
_INTERRUPTIBLE = {
    "Allgather", "Allgatherv", "Allreduce", "Alltoall", "Alltoallv", "Alltoallw", "Barrier", "Bcast", "Exscan",
    "Gather", "Gatherv", "Reduce", "Reduce_scatter", "Reduce_scatter_block", "Scan", "Scatter", "Scatterv",
}  # fmt: skip
_OUTCOMES = "_pytest.outcomes"
Result = TypeVar("Result")


class Interrupted(BaseException):
    """The controller has ended the example."""


class Mpi:
    """Stands before an `mpi4py` communicator: its collective calls can be interrupted."""

    def __init__(self, real: MPI.Intracomm, worker: Worker) -> None:
        self.real = real
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        if name not in _INTERRUPTIBLE:
            return getattr(self.real, name)
        begin = getattr(self.real, f"I{name.lower()}")
        return lambda *args, **kwargs: self._worker.wait([begin(*args, **kwargs)])


class WorkerCommunication(MPICommunication):
    """The communicator of an example: it remembers its calls, and all of them can be interrupted."""

    __slots__ = ("_entries", "_key", "_members", "_real", "_worker")

    def __init__(self, real: MPI.Intracomm, worker: Worker, key: Key, members: tuple[int, ...]) -> None:
        super().__init__(real)
        self._duplicate = cast(MPI.Intracomm, Mpi(real, worker))  # nobody else has it
        self._real, self._worker, self._key, self._members = real, worker, key, members
        self._entries: list[Entry] = []
        worker.progress.histories[key] = History(members, self._entries)

    def _collective(self, call: Call, carry: Callable[..., Result], *args: Any) -> Result:
        worker = self._worker
        if worker.interrupted:
            raise Interrupted
        refuse(call)  # before it is written down as made
        entry = Entry(describe_call(call), call_site())
        if call[0] == "exchange":
            entry = entry._replace(sends=_by_peer(args[0]), recvs=_by_peer(args[1]))
        self._entries.append(entry)
        worker.within.append(self._key)
        try:
            worker.look()
            result: Result = super()._collective(call, functools.partial(self._alike, entry, carry), *args)
            return result
        except BaseException:
            worker.clean = False
            raise
        finally:
            worker.within.pop()

    def _alike(self, entry: Entry, carry: Callable[..., Result], *args: Any) -> Result:
        """Make a call once all ranks are known to make it: MPICH ends a rank that gets more than it asked for."""
        if not entry.call.startswith("exchange"):  # which may well be over on some ranks before others come
            mine = int.from_bytes(hashlib.blake2b(entry.call.encode(), digest_size=7).digest())
            digests = np.empty(self.size, dtype=np.int64)
            self.mpi.Allgather(np.array([mine]), digests)
            if (digests != mine).any():
                self._worker.wait_for_end()
        return carry(*args)

    def transfer(self, source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> None:
        """By requests, so that what each rank sends to which is remembered."""
        self.exchange(*messages_of(source, target, steps), (source.dtype, steps.src, "to", steps.dst))

    def _wait(self, requests: list[MPI.Request]) -> None:
        self._worker.wait(requests)

    def _wait_for_some(self, requests: list[MPI.Request]) -> Sequence[int]:
        return self._worker.wait_for_some(requests)

    def _split(self, color: int | None, key: int) -> WorkerCommunication | None:
        # MPI_Comm_split cannot be interrupted. Here all have come once they know each other's colors.
        rows = np.empty((self.size, 3), dtype=np.int64)
        self.mpi.Allgather(np.array([color is not None, color or 0, key]), rows)
        if color is None:
            return None
        mates = [rank for rank in range(self.size) if rows[rank, 0] and rows[rank, 1] == color]
        mates.sort(key=lambda rank: rows[rank, 2])
        part = self._real.Create_group(self._real.Get_group().Incl(mates), self._calls % _CREATE_TAG)
        members = tuple(self._members[rank] for rank in mates)
        made = WorkerCommunication(part, self._worker, (*self._key, (self._calls, color)), members)
        self._worker.parts.append(made)
        return made

    def _free(self) -> None:
        self.mpi.Barrier()
        if self._key:
            self._worker.parts.remove(self)
            self._real.Free()

    def retire(self) -> None:
        """Give back a part that was made in an example which has ended, unless it was freed there."""
        self._close("was made in an example that has ended")
        self._real.Free()


def _by_peer(pieces: Sequence[tuple[int, torch.Tensor]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for peer, piece in pieces:
        text = f"{piece.dtype} {tuple(piece.shape)}"
        found[peer] = f"{found[peer]}, then {text}" if peer in found else text
    return found


class Worker:
    """Runs examples, one after the other, until the controller closes the connection."""

    def __init__(self, connection: Connection, folder: str) -> None:
        self.connection = connection
        self.folder = folder
        self.lock = threading.Lock()  # a function may have threads of its own
        # For each number of ranks: generation, communicator, and what the latest example split off it.
        self.made: dict[int, tuple[int, MPI.Intracomm, list[WorkerCommunication]]] = {}
        self.abandoned = 0
        # What MPI may still write into.
        self.held: list[object] = []
        self.begin(0)

    def begin(self, example: int) -> None:
        self.example = example
        self.progress = Progress()
        self.parts: list[WorkerCommunication] = []
        self.within: list[Key] = []  # the communicators in whose calls this rank is, innermost last
        self.running = self.interrupted = False
        self.clean = True
        self.told = time.monotonic()

    def serve(self) -> None:
        # A function that sees nothing of the connection must not outlive the controller either.
        threading.Thread(target=self.watch, daemon=True).start()
        signal.signal(signal.SIGUSR2, self.interrupt)
        self.connection.send(Hello(MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size, os.getpid()))
        while True:
            job = pickle.loads(self.connection.recv_bytes())
            if isinstance(job, Job):
                contextvars.copy_context().run(self.run, job)

    def watch(self) -> None:
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLHUP)
        while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)  # the controller would have done it
        os._exit(0)

    def interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """End a function that is in no collective call; a call looks for itself."""
        if self.running and not self.within:
            self.interrupted = True
            raise Interrupted

    def look(self) -> None:
        """Raise `Interrupted` if the controller says so; tell it now and then that this rank is alive."""
        with self.lock:
            while not self.interrupted and select.select([self.connection], [], [], 0)[0]:
                self.interrupted = pickle.loads(self.connection.recv_bytes()) == Interrupt(self.example)
                self.progress.where = self.within[-1] if self.interrupted and self.within else None
        if self.interrupted:
            raise Interrupted
        if time.monotonic() - self.told > SIGN_OF_LIFE:
            self.tell(Report(self.example, self.progress))

    def wait(self, requests: list[MPI.Request]) -> None:
        """Wait for all requests, or until the example is interrupted."""
        self.wait_until(lambda: MPI.Request.Testall(requests), requests)

    def wait_for_some(self, requests: list[MPI.Request]) -> Sequence[int]:
        """Wait for one request at least, or until the example is interrupted. Returns which are done."""
        done: list[int] = []

        def test() -> bool:
            done[:] = MPI.Request.Testsome(requests) or ()
            return bool(done)

        self.wait_until(test, requests)
        return done

    def wait_until(self, test: Callable[[], bool], requests: list[MPI.Request]) -> None:
        try:
            begun = time.monotonic()
            told = False
            while not test():
                passed = time.monotonic() - begun
                if passed < SPIN:
                    time.sleep(0)
                    continue
                select.select([self.connection], [], [], 0.0002 if passed < TELL_AFTER else 0.001)
                self.look()
                if passed > TELL_AFTER and not told:
                    told = True
                    self.tell_waiting()
        except BaseException:
            self.hold(requests)
            raise

    def wait_for_end(self) -> NoReturn:
        """Wait for the controller to see what this rank has seen: that the ranks make different calls."""
        self.tell_waiting()
        while True:
            select.select([self.connection], [], [])
            self.look()

    def tell_waiting(self) -> None:
        if self.within:
            self.progress.state, self.progress.where = "waiting", self.within[-1]
            self.tell(Report(self.example, self.progress))
            self.progress.state, self.progress.where = "running", None

    def hold(self, requests: list[MPI.Request]) -> None:
        """Keep the buffers of unfinished requests: they are in the variables of the functions that wait."""
        frame: FrameType | None = sys._getframe(2)
        self.held.append(list(requests))
        while frame is not None and frame.f_code is not WorkerCommunication._collective.__code__:
            self.held.append(dict(frame.f_locals))
            frame = frame.f_back

    def tell(self, report: Report) -> None:
        self.told = time.monotonic()
        self.connection.send_bytes(pickle.dumps(report))

    def run(self, job: Job) -> None:
        self.begin(job.example)
        result, failure = b"", None
        comm = self.communicator(job)
        set_default_comm(comm)
        debug(job.debugging)
        torch.set_grad_enabled(job.gradients)
        # Examples do not depend on those before them.
        random.seed(comm.rank)
        np.random.seed(comm.rank)  # noqa: NPY002 - this one is what a function may use
        torch.manual_seed(comm.rank)
        try:
            function = _function(job.function)
            args, kwargs = pickle.loads(job.arguments)
            try:
                self.running = True
                with in_example(job.shown):
                    value = function(*args, **kwargs)
            finally:
                self.running = False
            result = _dumped_result(value, f"rank {comm.rank} of {comm.size}")
            self.progress.state = "returned"
        except Interrupted as error:
            earlier = error.__context__  # what this rank was about to raise
            while isinstance(earlier, Interrupted):
                earlier = earlier.__context__
            failure = _failure(earlier) if earlier is not None else None
        except BaseException as error:
            self.progress.state = "raised"
            failure = _failure(error)
        if self.interrupted:  # also where the function has caught it
            self.progress.state = "interrupted"
        sys.stdout.flush()
        sys.stderr.flush()
        clean = self.clean and not self.interrupted and not comm._closed
        self.tell(Report(job.example, self.progress, result, failure, clean, self.abandoned))
        comm._close("was that of an example that has ended")

    def communicator(self, job: Job) -> WorkerCommunication:
        """That of the first `job.ranks` ranks: over the one of the example before, where nothing is left in it."""
        if job.ranks in self.made:
            generation, real, parts = self.made.pop(job.ranks)
            if generation == job.generation:
                for part in parts:
                    part.retire()
                return self.use(job, real)
            self.abandoned += 1 + len(parts)
        group = MPI.COMM_WORLD.Get_group().Incl(range(job.ranks))
        return self.use(job, MPI.Intracomm(MPI.COMM_WORLD.Create_group(group, job.generation % _CREATE_TAG)))

    def use(self, job: Job, real: MPI.Intracomm) -> WorkerCommunication:
        self.made[job.ranks] = job.generation, real, self.parts
        return WorkerCommunication(real, self, (), tuple(range(job.ranks)))


@functools.lru_cache(maxsize=64)
def _function(pickled: bytes) -> Callable[..., object]:
    function: Callable[..., object] = pickle.loads(pickled)
    return function


class _Pickler(Pickler):
    """Sends classes that came from the controller back by name, so that there they are the same ones."""

    def reducer_override(self, obj: Any) -> Any:
        foreign = isinstance(obj, type) and (obj.__module__ == "__main__" or obj.__module__ not in sys.modules)
        if foreign and "<locals>" not in obj.__qualname__:
            return class_of_controller, (obj.__module__, obj.__qualname__)
        # The classes of pytest.skip() and pytest.fail() claim to be builtins.
        name = obj.__qualname__ if isinstance(obj, type) else ""
        if name and getattr(sys.modules.get(_OUTCOMES), name, None) is obj:
            return class_of_controller, (_OUTCOMES, name)
        return super().reducer_override(obj)


def _dumped(value: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _dumped_result(value: object, who: str) -> bytes:
    try:
        return _dumped(value)
    except Exception as error:
        text = f"{who} returned a {type(value).__name__}, which cannot be sent back: {error}"
        raise TypeError(text) from None


def _failure(error: BaseException) -> Failure:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        lines = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
        text = str(error)
    except Exception as unprintable:  # classes may fail to print themselves
        lines = text = f"{type(error).__name__}, which cannot be printed: {unprintable}"
    try:
        pickled = _dumped(error)
    except Exception:
        pickled = None
    return Failure(pickled, type(error).__qualname__, text, lines.rstrip())


def _unlink_shared_memory() -> None:
    """Remove the name of what MPICH's ranks share, which it does itself only in MPI_Finalize. Collective."""
    MPI.COMM_WORLD.Barrier()  # all have it now
    with suppress(OSError), open("/proc/self/maps") as maps:
        for name in {line.split()[-1] for line in maps if "/dev/shm/mpich_shm_" in line}:
            with suppress(OSError):
                os.unlink(name)


def main(address: str) -> None:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    MPI_WORLD._close("is that of the pool, not of the function that it runs: use minisplit.get_comm()")
    _unlink_shared_memory()
    link = socket.socket(socket.AF_UNIX)
    link.connect(address)
    try:
        Worker(Connection(link.detach()), os.path.dirname(address)).serve()
    except (EOFError, OSError):
        pass
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(0)  # without MPI_Finalize, which would wait for what was abandoned


if __name__ == "__main__":
    main(sys.argv[1])
