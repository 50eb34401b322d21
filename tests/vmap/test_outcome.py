"""What is said of a failing function: the first failing sample, and what to do."""

from __future__ import annotations

import pytest
import torch

from minisplit.core.layout import Layout
from minisplit.vmap.execute import Outcome
from minisplit.vmap.failure import doing, hint_for, narrowed

pytestmark = pytest.mark.serial


def failed(start: int, stop: int, error: BaseException, in_func: bool = True) -> Outcome:
    return Outcome(None, error, start, stop, in_func)


@pytest.mark.parametrize("bad", [{4}, {9}, {7}, {6, 8}, {4, 5, 6, 7, 8, 9}])
def test_narrowed_to_the_first_sample_that_fails(bad: set[int]) -> None:
    ran = []

    def run(start: int, stop: int) -> None:
        ran.append(stop - start)
        if bad & set(range(start, stop)):
            raise ValueError("again")

    outcome = narrowed(failed(4, 10, ValueError("first")), run)
    assert (outcome.start, outcome.stop) == (min(bad), min(bad) + 1)
    assert str(outcome.error) == "first"
    assert sum(ran) <= 2 * 6


def test_not_narrowed_where_it_cannot_be() -> None:
    def run(start: int, stop: int) -> None:
        ran.append((start, stop))
        raise KeyError("another")

    ran: list[tuple[int, int]] = []
    outcome = narrowed(failed(0, 8, ValueError("first")), run)
    assert (outcome.start, outcome.stop) == (0, 8), "the error does not come again"
    ran.clear()
    for error in (RuntimeError("CPUAllocator: can't allocate memory"), MemoryError(), SystemExit(3)):
        assert narrowed(failed(0, 8, error), run).stop == 8
    assert narrowed(failed(0, 8, ValueError("of what func returned"), in_func=False), run).stop == 8
    assert ran == []


def test_what_is_said_of_the_samples() -> None:
    samples = Layout((10,), 0, 3)
    assert doing(failed(1, 2, ValueError()), samples, 1) == ("mapping sample 5 of 10", range(5, 6))
    assert doing(failed(0, 3, ValueError()), samples, 2) == ("mapping samples 7 to 9 of 10", range(7, 10))
    none = Layout((0,), 0, 3)
    assert doing(failed(0, 0, ValueError()), none, 2) == (
        "inferring the outputs of a batch without samples",
        range(0),
    )


def test_hints_are_for_what_they_fit() -> None:
    assert "chunk_size" in hint_for(MemoryError())
    assert "chunk_size" in hint_for(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert hint_for(ValueError("anything")) == ""
    assert "error.samples" in hint_for(RuntimeError("linalg.cholesky: (Batch element 0): not positive-definite"))
