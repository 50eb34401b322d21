"""A pool of real MPI ranks, as property-based tests use it: from a process that is no rank."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import minisplit as ms
from minisplit.core.communication import debug as debug_module
from minisplit.core.communication.agreement import RankError, agreement
from minisplit.testing import Pool
from minisplit.testing import pool as pool_module

pytestmark = [pytest.mark.serial, pytest.mark.jobs]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(8) as pool:
        pool.run(int)  # starts it: no part of what a test measures
        yield pool


@pytest.fixture(scope="module")
def small() -> Iterator[Pool]:
    """For what ends the ranks: two are started sooner."""
    with Pool(2) as pool:
        yield pool


class OwnError(Exception):
    """Made here, so ranks cannot import it."""


class NeedsTwoError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def total(value: float = 1.0) -> float:
    return ms.get_comm().allreduce(torch.tensor([value])).item()


def assert_sound(pool: Pool, ranks: int = 2) -> None:
    assert pool.run(total, ranks=ranks) == [ranks] * ranks


def failing(pool: Pool, kind: type[BaseException], function: Any, *args: Any, ranks: int = 2) -> BaseException:
    """What `function` raises within two seconds; the pool works on."""
    started = time.monotonic()
    with pytest.raises(kind) as info:
        pool.run(function, *args, ranks=ranks)
    assert time.monotonic() - started < 2
    assert type(info.value) is kind
    assert info.value.__cause__ is info.value.__context__ is None
    assert_sound(pool, ranks)
    return info.value


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize("ranks", range(1, 9))
def test_results_in_order(pool: Pool, ranks: int) -> None:
    def body(a: int, *, b: list[int]) -> tuple[int, int, float, list[int]]:
        comm = ms.get_comm()
        return comm.rank, comm.size, total(a), b

    found = pool.run(body, 2, b=[ranks], ranks=ranks)
    assert found == [(rank, ranks, 2.0 * ranks, [ranks]) for rank in range(ranks)]


def test_arrays_inside(pool: Pool) -> None:
    def body(n: int) -> tuple[list[int], torch.Tensor]:
        x = ms.arange(n, split=0)
        return x.resplit(None).tolist(), x.larray

    for values, shard in pool.run(body, 10, ranks=3):
        assert values == list(range(10))
        assert isinstance(shard, torch.Tensor)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.float8_e5m2, torch.bfloat16])
def test_tensors_of_dtypes_that_torch_cannot_read_again(pool: Pool, dtype: torch.dtype) -> None:
    tensor = torch.arange(12).to(dtype)
    for back in pool.run(lambda there: ms.array(there, split=0).resplit(None).larray, tensor, ranks=2):
        assert back.dtype == dtype
        assert torch.equal(back.view(torch.uint8), tensor.view(torch.uint8))


def test_every_call_of_a_communicator(pool: Pool) -> None:
    def body() -> bool:
        comm = ms.get_comm()
        row = np.array([comm.rank, 5])
        assert comm.broadcast(torch.full((2,), comm.rank), 1).tolist() == [1, 1]
        assert comm.broadcast_bytes(bytes([comm.rank]) * 3, 2) == b"\2\2\2"
        assert comm.scan(torch.tensor(1)).item() == comm.rank
        assert comm.allgather_record(row)[:, 0].tolist() == list(range(comm.size))
        assert comm.agree(row).tolist() == [comm.size - 1, 5]
        assert comm.allreduce(torch.tensor([1.0, float("nan")]), "max").isnan().tolist() == [False, True]
        half = comm.split(comm.rank % 2, key=-comm.rank)
        assert half.allgather_record(row)[:, 0].tolist() == list(range(comm.rank % 2, comm.size, 2))[::-1]
        quarter = half.split(None if half.rank else 3)
        assert (quarter is None) == (half.rank > 0)
        assert ms.arange(9, split=0, comm=half).resplit(None).tolist() == list(range(9))
        half.free()
        comm.free()
        with pytest.raises(RuntimeError, match="was freed"):
            comm.agree(row)
        return True

    for _ in range(3):
        assert pool.run(body, ranks=4) == [True] * 4
    assert_sound(pool, 4)


def test_closures_and_modes_of_the_caller(pool: Pool) -> None:
    seen = []
    for number in range(3):
        seen += pool.run(lambda: number, ranks=1)  # noqa: B023 - runs at once
    assert seen == [0, 1, 2]

    def modes() -> tuple[bool, bool]:
        torch.set_grad_enabled(True)
        ms.use_comm(ms.MPI_SELF)
        return debug_module.debugging(), torch.zeros(1, requires_grad=True).exp().requires_grad

    with ms.debug(), torch.no_grad():
        assert pool.run(lambda: (debug_module.debugging(), torch.is_grad_enabled())) == [(True, False)] * 4
    assert pool.run(modes) == [(False, True)] * 4
    assert_sound(pool)


CHANGING = 0


def test_a_function_is_pickled_again_when_what_it_captures_has_changed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = [0]
    cell = 0
    helper = lambda: CHANGING
    read = lambda: (inside[0], cell, helper())
    for expected in range(3):
        assert pool.run(read, ranks=2) == [(expected,) * 3] * 2
        inside[0] += 1
        cell += 1
        monkeypatch.setitem(globals(), "CHANGING", CHANGING + 1)
    fixed = lambda: (cell, helper())
    for number in range(3, 6):
        for _ in range(2):
            assert pool.run(fixed, ranks=1) == [(number, 3)]
        cell += 1


def test_random_numbers_repeat(pool: Pool) -> None:
    draw = lambda: (torch.rand(1).item(), np.random.rand())  # noqa: NPY002
    first = pool.run(draw)
    assert len(set(first)) == 4
    assert pool.run(draw) == first


def test_an_exception_has_its_own_type_and_all_tracebacks(pool: Pool) -> None:
    def body() -> None:
        comm = ms.get_comm()
        if comm.rank:
            raise OwnError(f"from {comm.rank}")
        total()

    error = failing(pool, OwnError, body, ranks=3)
    assert str(error) == "from 1"
    text = notes(error)
    assert "rank 1 of 3:\n    Traceback (most recent call last):" in text
    assert "rank 2 of 3:" in text
    assert f'{__file__}", line' in text
    assert 'raise OwnError(f"from {comm.rank}")' in text
    assert "worker.py" not in text


def test_exceptions_that_cannot_be_rebuilt(pool: Pool) -> None:
    def needs_two() -> None:
        raise NeedsTwoError(5, "disk full")

    def unpicklable() -> None:
        raise ValueError("a lock", __import__("threading").Lock())

    def leaves() -> None:
        sys.exit(3)

    assert str(failing(pool, RankError, needs_two)) == "NeedsTwoError: 5: disk full"
    assert "ValueError: ('a lock'" in str(failing(pool, RankError, unpicklable))
    assert str(failing(pool, RankError, leaves)).endswith("Exit: 3")


def test_a_result_that_cannot_be_pickled(pool: Pool) -> None:
    error = failing(pool, TypeError, lambda: (n for n in range(3)))
    assert str(error).startswith("rank 0 of 2 returned a generator, which cannot be sent back")


def test_a_rank_that_returns_early(pool: Pool) -> None:
    def body() -> None:
        total()
        if ms.get_comm().rank == 1:
            return
        total()

    error = failing(pool, ms.CollectiveError, body)
    assert str(error) == (
        f"collective #2: rank 0 waited in allreduce(torch.float32, (1,), sum) at test_pool.py:{line_of(total)}, "
        "rank 1 returned"
    )
    call = f"allreduce(torch.float32, (1,), sum) at test_pool.py:{line_of(total)}"
    assert error.__notes__ == [
        f"rank 0 of 2:\n    It waited in {call}, where it was interrupted.",
        "rank 1 of 2:\n    It returned.",
    ]


def line_of(function: Any) -> int:
    return function.__code__.co_firstlineno + 1


def test_calls_that_mpi_would_match(pool: Pool) -> None:
    def body(sleep: float) -> None:
        comm = ms.get_comm()
        time.sleep(sleep)
        if comm.rank:
            comm.agree(np.array([1]))
        else:
            comm.allreduce(torch.tensor([2]), "max")

    for sleep in (0.0, 0.03):
        text = str(failing(pool, ms.CollectiveError, body, sleep))
        assert text.startswith("collective #1: rank 0 ")
        assert "allreduce(torch.int64, (1,), max) at test_pool.py" in text
        assert ", rank 1 " in text
        assert "agree(1) at test_pool.py" in text


@pytest.mark.parametrize(("elements", "dtype"), [(1000, torch.float64), (1, torch.float32)])
def test_calls_of_different_sizes(pool: Pool, elements: int, dtype: torch.dtype) -> None:
    def body() -> None:
        comm = ms.get_comm()
        comm.allreduce(torch.ones(elements if comm.rank else 1, dtype=dtype if comm.rank else torch.float64))

    assert "collective #1: rank 0 " in str(failing(pool, ms.CollectiveError, body))


@pytest.mark.parametrize("elements", [3, 1_000_000])
def test_an_exchange_that_does_not_fit(pool: Pool, elements: int) -> None:
    def lonely(sends: bool) -> None:
        comm = ms.get_comm()
        part = [(1 - comm.rank, torch.zeros(elements))]
        comm.exchange(part if sends and comm.rank else [], [] if comm.rank or sends else part)

    line = line_of(lonely) + 2
    text = str(failing(pool, ms.CollectiveError, lonely, False))
    assert text == (
        f"collective #1: rank 1 sends nothing to rank 0 (exchange at test_pool.py:{line}), "
        f"which expects torch.float32 ({elements},) (exchange at test_pool.py:{line})"
    )
    text = str(failing(pool, ms.CollectiveError, lonely, True))
    assert f"rank 1 sends torch.float32 ({elements},) to rank 0 (exchange" in text
    assert "which expects nothing" in text


@pytest.mark.parametrize("call", ["split", "free", "scan", "broadcast", "exchange", "part"])
def test_every_wait_can_be_ended(pool: Pool, call: str) -> None:
    def body() -> None:
        comm = ms.get_comm()
        calls = {
            "split": lambda: comm.split(0),
            "free": comm.free,
            "scan": lambda: comm.scan(torch.ones(2)),
            "broadcast": lambda: comm.broadcast(torch.ones(2), 2),
            "exchange": lambda: comm.exchange([], [(2, torch.zeros(2))]),
            "part": lambda: comm.split(int(comm.rank == 0)).allreduce(torch.ones(2)),
        }
        if comm.rank != 2:
            calls[call]()
        elif call == "part":
            comm.split(0)

    text = str(failing(pool, ms.CollectiveError, body, ranks=3))
    if call == "part":
        assert text.startswith("collective #1 on the split-off part of ranks 1, 2: rank 1 waited in allreduce(")
    else:
        assert text.startswith(f"collective #1: ranks 0, 1 waited in {call}")
    assert text.endswith("rank 2 returned")


def test_ranks_that_wait_for_each_other_on_two_communicators(pool: Pool) -> None:
    def body() -> None:
        comm = ms.get_comm()
        part = comm.split(0)
        for one in (comm, part) if comm.rank else (part, comm):
            one.agree(np.array([1]))

    text = str(failing(pool, ms.CollectiveError, body))
    line = line_of(body) + 3
    assert text == (
        f"collective #2: rank 0 waited in agree(1) at test_pool.py:{line}, on another communicator, "
        f"rank 1 waited in agree(1) at test_pool.py:{line}"
    )


def test_a_rank_that_computes_is_not_stuck_but_ended_after_a_failure(pool: Pool) -> None:
    def slow(seconds: float, fails: bool) -> float:
        if ms.get_comm().rank == 0:
            time.sleep(seconds)
        elif fails:
            raise OwnError("quick")
        return total()

    assert pool.run(slow, 0.4, False, ranks=2) == [2, 2]
    failing(pool, OwnError, slow, 60.0, True)


def test_an_error_that_a_rank_could_not_tell_the_others(pool: Pool) -> None:
    def body() -> None:
        comm = ms.get_comm()
        with agreement(comm, "testing"):
            if comm.rank:
                raise OwnError("on its way")
            total()

    assert "OwnError: on its way" in notes(failing(pool, ms.CollectiveError, body))


def test_thirty_faults_in_a_row(pool: Pool) -> None:
    def body(turn: int) -> float:
        comm = ms.get_comm()
        part = comm.split(0)
        if comm.rank == turn % 3:
            if turn % 2:
                return 0.0
            raise OwnError
        return part.allreduce(torch.ones(1000))

    started = time.monotonic()
    for turn in range(30):
        with pytest.raises(OwnError if turn % 2 == 0 else ms.CollectiveError):
            pool.run(body, turn, ranks=3)
        assert_sound(pool, 3)
    assert time.monotonic() - started < 10


def test_failures_on_all_ranks_keep_the_communicator(pool: Pool) -> None:
    def body() -> None:
        total()
        hypothesis.assume(False)

    before = list(pool._generations)
    failing(pool, hypothesis.errors.UnsatisfiedAssumption, body)
    assert pool._generations == before


def test_MPI_WORLD_is_not_for_examples(pool: Pool) -> None:
    error = failing(pool, RuntimeError, lambda: ms.MPI_WORLD.allreduce(torch.ones(1)))
    assert "use minisplit.get_comm()" in str(error)


def test_communicators_given_up_do_not_run_out(small: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def alone() -> None:
        if ms.get_comm().rank == 0:
            total()

    assert_sound(small)
    processes = small._processes
    assert processes is not None
    monkeypatch.setattr("minisplit.testing.pool.ABANDONED_LIMIT", 0)
    for _ in range(2):
        with pytest.raises(ms.CollectiveError):
            small.run(alone, ranks=2)
    assert small._processes is None
    assert processes.mpiexec.poll() is not None


def test_a_rank_that_dies(small: Pool) -> None:
    def body() -> None:
        if ms.get_comm().rank == 1:
            print("last words", flush=True)
            os._exit(3)
        total()

    with pytest.raises(RankError, match=r"(?s)rank.* 1.* of the pool died.*last words"):
        small.run(body, ranks=2)
    assert_sound(small)


def test_patience_ends_what_nothing_else_can(small: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        total()
        if ms.get_comm().rank == 0:
            ms.get_comm().mpi.barrier()

    assert_sound(small)
    monkeypatch.setattr(small, "patience", 1.0)
    with pytest.raises(
        TimeoutError, match=r"no rank made progress for 1 s, so the pool was ended: rank 0 .*, rank 1 returned"
    ):
        small.run(body, ranks=2)


@pytest.mark.parametrize("how", ["loops", "is stopped"])
def test_patience_ends_a_rank_that_others_wait_for(small: Pool, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Those that wait report now and then that they are alive, so the pool never came to its end."""

    def body() -> None:
        if ms.get_comm().rank == 1 and how == "is stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        while ms.get_comm().rank == 1:
            time.sleep(0.01)
        total()

    assert_sound(small)
    monkeypatch.setattr(small, "patience", 3.0)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no rank made progress for 3 s, .* rank 0 .* allreduce.*, rank 1 rep"):
        small.run(body, ranks=2)
    assert time.monotonic() - started < 10
    assert_sound(small)


