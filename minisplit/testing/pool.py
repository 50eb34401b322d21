"""A pool of real MPI ranks, started once and controlled from a process outside of MPI."""

from __future__ import annotations

import functools
import io
import os
import pickle
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, TracebackType
from typing import Any, NoReturn, Self

import cloudpickle
import torch

from minisplit.core.communication.agreement import RankError
from minisplit.core.communication.debug import debugging, texts_by_rank
from minisplit.core.layout import as_index
from minisplit.launch import jobs
from minisplit.testing.examples import shown
from minisplit.testing.histories import Progress, mismatch, stuck, unequal
from minisplit.testing.messages import Failure, Hello, Interrupt, Job, Pickler, Report, itself
from minisplit.testing.reporting import RETURNED, failure

WORKER = "minisplit.testing.worker"
START_LIMIT = 180.0
# Characters of what the ranks printed that are shown when they have died.
LAST_WORDS = 4000
# Once a rank has failed, seconds for the others to end by themselves; then, interrupted, to leave Python code, and
# to leave anything else before the pool is given up.
AFTER_FAILURE = 1.0
BEFORE_SIGNAL = 0.05
BEFORE_KILL = 2.0
# MPI libraries have a limited number of communicators (MPICH: 2048), and one is given up for each fault.
ABANDONED_LIMIT = 500
# Set by launchers for their ranks; not what a user sets.
_LAUNCHER = re.compile(r"(PMI|PMIX|OMPI|PRTE|HYDI|HYDRA)_(?!MCA_|ALLOW_RUN)|MPI_LOCAL")
CACHED_FUNCTIONS = 64
_INSTALLED = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib"))
# What cannot change, or is sent by name.
_FIXED = (ModuleType, CodeType, BuiltinFunctionType, int, float, str, bytes, type(None), torch.dtype)
# Exceptions that would end the controller as well.
_NOT_TO_BE_RAISED = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Pool:
    """MPI ranks that run functions: those of one example after another, hundreds per second.

    The ranks are started by `mpiexec` at the first `run` and stay. An example that fails, or whose ranks wait for
    each other for ever, is ended within a fraction of a second, and the next one has a fresh communicator. Where
    no rank gets on for `patience` seconds, or one dies, the ranks are ended and started anew.

    `mpiexec` is the launcher to use; None is the one that `python -m minisplit run` takes.
    """

    def __init__(self, ranks: int = 8, *, mpiexec: str | None = None, patience: float = 60.0) -> None:
        if ranks < 1:
            raise ValueError(f"a pool needs at least one rank, got {ranks}")
        self.ranks = ranks
        self.patience = patience
        self._mpiexec = mpiexec
        self._launch: _Launch | None = None
        self._end: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._closed = False
        self._example = 0
        self._generations = [0] * (ranks + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the ranks. Also done when the controller ends, however it does."""
        self._closed = True
        self._stop()

    def run(self, func: Callable[..., Any], /, *args: Any, ranks: int = 4, **kwargs: Any) -> list[Any]:
        """Call `func(*args, **kwargs)` on each of `ranks` ranks and return what they return, in their order.

        `minisplit.get_comm()` is a communicator of just these ranks there; debug mode and torch's grad mode are
        the caller's. Function, arguments and results are pickled. Random numbers begin anew, with other ones on
        each rank.

        Raises the exception of the lowest rank that failed of itself, or RankError where that one cannot be
        rebuilt; CollectiveError where the ranks' collective calls do not fit together, even if they came to an
        end; TimeoutError where no rank got on for `patience` seconds. Notes have the tracebacks of all ranks.

        >>> with Pool(2) as pool:  # doctest: +SKIP
        ...     pool.run(lambda n: minisplit.get_comm().rank + n, 10, ranks=2)
        [10, 11]
        """
        __tracebackhide__ = True
        return self._call(func, args, kwargs, ranks)

    def _call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], ranks: int
    ) -> list[Any]:
        """`run` for a function that may have an argument `ranks` of its own."""
        __tracebackhide__ = True
        if not 1 <= as_index(ranks, "ranks") <= self.ranks:
            raise ValueError(f"ranks must be from 1 to the {self.ranks} of the pool, got {ranks}")
        if self._closed:
            raise RuntimeError("the pool was closed")
        function = _pickled_function(func)
        arguments = _pickled_arguments(args, kwargs)
        with self._lock:
            try:
                reports = self._example_on(ranks, function, arguments)
            except BaseException:  # Ctrl-C, for one: what the ranks are doing is unknown
                self._stop()
                raise
        error = _judged(reports)
        if error is None:
            return [pickle.loads(report.result) for report in reports]
        raise error

    def _example_on(self, ranks: int, function: bytes, arguments: bytes) -> list[Report]:
        if self._launch is not None and not self._launch.sound():
            self._stop()
        launch = self._launch or self._start()
        self._example += 1
        job = Job(
            self._example,
            ranks,
            self._generations[ranks],
            function,
            arguments,
            debugging(),
            torch.is_grad_enabled(),
            shown(),
        )
        reports = _Example(launch, job, self.patience).run()
        progresses = [report.progress for report in reports]
        if not all(report.clean for report in reports) or mismatch(progresses) or unequal(progresses):
            self._generations[ranks] += 1
        if max(report.abandoned for report in reports) > ABANDONED_LIMIT:
            self._stop()
        return reports

    def _start(self) -> _Launch:
        launch = _Launch(self.ranks, self._mpiexec)
        self._launch = launch
        # Also called when the pool is deleted, and at exit.
        self._end = weakref.finalize(self, launch.end)
        launch.connect()
        return launch

    def _stop(self) -> None:
        self._end()
        self._launch = None


class _Example:
    """One function on some ranks, from its start to the last rank's report."""

    def __init__(self, launch: _Launch, job: Job, patience: float) -> None:
        self.launch = launch
        self.job = job
        self.patience = patience
        self.reports = [Report(job.example, Progress()) for _ in range(job.ranks)]
        self.running = set(range(job.ranks))

    @property
    def progresses(self) -> list[Progress]:
        return [report.progress for report in self.reports]

    def run(self) -> list[Report]:
        for rank in range(self.job.ranks):
            self.launch.send(rank, self.job)
        limit: float | None = None
        while self.running:
            heard = self.hear(self.patience if limit is None else max(limit - time.monotonic(), 0.0))
            if self.hopeless() or (limit is not None and time.monotonic() >= limit):
                self.interrupt()
                break
            if limit is None and any(progress.state == "raised" for progress in self.progresses):
                limit = time.monotonic() + AFTER_FAILURE
            if not heard and limit is None:
                self.give_up()
        return self.reports

    def hopeless(self) -> bool:
        waiting = any(progress.state == "waiting" for progress in self.progresses)
        return waiting and bool(stuck(self.progresses) or mismatch(self.progresses))

    def hear(self, timeout: float) -> bool:
        """Take in what the ranks tell; False if none does for `timeout` seconds."""
        told = self.launch.receive(timeout)
        for rank, report in told:
            if report.example == self.job.example:
                self.reports[rank] = report
                if report.progress.ended:
                    self.running.discard(rank)
        return bool(told)

    def interrupt(self) -> None:
        """End the ranks that still run: in a collective call, in Python code, or, at last, with the pool."""
        for rank in self.running:
            self.launch.send(rank, Interrupt(self.job.example))
        self.hear_all(BEFORE_SIGNAL)
        self.launch.signal(self.running, signal.SIGUSR2)
        self.hear_all(BEFORE_KILL)
        if self.running:
            self.launch.end()

    def hear_all(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while self.running and (left := limit - time.monotonic()) > 0:
            self.hear(left)

    def give_up(self) -> NoReturn:
        self.launch.signal(self.running, signal.SIGUSR1)  # shows their stacks
        time.sleep(0.2)
        self.launch.end()
        texts = [_whereabouts(progress) for progress in self.progresses]
        raise TimeoutError(
            f"no rank got on for {self.patience:g} s, so the pool was ended: {texts_by_rank(texts)}"
            f"{self.launch.last_words()}"
        )


class _Launch:
    """The processes of a pool: `mpiexec`, and its ranks at the other ends of the connections."""

    def __init__(self, ranks: int, mpiexec: str | None) -> None:
        self.ranks = ranks
        self.owner = os.getpid()
        self.ended = False
        self.output = ""
        self.processes: dict[int, int] = {}
        self.connections: list[Connection] = []
        self.selector = selectors.DefaultSelector()
        self.launcher = jobs.find_launcher(mpiexec, ranks)
        # Where nobody else can connect. MPI libraries put files into it too: best where they are in memory.
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
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the controller alone
        )
        self.streams = [
            threading.Thread(target=self.pass_on, args=(n,), daemon=True) for n in ("stdout", "stderr")
        ]
        for stream in self.streams:
            stream.start()

    def connect(self) -> None:
        """Wait for all ranks; RuntimeError if they do not come."""
        self.server.settimeout(0.05)
        limit = time.monotonic() + START_LIMIT
        arrived: dict[int, Connection] = {}
        while len(arrived) < self.ranks:
            status = self.mpiexec.poll()
            if status is not None or time.monotonic() > limit:
                self.end()
                how = f"ended with status {status}" if status is not None else f"was started {START_LIMIT:g} s ago"
                raise RuntimeError(
                    f"mpiexec {how}, and {len(arrived)} of {self.ranks} ranks have reported{self.last_words()}"
                )
            with suppress(TimeoutError):
                link, _ = self.server.accept()
                link.setblocking(True)
                connection = Connection(link.detach())
                hello: Hello = connection.recv()
                self.processes[hello.rank] = hello.process
                if hello.size != self.ranks:
                    self.end()
                    raise RuntimeError(
                        f"{self.launcher.program} started {self.ranks} ranks, but the MPI library sees "
                        f"{hello.size}: they are not of one MPI. Give the pool the mpiexec that belongs to the "
                        "library"
                    )
                arrived[hello.rank] = connection
        for rank in range(self.ranks):
            self.connections.append(arrived[rank])
            self.selector.register(arrived[rank], selectors.EVENT_READ, rank)

    def pass_on(self, name: str) -> None:
        """Write what the ranks print to the controller's stream of this name, and keep the end of it."""
        with getattr(self.mpiexec, name) as pipe:
            while data := os.read(pipe.fileno(), 2**16):
                text = data.decode(errors="replace")
                self.output = (self.output + text)[-LAST_WORDS:]
                with suppress(OSError, ValueError, AttributeError):  # no stream, or a closed one
                    if not self.ended:
                        getattr(sys, name).write(text)
                        getattr(sys, name).flush()

    def last_words(self) -> str:
        return f"\n{self.output.rstrip()}" if self.output.strip() else ""

    def sound(self) -> bool:
        """Whether the ranks are there; between examples they have nothing to say."""
        return not self.ended and not self.selector.select(0)

    def send(self, rank: int, message: Job | Interrupt) -> None:
        try:
            self.connections[rank].send_bytes(pickle.dumps(message))
        except OSError:
            self.lose([rank])

    def receive(self, timeout: float) -> list[tuple[int, Report]]:
        told, lost = [], []
        for key, _ in self.selector.select(timeout):
            try:
                told.append((key.data, pickle.loads(self.connections[key.data].recv_bytes())))
            except (EOFError, OSError):
                lost.append(key.data)
        if lost:
            self.lose(lost)
        return told

    def lose(self, ranks: list[int]) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):
            self.mpiexec.wait(2.0)
        status = self.mpiexec.poll()
        self.end()
        how = "" if status is None else f" (mpiexec ended with status {status})"
        who = f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
        raise RankError(f"{who} of the pool died{how}{self.last_words()}")

    def signal(self, ranks: Iterable[int], number: int) -> None:
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(self.processes[rank], number)

    def end(self) -> None:
        """End all processes, and leave nothing behind."""
        if self.ended or os.getpid() != self.owner:
            return
        self.ended = True
        self.mpiexec.terminate()  # it removes its files
        self.signal(self.processes, signal.SIGKILL)
        try:
            self.mpiexec.wait(2.0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.mpiexec.pid, signal.SIGKILL)
            self.mpiexec.wait()
            for connection in self.connections:
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
    kept = {name: value for name, value in settings.items() if not _LAUNCHER.match(name)}
    places = ("PRTE_MCA_prte_tmpdir_base", "OMPI_MCA_btl_sm_backing_directory")
    # The pool has its own way to end calls that last too long.
    return {**dict.fromkeys(places, folder), **kept, "MINISPLIT_TIMEOUT": "0"}


