"""`@spmd`: the number of ranks, what a failure tells, and planted faults, found and shrunk."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, event, example, given, note, settings, target
from hypothesis.strategies import data, integers, randoms

import minisplit as ms
from minisplit.testing import Whole, spmd
from minisplit.testing import strategies as st

pytestmark = pytest.mark.serial
ONE = torch.ones(1)


def notes(error: BaseException) -> str:
    return "\n".join(error.__notes__)


@spmd
def size_is(expected: int) -> None:
    assert ms.get_comm().size == expected


def test_the_number_of_ranks() -> None:
    size_is(3, ranks=3)
    with pytest.raises(TypeError, match=r"unknown: give ranks=, or draw it with strategies\.ranks\(\)"):
        size_is(3)


def test_it_is_that_of_the_arrays() -> None:
    @spmd
    def check(x: Whole, others: list[Whole], expected: int) -> None:
        assert ms.get_comm().size == expected == x.cut().comm.size

    two, three = (Whole(torch.zeros(3), ms.Layout((3,), 0, ranks)) for ranks in (2, 3))
    check(two, [two, two], 2)
    check(three, [], expected=3, ranks=3)
    with pytest.raises(ValueError, match=r"different numbers of ranks: \[2, 3\]"):
        check(two, [three], 2)


@given(ranks=st.ranks())
@spmd
def test_a_test_may_ask_for_the_number_of_ranks(ranks: int) -> None:
    assert ms.get_comm().size == ranks


@spmd(ranks=(1, 2, 5))
def test_a_fixed_set_of_rank_counts(tmp_path: Path) -> None:
    assert ms.get_comm().size in {1, 2, 5}
    assert tmp_path.is_dir()


@spmd(ranks=(2, 3))
def test_a_fixed_set_that_the_test_sees(ranks: int) -> None:
    assert ms.get_comm().size == ranks


@given(x=st.tensors((3,), torch.float32))
@settings(max_examples=10)
@spmd(ranks=(2, 3))
def test_a_fixed_set_with_drawn_values(x: torch.Tensor) -> None:
    assert ms.array(x, split=0).resplit(None).larray.tolist() == x.tolist()


def misplaces_what_follows_an_empty_shard(x: Whole) -> None:
    mine = x.cut()
    if mine.split != 0:
        return
    assert mine.counts is not None
    start = sum(max(count, 1) for count in mine.counts[: mine.comm.rank])
    whole = torch.zeros(len(mine) + mine.comm.size, *mine.shape[1:])
    whole[start : start + mine.lshape[0]] = mine.larray
    assert torch.equal(mine.comm.allreduce(whole)[: len(mine)], x.tensor)


def skips_a_collective(x: Whole) -> None:
    mine = x.cut()
    if mine.comm.rank != 1:
        mine.resplit(None)


def fails_on_one_rank(x: Whole) -> None:
    mine = x.cut()
    if mine.comm.rank == 1 and mine.size > 2:
        raise ZeroDivisionError("planted")
    mine.resplit(None)


def asks_its_shard_what_to_do(x: Whole) -> None:
    comm = x.cut().comm
    steps = [lambda: comm.allreduce(ONE), lambda: comm.scan(ONE)]
    for step in steps if x.cut().larray.numel() else reversed(steps):
        step()


@pytest.mark.parametrize("ranks_are", ["threads", "pool"])
@pytest.mark.parametrize(
    ("fault", "kind", "words", "shape", "ranks"),
    [
        (misplaces_what_follows_an_empty_shard, AssertionError, "torch.equal", (1,), 2),
        (skips_a_collective, ms.CollectiveError, r"rank 0 (waited in )?exchange\(.* rank 1 returned", (1,), 2),
        (fails_on_one_rank, ZeroDivisionError, "planted", (3,), 2),
        (asks_its_shard_what_to_do, ms.CollectiveError, r"rank 0 \w+\(.*test_properties.py:\d+, rank 1 ", (1,), 2),
    ],
)
def test_planted_faults_are_found_and_shrunk(
    fault: Any, kind: Any, words: str, shape: Any, ranks: int, ranks_are: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", ranks_are)
    drawn = given(x=st.dndarrays(st.shapes(min_dims=1), torch.float32, elements=integers(1, 8)))
    with pytest.raises(kind) as caught:
        drawn(spmd(fault))()
    text = notes(caught.value)
    assert re.search(words, str(caught.value))
    call = re.search(rf"To run this example alone:\n(?:    .*\n)+    {fault.__name__}.alone\((.*)\)\n", text)
    assert call, text
    arguments = eval(f"dict({call[1]})", {"torch": torch, "Layout": ms.Layout, "Whole": Whole})
    assert (arguments["x"].layout.shape, arguments["ranks"]) == (shape, ranks)
    with pytest.raises(type(caught.value)):
        spmd(fault).alone(**arguments)  # type: ignore[attr-defined]


def fails_in_one_line(n: int, ranks: int) -> None:
    ms.ones(3, split=0)
    if n > 3:
        raise ZeroDivisionError(f"planted for {n}")


def test_the_explanation_of_a_failure_is_a_line_of_the_test() -> None:
    """Hypothesis named lines of minisplit.testing, as it saw none of those that the ranks ran."""
    drawn = given(n=integers(0, 10), ranks=integers(1, 2))(spmd(fails_in_one_line))
    with pytest.raises(ZeroDivisionError) as caught:
        settings(deadline=None, database=None)(drawn)()
    line = fails_in_one_line.__code__.co_firstlineno + 3
    explained = notes(caught.value).partition("Explanation:")[2]
    assert f"test_properties.py:{line}" in explained
    assert "minisplit/testing" not in explained.replace("tests/testing", "")


PROJECT = """
from hypothesis import given, settings
from minisplit.testing import spmd, strategies as st

