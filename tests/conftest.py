"""Keeps the ranks of an MPI run in step, and holds what every test may use.

A rank whose test fails would go on to the next one while the others may still wait for it in this one, so the
ranks agree on how each test ended before any of them goes on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import pickle
from collections import Counter
from collections.abc import Generator, Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import hypothesis
import pytest

# The modules and tests that are made until the first test begins last to the end: nothing is to be collected.
gc.disable()
# Read once, when SciPy is imported: its functions then take arrays of other libraries.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

if TYPE_CHECKING:
    from mpi4py import MPI

    import minisplit as ms

Outcome = Literal["passed", "skipped", "failed"]
# Whether the ranks are processes of torch.distributed.
ON_TORCH = os.environ.get("MINISPLIT_ENGINE") == "torch"
# What imports an MPI library.
collect_ignore = ["core/communication/mpi", "launch", "test_job.py", "test_jobs.py"] if ON_TORCH else []


@pytest.fixture
def comm() -> ms.Communication:
    # Here, as this starts MPI, which a serial test must not.
    import minisplit as ms

    return ms.get_comm()


@pytest.fixture
def rank(comm: ms.Communication) -> int:
    return comm.rank


@pytest.fixture
def size(comm: ms.Communication) -> int:
    return comm.size


@pytest.fixture
def raises_alike(comm: ms.Communication, pytestconfig: pytest.Config) -> Any:
    """A context manager like `pytest.raises`: type and text must be the same on all ranks.

    Afterwards it checks that the communicator still works.
    """
    return alike(comm, pytestconfig)


def alike(comm: ms.Communication, config: pytest.Config) -> Any:
    import torch

    from minisplit.core.communication.agreement import agreement

    @contextlib.contextmanager
    def check(kind: type[Exception], match: str) -> Generator[Any, None, None]:
        with pytest.raises(kind, match=match) as caught:
            yield caught
        mine = f"{type(caught.value).__name__}: {caught.value}".encode(errors="backslashreplace")
        # On MPI by messages that `calls` does not count.
        apart = None if config.option.on_threads else world()
        first = apart.bcast(mine) if apart else comm.broadcast_bytes(mine)
        with agreement(comm, "comparing exceptions"):
            assert mine.decode() == first.decode()
        assert comm.allreduce(torch.ones(2)).tolist() == [comm.size] * 2

    return check


@pytest.fixture(scope="session")
def default_group() -> Iterator[Any]:
    """torch.distributed's group of all ranks, which the program makes. Once: torch makes no second one."""
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", **({} if ON_TORCH else {"store": dist.HashStore(), "rank": 0, "world_size": 1})
    )
    yield dist.group.WORLD
    dist.destroy_process_group()


class Counting:
    """Stands before what carries messages, and counts the calls of its methods."""

    def __init__(self, carrier: Any) -> None:
        self.carrier, self.calls = carrier, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.carrier, name)


