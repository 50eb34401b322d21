"""Keeps the ranks of an MPI run in step, and holds what every test may use.

A rank whose test fails would go on to the next one while the others may still wait for it in this one, so the
ranks agree on how each test ended before any of them goes on.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Generator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import hypothesis
import pytest

if TYPE_CHECKING:
    from mpi4py import MPI

    import minisplit as ms

Outcome = Literal["passed", "skipped", "failed"]


@pytest.fixture
def comm() -> ms.Communication:
    # Here, as this starts MPI, which a serial test must not.
    import minisplit as ms

    return ms.MPI_WORLD


@pytest.fixture
def rank(comm: ms.Communication) -> int:
    return comm.rank


@pytest.fixture
def size(comm: ms.Communication) -> int:
    return comm.size


@pytest.fixture
def raises_alike(comm: Any) -> Any:
    """A context manager like `pytest.raises`: type and text must be the same on all ranks.

    Afterwards it checks that the communicator still works.
    """

    @contextlib.contextmanager
    def check(kind: type[Exception], match: str) -> Generator[Any, None, None]:
        with pytest.raises(kind, match=match) as caught:
            yield caught
        import torch
        from mpi4py import MPI

        seen = MPI.COMM_WORLD.allgather((type(caught.value).__name__, str(caught.value)))
        assert len(set(seen)) == 1, seen
        assert comm.allreduce(torch.ones(2)).tolist() == [comm.size] * 2

    return check


class Counting:
    """Stands before an `mpi4py` communicator and counts the calls of its methods."""

    def __init__(self, mpi: Any) -> None:
        self.mpi, self.calls = mpi, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.mpi, name)


@pytest.fixture
def calls(comm: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The MPI calls made on `MPI_WORLD` since the test began, by name."""
    counting = Counting(comm.mpi)
    monkeypatch.setattr(comm, "_duplicate", counting)
    return counting.calls


@functools.cache
def world() -> MPI.Comm | None:
    """The ranks of this run, on a communicator that only this file uses; None where there is one rank."""
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


def agree(comm: MPI.Comm, outcome: Outcome, told: object) -> Agreement:
    """Find the worst outcome of a test over the ranks. Collective."""
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
    """Have hypothesis draw, and shrink, the same examples on every rank: by no clock, memory or coverage.

    MINISPLIT_EXAMPLES is their number; serial tests, which are quicker, have four times as many.
    """
    examples = int(os.environ.get("MINISPLIT_EXAMPLES", "50"))
    phase = hypothesis.Phase
    hypothesis.settings.register_profile(
        "in-step",
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=4 * examples if config.option.markexpr == "serial" else examples,
        phases=(phase.explicit, phase.generate, phase.target, phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("in-step")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        handle = getattr(getattr(item, "obj", None), "hypothesis", None)
        # Items that differ in their parameters share one function.
        if handle and not is_serial(item) and not hasattr(handle.inner_test, "in_step"):
            handle.inner_test = in_step(handle.inner_test, config)


class ExampleError(AssertionError):
    """An example failed on some rank."""


def in_step(example: Callable[..., object], config: pytest.Config) -> Callable[..., None]:
    """Let an example fail, or be rejected, on all ranks if it does on one, so that all shrink it alike."""

    @functools.wraps(example)
    def on_all_ranks(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        comm = world()
        if comm is None:
            example(*args, **kwargs)
            return
        outcome: Outcome = "passed"
        text = "assume() was not met"
        try:
            example(*args, **kwargs)
        except hypothesis.errors.UnsatisfiedAssumption:
            outcome = "skipped"
        except (Exception, pytest.fail.Exception) as error:
            outcome = "failed"
            text = str(pytest.ExceptionInfo.from_exception(error).getrepr(style="short"))
            log(config, text)
        all_ranks = agree(comm, outcome, text)
        # Not in the handler above, and one class and line for every rank: hypothesis tells failures apart by
        # these and by what an exception was raised from.
        if all_ranks.outcome == "failed":
            raise ExampleError(f"{all_ranks.where}:\n{all_ranks.told}")
        if all_ranks.outcome == "skipped":
            hypothesis.reject()

    on_all_ranks.in_step = True
    return on_all_ranks
