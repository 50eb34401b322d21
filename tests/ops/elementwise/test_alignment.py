"""The alignment of operands: pure, so any number of ranks is simulated in one process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minisplit.core.layout import Layout, operand_layout
from minisplit.core.transfer import elements_moved
from minisplit.ops.elementwise.alignment import align, align_in_place, broadcast_shape

pytestmark = pytest.mark.serial


@st.composite
def operands(draw: st.DrawFn) -> list[Layout]:
    """Two or three layouts whose shapes broadcast."""
    ranks = draw(st.integers(1, 5))
    shape = draw(st.lists(st.integers(0, 6), max_size=3))
    return [draw(layouts(shape, ranks)) for _ in range(draw(st.integers(2, 3)))]


@st.composite
def layouts(draw: st.DrawFn, shape: list[int], ranks: int) -> Layout:
    kept = shape[draw(st.integers(0, len(shape))) :]
    mine = tuple(1 if draw(st.integers(0, 3)) == 0 else n for n in kept)
    split = draw(st.none() | st.integers(0, len(mine) - 1)) if mine else None
    if split is None or draw(st.booleans()):
        return Layout(mine, split, ranks)
    cuts = sorted(draw(st.lists(st.integers(0, mine[split]), min_size=ranks - 1, max_size=ranks - 1)))
    return Layout(mine, split, ranks, tuple(np.diff([0, *cuts, mine[split]]).tolist()))


@given(operands())
def test_every_rank_gets_what_its_shard_is_made_from(given_layouts: list[Layout]) -> None:
    result = align(tuple(given_layouts), (8,) * len(given_layouts)).result
    wholes = [np.arange(math.prod(x.shape)).reshape(x.shape) + 100 * i for i, x in enumerate(given_layouts)]
    total = np.array(sum(wholes))
    assert result.shape == total.shape
    needed = [operand_layout(x, result) for x in given_layouts]
    for rank in range(result.ranks):
        parts = [whole[x.box(rank)] for whole, x in zip(wholes, needed, strict=True)]
        np.testing.assert_array_equal(np.array(sum(parts)), total[result.box(rank)])


@given(operands(), st.lists(st.sampled_from([1, 4, 16]), min_size=3, max_size=3))
def test_the_result_is_split_like_an_operand_and_moves_the_fewest_bytes(
    given_layouts: list[Layout], itemsizes: list[int]
) -> None:
    assert_aligned(given_layouts, itemsizes)


def assert_aligned(given_layouts: Sequence[Layout], itemsizes: Sequence[int]) -> None:
    """Assert that `align` chooses what moves the fewest bytes, found by trying all."""
    sizes = tuple(itemsizes[: len(given_layouts)])
    alignment = align(tuple(given_layouts), sizes)
    shape = alignment.result.shape

    def cost(result: Layout) -> int:
        pairs = zip(given_layouts, sizes, strict=True)
        return sum(size * elements_moved(x, operand_layout(x, result)) for x, size in pairs)

    own = []
    for x in given_layouts:
        if x.split is not None:
            axis = x.split + len(shape) - x.ndim
            own.append(Layout(shape, axis, x.ranks, x.ragged if shape[axis] == x.shape[x.split] else None))
    if own:
        costs = [cost(candidate) for candidate in own]
        assert alignment.result == own[costs.index(min(costs))]
    else:
        assert alignment.result.split is None
    needed = [operand_layout(x, alignment.result) for x in given_layouts]
    assert alignment.needed == tuple(None if x == y else y for x, y in zip(given_layouts, needed, strict=True))
    assert (alignment.like is None) == (alignment.result not in given_layouts)
    moved = any(x.split is not None and x != y for x, y in zip(given_layouts, needed, strict=True))
    assert alignment.messages == moved


def test_a_call_is_not_answered_by_what_is_cached_of_another() -> None:
    """All calls after one another: of the same shapes, with other splits, counts, ranks and sizes of elements."""
    one = [Layout((4, 4), split, 2) for split in (0, 1, None)]
    one += [Layout((4, 4), split, 2, counts) for split in (0, 1) for counts in ((3, 1), (1, 3))]
    calls = [(pair, sizes) for pair in product(one, repeat=2) for sizes in ((4, 8), (8, 4))]
    calls += [(tuple(Layout(x.shape, x.split, 3) for x in pair), (4, 8)) for pair in product(one[:3], repeat=2)]
    for first, second in permutations(calls, 2):
        align(*first)
        assert_aligned(*second)
    for (operand, target), (other, other_target) in permutations([pair for pair, _ in calls[::3]], 2):
        align_in_place(operand, target)
        wanted = operand_layout(other, other_target)
        assert align_in_place(other, other_target).result == other_target
        assert align_in_place(other, other_target).needed == (None if wanted == other else wanted,)


@given(st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=3))
def test_broadcasting_is_that_of_numpy(shapes: list[tuple[int, ...]]) -> None:
    try:
        wanted = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast: axis -"):
            broadcast_shape(shapes)
    else:
        assert broadcast_shape(shapes) == wanted


def test_the_heavier_operand_stays() -> None:
    rows, columns = Layout((8, 8), 0, ranks=4), Layout((8, 8), 1, ranks=4)
    assert align((rows, columns), (8, 4)).result == rows
    assert align((rows, columns), (4, 8)).result == columns
    assert align((columns, rows), (8, 8)).result == columns  # the first of equals


def test_an_operand_broadcast_along_its_split_is_gathered() -> None:
    one = Layout((1, 3), 0, ranks=2)
    assert align((one, Layout((4, 3), None, 2)), (8, 8)).needed == (Layout((1, 3), None, 2), Layout((4, 3), 0, 2))
    assert align((one, Layout((2, 1), None, 2)), (8, 8)).result == Layout((2, 3), 0, 2)


def test_what_changes_an_array_in_place_keeps_its_layout() -> None:
    target = Layout((4, 3), 0, ranks=2, ragged=(3, 1))
    assert align_in_place(Layout((4, 1), 0, 2), target).needed == (Layout((4, 1), 0, 2, (3, 1)),)
    assert align_in_place(target, target).needed == (None,)
    with pytest.raises(ValueError, match=r"keeps the shape \(4, 3\), but \(2, 1, 1\) would make the"):
        align_in_place(Layout((2, 1, 1), None, 2), target)


def test_the_words_of_the_error() -> None:
    with pytest.raises(
        ValueError, match=r"shapes \(3, 4\) and \(5,\) .*: axis -1 has extents 4 and 5, which must"
    ):
        broadcast_shape([(3, 4), (5,)])
