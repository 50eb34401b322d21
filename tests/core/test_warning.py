"""Warnings about large moves: on the same calls everywhere, shown once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core.errors import agreement
from minisplit.testing import run


@pytest.fixture
def above_100_bytes() -> Iterator[None]:
    ms.warn_above(100)
    yield
    ms.warn_above(2**30)


@pytest.mark.several
@pytest.mark.usefixtures("above_100_bytes")
def test_a_large_move_that_was_not_asked_for(comm: ms.Communication, rank: int, raises_alike: Any) -> None:
    x, y = ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1)
    mapped = ms.vmap(lambda a, b: a + b, in_dims=0)
    for call in (lambda: x + y, x.numpy, x.tolist, lambda: ms.linalg.det(x), lambda: mapped(x, y)):
        # As errors, which the tests make of all warnings, they are raised on all ranks.
        with raises_alike(ms.PerformanceWarning, match=r"this call brings .* MiB to each rank"):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ms.PerformanceWarning)
        assert (x + y).shape == (40, 40)


@pytest.mark.usefixtures("above_100_bytes")
def test_what_was_asked_for_or_is_small_is_no_warning() -> None:
    x = ms.zeros((40, 40), split=0)
    assert x.resplit(1).resplit(None).shape == (40, 40)
    assert x.redistribute(x.counts or ()).balance().split == 0
    assert (x + ms.ones((40, 40))).sum().item() == 1600
    assert ms.ones(3, split=0).tolist() == [1, 1, 1]


@pytest.mark.several
@pytest.mark.mpi
@pytest.mark.usefixtures("above_100_bytes")
def test_one_rank_shows_it_with_the_line_of_the_program(comm: ms.Communication, rank: int) -> None:
    x = ms.zeros((40, 40), split=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x.numpy()
        x + ms.zeros((40, 40), split=1)
    with agreement(comm, "checking"):
        assert [warning.filename for warning in caught] == [__file__] * 2 * (rank == 0)


@pytest.mark.serial
@pytest.mark.usefixtures("above_100_bytes")
def test_it_is_shown_whichever_thread_comes_first() -> None:
    def gathered() -> None:
        x = ms.zeros((40, 40), split=0)
        ms.get_comm().broadcast_bytes(b"")  # after which the last rank goes on first
        x.numpy()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        run(gathered, ranks=3)
    assert len(caught) == 1


def test_none_is_never(comm: ms.Communication) -> None:
    ms.warn_above(None)
    assert ms.zeros((40, 40), split=0).numpy().shape == (40, 40)
    ms.warn_above(2**30)
    assert torch.equal(ms.ones(2).larray, torch.ones(2))
