"""Ranks as threads: results, and every way in which a run can fail."""

from __future__ import annotations

import gc
import signal
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit import CollectiveError
from minisplit.testing import ThreadCommunication, run

pytestmark = pytest.mark.serial
ONE = torch.ones(1)


def comm() -> ms.Communication:
    return ms.get_comm()


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_rank_returns_its_result(ranks: int) -> None:
    def func(a: int, b: int) -> tuple[int, int, int]:
        assert isinstance(comm(), ThreadCommunication)
        return comm().rank, comm().size, a - b

    assert run(func, 5, b=3, ranks=ranks) == [(rank, ranks, 2) for rank in range(ranks)]


def test_arrays_move_between_threads() -> None:
    whole = torch.arange(35).reshape(5, 7)
    shards = run(lambda: ms.array(whole, split=0).resplit(1).larray, ranks=3)
    assert torch.equal(torch.cat(shards, 1), whole)


def test_a_run_leaves_nothing_behind() -> None:
    before, default = threading.active_count(), ms.get_comm()
    array = run(lambda: ms.arange(4, split=0), ranks=2)[1]
    assert ms.get_comm() is default
    for thread in threading.enumerate():
        if thread.name.startswith("rank"):
            thread.join(5)
    assert threading.active_count() == before
    assert "rank 1 of 2 holds [2:4]" in repr(array)
    with pytest.raises(RuntimeError, match=r"belonged to a run of .* that has ended"):
        array.numpy()
    seen = weakref.ref(array)
    del array
    gc.collect()
    assert seen() is None


def test_one_rank_runs_at_a_time_in_order() -> None:
    seen: list[int] = []

    def func() -> None:
        for _ in range(2):
            seen.append(comm().rank)
            comm().allreduce(ONE)

    run(func, ranks=3)
    # The last to come goes on, then the lowest.
    assert seen == [0, 1, 2, 2, 0, 1]


def test_the_state_of_the_caller_holds_on_the_ranks() -> None:
    with ms.debug(), torch.no_grad():
        assert run(torch.is_grad_enabled, ranks=2) == [False, False]
        with pytest.raises(ValueError, match="must be the same on every rank"):
            run(lambda: ms.array(float(comm().rank)), ranks=2)
    assert run(torch.is_grad_enabled, ranks=1) == [True]


def skips() -> None:
    comm().allreduce(ONE)
    if comm().rank != 1:
        comm().allreduce(ONE)


def fails() -> None:
    if comm().rank == 1:
        raise KeyError("spilled")
    comm().allreduce(ONE)


def differs() -> None:
    if comm().rank == 1:
        comm().scan(ONE)
    else:
        comm().allreduce(ONE)


def notes(error: BaseException) -> str:
    return "\n".join(error.__notes__)


def test_a_rank_that_returns_while_others_wait() -> None:
    words = r"^collective #2: ranks 0, 2 waited in allreduce\(.*\) at test_threads.py:\d+, rank 1 returned\n"
    with pytest.raises(CollectiveError, match=words) as caught:
        run(skips, ranks=3)
    assert "ranks 0, 2 of 3:\n    It waited in allreduce(torch.float32, (1,), sum) at test_" in notes(caught.value)
    assert "in skips" in notes(caught.value)
    assert "rank 1 of 3:\n    It returned." in notes(caught.value)
    assert run(lambda: comm().rank, ranks=2) == [0, 1]


def test_a_rank_that_raises_while_others_wait() -> None:
    with pytest.raises(KeyError, match="spilled") as caught:
        run(fails, ranks=3)
    assert caught.traceback[-1].name == "fails"
    assert "ranks 0, 2 of 3:\n    It waited in allreduce(torch.float32, (1,), sum) at test_" in notes(caught.value)
    assert "This was raised on rank 1 of 3." in notes(caught.value)


