"""What a key selects, for any number of ranks in one process: every rank's part is a NumPy array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_cases import BASIC, SHAPE, WHOLE
from layouts import layouts

from minisplit.core.indexing.keys import (
    ARRAY_AXES,
    Entry,
    Fancy,
    Selection,
    Slice,
    check_bounds,
    result_of,
    select,
    shard_key,
)
from minisplit.core.layout import Layout

pytestmark = pytest.mark.serial
NO_ARRAYS = Layout((), None, 3)


def entries(key: Any) -> tuple[Entry, ...]:
    items = key if isinstance(key, tuple) else (key,)
    return tuple(
        Slice(item.start, item.stop, item.step)
        if isinstance(item, slice)
        else item
        if item is None or item is ...
        else int(item)
        for item in items
    )


def whole_selection(selection: Selection) -> Any:
    """What the ranks select of `WHOLE`, put together as the result says."""
    result = result_of(selection, NO_ARRAYS)
    parts = []
    for rank in range(3):
        key, labels = shard_key(selection, rank, False)
        if result.owner not in {None, rank}:
            continue
        part = WHOLE[selection.x.box(rank)][key].transpose([labels.index(label) for label in result.labels])
        assert part.shape == result.layout.lshape(rank)
        parts.append(part)
    whole = parts[0] if result.layout.split is None else np.concatenate(parts, result.layout.split)
    return np.flip(whole, result.reversed_axes)


@pytest.mark.parametrize("name", BASIC)
def test_the_parts_of_all_ranks_are_what_numpy_selects(name: str) -> None:
    for _ in range(2):  # the second time from the caches
        for layout in layouts(SHAPE, 3):
            np.testing.assert_array_equal(
                whole_selection(select(entries(BASIC[name]), layout)), WHOLE[BASIC[name]]
            )


bounds = st.none() | st.integers(-8, 8)
steps = st.none() | st.sampled_from([1, 2, 3, -1, -2, -3])
slices = st.builds(slice, bounds, bounds, steps)


@given(st.lists(slices | st.integers(-4, 3) | st.none(), max_size=3), st.integers(0, 9))
def test_any_slices_and_ints(key: list[Any], which: int) -> None:
    layout = layouts(SHAPE, 3)[which]
    np.testing.assert_array_equal(whole_selection(select(entries(tuple(key)), layout)), WHOLE[tuple(key)])


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ((Fancy(), Fancy()), (ARRAY_AXES, 2)),
        ((slice(None), Fancy(), 0), (0, ARRAY_AXES)),
        ((slice(None), Fancy(), Fancy()), (0, ARRAY_AXES)),
        ((Fancy(), slice(None), Fancy()), (ARRAY_AXES, 1)),
        ((0, slice(None), Fancy()), (ARRAY_AXES, 1)),
        ((slice(None), Fancy(), None, Fancy()), (ARRAY_AXES, 0, 3)),
        ((Fancy((5, 4)), ...), (ARRAY_AXES, 2)),
        ((..., Fancy((4, 6))), (0, ARRAY_AXES)),
        ((None, Fancy(())), (3, ARRAY_AXES, 0, 1, 2)),
    ],
)
def test_where_the_axes_of_arrays_come(key: Any, order: tuple[int, ...]) -> None:
    """Those of arrays side by side replace what they index, others come first."""
    read = tuple(Slice(None, None, None) if isinstance(item, slice) else item for item in key)
    assert select(read, Layout(SHAPE, 0, 3)).order == order


def test_an_ellipsis_of_nothing_parts_its_neighbours() -> None:
    x = Layout(SHAPE[:2], 0, 3)
    assert select((Fancy(), 0), x).order == (ARRAY_AXES,)
    three = Layout(SHAPE, 0, 3)
    assert select((Slice(None, None, None), Fancy(), 0), three).order == (0, ARRAY_AXES)
    assert select((Slice(None, None, None), Fancy(), ..., 0), three).order == (ARRAY_AXES, 0)


def test_the_owner_of_an_int_on_the_split_axis() -> None:
    x = Layout((5, 2), 0, 3, (0, 4, 1))
    assert [result_of(select((index,), x), NO_ARRAYS).owner for index in range(-5, 5)] == [1, 1, 1, 1, 2] * 2
    # With split arrays beside it each rank gets a part.
    split = Layout((6,), 0, 3)
    result = result_of(select((4, Fancy()), x), split)
    assert result.owner is None
    assert result.layout == split


def test_slices_of_a_split_axis_stay_on_their_ranks() -> None:
    x = Layout((7, 2), 0, 3)
    assert result_of(select((Slice(1, None, 2),), x), NO_ARRAYS).layout.counts == (1, 1, 1)
    assert result_of(select((Slice(None, None, -3),), x), NO_ARRAYS).layout.counts == (1, 1, 1)
    assert result_of(select((Slice(5, None, None),), x), NO_ARRAYS).layout.counts == (0, 0, 2)


def test_bounds() -> None:
    check_bounds(-3, 2, 0, 3)
    for lowest, highest in ((-4, 0), (0, 3)):
        with pytest.raises(IndexError, match="out of range for axis 1 of length 3"):
            check_bounds(lowest, highest, 1, 3)


@pytest.mark.parametrize(
    ("mask", "fits"), [((5,), True), ((0,), True), ((5, 0), True), ((4,), False), ((5, 4, 6, 1), False)]
)
def test_masks_that_fit(mask: tuple[int, ...], fits: bool) -> None:
    x = Layout(SHAPE, 0, 3)
    if fits:
        assert select((Fancy(mask),), x).fancy_axes == (tuple(range(len(mask))),)
        return
    with pytest.raises(IndexError, match=r"does not fit|indexes 4 axes"):
        select((Fancy(mask),), x)
