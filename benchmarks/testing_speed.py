"""How fast properties run, and how soon a deadlock is found and shrunk, on threads and on a pool of MPI ranks.

`python benchmarks/testing_speed.py`, outside of mpiexec; the pool takes MINISPLIT_MPIEXEC and MPI4PY_LIBMPI.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as st

quiet = settings(deadline=None, database=None, max_examples=500, suppress_health_check=list(HealthCheck))


@quiet
@given(x=st.dndarrays())
@spmd
def round_trip(x: Whole) -> None:
    assert_equal(x.cut().resplit(None), x.tensor)


@quiet
@given(x=st.dndarrays(ranks=2))
@spmd
def round_trip_on_two(x: Whole) -> None:
    assert_equal(x.cut().resplit(None), x.tensor)


@quiet
@given(x=st.dndarrays(st.shapes(min_dims=2, min_side=1)))
@spmd
def one_rank_skips_a_call(x: Whole) -> None:
    mine = x.cut()
    if mine.comm.rank != 0:  # which has rows that the others wait for
        mine.resplit(None)


def seconds(test: Callable[[], None]) -> float:
    begin = time.perf_counter()
    test()
    return time.perf_counter() - begin


def shrunk() -> str:
    """What is left of the deadlock's example."""
    try:
        one_rank_skips_a_call()
    except ms.CollectiveError as error:
        [call] = re.findall(r"\.alone\((.*)\)", "\n".join(error.__notes__))
        return f"{error.args[0]}\n  {call}"
    raise AssertionError("the deadlock was not found")


def main() -> None:
    for where in ("threads", "pool"):
        os.environ["MINISPLIT_TESTING"] = where
        start = seconds(lambda: spmd(lambda ranks: None)(ranks=8))
        rates = [500 / seconds(test) for test in (round_trip, round_trip_on_two) for _ in range(3)]
        begin = time.perf_counter()
        found = shrunk()
        deadlock = time.perf_counter() - begin
        print(f"{where}: first run {start:.1f} s")
        print(f"  a round trip on 1 to 4 ranks: {statistics.median(rates[:3]):.0f} examples/s")
        print(f"  a round trip on 2 ranks: {statistics.median(rates[3:]):.0f} examples/s")
        print(f"  a planted deadlock, found and shrunk: {deadlock:.1f} s\n  {found}", flush=True)


if __name__ == "__main__":
    main()
