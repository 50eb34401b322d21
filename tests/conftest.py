"""What every test file has: ranks that stay in step, one hypothesis profile, and the communicator."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest
import torch

# Every rank must draw the same examples, so nothing may depend on time, chance or a database.
hypothesis.settings.register_profile(
    "ranks",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("MINISPLIT_EXAMPLES", "50")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("ranks")


def _outcomes_of_ranks(outcome: str) -> list[str]:
    """What became of the present test on every rank. Collective."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.allgather(outcome)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Give a test one outcome on all ranks: one that fails on any rank fails on each."""
    if pyfuncitem.get_closest_marker("serial"):
        return (yield)
    try:
        result = yield
    except BaseException as error:
        skipped = isinstance(error, pytest.skip.Exception)
        outcomes = _outcomes_of_ranks("skipped" if skipped else "failed")
        if skipped and set(outcomes) != {"skipped"}:
            pytest.fail(f"skipped here, but the ranks' outcomes are {outcomes}", pytrace=False)
        raise
    outcomes = _outcomes_of_ranks("passed")
    if set(outcomes) != {"passed"}:
        ranks = [rank for rank, outcome in enumerate(outcomes) if outcome != "passed"]
        pytest.fail(f"passed here, but not on rank {', '.join(map(str, ranks))}: see there", pytrace=False)
    return result


@pytest.fixture
def comm() -> Any:
    import minisplit as ms

    return ms.MPI_WORLD


@pytest.fixture
def rank(comm: Any) -> int:
    return int(comm.rank)


@pytest.fixture
def size(comm: Any) -> int:
    return int(comm.size)


@pytest.fixture
def raises_alike(comm: Any) -> Any:
    """A context manager like `pytest.raises`: type and text must be the same on all ranks.

    Afterwards it checks that the communicator still works.
    """

    @contextlib.contextmanager
    def check(kind: type[Exception], match: str) -> Generator[Any, None, None]:
        with pytest.raises(kind, match=match) as caught:
            yield caught
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
