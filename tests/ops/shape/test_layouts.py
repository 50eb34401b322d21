"""Layouts of results of shape operations and reductions, for many ranks: no run of tests has as many."""

from __future__ import annotations

import math
from itertools import permutations, product

import pytest
from reduction_cases import Dims, layout_after

import minisplit as ms
from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.ops.shape.layouts import (
    canonical_layout,
    concat_layout,
    elements_reshaped,
    merge_axes,
    reduce_layout,
    reshape_layout,
)

pytestmark = pytest.mark.serial


def test_layouts_for_many_ranks() -> None:
    ranks = 1000
    rows = ms.Layout((10**6, 6), 0, ranks)
    # A few indices go to neighbours.
    shifted = reshape_layout(rows, (3 * 10**5, 20))
    assert shifted.split == 0
    assert elements_moved(merge_axes(rows), merge_axes(shifted)) < 20 * ranks
    assert reshape_layout(ms.Layout((100,), 0, 2, (48, 52)), (10, 10)).counts == (5, 5)  # 50 is nearer than 40
    # Not onto two ranks, though fewer elements would move.
    assert reshape_layout(ms.Layout((10**6,), 0, ranks), (2, 5 * 10**5)) == ms.Layout((2, 5 * 10**5), 1, ranks)
    assert canonical_layout(reshape_layout(rows, (10**3, 10**3, 2, 3))) == canonical_layout(rows)
    # One row more makes none but its own rank send anything.
    even, one = ms.Layout((10**6,), 0, ranks), ms.Layout((1,), 0, ranks)
    both = concat_layout((even, one), 0, (4, 4))
    assert both.needed[0] == even
    assert both.result.counts == (*[1000] * (ranks - 1), 1001)


def test_caches_tell_arguments_apart() -> None:
    """Each argument alone makes another result, in calls one after the other."""
    rows, few = ms.Layout((6, 4), 0, 2), ms.Layout((6, 4), 0, 2, (1, 5))
    for _ in range(2):
        assert reshape_layout(rows, (12, 2)).counts == (6, 6)
        assert reshape_layout(few, (12, 2)).counts == (2, 10)
        assert reshape_layout(rows, (24,)).counts == (12, 12)
        assert elements_reshaped(rows, ms.Layout((24,), 0, 2)) == 0
        assert elements_reshaped(few, ms.Layout((24,), 0, 2)) == 8
        assert elements_reshaped(rows, ms.Layout((24,), 0, 2, (0, 24))) == 12
        first, second = ms.Layout((6, 4, 3), 0, 2), ms.Layout((6, 4, 3), 1, 2)
        assert concat_layout((first, second), 2, (8, 1)).result.split == 0
        assert concat_layout((first, second), 2, (1, 8)).result == ms.Layout((6, 4, 6), 1, 2)
        assert concat_layout((first, second), 1, (1, 8)).result.shape == (6, 8, 3)
        assert concat_layout((second, second), 2, (1, 8)).result == ms.Layout((6, 4, 6), 1, 2)
        assert concat_layout((first, first), 2, (1, 8)).result.split == 0


Call = tuple[Layout, Dims, bool]


def assert_reduced(layout: Layout, axes: Dims, keepdims: bool) -> None:
    reduced = reduce_layout(layout, axes, keepdims)
    shape = [1 if axis in axes else n for axis, n in enumerate(layout.shape) if keepdims or axis not in axes]
    assert reduced.axes == axes
    assert reduced.result == layout_after(layout, axes, tuple(shape))
    assert reduced.crosses == (layout.split in axes and layout.ranks > 1)
    assert reduced.count == math.prod(layout.shape[axis] for axis in axes)


def calls(shape: tuple[int, ...]) -> list[Call]:
    """Calls for one shape: with other splits, counts, ranks, axes and `keepdims`."""
    layouts = [Layout(shape, split, ranks) for split in (None, 0, 1) for ranks in (1, 2, 3)]
    layouts += [Layout(shape, split, 2, counts) for split in (0, 1) for counts in ((3, 1), (1, 3), (0, 4))]
    return list(product(layouts, [(), (0,), (1,), (0, 1)], [False, True]))


@pytest.mark.parametrize("call", calls((4, 4)), ids=str)
def test_layouts(call: Call) -> None:
    assert_reduced(*call)


def test_a_call_is_not_answered_by_what_is_cached_of_another() -> None:
    for first, second in permutations(calls((4, 4)), 2):
        reduce_layout(*first)
        assert_reduced(*second)