def test_the_lowest_rank_that_raises_is_raised() -> None:
    def func() -> None:
        raise (ValueError, KeyError, TypeError)[comm().rank](f"on rank {comm().rank}")

    with pytest.raises(ValueError, match="on rank 0") as caught:
        run(func, ranks=3)
    assert "KeyError: 'on rank 1'" in notes(caught.value)
    assert "TypeError: on rank 2" in notes(caught.value)


def test_different_calls_name_both_with_their_lines() -> None:
    words = r"collective #1: ranks 0, 2 allreduce\(.*\) at test_threads.py:\d+, rank 1 scan\(.*\) at .*py:\d+$"
    with pytest.raises(CollectiveError, match=words):
        run(differs, ranks=3)


def test_different_calls_raise_on_every_rank_and_the_communicator_goes_on() -> None:
    def func() -> tuple[str, float]:
        with pytest.raises(CollectiveError) as caught:
            differs()
        return str(caught.value), comm().allreduce(ONE).item()

    (first, total), *others = run(func, ranks=3)
    assert others == [(first, total)] * 2
    assert total == 3.0


@pytest.mark.parametrize(
    ("bring", "words"),
    [
        (lambda r: comm().allreduce(torch.ones(r + 1)), r"rank 0 allreduce\(torch.float32, \(1,\), sum\)"),
        (lambda r: comm().allreduce(ONE, "sum" if r else "max"), "rank 0 allreduce.* max.*, rank 1 .* sum"),
        (lambda r: comm().broadcast(ONE, r), "from rank 0.* from rank 1"),
        (lambda r: comm().allgather_record(np.arange(r)), r"rank 0 allgather\(0\).*, rank 1 allgather\(1\)"),
        (lambda r: comm().free() if r else comm().split(0), "rank 0 split at .*, rank 1 free at"),
        (lambda r: ms.zeros((4, 4), split=0).resplit(1 if r else None), "exchange"),
    ],
    ids=["shape", "op", "root", "length", "kind", "layout"],
)
def test_calls_that_differ_in_one_detail(bring: Any, words: str) -> None:
    with pytest.raises(CollectiveError, match=words):
        run(lambda: bring(comm().rank), ranks=2)


def test_different_lines_are_an_error_in_debug_mode_only() -> None:
    def func() -> float:
        if comm().rank:
            return comm().allreduce(ONE).item()
        return comm().allreduce(ONE).item()

    assert run(func, ranks=2) == [2.0, 2.0]
    with ms.debug(), pytest.raises(CollectiveError, match=r"rank 0 allreduce.*, rank 1 allreduce"):
        run(func, ranks=2)


@pytest.mark.parametrize(
    ("send", "recv", "words"),
    [
        ([(1, 3)], [], r"rank 0 sends torch.float32 of shape \(3,\) to rank 1, which does not await it"),
        ([], [(0, 3)], r"rank 1 awaits torch.float32 of shape \(3,\) from rank 0, which sends it nothing"),
        ([(1, 3)], [(0, 2)], r"rank 1 awaits .* \(2,\) from rank 0, which sends it torch.float32 of shape \(3,\)"),
    ],
    ids=["not awaited", "not sent", "another shape"],
)
def test_pieces_that_do_not_fit(send: list[Any], recv: list[Any], words: str) -> None:
    def func() -> None:
        mine = [(send, []), ([], recv)][comm().rank]
        comm().exchange(*([(peer, torch.zeros(n)) for peer, n in pieces] for pieces in mine))

    with pytest.raises(CollectiveError, match=words):
        run(func, ranks=2)


def test_ranks_that_wait_on_different_communicators() -> None:
    def func() -> None:
        part = comm().split(0 if comm().rank < 2 else 1)
        assert part is not None
        (part if comm().rank == 0 else comm()).allreduce(ONE)

    waited = r"waited in allreduce\(.*\) at test_threads.py:\d+, collective"
    words = f"rank 0 {waited} #1 on the split-off part of ranks 0, 1, ranks 1, 2 {waited} #2\n"
    with pytest.raises(CollectiveError, match=words):
        run(func, ranks=3)


