"""What every test file has: ranks that stay in step, one hypothesis profile, and the communicator."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

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