def test_patience_ends_a_rank_that_takes_no_message() -> None:
    with Pool(2, patience=3.0) as pool:
        pool.run(lambda: None, ranks=2)
        os.kill(pool._processes.process_of_rank[1], signal.SIGSTOP)  # type: ignore[union-attr]
        with pytest.raises(TimeoutError, match="rank 1 took no message for 3 s, so the pool was ended"):
            pool.run(len, b"x" * 10**7, ranks=2)
        assert_sound(pool)


def test_only_the_ranks_can_send_what_is_unpickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Others that can connect know no secret; the folder of the socket is the user's alone."""

    class Unpickled:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "unpickled",)

    with Pool(1) as pool:
        connect = pool_module._PoolProcesses.connect

        def intruded(processes: Any) -> None:
            assert os.stat(processes.folder).st_mode & 0o777 == 0o700
            intruder = Client(f"{processes.folder}/socket", family="AF_UNIX")
            intruder.send(Unpickled())
            intruder.send(Unpickled())
            connect(processes)
            intruder.close()

        monkeypatch.setattr(pool_module._PoolProcesses, "connect", intruded)
        assert pool.run(lambda: os.environ.get("MINISPLIT_POOL_SECRET"), ranks=1) == [None]
    assert not (tmp_path / "unpickled").exists()


