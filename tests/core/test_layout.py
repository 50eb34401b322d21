"""Layouts: integers only, so one process stands for any number of ranks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minisplit.core.layout import (
    Layout,
    as_index,
    layout_from_counts,
    normalise_axes,
    normalise_axis,
    normalise_shape,
    operand_layout,
)

pytestmark = pytest.mark.serial


@st.composite
def counts_for(draw: st.DrawFn, extent: int, ranks: int) -> tuple[int, ...]:
    """Any way to hand out `extent` indices to `ranks` ranks."""
    cuts = sorted(draw(st.lists(st.integers(0, extent), min_size=ranks - 1, max_size=ranks - 1)))
    return tuple(stop - start for start, stop in zip([0, *cuts], [*cuts, extent], strict=True))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=3)))
    ranks = draw(st.integers(1, 9))
    split = draw(st.none() | st.integers(-len(shape), len(shape) - 1)) if shape else None
    if split is None or draw(st.booleans()):
        return Layout(shape, split, ranks)
    return Layout(shape, split, ranks, draw(counts_for(shape[split], ranks)))


@given(layouts())
def test_boxes_cover_every_element_once(layout: Layout) -> None:
    held = np.zeros(layout.shape, dtype=int)
    for rank in range(layout.ranks):
        held[layout.box(rank)] += 1
        assert layout.lshape(rank) == np.empty(layout.shape)[layout.box(rank)].shape
    assert (held == (layout.ranks if layout.split is None else 1)).all()


@given(layouts())
def test_counts_displs_spans_and_offsets_agree(layout: Layout) -> None:
    if layout.split is None:
        assert layout.counts is None
        assert layout.displs is None
        with pytest.raises(ValueError, match="a replicated layout has no split axis"):
            _ = layout.extent
        return
    counts, displs = layout.counts, layout.displs
    assert counts is not None
    assert displs is not None
    assert sum(counts) == layout.extent == layout.shape[layout.split]
    assert displs == tuple(sum(counts[:rank]) for rank in range(layout.ranks))
    assert layout.offsets().tolist() == [*displs, layout.extent]
    for rank, (start, count) in enumerate(zip(displs, counts, strict=True)):
        assert layout.span(rank) == (start, start + count)


@given(layouts())
def test_shape_facts(layout: Layout) -> None:
    assert layout.ndim == len(layout.shape)
    assert layout.size == math.prod(layout.shape)
    assert layout.is_balanced == (layout == layout.balanced())
    assert layout.balanced().is_balanced
    assert layout.with_split(None) == Layout(layout.shape, None, layout.ranks)
    if layout.counts is not None:
        assert layout.balanced().with_counts(layout.counts) == layout


@given(st.integers(0, 50), st.integers(1, 12))
def test_default_rule_gives_one_index_more_to_the_first_ranks(extent: int, ranks: int) -> None:
    counts = Layout((extent,), 0, ranks).counts
    assert counts == tuple(len(part) for part in np.array_split(np.empty(extent), ranks))


@given(st.integers(0, 50), st.integers(1, 12))
def test_counts_of_the_default_rule_are_not_stored(extent: int, ranks: int) -> None:
    balanced = Layout((extent, 2), 0, ranks)
    same = Layout([extent, 2], -2, ranks, list(balanced.counts or ()))  # type: ignore[arg-type]
    assert same == balanced
    assert hash(same) == hash(balanced)
    assert same.ragged is None


def test_different_counts_are_different_layouts() -> None:
    assert Layout((4,), 0, 2) != Layout((4,), 0, 2, (3, 1))
    assert len({Layout((4,), 0, 2), Layout((4,), 0, 2, (3, 1)), Layout((4,), 0, 2, (2, 2))}) == 2


def test_a_layout_cannot_be_changed() -> None:
    layout = Layout((4,), 0, 2)
    with pytest.raises(AttributeError):
        layout.split = None  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        layout.offsets()[0] = 1


def test_a_thousand_ranks() -> None:
    layout = Layout((3, 1003), 1, 1000)
    assert layout.counts == (2, 2, 2) + (1,) * 997
    assert layout.box(999) == (slice(0, 3), slice(1002, 1003))
    few = Layout((7,), 0, 1000)
    assert few.counts == (1,) * 7 + (0,) * 993
    assert few.lshape(999) == (0,)


def test_extents_above_32_bits() -> None:
    layout = Layout((2**40, 2**20), 0, 3)
    assert layout.size == 2**60
    assert layout.span(2) == (2**40 - 2**40 // 3, 2**40)
    assert layout.offsets()[-1] == 2**40


@pytest.mark.parametrize("split", [2, -3, 10**9])
def test_A1_split_out_of_range(split: int) -> None:
    with pytest.raises(IndexError, match=rf"split {split} is out of range for 2 dimensions; allowed: -2 to 1"):
        Layout((4, 3), split, 2)


@pytest.mark.parametrize("split", [0, -1])
def test_A1_split_of_a_0d_array(split: int) -> None:
    with pytest.raises(IndexError, match=rf"split {split} is out of range .* a 0-d array has no axis"):
        Layout((), split, 2)


@pytest.mark.parametrize("split", [True, np.True_, 0.0, "0", (0,)], ids=repr)
def test_A1_split_is_no_int(split: Any) -> None:
    with pytest.raises(TypeError, match=rf"split must be an int, got .* of type {type(split).__name__}"):
        Layout((4, 3), split, 2)


@pytest.mark.parametrize(
    ("counts", "kind", "words"),
    [
        ((4, 3, 0), ValueError, r"counts must be 2 ints, one per rank, got 3: \(4, 3, 0\)"),
        ((), ValueError, r"counts must be 2 ints, one per rank, got 0: \(\)"),
        ((8, -1), ValueError, r"counts must not be negative, got \(8, -1\)"),
        ((3, 2), ValueError, r"counts \(3, 2\) hold 5 indices, but axis 0 of \(7, 4\) has 7"),
        ((3.0, 4), TypeError, "every count must be an int, got 3.0 of type float"),
        ((True, 6), TypeError, "every count must be an int, got True of type bool"),
        (7, TypeError, "counts must be a sequence of ints, one per rank, got 7"),
    ],
)
def test_A4_bad_counts(counts: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Layout((7, 4), 0, 2, counts)


def test_A4_counts_of_a_replicated_layout() -> None:
    with pytest.raises(ValueError, match=r"counts need a split axis, but split is None \(replicated\)"):
        Layout((7, 4), None, 2, (3, 4))
    with pytest.raises(ValueError, match="counts need a split axis"):
        Layout((7, 4), None, 2).with_counts((3, 4))


def test_bad_shapes_and_ranks() -> None:
    with pytest.raises(ValueError, match=r"extents must not be negative, got shape \(3, -1\)"):
        Layout((3, -1), 0, 2)
    with pytest.raises(TypeError, match=r"every extent of a shape must be an int, got 2\.5 of type float"):
        Layout((2.5,), 0, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a layout needs at least one rank, got 0"):
        Layout((3,), 0, 0)


def test_normalising() -> None:
    assert normalise_shape(3) == (3,)
    assert normalise_shape(np.array([2, 3])) == (2, 3)
    assert [normalise_axis(axis, 3) for axis in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert as_index(np.int64(4), "n") == 4
    with pytest.raises(IndexError, match="dim 5 is out of range"):
        normalise_axis(5, 2, "dim")


def test_normalising_several_axes() -> None:
    assert normalise_axes((-1, 0), 3) == (2, 0)  # in the order in which they are given
    assert normalise_axes(-1, 3) == normalise_axes([2], 3) == normalise_axes(np.array([-1]), 3) == (2,)
    assert normalise_axes((), 3) == normalise_axes(range(0), 0) == ()
    with pytest.raises(IndexError, match="axes 3 is out of range for 3 dimensions"):
        normalise_axes((0, 3), 3, "axes")
    with pytest.raises(ValueError, match=r"axes \(0, -3\) names an axis of 3 dimensions more than once"):
        normalise_axes([0, -3], 3, "axes")
    for wrong in (None, 1.0, True, "0"):
        with pytest.raises(TypeError, match="axis must be an int, got"):
            normalise_axes(wrong, 3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_a_layout_from_counts(counts: list[int]) -> None:
    layout = layout_from_counts(counts)
    assert layout == Layout((sum(counts),), 0, len(counts), tuple(counts))
    assert layout.counts == tuple(counts)
    assert layout_from_counts(counts, (4, 2, 3), 1) == Layout((4, sum(counts), 3), 1, len(counts), tuple(counts))


def test_caches_tell_their_arguments_apart() -> None:
    """Each is asked twice for each of several arguments."""
    rows, columns = Layout((4, 6), 0, 2), Layout((4, 6), 1, 2)
    ragged = rows.with_counts((1, 3))
    for _ in range(2):
        assert rows.with_split(1) == ragged.with_split(-1) == columns
        assert ragged.with_split(0) == ragged != rows.with_split(0)
        assert [x.offsets().tolist() for x in (rows, ragged, columns)] == [[0, 2, 4], [0, 1, 4], [0, 3, 6]]
        assert Layout((4,), 0, 3).counts == (2, 1, 1) != Layout((5,), 0, 3).counts
        one = Layout((1, 6), None, 2)
        assert [operand_layout(one, x).split for x in (rows, columns)] == [None, 1]
        assert operand_layout(Layout((4, 6), None, 2), ragged) == ragged


def test_text_is_short_and_tells_layouts_apart() -> None:
    layouts = [Layout((4,), None, 2), Layout((4,), 0, 2), Layout((4,), 0, 2, (4, 0)), Layout((4,), 0, 1)]
    assert list(map(str, layouts)) == [
        "(4,) replicated on 2 ranks",
        "(4,) split 0 over 2 ranks",
        "(4,) split 0 over [4, 0]",
        "(4,) split 0 over 1 rank",
    ]


def test_texts_do_not_grow_with_the_number_of_ranks() -> None:
    """But they tell layouts apart, as they are compared between ranks."""
    counts = [3, 1] * 5000
    x, y = (Layout((20_000, 2), 0, 10_000, tuple(each)) for each in (counts, [*counts[:-2], 1, 3]))
    assert str(x).startswith("(20000, 2) split 0 over [3, 1, 3, 1,")
    assert len(str(x)) < 120
    assert str(x) != str(y)
    with pytest.raises(ValueError, match=r"must not be negative, got \(3, 1, .*\.\.\.\)$") as caught:
        x.with_counts([*counts[:-1], -1])
    assert len(str(caught.value)) < 120
