"""A rank of a `Pool`: `python -m minisplit.testing.worker ADDRESS`, started by mpiexec.

It waits for functions on a socket, not in MPI, so an idle pool costs no time. While a function runs, every wait
for other ranks looks at that socket too, so that the controller can end it. Tested in tests/testing/test_pool.py.
"""

from __future__ import annotations

import contextvars
import faulthandler
import functools
import os
import pickle
import pkgutil
import random
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch

from minisplit.core.communication.debug import call_site, checksum, debug, describe_call
from minisplit.core.communication.inside_vmap import refuse
from minisplit.core.communication.mpi.communication import MPICommunication
from minisplit.core.communication.mpi.library import MPI
from minisplit.core.communication.protocol import Call, messages_of, set_default_comm
from minisplit.core.communication.startup import WORLD
from minisplit.core.transfer import TransferPlan
from minisplit.testing.examples import rank_in_example
from minisplit.testing.histories import CallRecord, History, Key, Progress
from minisplit.testing.messages import SECRET, Interrupt, Pickler, RaisedError, Report, Task
from minisplit.testing.reporting import traceback_text

# Seconds that a wait polls without sleeping; that it lasts before the controller gets a report; and between two
# reports of a rank that makes many calls. benchmarks/testing_speed.py measures what examples take.
SPIN = 0.0002
REPORT_AFTER = 0.005
REPORT_INTERVAL = 1.0
# Tags of MPI_Comm_create_group are below this: the standard guarantees 2**15 of them.
_TAG_LIMIT = 2**14
# The collective calls of MPI that have a nonblocking form.
_INTERRUPTIBLE = {
    "Allgather", "Allgatherv", "Allreduce", "Alltoall", "Alltoallv", "Alltoallw", "Barrier", "Bcast", "Exscan",
    "Gather", "Gatherv", "Reduce", "Reduce_scatter", "Reduce_scatter_block", "Scan", "Scatter", "Scatterv",
}  # fmt: skip
_OUTCOMES = "_pytest.outcomes"
T = TypeVar("T")


class Interrupted(BaseException):
    """The controller has ended the example."""


class InterruptibleIntracomm:
    """Wraps an `mpi4py` communicator: its collective calls can be interrupted."""

    def __init__(self, real: MPI.Intracomm, worker: Worker) -> None:
        self.real = real
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        if name not in _INTERRUPTIBLE:
            return getattr(self.real, name)
        # The nonblocking form: MPI cannot be interrupted in a blocking call.
        begin = getattr(self.real, f"I{name.lower()}")
        return lambda *args, **kwargs: self._worker.wait([begin(*args, **kwargs)])


