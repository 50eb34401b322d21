"""What is said of a failing function: the first failing sample, and what to do."""

from __future__ import annotations

import pytest
import torch

from minisplit.core.layout import Layout
from minisplit.vmap.outcome import explain, hint_for, narrow

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("bad", [{4}, {9}, {7}, {6, 8}, {4, 5, 6, 7, 8, 9}])
def test_narrowed_to_the_first_sample_that_fails(bad: set[int]) -> None:
    ran = []

    def run(start: int, stop: int) -> None:
        ran.append(stop - start)
        if bad & set(range(start, stop)):
            raise ValueError("again")

    assert narrow(ValueError("first"), 4, 10, run) == (min(bad), min(bad) + 1)
    assert sum(ran) <= 2 * 6


def test_not_narrowed_where_it_cannot_be() -> None:
    def run(start: int, stop: int) -> None:
        ran.append((start, stop))
        raise KeyError("another")

    ran: list[tuple[int, int]] = []
    samples = Layout((8,), 0, 1)
    assert explain(ValueError("first"), 0, 8, run, samples, 0).attributes == {"samples": range(8)}
    assert len(ran) > 0, "the error does not come again"
    ran.clear()
    for error in (RuntimeError("CPUAllocator: can't allocate memory"), MemoryError(), SystemExit(3)):
        assert explain(error, 0, 8, run, samples, 0).attributes == {"samples": range(8)}
    assert ran == []


def test_what_is_said_of_the_samples() -> None:
    samples = Layout((10,), 0, 3)
    one = explain(ValueError(), 1, 2, None, samples, 1)
    assert (one.doing, one.attributes) == ("mapping sample 5 of 10", {"samples": range(5, 6)})
    several = explain(ValueError(), 0, 3, None, samples, 2)
    assert (several.doing, several.attributes) == ("mapping samples 7 to 9 of 10", {"samples": range(7, 10)})


def test_hints_are_for_what_they_fit() -> None:
    assert "chunk_size" in hint_for(MemoryError())
    assert "chunk_size" in hint_for(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert hint_for(ValueError("anything")) == ""
    assert "error.samples" in hint_for(RuntimeError("linalg.cholesky: (Batch element 0): not positive-definite"))
