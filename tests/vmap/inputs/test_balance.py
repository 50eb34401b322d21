"""The counts for which the fewest bytes move, against all counts that there are."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.vmap.inputs import balance
from minisplit.vmap.inputs.balance import cheapest_counts, parts_of

pytestmark = pytest.mark.serial
Input = tuple[Layout, int]  # and bytes per element; axis 0 is mapped


@st.composite
def inputs(draw: st.DrawFn) -> tuple[int, int, list[Input]]:
    """Samples, ranks, and inputs that are split along the samples or along another axis."""
    extent, ranks = draw(st.integers(0, 9)), draw(st.integers(1, 4))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        shape = extent, draw(st.integers(1, 4))
        split = draw(st.sampled_from((0, 0, 1)))
        cuts = sorted(draw(st.integers(0, shape[split])) for _ in range(ranks - 1))
        counts = tuple(stop - start for start, stop in pairwise([0, *cuts, shape[split]]))
        made.append((Layout(shape, split, ranks, counts), draw(st.sampled_from((1, 4, 8)))))
    return extent, ranks, made


def bytes_moved(inputs: list[Input], counts: tuple[int, ...]) -> int:
    targets = [Layout(layout.shape, 0, layout.ranks, counts) for layout, _ in inputs]
    return sum(size * elements_moved(x, target) for (x, size), target in zip(inputs, targets, strict=True))


@given(drawn=inputs(), imbalance=st.sampled_from((1.0, 1.5, 2.0, 4.0)))
def test_no_allowed_counts_are_cheaper_nor_more_even(
    drawn: tuple[int, int, list[Input]], imbalance: float
) -> None:
    extent, ranks, made = drawn
    fair = -(-extent // ranks)
    most = max(fair, int(imbalance * fair))
    found = cheapest_counts(extent, ranks, [parts_of(layout, 0, size) for layout, size in made], most)
    counts = found or Layout((extent,), 0, ranks).counts
    assert counts is not None
    every = [
        tuple(stop - start for start, stop in pairwise([0, *cuts, extent]))
        for cuts in combinations_with_replacement(range(extent + 1), ranks - 1)
    ]
    allowed = [each for each in every if max(each) <= most]
    assert counts in allowed
    fewest = min(bytes_moved(made, each) for each in allowed)
    assert bytes_moved(made, counts) == fewest
    balanced = Layout((extent,), 0, ranks).counts
    assert found is None or bytes_moved(made, balanced or ()) > fewest, (
        "balanced counts win where they are as cheap"
    )


@pytest.mark.parametrize("work", [1, 200, 2000])
def test_with_too_many_ranks_for_all_places_the_bound_still_holds(
    work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "WORK", work)
    generator = np.random.default_rng(0)
    cuts = [np.sort(generator.integers(0, 640, 63)) for _ in range(3)]
    layouts = [Layout((640, 2), 0, 64, tuple(np.diff([0, *cut, 640]).tolist())) for cut in cuts]
    found = cheapest_counts(640, 64, [parts_of(layout, 0, 4) for layout in layouts], 20)
    counts = found or (10,) * 64
    assert max(counts) <= 20
    assert bytes_moved([(layout, 4) for layout in layouts], counts) <= bytes_moved(
        [(layout, 4) for layout in layouts], (10,) * 64
    )


def test_many_ranks_are_planned_in_a_moment() -> None:
    ragged = tuple([1000 + (-1) ** rank for rank in range(65536)])
    inputs = [parts_of(Layout((65536000, 3), 0, 65536, counts), 0, 4) for counts in (ragged, None)]
    assert cheapest_counts(65536000, 65536, inputs, 2000) is None
