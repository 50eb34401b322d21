"""What fails on one rank is raised on all of them, as one exception."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core.communication.agreement import RankError, agreement, raise_together

Comm = ms.Communication


class NeedsTwoError(Exception):
    """Cannot be made from a text alone."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)


class RewordsError(ValueError):
    """Says something else than it was told."""

    def __init__(self, text: str) -> None:
        super().__init__(f"code {len(text)}")


def caught(comm: Comm, error: BaseException | None) -> Exception:
    """What `agreement` raises on this rank if `error` is raised inside it, or nothing for None."""
    with pytest.raises(Exception) as info, agreement(comm, "testing"):  # noqa: PT011, PT012
        if error is not None:
            raise error
    return info.value


def assert_same_everywhere(comm: Comm, raised: Exception) -> None:
    mine = f"{type(raised).__name__}: {raised}".encode(errors="backslashreplace")
    first = comm.broadcast_bytes(mine)
    with agreement(comm, "comparing"):
        assert mine == first
    assert comm.allreduce(torch.tensor(comm.rank + 1)).item() == comm.size * (comm.size + 1) // 2


def test_all_well(comm: Comm) -> None:
    with agreement(comm, "testing"):
        mine = comm.rank
    assert mine == comm.rank


def test_one_rank_fails(comm: Comm, rank: int, size: int) -> None:
    last = size - 1
    original = IndexError(f"no such row on {rank}") if rank == last else None
    raised = caught(comm, original)
    assert type(raised) is IndexError
    assert str(raised).startswith(f"no such row on {last}\n  rank {last} of {size} failed while testing:\n")
    assert "Traceback (most recent call last)" in str(raised)
    assert __file__ in str(raised)
    assert raised.__cause__ is original
    assert_same_everywhere(comm, raised)


def test_ranks_fail_differently_and_the_lowest_is_raised(comm: Comm, rank: int, size: int) -> None:
    kinds = [KeyError, ZeroDivisionError, TypeError, ValueError]
    lowest = min(1, size - 1)
    original = kinds[rank % 4](f"from {rank}") if rank >= lowest else None
    raised = caught(comm, original)
    assert type(raised) is kinds[lowest]
    assert f"from {lowest}" in raised.args[0]
    assert f"rank {lowest} of {size}" in raised.args[0]
    assert raised.__cause__ is original
    assert_same_everywhere(comm, raised)


@pytest.mark.parametrize("kind", ["needs arguments", "rewords", "local"])
def test_exceptions_that_other_ranks_cannot_make(comm: Comm, rank: int, size: int, kind: str) -> None:
    class LocalError(Exception):
        """Has no name to pickle."""

    made: dict[str, Exception] = {
        "needs arguments": NeedsTwoError(5, "disk full"),
        "rewords": RewordsError("disk full"),
        "local": LocalError("disk full"),
    }
    original = made[kind] if rank == size - 1 else None
    raised = caught(comm, original)
    assert type(raised) is RankError
    assert type(made[kind]).__name__ in str(raised)
    assert f"rank {size - 1} of {size} failed while testing" in str(raised)
    assert raised.__cause__ is original
    assert_same_everywhere(comm, raised)


def test_a_subclass_that_others_can_make_keeps_its_type(comm: Comm, rank: int) -> None:
    raised = caught(comm, torch.linalg.LinAlgError("singular") if rank == 0 else None)
    assert type(raised) is torch.linalg.LinAlgError
    assert_same_everywhere(comm, raised)


