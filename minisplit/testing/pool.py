"""A pool of real MPI ranks, started once and controlled from a process outside of MPI.

The ranks run `minisplit.testing.worker`. They tell the controller what they call (`minisplit.testing.histories`),
so that it sees at once when they can never go on.
"""

from __future__ import annotations

import functools
import os
import pickle
import re
import secrets
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from threading import Lock, Thread
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

import cloudpickle
import torch

from minisplit.core.communication.agreement import RankError
from minisplit.core.communication.debug import debugging, texts_by_rank
from minisplit.core.error_text import ranks_named
from minisplit.core.layout import as_index
from minisplit.launch import jobs
from minisplit.testing.examples import example_is_final
from minisplit.testing.histories import Progress, deadlocked_ranks, different_calls, missing_calls
from minisplit.testing.messages import SECRET, Interrupt, Pickler, RaisedError, Report, Task, identity
from minisplit.testing.reporting import RETURNED, combined_error

WORKER = "minisplit.testing.worker"
# Seconds after which ranks that have not come up never will.
START_LIMIT = 180.0
# Characters at the end of what the ranks printed that the error has when they have died.
OUTPUT_TAIL = 4000
# Once a rank has failed, seconds for the others to end by themselves; then, interrupted, to leave Python code, and
# to leave anything else before the pool is given up.
AFTER_FAILURE = 1.0
BEFORE_SIGNAL = 0.05
BEFORE_KILL = 2.0
# MPI libraries have a limited number of communicators (MPICH: 2048), and one is given up for each fault.
ABANDONED_LIMIT = 500
# What launchers set for their ranks, and not what users set.
_LAUNCHER_VARIABLE = re.compile(r"(PMI|PMIX|OMPI|PRTE|HYDI|HYDRA)_(?!MCA_|ALLOW_RUN)|MPI_LOCAL")
# How many pickled functions are in `_functions`: hypothesis runs one at a time, so the limit only bounds memory.
CACHED_FUNCTIONS = 64
_INSTALLED = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib"))
# What cannot change, or is pickled by name.
_IMMUTABLE = (ModuleType, CodeType, BuiltinFunctionType, int, float, str, bytes, type(None), torch.dtype)
# Exceptions that would end the controller as well.
_NOT_TO_BE_RAISED = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Pool(AbstractContextManager["Pool"]):
    """MPI ranks that run functions, one example after another, hundreds per second.

    `mpiexec` starts the ranks at the first `run`, and they stay. If an example fails, or its ranks wait for each
    other for ever, it ends within a fraction of a second, and the next example has a new communicator. If no rank
    makes progress for `patience` seconds, or a rank dies, the ranks are ended and started anew. The ranks end with
    the process that made the pool, however it ends.

    Parameters
    ----------
    ranks : int, default 8
        How many ranks are started: the largest number that can run an example.
    mpiexec : str, optional
        The launcher. By default the one that `python -m minisplit run` takes.
    patience : float, default 60.0
        Seconds for which no rank of an example may get on.

    Raises
    ------
    ValueError
        If `ranks` is less than 1.

    See Also
    --------
    minisplit.testing.run : The same on threads.

    Examples
    --------
    >>> import minisplit as ms
    >>> with ms.testing.Pool(2) as pool:  # doctest: +SKIP
    ...     pool.run(lambda n: ms.get_comm().rank + n, 10, ranks=2)
    [10, 11]
    """

    def __init__(self, ranks: int = 8, *, mpiexec: str | None = None, patience: float = 60.0) -> None:
        if ranks < 1:
            raise ValueError(f"a pool needs at least one rank, got {ranks}")
        self.ranks = ranks
        self.patience = patience
        self._mpiexec = mpiexec
        self._processes: _PoolProcesses | None = None
        self._end: Callable[[], object] = lambda: None
        self._lock = Lock()
        self._closed = False
        self._example = 0
        self._generations = [0] * (ranks + 1)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the ranks. A later `run` is a RuntimeError.

        Communication
        -------------
        Local: the caller is not a rank.
        """
        self._closed = True
        self._stop()

    def run(self, func: Callable[..., Any], /, *args: Any, ranks: int = 4, **kwargs: Any) -> list[Any]:
        """Call a function on each of some ranks, and return what they return.

        `minisplit.get_comm()` is a communicator of just these ranks there; debug mode and torch's grad mode are
        the caller's. Function, arguments and results are pickled. Random numbers begin anew, with other ones on
        each rank.

        Parameters
        ----------
        func : callable
            The function.
        *args : Any
            Its arguments, on all ranks.
        ranks : int, default 4
            The number of ranks.
        **kwargs : Any
            Its keyword arguments, on all ranks.

        Returns
        -------
        list
            The results, in the order of the ranks.

        Raises
        ------
        Exception
            What the lowest rank raised that failed by itself. Notes have the tracebacks of all ranks.
        RankError
            Where that exception cannot be unpickled here; or if a rank has died.
        CollectiveError
            If the ranks' collective calls do not fit together, even if they came to an end.
        TimeoutError
            If no rank got on for `patience` seconds.
        TypeError
            If an argument or a result cannot be pickled.
        ValueError
            If the pool does not have as many ranks.
        RuntimeError
            If the ranks cannot be started, or the pool was closed.

        Communication
        -------------
        Local: the caller is not a rank.

        Examples
        --------
        >>> import minisplit as ms
        >>> with ms.testing.Pool(2) as pool:  # doctest: +SKIP
        ...     pool.run(lambda n: ms.get_comm().rank + n, 10, ranks=2)
        [10, 11]
        """
        __tracebackhide__ = True
        return self._call(func, args, kwargs, ranks)

    def _call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], ranks: int
    ) -> list[Any]:
        """Do what `run` does, for a function that may have an argument `ranks` of its own."""
        __tracebackhide__ = True
        if not 1 <= as_index(ranks, "ranks") <= self.ranks:
            raise ValueError(f"ranks must be from 1 to the {self.ranks} of the pool, got {ranks}")
        if self._closed:
            raise RuntimeError("the pool was closed")
        function = _pickle_function(func)
        arguments = _pickle_arguments(args, kwargs)
        with self._lock:
            try:
                reports = self._run_example(ranks, function, arguments)
            except BaseException:
                # After Ctrl-C, say, it is unknown what the ranks are doing.
                self._stop()
                raise
        error = _error_of(reports)
        if error is None:
            return [pickle.loads(report.result) for report in reports]
        raise error

    def _run_example(self, ranks: int, function: bytes, arguments: bytes) -> list[Report]:
        if self._processes is not None and not self._processes.are_idle():
            self._stop()
        processes = self._processes or self._start()
        self._example += 1
        modes = debugging(), torch.is_grad_enabled(), example_is_final()
        task = Task(self._example, ranks, self._generations[ranks], function, arguments, *modes)
        reports = _Example(processes, task, self.patience).run()
        progresses = [report.progress for report in reports]
        # Messages that are in flight, or were matched with another call, must not reach the next example.
        clean = all(report.clean for report in reports)
        if not clean or different_calls(progresses) or missing_calls(progresses):
            self._generations[ranks] += 1
        if max(report.abandoned for report in reports) > ABANDONED_LIMIT:
            self._stop()
        return reports

    def _start(self) -> _PoolProcesses:
        processes = _PoolProcesses(self.ranks, self._mpiexec, self.patience)
        self._processes = processes
        # Also called when the pool is deleted, and at exit.
        self._end = weakref.finalize(self, processes.end)
        processes.connect()
        return processes

    def _stop(self) -> None:
        self._end()
        self._processes = None


class _Example:
    """One function on some ranks, from its start to the last rank's report."""

    def __init__(self, processes: _PoolProcesses, task: Task, patience: float) -> None:
        self.processes = processes
        self.task = task
        self.patience = patience
        self.reports = [Report(task.example, Progress()) for _ in range(task.ranks)]
        self.running = set(range(task.ranks))

    @property
    def progresses(self) -> list[Progress]:
        return [report.progress for report in self.reports]

    def run(self) -> list[Report]:
        """Return the last report of each rank."""
        for rank in range(self.task.ranks):
            self.processes.send(rank, self.task)
        # When the others are interrupted, once a rank has failed.
        limit: float | None = None
        steps, latest = self.count_steps(), time.monotonic()
        while self.running:
            wait_until = latest + self.patience if limit is None else limit
            self.receive_reports(max(wait_until - time.monotonic(), 0.0))
            # Not the last report: those that wait for a rank in an endless loop go on to report that they wait.
            if (now := self.count_steps()) != steps:
                steps, latest = now, time.monotonic()
            if self.is_deadlocked() or (limit is not None and time.monotonic() >= limit):
                self.interrupt()
                break
            # The others may fail as well, or be about to end: their reports belong to the error.
            if limit is None and any(progress.state == "raised" for progress in self.progresses):
                limit = time.monotonic() + AFTER_FAILURE
            if limit is None and time.monotonic() >= latest + self.patience:
                self.time_out()
        return self.reports

    def count_steps(self) -> int:
        """How many calls the ranks are known to have made, and how many ranks to have ended."""
        calls = sum(len(history.calls) for one in self.progresses for history in one.histories.values())
        return calls - len(self.running)

    def is_deadlocked(self) -> bool:
        """Whether ranks wait that can never go on."""
        waiting = any(progress.state == "waiting" for progress in self.progresses)
        return waiting and bool(deadlocked_ranks(self.progresses) or different_calls(self.progresses))

    def receive_reports(self, timeout: float) -> None:
        """Receive reports of the ranks that come within `timeout` seconds."""
        for rank, report in self.processes.receive(timeout):
            # Not one of an example before, which came late.
            if report.example == self.task.example:
                self.reports[rank] = report
                if report.progress.ended:
                    self.running.discard(rank)

    def interrupt(self) -> None:
        """End the ranks that still run: in a collective call, in Python code, or, at last, with the pool."""
        for rank in self.running:
            self.processes.send(rank, Interrupt(self.task.example))
        self.receive_until_ended(BEFORE_SIGNAL)
        self.processes.signal(self.running, signal.SIGUSR2)
        self.receive_until_ended(BEFORE_KILL)
        if self.running:
            self.processes.end()

    def receive_until_ended(self, seconds: float) -> None:
        """Receive reports until all ranks have ended, but no longer than that."""
        limit = time.monotonic() + seconds
        while self.running and (left := limit - time.monotonic()) > 0:
            self.receive_reports(left)

    def time_out(self) -> NoReturn:
        """End the pool, and raise TimeoutError, which shows what each rank does."""
        self.processes.signal(self.running, signal.SIGUSR1)  # they print their stacks
        time.sleep(0.2)
        self.processes.end()
        texts = [_describe_progress(progress) for progress in self.progresses]
        raise TimeoutError(
            f"no rank made progress for {self.patience:g} s, so the pool was ended: {texts_by_rank(texts)}"
            f"{self.processes.output_tail()}"
        )