class WorkerCommunication(MPICommunication):
    """The communicator of an example: it records its calls, and all of them can be interrupted."""

    __slots__ = ("_history", "_key", "_real", "_worker")

    def __init__(self, real: MPI.Intracomm, worker: Worker, key: Key, members: tuple[int, ...]) -> None:
        super().__init__(real)
        # In place of a duplicate: nobody else sends messages on it.
        self._duplicate = cast(MPI.Intracomm, InterruptibleIntracomm(real, worker))
        self._real, self._worker, self._key = real, worker, key
        self._history = worker.progress.histories[key] = History(members, [])

    def _collective(self, call: Call, method: Callable[..., T], *args: Any) -> T:
        worker = self._worker
        if worker.interrupted:
            raise Interrupted
        refuse(call)  # before it is recorded: a call that is refused is not made
        record = CallRecord(describe_call(call), call_site())
        if call[0] == "exchange":
            record = record._replace(sends=_by_peer(args[0]), recvs=_by_peer(args[1]))
        self._history.calls.append(record)
        worker.entered.append(self._key)
        try:
            worker.check_interrupt()
            result: T = super()._collective(call, functools.partial(self._call_if_same, record, method), *args)
            return result
        except BaseException:
            worker.clean = False
            raise
        finally:
            worker.entered.pop()

    def _call_if_same(self, record: CallRecord, method: Callable[..., T], *args: Any) -> T:
        """Make a call once all ranks are known to make it: MPICH ends a rank that gets more than it asked for."""
        # Not an exchange, which some ranks may end before others begin it: they would have to wait for these.
        if not record.call.startswith("exchange"):
            digests = np.empty(self.size, dtype=np.int64)
            self.mpi.Allgather(np.array([checksum(record.call)]), digests)
            if (digests != digests[0]).any():
                self._worker.wait_for_end()
        return method(*args)

    def transfer(self, source: torch.Tensor, target: torch.Tensor, steps: TransferPlan) -> None:
        """Exchange by requests, so that what each rank sends to which is recorded."""
        self.exchange(
            *messages_of(source, target, steps), (source.dtype, steps.src, "to", steps.dst), source.device
        )

    def _wait(self, requests: list[MPI.Request]) -> None:
        self._worker.wait(requests)

    def _wait_for_some(self, requests: list[MPI.Request]) -> Sequence[int]:
        return self._worker.wait_until(lambda: MPI.Request.Testsome(requests) or [], requests)

    def _split(self, color: int | None, key: int) -> WorkerCommunication | None:
        # MPI_Comm_split cannot be interrupted. Once all ranks know each other's colors, all have come, and to make
        # a communicator of a group takes no rank outside of it.
        rows = np.empty((self.size, 3), dtype=np.int64)
        self.mpi.Allgather(np.array([color is not None, color or 0, key]), rows)
        if color is None:
            return None
        ranks = [rank for rank in range(self.size) if rows[rank, 0] and rows[rank, 1] == color]
        ranks.sort(key=lambda rank: rows[rank, 2])
        real = self._real.Create_group(self._real.Get_group().Incl(ranks), self._calls % _TAG_LIMIT)
        members = tuple(self._history.members[rank] for rank in ranks)
        part = WorkerCommunication(real, self._worker, (*self._key, (self._calls, color)), members)
        self._worker.parts.append(part)
        return part

    def _free(self) -> None:
        self.mpi.Barrier()
        if self._key:
            self._worker.parts.remove(self)
            self._real.Free()

    def free_late(self) -> None:
        """Free a part that an example which has ended did not free."""
        self._close("was made in an example that has ended")
        self._real.Free()


def _by_peer(pieces: Sequence[tuple[int, torch.Tensor]]) -> dict[int, str]:
    """Describe what goes to, or comes from, each peer."""
    texts: dict[int, str] = {}
    for peer, piece in pieces:
        text = f"{piece.dtype} {tuple(piece.shape)}"
        texts[peer] = f"{texts[peer]}, then {text}" if peer in texts else text
    return texts