def test_bad_arguments(pool: Pool) -> None:
    with pytest.raises(ValueError, match="from 1 to the 8 of the pool, got 9"):
        pool.run(total, ranks=9)
    with pytest.raises(ValueError, match="at least one rank"):
        Pool(0)
    with pytest.raises(RuntimeError, match="/nowhere/mpiexec is neither a program"):
        Pool(1, mpiexec="/nowhere/mpiexec").run(total, ranks=1)
    with pytest.raises(RuntimeError, match=r"mpiexec ended with status 1, and 0 of 1 ranks have reported"):
        Pool(1, mpiexec="/bin/false").run(total, ranks=1)
    closed = Pool(1)
    closed.close()
    with pytest.raises(RuntimeError, match="was closed"):
        closed.run(total, ranks=1)


def test_hypothesis_shrinks_a_deadlock(pool: Pool) -> None:
    def early(values: list[int]) -> float:
        if len(values) > 2 and ms.get_comm().rank:
            return 0.0
        return total()

    tried: list[tuple[list[int], int]] = []

    @hypothesis.settings(phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])
    @hypothesis.given(st.lists(st.integers()), st.integers(2, 8))
    def check(values: list[int], ranks: int) -> None:
        tried.append((values, ranks))
        pool.run(early, values, ranks=ranks)

    with pytest.raises(ms.CollectiveError):
        check()
    assert tried[-1] == ([0, 0, 0], 2)