def test_a_waiting_rank_runs_its_clean_up() -> None:
    left: list[int] = []

    def func() -> None:
        try:
            skips()
        finally:
            left.append(comm().rank)
            if comm().rank != 1:
                comm().allreduce(ONE)  # at the end of everything, this goes nowhere
                left.append(99)

    with pytest.raises(CollectiveError, match="collective #2: ranks 0, 2 waited in"):
        run(func, ranks=3)
    assert left == [1, 0, 2]


def test_the_communicator_of_the_caller_is_not_used_up() -> None:
    def outer() -> list[list[int]]:
        inner = run(lambda: [comm().size, comm().rank], ranks=2)
        return [*inner, [int(comm().allreduce(ONE).item())]]

    assert run(outer, ranks=3) == [[[2, 0], [2, 1], [3]]] * 3


def test_system_exit_and_abort_are_failures() -> None:
    with pytest.raises(SystemExit) as caught:
        run(lambda: comm().abort(3) if comm().rank else comm().allreduce(ONE), ranks=2)
    assert caught.value.code == 3


def test_gradients_flow_between_threads() -> None:
    def func() -> list[float]:
        x = ms.array(torch.arange(4.0, requires_grad=True), split=0)
        shard = x.larray
        shard.retain_grad()
        (x.resplit(None).larray ** 2).sum().backward()
        assert shard.grad is not None
        return shard.grad.tolist()

    assert run(func, ranks=2) == [[0.0, 2.0], [4.0, 6.0]]


def test_an_error_that_cannot_be_printed_is_raised_all_the_same() -> None:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.text, error.offset = "f", 1, "text", "three"  # type: ignore[assignment]

    def func() -> None:
        comm().agree(np.zeros(1, dtype=np.int64))
        raise error

    with pytest.raises(SyntaxError, match="odd"):
        run(func, ranks=2)


def test_each_rank_catches_its_own_warnings() -> None:
    def func(text: str) -> None:
        text = f"{text} {comm().rank}"
        with pytest.warns(UserWarning, match=text) as caught:  # noqa: PT031 - that it lasts is the point
            comm().allreduce(ONE)
            warnings.warn(text, UserWarning, stacklevel=1)
            comm().allreduce(ONE)
        assert [str(warning.message) for warning in caught] == [text]

    before = warnings.filters, warnings.showwarning
    run(func, "from rank", ranks=3)
    assert before == (warnings.filters, warnings.showwarning)
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", UserWarning, stacklevel=1)


def test_a_reduction_that_overflows_warns_no_more_than_on_mpi() -> None:
    def func() -> list[float]:
        return comm().allreduce(torch.tensor([3e38, -3e38, float("inf") * (-1) ** comm().rank])).tolist()

    for found in run(func, ranks=2):
        assert str(found) == "[inf, -inf, nan]"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_where_the_run_is_stopped_no_rank_begins_or_stays(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    started: list[threading.Thread] = []
    stopped = threading.Event()

    def func() -> None:
        seen.append(comm().rank)
        if kind is KeyboardInterrupt:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
            stopped.wait(10)
        comm().allreduce(ONE)

    def start(thread: threading.Thread) -> None:
        if len(started) == 2 and kind is RuntimeError:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    with pytest.raises(kind):
        run(func, ranks=3)
    signal.signal(signal.SIGINT, before)
    stopped.set()
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()
    assert seen == ([0] if kind is KeyboardInterrupt else [])


@pytest.mark.parametrize(
    ("ranks", "kind", "words"),
    [
        (0, ValueError, "1 or more, got 0"),
        (True, TypeError, "got True"),
        (2.0, TypeError, "must be an int, got 2.0"),
        ("2", TypeError, "got '2'"),
    ],
)
def test_bad_numbers_of_ranks(ranks: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        run(print, ranks=ranks)