class _Pickler(Pickler):
    """Sends functions and classes of test modules whole, and others by name."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)):
            _prepare(obj.__module__)
        if hasattr(obj, "is_hypothesis_test") and hasattr(obj, "hypothesis"):  # a method, say, of a class of tests
            return itself, (obj.hypothesis.inner_test,)
        return super().reducer_override(obj)


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _pickled_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        return _pickled((args, kwargs))
    except Exception:
        for name, value in [*enumerate(args), *kwargs.items()]:
            try:
                _pickled(value)
            except Exception as error:
                kind = type(value).__name__
                text = f"argument {name}, a {kind}, cannot be sent to the ranks of a pool: {error}"
                raise TypeError(text) from None
        raise


_functions: dict[int, tuple[object, list[object], bytes]] = {}


def _pickled_function(function: Callable[..., object]) -> bytes:
    """A pickled function: that of the time before, as long as all that it captures are the same fixed objects."""
    captured: list[object] = []
    if not _capture(function, captured):
        return _pickled(function)
    same, before, pickled = _functions.get(id(function), (None, [], b""))
    if same is not function or list(map(id, before)) != list(map(id, captured)):
        pickled = _pickled(function)
        if len(_functions) > CACHED_FUNCTIONS:
            _functions.clear()
        _functions[id(function)] = function, captured, pickled  # which keeps these objects, and so their ids
    return pickled


def _capture(value: object, captured: list[object]) -> bool:
    """Append what a function depends on; False where some of it could change and stay the same object."""
    if any(value is known for known in captured):
        return True
    captured.append(value)
    if not isinstance(value, (FunctionType, type)):
        return isinstance(value, _FIXED)
    _prepare(value.__module__)
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


@functools.cache
def _prepare(name: str) -> None:
    """Register a module whose functions are to be sent whole: a test module, or one that ranks cannot import."""
    module = sys.modules.get(name)
    if module is None or not getattr(module, "__file__", None) or name == "__main__":
        return
    # pytest loads test modules in its own way, and also installed packages that extend it, such as hypothesis.
    by_pytest = type(module.__loader__).__module__.startswith("_pytest.")
    installed = str(module.__file__).startswith(_INSTALLED)
    if (by_pytest and not installed) or not _importable(module):
        cloudpickle.register_pickle_by_value(module)


def _importable(module: ModuleType) -> bool:
    """Whether another process with the same paths imports the same file under this name."""
    name, path = "", None
    for part in module.__name__.split("."):
        name = f"{name}.{part}".lstrip(".")
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        spec = next((found for find in finders if find and (found := find(name, path, None))), None)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return spec is not None and spec.origin == module.__file__


def _judged(reports: Sequence[Report]) -> BaseException | None:
    """What came of an example, if it is not that all ranks returned and made the same calls."""
    progresses = [report.progress for report in reports]
    stories = [_story(report) for report in reports]
    nobody: list[BaseException | None] = [None] * len(reports)
    different = mismatch(progresses)
    if different:
        return failure(nobody, stories, different)
    errors = [
        _rebuilt(report.failure) if report.progress.state == "raised" and report.failure else None
        for report in reports
    ]
    stuck = unequal(progresses)
    if not stuck and any(progress.state != "returned" for progress in progresses):
        texts = [_whereabouts(progress) for progress in progresses]
        stuck = f"the ranks waited for each other: {texts_by_rank(texts)}"
    return failure(errors, stories, stuck, traced=False)


def _story(report: Report) -> str:
    """What is to be told of one rank."""
    if report.failure:
        return report.failure.trace
    if report.progress.ended:
        return RETURNED
    return f"It did not end, so the pool was ended; it {_whereabouts(report.progress)}."


def _rebuilt(failure: Failure) -> BaseException:
    """The exception itself, or a RankError with its text."""
    try:
        error = pickle.loads(failure.pickled or b"")
        same = (type(error).__qualname__, str(error)) == (failure.kind, failure.text)
        if same and isinstance(error, BaseException) and not isinstance(error, _NOT_TO_BE_RAISED):
            return error
    except Exception:  # classes may be unknown here, and their constructors do what they like
        pass
    return RankError(f"{failure.kind}: {failure.text}")


def _whereabouts(progress: Progress) -> str:
    latest = progress.latest()
    if progress.ended:
        return "was interrupted" if progress.state == "interrupted" else progress.state
    if latest is None:
        return "told of no collective call"
    waits = "waited in" if progress.state == "waiting" else "was last heard of at"
    return f"{waits} {latest.call} at {latest.site}"