class Worker:
    """Runs examples, one after the other, until the controller closes the connection."""

    def __init__(self, connection: Connection, folder: str) -> None:
        self.connection = connection
        self.folder = folder
        self.lock = threading.Lock()  # a function may have threads of its own
        # For each number of ranks: generation, communicator, and the parts that the latest example split off it.
        self.comms: dict[int, tuple[int, MPI.Intracomm | None, list[WorkerCommunication]]] = {}
        self.abandoned = 0
        # What MPI may still write into, after an interruption.
        self.kept_buffers: list[object] = []
        self.reset(0)

    def reset(self, example: int) -> None:
        """Forget the example before."""
        self.example = example
        self.progress = Progress()
        self.parts: list[WorkerCommunication] = []
        self.entered: list[Key] = []  # communicators in whose calls this rank is, innermost last
        self.running = self.interrupted = False
        self.clean = True
        self.reported = time.monotonic()

    def serve(self) -> None:
        """Run functions for ever."""
        # A function that makes no collective calls must not outlive the controller either.
        threading.Thread(target=self.watch, daemon=True).start()
        signal.signal(signal.SIGUSR2, self.interrupt)
        self.connection.send((MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size, os.getpid()))
        while True:
            message = self.connection.recv()
            # An interrupt comes too late where the example has ended in the meantime.
            if isinstance(message, Task):
                contextvars.copy_context().run(self.run, message)

    def watch(self) -> None:
        """End this process once the controller has ended."""
        poll = select.poll()
        poll.register(self.connection.fileno(), 0)  # what it reports without being asked: hang-ups and errors
        poll.poll()
        shutil.rmtree(self.folder, ignore_errors=True)  # the controller would have done it
        os._exit(0)

    def interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """End a function that is in no collective call; a call looks for itself."""
        if self.running and not self.entered:
            self.interrupted = True
            raise Interrupted

    def check_interrupt(self) -> None:
        """Raise `Interrupted` if the controller says so; report now and then that this rank is alive."""
        with self.lock:
            while not self.interrupted and select.select([self.connection], [], [], 0)[0]:
                self.interrupted = self.connection.recv() == Interrupt(self.example)
                self.progress.waits_on = self.entered[-1] if self.interrupted and self.entered else None
        if self.interrupted:
            raise Interrupted
        if time.monotonic() - self.reported > REPORT_INTERVAL:
            self.report(Report(self.example, self.progress))

    def wait(self, requests: list[MPI.Request]) -> None:
        """Wait for all requests, or until the example is interrupted."""
        self.wait_until(lambda: MPI.Request.Testall(requests), requests)

    def wait_until(self, test: Callable[[], T], requests: list[MPI.Request]) -> T:
        """Wait for a true result of `test`, or until the example is interrupted, with `requests` unfinished."""
        try:
            begin = time.monotonic()
            reported = False
            while not (result := test()):
                passed = time.monotonic() - begin
                if passed < SPIN:
                    time.sleep(0)
                    continue
                select.select([self.connection], [], [], 0.0002 if passed < REPORT_AFTER else 0.001)
                self.check_interrupt()
                if passed > REPORT_AFTER and not reported:
                    reported = True
                    self.report_waiting()
            return result
        except BaseException:
            self.keep_buffers(requests)
            raise

    def wait_for_end(self) -> NoReturn:
        """Wait for the controller to end the example, whose ranks make different calls, as its reports show."""
        self.report_waiting()
        while True:
            select.select([self.connection], [], [])
            self.check_interrupt()

    def report_waiting(self) -> None:
        """Report that this rank waits in its latest call."""
        if self.entered:
            self.progress.state, self.progress.waits_on = "waiting", self.entered[-1]
            self.report(Report(self.example, self.progress))
            self.progress.state, self.progress.waits_on = "running", None

    def keep_buffers(self, requests: list[MPI.Request]) -> None:
        """Keep the buffers of unfinished requests: they are in the variables of the functions that wait."""
        frame: FrameType | None = sys._getframe(2)
        self.kept_buffers.append(list(requests))
        while frame is not None and frame.f_code is not WorkerCommunication._collective.__code__:
            self.kept_buffers.append(dict(frame.f_locals))
            frame = frame.f_back

    def report(self, report: Report) -> None:
        """Send a report to the controller."""
        self.reported = time.monotonic()
        self.connection.send(report)

    def run(self, task: Task) -> None:
        """Run a function as one rank of an example, and report what came of it."""
        self.reset(task.example)
        result, raised = b"", None
        comm = self.communicator(task)
        set_default_comm(comm)
        debug(task.debugging)
        torch.set_grad_enabled(task.gradients)
        # So that examples do not depend on those before them.
        random.seed(comm.rank)
        np.random.seed(comm.rank)  # noqa: NPY002 - this one is what a function may use
        torch.manual_seed(comm.rank)
        try:
            function = _unpickle_function(task.function)
            args, kwargs = pickle.loads(task.arguments)
            try:
                self.running = True
                with rank_in_example(task.is_final):
                    value = function(*args, **kwargs)
            finally:
                self.running = False
            result = _pickle_result(value, f"rank {comm.rank} of {comm.size}")
            self.progress.state = "returned"
        except Interrupted as error:
            earlier = error.__context__  # what this rank was about to raise
            while isinstance(earlier, Interrupted):
                earlier = earlier.__context__
            raised = _raised_error(earlier) if earlier is not None else None
        except BaseException as error:
            self.progress.state = "raised"
            raised = _raised_error(error)
        if self.interrupted:  # also where the function has caught it
            self.progress.state = "interrupted"
        sys.stdout.flush()
        sys.stderr.flush()
        clean = self.clean and not self.interrupted and not comm._closed
        self.report(Report(task.example, self.progress, result, raised, clean, self.abandoned))
        comm._close("was that of an example that has ended")

    def communicator(self, task: Task) -> WorkerCommunication:
        """Return that of the first `task.ranks` ranks: that of the example before, if nothing is left in it."""
        generation, real, parts = self.comms.pop(task.ranks, (task.generation, None, []))
        if generation == task.generation:
            for part in parts:
                part.free_late()
        else:
            # Not freed: MPI_Comm_free is collective, and waits for messages that never come.
            self.abandoned += 1 + len(parts)
            real = None
        if real is None:
            group = MPI.COMM_WORLD.Get_group().Incl(range(task.ranks))
            real = MPI.Intracomm(MPI.COMM_WORLD.Create_group(group, task.generation % _TAG_LIMIT))
        self.comms[task.ranks] = task.generation, real, self.parts
        return WorkerCommunication(real, self, (), tuple(range(task.ranks)))