class _PoolProcesses:
    """The processes of a pool: `mpiexec`, and its ranks at the other ends of the connections."""

    def __init__(self, ranks: int, mpiexec: str | None, patience: float) -> None:
        self.ranks = ranks
        self.patience = patience
        # A process that is forked off this one must not end the ranks when it ends.
        self.owner = os.getpid()
        self.ended = False
        self.output = ""
        self.process_of_rank: dict[int, int] = {}
        self.connections: dict[int, Connection] = {}
        self.selector = selectors.DefaultSelector()
        self.launcher = jobs.find_launcher(mpiexec, ranks)
        # What is received is unpickled, so it must come from the ranks. They have this secret in their
        # environment, and both ends prove that they know it before anything else is sent.
        self.secret = secrets.token_bytes(32)
        # A folder of this user alone, so that nobody else can connect. MPI libraries put files into it as well,
        # which are best in memory.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="minisplit-pool-", dir=memory)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(f"{self.folder}/socket")
        self.server.listen(ranks)
        self.mpiexec = subprocess.Popen(
            # -P: the ranks find the modules that the controller finds, and no others.
            self.launcher.command(ranks, "-P", "-m", WORKER, f"{self.folder}/socket"),
            env={
                **_environment(self.launcher, ranks, self.folder),
                "PYTHONPATH": os.pathsep.join(sys.path),
                SECRET: self.secret.hex(),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the controller alone
        )
        self.streams = [Thread(target=self.forward, args=(name,), daemon=True) for name in ("stdout", "stderr")]
        for stream in self.streams:
            stream.start()

    def connect(self) -> None:
        """Wait for all ranks; RuntimeError if they do not come."""
        self.server.settimeout(0.05)
        limit = time.monotonic() + START_LIMIT
        while len(self.connections) < self.ranks:
            status = self.mpiexec.poll()
            if status is not None or time.monotonic() > limit:
                self.end()
                how = f"ended with status {status}" if status is not None else f"was started {START_LIMIT:g} s ago"
                arrived = f"{len(self.connections)} of {self.ranks} ranks have reported"
                raise RuntimeError(f"mpiexec {how}, and {arrived}{self.output_tail()}")
            with suppress(TimeoutError):
                link, _ = self.server.accept()
                link.setblocking(True)
                # A rank that is stopped takes no message, and the write of a large one would wait for ever.
                seconds = struct.pack("ll", *divmod(int(self.patience * 1e6), 10**6))
                link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
                connection = Connection(link.detach())
                try:
                    deliver_challenge(connection, self.secret)
                    answer_challenge(connection, self.secret)
                except (AuthenticationError, EOFError, OSError):  # not one of the ranks
                    connection.close()
                    continue
                rank, size, self.process_of_rank[rank] = connection.recv()
                self.connections[rank] = connection
                self.selector.register(connection, selectors.EVENT_READ, rank)
                if size != self.ranks:
                    self.end()
                    raise RuntimeError(
                        f"{self.launcher.program} started {self.ranks} ranks, but the MPI library sees {size}: "
                        "they are not of one MPI. Give the pool the mpiexec that belongs to the library"
                    )

    def forward(self, name: str) -> None:
        """Write what the ranks print to the controller's stream of this name, and keep the end of it."""
        with getattr(self.mpiexec, name) as pipe:
            while data := os.read(pipe.fileno(), 2**16):
                text = data.decode(errors="replace")
                self.output = (self.output + text)[-OUTPUT_TAIL:]
                with suppress(OSError, ValueError, AttributeError):  # no stream, or a closed one
                    if not self.ended:
                        getattr(sys, name).write(text)
                        getattr(sys, name).flush()

    def output_tail(self) -> str:
        """Return the end of what the ranks have printed, on lines of its own."""
        return f"\n{self.output.rstrip()}" if self.output.strip() else ""

    def are_idle(self) -> bool:
        """Whether all ranks are there and silent, as they are between examples: one that has died is readable."""
        return not self.ended and not self.selector.select(0)

    def send(self, rank: int, message: Task | Interrupt) -> None:
        """Send a message to a rank; RankError if it has died."""
        try:
            self.connections[rank].send(message)
        except BlockingIOError:
            self.end()
            raise TimeoutError(
                f"rank {rank} took no message for {self.patience:g} s, so the pool was ended{self.output_tail()}"
            ) from None
        except OSError:
            self.report_deaths([rank])

    def receive(self, timeout: float) -> list[tuple[int, Report]]:
        """Return reports that come within `timeout` seconds, with their ranks; RankError if a rank has died."""
        reports, lost = [], []
        for key, _ in self.selector.select(timeout):
            try:
                reports.append((key.data, self.connections[key.data].recv()))
            except (EOFError, OSError):
                lost.append(key.data)
        if lost:
            self.report_deaths(lost)
        return reports

    def report_deaths(self, ranks: list[int]) -> NoReturn:
        """End the pool, some ranks of which have died, and raise RankError."""
        with suppress(subprocess.TimeoutExpired):
            self.mpiexec.wait(2.0)
        status = self.mpiexec.poll()
        self.end()
        how = "" if status is None else f" (mpiexec ended with status {status})"
        raise RankError(f"{ranks_named(ranks)} of the pool died{how}{self.output_tail()}")

    def signal(self, ranks: Iterable[int], number: int) -> None:
        """Send a signal to the processes of ranks."""
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(self.process_of_rank[rank], number)

    def end(self) -> None:
        """End all processes, and leave nothing behind."""
        if self.ended or os.getpid() != self.owner:
            return
        self.ended = True
        self.mpiexec.terminate()  # it removes its files
        self.signal(self.process_of_rank, signal.SIGKILL)
        try:
            with suppress(subprocess.TimeoutExpired):
                self.mpiexec.wait(2.0)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.mpiexec.pid, signal.SIGKILL)
            self.mpiexec.wait()
            for connection in self.connections.values():
                connection.close()
            self.selector.close()
            self.server.close()
            for stream in self.streams:
                stream.join(1.0)
            shutil.rmtree(self.folder, ignore_errors=True)


