"""Warnings about large moves: on the same calls everywhere, shown once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.performance_warning import requested_move
from minisplit.testing import run

Calls = list[tuple[str, Callable[[], Any]]]


@pytest.fixture
def above_100_bytes() -> Iterator[None]:
    ms.warn_above(100)
    yield
    ms.warn_above(2**30)


def _surprising() -> Calls:
    """Calls that would move less if their arrays were split otherwise, and words of their warnings."""
    x, y, column = ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1), ms.zeros((4, 400), split=0)
    rows, picks = ms.array(np.arange(40)[::-1].copy(), split=0), torch.arange(40).flip(0)
    mapped = ms.vmap(lambda a, b: a + b, in_dims=0)
    with_gradient = ms.array(torch.zeros((40, 40), requires_grad=True), split=1)

    def put(value: Any) -> None:
        ms.zeros((40, 40), split=0)[rows] = value

    def put_aside() -> None:
        ms.zeros((40, 40), split=0)[:] = y

    return [
        ("must be", lambda: x + y),
        ("must be", lambda: ms.linalg.det(x)),
        ("must be", lambda: mapped(x, y)),
        ("must be", lambda: mapped(x, with_gradient)),
        ("must be", lambda: x @ x),
        ("must be", lambda: ms.sort(x, axis=0)),
        ("must be", lambda: ms.fft.fft(x, axis=0)),
        ("joined", lambda: ms.concat([x, x])),
        ("must be", lambda: ms.searchsorted(ms.arange(400, split=0), ms.arange(3, split=0))),
        ("must be", put_aside),
        ("array of integers", lambda: x[picks]),
        ("array of integers", lambda: x[rows]),
        ("array of integers", lambda: put(x)),
        ("an int", lambda: column[2]),
        ("backwards", lambda: x[::-1]),
        ("the split axis is reduced", lambda: column.sum(axis=0)),
        ("the split axis is reduced", lambda: column.max(axis=0)),
        ("summed over", lambda: ms.zeros((10, 400), split=1) @ ms.zeros((400, 10), split=0)),
        ("new shape", lambda: y.reshape((1600,))),
    ]


@pytest.mark.several
@pytest.mark.usefixtures("above_100_bytes")
def test_a_large_move_that_was_not_asked_for(comm: ms.Communication, raises_alike: Any) -> None:
    for way, call in _surprising():
        # As errors, which the tests make of all warnings, they are raised on all ranks.
        with raises_alike(ms.PerformanceWarning, match=rf"this call brings .* MiB to each rank: .*{way}.*resplit"):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ms.PerformanceWarning)
        assert (ms.zeros((40, 40), split=0) + ms.zeros((40, 40), split=1)).shape == (40, 40)


@pytest.mark.usefixtures("above_100_bytes")
def test_what_was_asked_for_stays_or_is_small_is_no_warning(comm: ms.Communication) -> None:
    x, y = ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1)
    assert x.resplit(1).resplit(None).shape == (40, 40)
    assert x.redistribute(x.counts or ()).balance().to_layout(y.layout).split == 1
    assert x.numpy().shape == np.asarray(x).shape == (40, 40)
    assert len(x.tolist()) == 40
    assert ms.array(x, split=1).split == 1
    assert ms.random.permutation(x).shape == ms.random.choice(x, 40).shape == (40, 40)
    assert (x + ms.ones((40, 40))).sum().item() == 1600
    assert ms.ones(3, split=0).tolist() == [1, 1, 1]
    # Rows that are where they are asked for, by indices that all ranks have and by those of each.
    assert x[torch.arange(40)].shape == x[ms.arange(40, split=0)].shape == (40, 40)
    # What has to move in any layout.
    assert ms.sort(ms.arange(400, split=0)).shape == ms.fft.fft(ms.zeros(400, split=0)).shape == (400,)
    # What another layout has spared.
    assert ms.sort(y, axis=0).split == y[torch.arange(40).flip(0)].split == y[::-1].split == 1
    assert y.sum(axis=0).split == 0
    assert x[x.sum(axis=1) == 0].reshape((1600,)).shape == (1600,)


@pytest.mark.several
@pytest.mark.usefixtures("above_100_bytes")
def test_a_backward_pass_says_nothing_a_second_time(comm: ms.Communication) -> None:
    x = ms.array(torch.zeros((40, 40), requires_grad=True), split=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss = (ms.sort(x, axis=0) + x[torch.arange(40).flip(0)]).sum()
        forward = len(caught)
        loss.larray.backward()
    with agreement(comm, "checking"):
        assert (forward, len(caught)) == ((2, 2) if comm.rank == 0 else (0, 0))


@pytest.mark.several
@pytest.mark.processes
@pytest.mark.usefixtures("above_100_bytes")
def test_one_rank_shows_it_with_the_line_of_the_program(comm: ms.Communication, rank: int) -> None:
    x = ms.zeros((40, 40), split=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x[[3] * 40]
        x + ms.zeros((40, 40), split=1)
    with agreement(comm, "checking"):
        assert [warning.filename for warning in caught] == [__file__] * 2 * (rank == 0)


@pytest.mark.several
@pytest.mark.usefixtures("above_100_bytes")
def test_the_names_of_functions_do_not_matter(comm: ms.Communication, raises_alike: Any) -> None:
    names: dict[str, Any] = {}
    exec(compile("def to_layout(x, y): return x + y", ms.__file__, "exec"), names)
    with raises_alike(ms.PerformanceWarning, match="this call brings"):
        names["to_layout"](ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1))


@pytest.mark.several
@pytest.mark.usefixtures("above_100_bytes")
def test_a_requested_move_is_no_warning_within_its_block(comm: ms.Communication, raises_alike: Any) -> None:
    x, y = ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1)
    with requested_move():
        assert (x + y).shape == (40, 40)
    with pytest.raises(KeyError), requested_move():
        raise KeyError
    with raises_alike(ms.PerformanceWarning, match="this call brings"):
        x + y


@pytest.mark.usefixtures("above_100_bytes")
def test_it_is_shown_whichever_thread_comes_first() -> None:
    def gathered() -> None:
        x, y = ms.zeros((40, 40), split=0), ms.zeros((40, 40), split=1)
        ms.get_comm().broadcast_bytes(b"")  # after which the last rank goes on first
        x + y

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        run(gathered, ranks=3)
    assert len(caught) == 1


def test_none_is_never(comm: ms.Communication) -> None:
    ms.warn_above(None)
    assert (ms.zeros((40, 40), split=0) + ms.zeros((40, 40), split=1)).shape == (40, 40)
    ms.warn_above(2**30)
    assert torch.equal(ms.ones(2).larray, torch.ones(2))
