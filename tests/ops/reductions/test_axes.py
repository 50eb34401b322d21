"""The layouts of reduced arrays: pure, so any number of ranks is simulated in one process."""

from __future__ import annotations

import math
from itertools import permutations, product

import pytest
from reduction_cases import Dims, layout_after

from minisplit.core.layout import Layout
from minisplit.ops.reductions.axes import reduce_layout

pytestmark = pytest.mark.serial
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