@pytest.mark.processes
def test_an_exception_that_others_do_not_know(
    comm: Comm, rank: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnlyHereError(Exception):
        pass

    if rank == 0:  # a name in a module that no other rank can find
        OnlyHereError.__qualname__, OnlyHereError.__module__ = "OnlyHereError", "minisplit"
        monkeypatch.setattr(ms, "OnlyHereError", OnlyHereError, raising=False)
    raised = caught(comm, OnlyHereError("lonely") if rank == 0 else None)
    assert type(raised) is (RankError if size > 1 else OnlyHereError)
    assert "lonely" in str(raised)
    assert_same_everywhere(comm, raised)


@pytest.mark.parametrize(
    "text", ["", "naïve 🐢 text", "two\nlines", "x" * 100_000], ids=["empty", "unicode", "lines", "long"]
)
def test_texts_of_every_kind(comm: Comm, rank: int, text: str) -> None:
    raised = caught(comm, ValueError(text) if rank == 0 else None)
    assert str(raised).startswith(text or "ValueError\n")
    assert_same_everywhere(comm, raised)


def test_an_exception_without_arguments(comm: Comm, rank: int) -> None:
    raised = caught(comm, NotImplementedError() if rank == 0 else None)
    assert type(raised) is NotImplementedError
    assert str(raised).startswith("NotImplementedError\n")
    assert_same_everywhere(comm, raised)


def test_an_os_error_keeps_its_words(comm: Comm, rank: int) -> None:
    raised = caught(comm, FileNotFoundError(2, "No such file", "a.npy") if rank == 0 else None)
    assert type(raised) is FileNotFoundError
    assert "No such file" in str(raised)
    assert "a.npy" in str(raised)
    assert_same_everywhere(comm, raised)


class FirstOfTwo(ms.Communication):
    """Rank 0 of a job of two, whose other rank has nothing to say: what hangs a real job returns here."""

    _exchange = _allreduce = _scan = _broadcast = _allgather = _alltoall = None  # type: ignore[assignment]
    _split = _free = _meet = abort = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(0, 2)

    def _allgather_text(self, text: str) -> list[str]:
        return [text]

    def _agree(self, record: Any) -> Any:
        return record

    def _broadcast_bytes(self, data: bytes, root: int) -> bytes:
        return data


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise AttributeError("half made")


class ExitsError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoTextError(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value] # noqa: PLE0307


class SaysElseError(Exception):
    def __str__(self) -> str:
        return "nothing of what it was told"


class FailingArgsError(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt


class OddArgsError(Exception):
    args = 5  # type: ignore[assignment]


class RankedError(Exception):
    """Can be printed on some ranks only."""

    def __str__(self) -> str:
        if ms.get_comm().rank == 1:
            raise ValueError("not here")
        return super().__str__()


class SealedError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise GeneratorExit


class _Metaclass(type):
    def __reduce_ex__(cls, protocol: Any) -> Any:
        raise SystemExit(4)


class UnpicklableError(Exception, metaclass=_Metaclass):
    pass


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def chained() -> Exception:
    error = ValueError("last")
    for i in range(3000):
        another = ValueError(f"number {i}")
        another.__cause__ = error
        error = another
    return error


def grouped() -> Exception:
    error: Exception = ValueError("inner")
    for _ in range(3000):
        error = ExceptionGroup("group", [error])
    return error


ODD = {
    "unprintable": lambda: UnprintableError(5),
    "exits": lambda: ExitsError("told"),
    "no text": lambda: NoTextError("told"),
    "says else": lambda: SaysElseError("told"),
    "failing args": lambda: FailingArgsError("told"),
    "odd args": lambda: OddArgsError("told"),
    "ranked": lambda: RankedError("told"),
    "sealed": lambda: SealedError("told"),
    "unpicklable": lambda: UnpicklableError("told"),
    "deeply nested": lambda: ValueError(nested(100_000)),
    "chained": chained,
    "grouped": grouped,
    "surrogate": lambda: ValueError("no file \udcff.npy"),
    "exit": lambda: SystemExit(3),
    "generator": lambda: GeneratorExit("told"),
    "memory": MemoryError,
    "recursion": lambda: RecursionError("too deep"),
    "notes": lambda: add_note(ValueError("told"), 5),
}


def add_note(error: Exception, note: Any) -> Exception:
    error.__notes__ = note
    return error


@pytest.mark.parametrize("failing", ["first", "last", "all"])
@pytest.mark.parametrize("kind", ODD)
def test_V30_an_exception_that_fails_itself_is_told_safely(comm: Comm, size: int, kind: str, failing: str) -> None:
    """One type and text on all ranks, and the communicator clean: the ranks fell apart, and MPI ended the job."""
    fails = failing == "all" or comm.rank == (0 if failing == "first" else size - 1)
    original = ODD[kind]() if fails else None
    raised = caught(comm, original)
    assert isinstance(raised, Exception)
    try:
        text = str(raised)
    except BaseException:
        raise AssertionError("what is raised can be printed") from None
    assert f"rank {size - 1 if failing == 'last' else 0} of {size} failed while testing" in text
    assert_same_everywhere(comm, raised)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no file \udcff.npy"), "no file .*udcff"),
        (FileNotFoundError(2, "No such file", "\udcff.npy"), "No such file"),
        (UnprintableError(5), "UnprintableError"),
    ],
    ids=["surrogate", "undecodable file name", "unprintable"],
)
def test_V3_a_text_that_cannot_be_told_does_not_leave_the_others_waiting(error: Exception, words: str) -> None:
    with pytest.raises((type(error), RankError), match=words), agreement(FirstOfTwo(), "testing"):
        raise error


def test_stop_iteration_is_told_too(comm: Comm, rank: int, size: int) -> None:
    raised = caught(comm, StopIteration("no more rows") if rank == size - 1 else None)
    assert f"rank {size - 1} of {size} failed while testing" in str(raised)
    assert "no more rows" in str(raised)
    assert_same_everywhere(comm, raised)


def test_agreements_can_be_nested_and_repeated(comm: Comm, rank: int, size: int) -> None:
    for turn in range(2 * size):
        failing = turn % size
        words = f"turn {turn}\n  rank 0 of {size} failed while outer"
        with (  # noqa: PT012
            pytest.raises(ValueError, match=words),
            agreement(comm, "outer"),
            agreement(comm, "inner"),
        ):
            if rank == failing:
                raise ValueError(f"turn {turn}")


def test_agreement_on_a_part_of_the_ranks(comm: Comm, rank: int) -> None:
    half = comm.split(rank % 2)
    assert half is not None
    if rank % 2 == 0:
        raised = caught(half, ValueError("even") if half.rank == 0 else None)
        assert f"rank 0 of {half.size}" in str(raised)
    else:
        with agreement(half, "testing"):
            pass


@pytest.mark.serial
@pytest.mark.parametrize("first", [-1, 1, 2**62])
def test_an_agreement_that_MPI_has_mixed_up_with_another_call(first: int) -> None:
    with pytest.raises(
        ms.CollectiveError, match=f"rank {first}, but there are 1: .* MINISPLIT_DEBUG=1 names them"
    ):
        raise_together(ms.MPI_SELF, first, None)