def _environment(launcher: jobs.Launcher, ranks: int, folder: str) -> dict[str, str]:
    """The environment of the ranks: without what a launcher has set for this process, which may be a rank itself.

    `os.environ` does not have what an MPI library has set since Python started.
    """
    # One thread for each rank by default: the pool may have more ranks than there are cores.
    settings = launcher.environment(ranks, None if jobs.THREADS in os.environ else 1)
    kept = {name: value for name, value in settings.items() if not _LAUNCHER_VARIABLE.match(name)}
    folders = ("PRTE_MCA_prte_tmpdir_base", "OMPI_MCA_btl_sm_backing_directory")
    # No limit to a call: the pool ends calls that last too long itself, without its ranks.
    return {**dict.fromkeys(folders, folder), **kept, "MINISPLIT_TIMEOUT": "0"}


class _Pickler(Pickler):
    """Pickles functions and classes of test modules by value, and others by name."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)):
            _register_module(obj.__module__)
        # As in a class of tests, whose methods are pickled with it: hypothesis stays with the controller.
        if hasattr(obj, "is_hypothesis_test") and hasattr(obj, "hypothesis"):
            return identity, (obj.hypothesis.inner_test,)
        return super().reducer_override(obj)


def _pickle_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        return _Pickler.dumps((args, kwargs))
    except Exception:
        for name, value in [*enumerate(args), *kwargs.items()]:
            try:
                _Pickler.dumps(value)
            except Exception as error:
                text = f"argument {name}, a {type(value).__name__}, cannot be sent to the ranks of a pool: {error}"
                raise TypeError(text) from None
        raise


# By the id of a function: the function, what it captures, and its pickle. To pickle one takes as long as to run a
# small example, and hypothesis runs the same function again and again.
_functions: dict[int, tuple[object, list[object], bytes]] = {}


def _pickle_function(function: Callable[..., object]) -> bytes:
    """Return a pickled function: the last one, if all that it captures are the same immutable objects."""
    captured: list[object] = []
    if not _capture(function, captured):
        return _Pickler.dumps(function)
    same, before, pickled = _functions.get(id(function), (None, [], b""))
    if same is not function or list(map(id, before)) != list(map(id, captured)):
        pickled = _Pickler.dumps(function)
        if len(_functions) > CACHED_FUNCTIONS:
            _functions.clear()
        # The entry keeps these objects alive, so that no other ones can have their ids.
        _functions[id(function)] = function, captured, pickled
    return pickled


def _capture(value: object, captured: list[object]) -> bool:
    """Append what a function depends on to `captured`; False where some of it could change in place."""
    if any(value is known for known in captured):
        return True
    captured.append(value)
    if not isinstance(value, (FunctionType, type)):
        return isinstance(value, _IMMUTABLE)
    _register_module(value.__module__)
    if value.__module__ != "__main__" and value.__module__ not in cloudpickle.list_registry_pickle_by_value():
        return True
    if isinstance(value, type):
        return False
    names: set[str] = set()
    codes = [value.__code__]
    for code in codes:
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    try:
        parts = [*codes, *(value.__defaults__ or ()), *(cell.cell_contents for cell in value.__closure__ or ())]
    except ValueError:  # a cell that is empty yet
        return False
    parts += [value.__globals__[name] for name in sorted(names) if name in value.__globals__]
    return not (value.__kwdefaults__ or value.__dict__) and all(_capture(part, captured) for part in parts)


# By the name of the module: a module of the same name is the same one for as long as the process runs.
@functools.cache
def _register_module(name: str) -> None:
    """Register a module whose functions are to be pickled by value: one of tests, or that ranks cannot import."""
    module = sys.modules.get(name)
    if module is None or not getattr(module, "__file__", None) or name == "__main__":
        return
    # pytest loads test modules in its own way, and also installed packages that extend it, such as hypothesis.
    by_pytest = type(module.__loader__).__module__.startswith("_pytest.")
    installed = str(module.__file__).startswith(_INSTALLED)
    if (by_pytest and not installed) or not _is_importable(module):
        cloudpickle.register_pickle_by_value(module)


def _is_importable(module: ModuleType) -> bool:
    """Whether another process with the same paths imports the same file under this name."""
    name, path = "", None
    for part in module.__name__.split("."):
        name = f"{name}.{part}".lstrip(".")
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        spec = next(filter(None, (find_spec(name, path, None) for find_spec in finders if find_spec)), None)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return spec is not None and spec.origin == module.__file__


def _error_of(reports: Sequence[Report]) -> BaseException | None:
    """Return what an example raises; None if all ranks returned and made the same calls."""
    progresses = [report.progress for report in reports]
    texts = [_describe_report(report) for report in reports]
    if different := different_calls(progresses):
        # Whatever they raised then, it came of what MPI made of these calls.
        return combined_error([None] * len(reports), texts, different)
    errors = [_unpickle_error(r.error) if r.progress.state == "raised" and r.error else None for r in reports]
    deadlock = missing_calls(progresses)
    if not deadlock and any(progress.state != "returned" for progress in progresses):
        deadlock = f"the ranks waited for each other: {texts_by_rank([_describe_progress(p) for p in progresses])}"
    return combined_error(errors, texts, deadlock, traced=False)


def _describe_report(report: Report) -> str:
    """Return what the notes of an exception say of one rank."""
    if report.error:
        return report.error.trace
    if report.progress.state == "interrupted":
        # Not "returned", as the text of the error says that it waited.
        latest = report.progress.latest_call() if report.progress.waits_on is not None else None
        where = f"waited in {latest.call} at {latest.site}, where it was" if latest else "was"
        return f"It {where} interrupted."
    if report.progress.ended:
        return RETURNED
    return f"It did not end, so the pool was ended; it {_describe_progress(report.progress)}."


def _unpickle_error(raised: RaisedError) -> BaseException:
    """Return the exception itself, or a RankError with its text."""
    with suppress(Exception):  # classes may be unknown here, and their constructors do what they like
        error = pickle.loads(raised.pickled)
        same = f"{type(error).__qualname__}: {error}" == raised.text
        if same and isinstance(error, BaseException) and not isinstance(error, _NOT_TO_BE_RAISED):
            return error
    return RankError(raised.text)


def _describe_progress(progress: Progress) -> str:
    """Return how far a rank has come, as the end of a sentence that begins with it."""
    latest = progress.latest_call()
    if progress.ended:
        return "was interrupted" if progress.state == "interrupted" else progress.state
    if latest is None:
        return "reported no collective call"
    waits = "waited in" if progress.state == "waiting" else "was last heard of at"
    return f"{waits} {latest.call} at {latest.site}"
