"""Transfer plans: every rank's plan is made and executed here in one process, on NumPy arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from minisplit.core.layout import Layout
from minisplit.core.transfer import Pieces, TransferPlan, check_compatible, elements_moved, plan

pytestmark = pytest.mark.serial
Array = NDArray[np.int64]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Layout, Layout]:
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
    ranks = draw(st.integers(1, 7))

    def layout() -> Layout:
        split = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
        if split is None or draw(st.booleans()):
            return Layout(shape, split, ranks)
        extent = shape[split]
        cuts = sorted(draw(st.lists(st.integers(0, extent), min_size=ranks - 1, max_size=ranks - 1)))
        return Layout(shape, split, ranks, tuple(np.diff([0, *cuts, extent]).tolist()))

    return layout(), layout()


def cut(shard: Array, pieces: Pieces) -> dict[int, Array]:
    """The parts of a shard, by peer, as views."""
    assert [len(column) for column in (pieces.peers, pieces.starts, pieces.lengths)] == [len(pieces)] * 3
    return {
        peer: shard[(slice(None),) * pieces.axis + (slice(start, start + length),)] if shard.ndim else shard
        for peer, start, length in pieces
    }


def whole_of(layout: Layout) -> Array:
    return np.arange(layout.size).reshape(layout.shape)


def run(src: Layout, dst: Layout, plans: list[TransferPlan]) -> list[Array]:
    """Execute all plans through a mailbox; every letter is posted once, fetched once, and of one shape."""
    whole = whole_of(src)
    mailbox: dict[tuple[int, int], Array] = {}
    for sender, steps in enumerate(plans):
        for receiver, piece in cut(whole[src.box(sender)], steps.send).items():
            assert piece.size > 0
            mailbox[sender, receiver] = piece
    shards = []
    for receiver, steps in enumerate(plans):
        shard = np.full(dst.lshape(receiver), -1)
        for sender, place in cut(shard, steps.recv).items():
            letter = mailbox.pop((sender, receiver))
            assert letter.shape == place.shape
            assert (place == -1).all()
            place[...] = letter
        shards.append(shard)
    assert not mailbox
    return shards


def all_plans(src: Layout, dst: Layout) -> list[TransferPlan]:
    return [plan(src, dst, rank) for rank in range(src.ranks)]


@given(pairs())
def test_plans_deliver_every_box(pair: tuple[Layout, Layout]) -> None:
    src, dst = pair
    whole = whole_of(src)
    for rank, shard in enumerate(run(src, dst, all_plans(src, dst))):
        np.testing.assert_array_equal(shard, whole[dst.box(rank)])


@given(pairs())
def test_elements_are_counted_alike_by_senders_receivers_and_formula(pair: tuple[Layout, Layout]) -> None:
    src, dst = pair
    plans = all_plans(src, dst)
    sent = sum(steps.elements_sent for steps in plans)
    assert sent == sum(steps.recv.elements_off(steps.rank) for steps in plans) == elements_moved(src, dst)
    letters = sum(
        piece.size
        for rank, steps in enumerate(plans)
        for peer, piece in cut(whole_of(src)[src.box(rank)], steps.send).items()
        if peer != rank
    )
    assert letters == sent


@given(pairs())
def test_what_a_rank_has_already_is_not_sent(pair: tuple[Layout, Layout]) -> None:
    src, dst = pair
    whole = whole_of(src)
    missing = sum(np.setdiff1d(whole[dst.box(rank)], whole[src.box(rank)]).size for rank in range(src.ranks))
    assert elements_moved(src, dst) == missing


@given(pairs())
def test_the_reverse_plan_brings_everything_back(pair: tuple[Layout, Layout]) -> None:
    src, dst = pair
    back = run(dst, src, all_plans(dst, src))
    for rank, shard in enumerate(back):
        np.testing.assert_array_equal(shard, whole_of(src)[src.box(rank)])
    if src.split is not None and dst.split is not None:
        assert elements_moved(src, dst) == elements_moved(dst, src)
        for there, return_ in zip(all_plans(src, dst), all_plans(dst, src), strict=True):
            assert list(there.send) == list(return_.recv)
            assert list(there.recv) == list(return_.send)


@given(pairs())
def test_nothing_is_sent_to_the_same_layout_or_from_a_replicated_one(pair: tuple[Layout, Layout]) -> None:
    src, dst = pair
    replicated = src.with_split(None)
    for rank in range(src.ranks):
        for steps in (plan(src, src, rank), plan(replicated, dst, rank)):
            assert steps.elements_sent == steps.recv.elements_off(steps.rank) == 0
            assert set(steps.send.peers) | set(steps.recv.peers) <= {rank}
    assert elements_moved(src, src) == elements_moved(replicated, dst) == 0


@pytest.mark.parametrize(
    ("src", "dst", "moved"),
    [
        (Layout((), None, 3), Layout((), None, 3), 0),
        (Layout((0,), 0, 3), Layout((0,), None, 3), 0),
        (Layout((4, 0), 0, 3), Layout((4, 0), 1, 3), 0),
        (Layout((1,), 0, 3), Layout((1,), None, 3), 2),
        (Layout((1, 1), 0, 3), Layout((1, 1), 1, 3), 0),
        (Layout((6,), 0, 3, (0, 0, 6)), Layout((6,), 0, 3), 4),
        (Layout((6,), 0, 3, (0, 6, 0)), Layout((6,), 0, 3, (6, 0, 0)), 6),
        (Layout((3, 6), 1, 3), Layout((3, 6), None, 3), 36),
        (Layout((5, 2), 0, 1), Layout((5, 2), 1, 1), 0),
    ],
)
def test_elements_moved_by_hand(src: Layout, dst: Layout, moved: int) -> None:
    assert elements_moved(src, dst) == moved
    for rank, shard in enumerate(run(src, dst, all_plans(src, dst))):
        np.testing.assert_array_equal(shard, whole_of(src)[dst.box(rank)])


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        (Layout((7, 3), 0, 1000), Layout((7, 3), 1, 1000)),
        (Layout((1003,), 0, 1000), Layout((1003,), 0, 1000, (0,) * 999 + (1003,))),
        (Layout((2, 5), 1, 1000), Layout((2, 5), None, 1000)),
        (Layout((2, 5), None, 1000), Layout((2, 5), 1, 1000)),
    ],
)
def test_a_thousand_ranks_with_few_elements(src: Layout, dst: Layout) -> None:
    plans = all_plans(src, dst)
    for rank, shard in enumerate(run(src, dst, plans)):
        np.testing.assert_array_equal(shard, whole_of(src)[dst.box(rank)])
    assert sum(steps.elements_sent for steps in plans) == elements_moved(src, dst)


def test_one_plan_of_65536_ranks_is_quick() -> None:
    ranks = 2**16
    src, dst = Layout((2**20, 2**18), 0, ranks), Layout((2**20, 2**18), 1, ranks)
    begin = time.perf_counter()
    steps = plan(src, dst, 4711)
    assert len(steps.send) == len(steps.recv) == ranks
    assert steps.elements_sent == 16 * 4 * (ranks - 1)
    assert elements_moved(src, dst) == 2**38 - 16 * 4 * ranks
    assert time.perf_counter() - begin < 1.0


def test_neighbours_only_where_counts_differ_a_little() -> None:
    ranks = 2**16
    balanced = Layout((4 * ranks,), 0, ranks)
    shifted = Layout((4 * ranks,), 0, ranks, (5, *(4,) * (ranks - 2), 3))
    assert list(plan(balanced, shifted, 100).send) == [(99, 0, 1), (100, 1, 3)]
    assert elements_moved(balanced, shifted) == ranks - 1


def test_layouts_that_do_not_fit_together() -> None:
    words = r"keeps the shape and the number of ranks, got \(4, 3\) on 2 and \(3, 4\) on 2"
    for call in (
        lambda a, b: plan(a, b, 0),
        elements_moved,
        check_compatible,
    ):
        with pytest.raises(ValueError, match=words):
            call(Layout((4, 3), 0, 2), Layout((3, 4), 0, 2))
    with pytest.raises(ValueError, match=r"got \(4,\) on 2 and \(4,\) on 3"):
        plan(Layout((4,), 0, 2), Layout((4,), 0, 3), 0)


def test_caches_tell_their_arguments_apart() -> None:
    """Each is asked twice for each of several arguments."""
    rows, columns = Layout((4, 6), 0, 2), Layout((4, 6), 1, 2)
    ragged = rows.with_counts((1, 3))
    for _ in range(2):
        assert [elements_moved(rows, dst) for dst in (rows, columns, ragged)] == [0, 12, 6]
        assert [list(plan(rows, dst, 1).recv) for dst in (columns, ragged)] == [
            [(0, 0, 2), (1, 2, 2)],
            [(0, 0, 1), (1, 1, 2)],
        ]
        assert list(plan(rows, ragged, 0).recv) == [(0, 0, 1)]
        assert list(plan(ragged, rows, 0).recv) == [(0, 0, 1), (1, 1, 1)]