def processes_of(marker: str) -> list[str]:
    """The processes that have `marker` in their environment; one that has ended has none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text(errors="replace"))
    return found


def test_nothing_is_left_after_close(monkeypatch: pytest.MonkeyPatch) -> None:
    marker = f"closed-pool-{os.getpid()}"
    monkeypatch.setenv("MARKER", marker)
    # Its own folder, as pools of other programs may come at the same time.
    made, make = list[str](), tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **options: made.append(make(**options)) or made[-1])
    files = len(os.listdir("/proc/self/fd"))
    with Pool(1) as pool:
        pool.run(total, ranks=1)
        assert processes_of(marker)
    assert not processes_of(marker)
    assert any("minisplit-pool" in folder for folder in made)
    assert not any(Path(folder).exists() for folder in made)
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("end", ["fails", "killed while idle", "killed in a call", "interrupted"])
def test_no_process_is_left_behind(end: str) -> None:
    script = f"""
import time, minisplit as ms
from minisplit.testing import Pool
from minisplit.testing import pool as pool_module
pool = Pool(1)
def body(blocks):
    if blocks:
        ms.get_comm().mpi.recv()
pool.run(body, False, ranks=1)
print("ready", flush=True)
if {end!r} == "fails":
    1 / 0
pool.run(body, True, ranks=1) if {end!r} != "killed while idle" else time.sleep(60)
"""
    marker = f"pool-test-{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"MARKER": marker},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as controller:
        assert controller.stdout
        assert controller.stdout.readline() == "ready\n"
        if end != "fails":
            assert len(processes_of(marker)) > 1
            time.sleep(0.2)
            controller.send_signal(signal.SIGINT if end == "interrupted" else signal.SIGKILL)
        controller.wait(10)
    limit = time.monotonic() + 5
    while (left := processes_of(marker)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not left