# By the pickle of a function, which is another one where what it captures has changed. As many as the pool keeps.
_unpickle_function: Callable[[bytes], Callable[..., object]] = functools.lru_cache(maxsize=64)(pickle.loads)


class _Pickler(Pickler):
    """Pickles classes that came from the controller by name, so that there they are the same classes."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            module, name = obj.__module__, obj.__qualname__
            # The classes of pytest.skip() and pytest.fail() claim to be builtins.
            if getattr(sys.modules.get(_OUTCOMES), name, None) is obj:
                module = _OUTCOMES
            foreign = module in {"__main__", _OUTCOMES} or module not in sys.modules
            if foreign and "<locals>" not in name:
                return pkgutil.resolve_name, (f"{module}:{name}",)
        return super().reducer_override(obj)


def _pickle_result(value: object, who: str) -> bytes:
    try:
        return _Pickler.dumps(value)
    except Exception as error:
        text = f"{who} returned a {type(value).__name__}, which cannot be sent back: {error}"
        raise TypeError(text) from None


def _raised_error(error: BaseException) -> RaisedError:
    try:
        text = f"{type(error).__qualname__}: {error}"
    except Exception as unprintable:  # classes may fail to print themselves
        text = f"{type(error).__qualname__}, which cannot be printed: {unprintable!r}"
    try:
        pickled = _Pickler.dumps(error)
    except Exception:  # what it holds may have no pickle
        pickled = b""
    return RaisedError(pickled, text, traceback_text(error))


def _unlink_shared_memory() -> None:
    """Remove the name of the memory that MPICH's ranks share: it does so in MPI_Finalize only. Collective."""
    MPI.COMM_WORLD.Barrier()  # all have opened it now
    with suppress(OSError), open("/proc/self/maps") as maps:
        for name in {line.split()[-1] for line in maps if "/dev/shm/mpich_shm_" in line}:
            with suppress(OSError):
                os.unlink(name)


def main(address: str) -> None:
    """Connect to the controller at `address`, and run functions until it closes the connection."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    WORLD._close("is that of the pool, not of the function that it runs: use minisplit.get_comm()")
    _unlink_shared_memory()
    # Not left for the functions that run, nor for the processes that they start.
    secret = bytes.fromhex(os.environ.pop(SECRET))
    connection = Client(address, family="AF_UNIX", authkey=secret)
    try:
        with suppress(EOFError, OSError):
            Worker(connection, os.path.dirname(address)).serve()
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stderr.flush()
        # Without MPI_Finalize, which would wait for the messages of abandoned communicators.
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