@settings(deadline=None, database=None)
@given(x=st.dndarrays())
@spmd
def test_fails(x):
    assert x.tensor.numel() < 3
"""


@pytest.mark.parametrize("ranks_are", ["threads", "pool"])
def test_what_is_printed_can_be_pasted_where_pytest_ran(
    ranks_are: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str, **options: Any) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, **options)
        assert done.returncode == 1, done.stderr
        return done.stdout + done.stderr

    monkeypatch.setenv("MINISPLIT_TESTING", ranks_are)
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "test_sizes.py").write_text(PROJECT)
    told = run("-m", "pytest", "-p", "no:cacheprovider")
    assert "def _call" not in told  # no source of ours stands before what the test says
    lines = [
        line.removeprefix("E").strip() for line in told.partition("To run this example alone:\n")[2].splitlines()
    ]
    pasted = lines[: next(place for place, line in enumerate(lines) if ".alone(" in line) + 1]
    assert "x.tensor.numel() < 3" in run("-", input="\n".join(pasted))


@pytest.fixture(params=["threads", "pool"])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", request.param)


@settings(max_examples=20)
@given(st.tensors((2,), torch.float32), integers(0, 3), st.ranks())
@example(torch.tensor([1.0, 2.0]), 2, 3)
@spmd
def each_rank_has_its_own(x: torch.Tensor, number: int, ranks: int) -> None:
    assume(number)
    note(f"{number}")
    event("an event")
    target(float(number))
    total = x.sum().item()
    x += number
    ms.get_comm().allreduce(ONE)
    assert x.sum().item() == total + 2 * number
    x.requires_grad_().sum().backward()
    ms.get_comm().allreduce(ONE)
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]


class Methods:
    @given(ranks=st.ranks(2))
    @settings(max_examples=5)
    @spmd
    def sees_itself(self, ranks: int) -> None:
        assert isinstance(self, Methods)
        assert ms.get_comm().size == ranks

    @spmd
    def fails(self, x: Any) -> None:
        raise ZeroDivisionError


@spmd
def skips_on_one_rank(ranks: int) -> None:
    if ms.get_comm().rank == 1:
        pytest.skip("as it is")
    ms.get_comm().allreduce(ONE)


@spmd
def raises_nothing(x: Whole) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - none comes
        x.cut()


@spmd
def returns(ranks: int) -> bool:
    return ms.get_comm().rank == 5


@pytest.mark.usefixtures("runner")
def test_what_tests_do_on_threads_they_do_on_the_pool() -> None:
    each_rank_has_its_own()
    Methods().sees_itself()
    with pytest.raises(pytest.skip.Exception, match="as it is"):
        skips_on_one_rank(2)
    # Which hypothesis shrinks, unlike other exceptions that are no Exception.
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        given(x=st.dndarrays(ranks=2))(raises_nothing)()
    assert returns(ranks=2) is False


def test_what_cannot_be_sent_to_the_pool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", "pool")
    with pytest.raises(TypeError, match="argument x, a generator, cannot be sent to the ranks of a pool"):
        spmd(fails_on_one_rank)(x=(_ for _ in ()), ranks=1)


def test_arguments_as_text_make_the_same_again() -> None:
    values = {
        "tensor": torch.tensor([complex(-0.0, float("nan"))]),
        "grad": torch.tensor(1.5, requires_grad=True),
        "empty": torch.zeros((0, 2), dtype=torch.bfloat16),
        "array": np.array([[1, 2]], dtype=np.int8),
        "nested": {"a": [torch.tensor(1)], "b": (torch.tensor(2),), "c": (1, None, slice(1, 2))},
    }
    with pytest.raises(ZeroDivisionError) as caught:
        Methods().fails(values, ranks=1)  # type: ignore[call-arg]
    text = re.search(r"Methods\.fails\.alone\(self=Methods\(\), x=(.*), ranks=1\)", notes(caught.value))
    assert text
    again = eval(text[1], {"torch": torch, "numpy": np, "nan": float("nan")})
    for name in ("tensor", "grad", "empty"):
        torch.testing.assert_close(again[name], values[name], rtol=0, atol=0, equal_nan=True)
        assert again[name].requires_grad == values[name].requires_grad  # type: ignore[attr-defined]
    assert again["array"].dtype == np.int8
    assert str(again["nested"]) == str(values["nested"])


def test_numbers_of_ranks_are_found_in_dicts() -> None:
    spmd(lambda x: None)({"a": [Whole(ONE, ms.Layout((1,), 0, 2))]})


def plain() -> None: ...


async def postponed() -> None: ...


@pytest.mark.parametrize(
    ("decorate", "words"),
    [
        (lambda: spmd(postponed), "postponed has `async` or `yield`"),
        (lambda: spmd(ranks=(2,))(given(integers())(size_is)), "@spmd stands below @given"),
        (lambda: spmd(staticmethod(plain)), "@spmd stands right above a function"),
        (spmd, "@spmd stands right above a function"),
        (lambda: spmd(ranks=3), "with a sequence of numbers, not ranks=3"),
    ],
    ids=["async", "given", "static", "nothing", "number"],
)
def test_what_is_no_test_of_ranks(decorate: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        decorate()


@given(drawn=data() | randoms())
@settings(max_examples=5)
def test_ranks_do_not_draw(drawn: Any) -> None:
    with pytest.raises(TypeError, match=r"a (DataObject|\w+Random) cannot go to ranks"):
        spmd(lambda drawn: None)(drawn=drawn, ranks=1)


def test_threads_or_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPLIT_TESTING", "pools")
    with pytest.raises(ValueError, match="MINISPLIT_TESTING must be threads or pool, got 'pools'"):
        size_is(1, ranks=1)


def test_minisplit_needs_no_test_tools() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("hypothesis", "pytest", "cloudpickle")))
import minisplit as ms
assert ms.testing.run(lambda: 1, ranks=2) == [1, 1]
try:
    ms.testing.spmd
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'minisplit.testing.spmd needs pytest: pip install "minisplit[test]"' in done.stdout