@pytest.fixture
def calls(comm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The calls of MPI, or of gloo, made on `WORLD` since the test began, by name, without those of debug mode."""
    import minisplit as ms

    counting = Counting(comm.gloo if ON_TORCH else comm.mpi)
    monkeypatch.setattr(comm, "_gloo" if ON_TORCH else "_duplicate", counting)
    if ON_TORCH:
        monkeypatch.setattr(comm, "_shared", None)  # through which small records of one machine pass by gloo
    with ms.debug(False):
        yield counting.calls


class Peers:
    """The ranks of a job of torch.distributed, with the methods of mpi4py that this file uses."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.size = comm, comm.size

    def bcast(self, value: object, root: int = 0) -> Any:
        return pickle.loads(self.comm.broadcast_bytes(pickle.dumps(value), root))

    def allgather(self, value: object) -> list[Any]:
        import torch

        own = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        return [pickle.loads(data.numpy().tobytes()) for data in self.comm.allgather(own)]


@functools.cache
def world() -> MPI.Comm | Peers | None:
    """The ranks of this run, on a communicator that only this file uses; None where there is one rank."""
    if ON_TORCH:
        import minisplit as ms

        return Peers(ms.WORLD.split(0)) if ms.WORLD.size > 1 else None
    from mpi4py import MPI

    return MPI.COMM_WORLD.Dup() if MPI.COMM_WORLD.size > 1 else None


def is_serial(item: pytest.Item) -> bool:
    return item.get_closest_marker("serial") is not None


class Agreement(NamedTuple):
    """How a test ended, over all ranks."""

    outcome: Outcome
    ranks: list[int]  # on which it came to that
    where: str
    told: Any  # by the first of them


def all_passed(comm: MPI.Comm | Peers, outcome: Outcome) -> bool:
    """Whether a test has passed on all ranks, by one message of 8 bytes: mostly no more is to be told."""
    import numpy as np

    failures = np.array([outcome != "passed"], dtype=np.int64)
    if isinstance(comm, Peers):
        return int(comm.comm.agree(failures)[0]) == 0
    from mpi4py import MPI

    comm.Allreduce(MPI.IN_PLACE, failures, MPI.MAX)
    return int(failures[0]) == 0


def agree(comm: MPI.Comm | Peers, outcome: Outcome, told: object) -> Agreement:
    """Find the worst outcome of a test over the ranks. Collective."""
    if all_passed(comm, outcome):
        return Agreement("passed", list(range(comm.size)), "", told)
    outcomes, everything = zip(*comm.allgather((outcome, told)), strict=True)
    worst = "failed" if "failed" in outcomes else "skipped" if "skipped" in outcomes else "passed"
    ranks = [rank for rank in range(comm.size) if outcomes[rank] == worst]
    where = f"{worst} on rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} of {comm.size}"
    # No author of a test means it to be skipped on some ranks only.
    shared: Outcome = "failed" if worst == "skipped" and len(ranks) < comm.size else worst
    return Agreement(shared, ranks, where, everything[ranks[0]])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Go through the tests only if all ranks have the same ones in the same order."""
    comm = None if session.items and all(map(is_serial, session.items)) else world()
    if comm:
        # Without the parameters, in whose names there may be an address or a rank.
        names = [*(item.nodeid.partition("[")[0] for item in session.items), f"{session.testsfailed} errors"]
        for rank, others in enumerate(comm.allgather(names)):
            for here, there in zip_longest(names, others):
                if here != there:
                    pytest.exit(f"{here} here is {there} on rank {rank}", pytest.ExitCode.USAGE_ERROR)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the test's set-up, call or tear-down the outcome that it has over all ranks."""
    report = yield
    comm = None if is_serial(item) else world()
    if comm is None:
        return report
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    if report.failed:
        log(item.config, text)
    all_ranks = agree(comm, report.outcome, (text, report.sections))
    if all_ranks.outcome != report.outcome:
        text, report.sections = all_ranks.told
        report.outcome, report.longrepr = all_ranks.outcome, f"{all_ranks.where}:\n{text}"
    elif report.failed and len(all_ranks.ranks) < comm.size:
        report.sections.append(("ranks", all_ranks.where))
    return report


def log(config: pytest.Config, text: str) -> None:
    """Write to the log of this rank at once: the others may never come to agree."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        terminal.ensure_newline()
        terminal.write_line(text, flush=True)


def pytest_configure(config: pytest.Config) -> None:
    """MINISPLIT_EXAMPLES is the number of examples of a property; the same ones are drawn in every run."""
    hypothesis.settings.register_profile(
        "minisplit",
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=int(os.environ.get("MINISPLIT_EXAMPLES", "100")),
        print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("minisplit")
    if config.option.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[config.option.core]])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--on-threads", type=int, metavar="RANKS", help="run each test on this many threads as ranks")
    parser.addoption("--core", type=int, metavar="NUMBER", help="run on this core alone; the last one is -1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "obj", None)
        if hasattr(function, "alone"):
            item.add_marker("spmd")
            item.add_marker("serial")
            if hasattr(function, "hypothesis"):
                item.add_marker("drawn")
        elif hasattr(function, "hypothesis") and not is_serial(item):
            raise pytest.UsageError(f"{item.nodeid} draws examples on every rank: give it @minisplit.testing.spmd")
    unfit = {"mpi", "processes"} if config.option.on_threads else {"mpi"} if ON_TORCH else set()
    left_out = [
        item
        for item in items
        if any(map(item.get_closest_marker, unfit)) or ("processes" in unfit and counts_calls(item))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Keep from the collector what lasts to the end: a full collection went through it for 0.1 s each time."""
    gc.freeze()
    gc.enable()


def counts_calls(item: pytest.Item) -> bool:
    """Whether it uses the fixture `calls`, and not a parameter of that name."""
    return "calls" in item.fixturenames and "calls" not in getattr(getattr(item, "callspec", None), "params", {})


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("several") and not is_serial(item):
        ranks = item.config.option.on_threads
        if ranks == 1 or (not ranks and world() is None):
            pytest.skip("needs ranks that differ")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test for ranks on threads, where that is asked for: every rank calls it with fixtures of its own."""
    ranks = pyfuncitem.config.option.on_threads
    if not ranks or is_serial(pyfuncitem):
        return None
    import minisplit as ms

    names = pyfuncitem._fixtureinfo.argnames
    given = {name: pyfuncitem.funcargs[name] for name in names}

    def test() -> None:
        comm = ms.get_comm()
        own = {"comm": comm, "rank": comm.rank, "size": comm.size, "raises_alike": alike(comm, pyfuncitem.config)}
        pyfuncitem.obj(**given | {name: value for name, value in own.items() if name in names})

    ms.testing.run(test, ranks=ranks)
    return True
