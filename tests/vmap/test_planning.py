"""Which counts the inputs of a mapped call are moved to: from layouts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.vmap.planning import MAX_IMBALANCE, output_layout, plan_batch

pytestmark = pytest.mark.serial


def counts_of(extent: int, ranks: int) -> st.SearchStrategy[tuple[int, ...]]:
    cuts = st.lists(st.integers(0, extent), min_size=ranks - 1, max_size=ranks - 1).map(sorted)
    return cuts.map(lambda c: tuple(b - a for a, b in zip([0, *c], [*c, extent], strict=True)))


@st.composite
def inputs(draw):
    """Layouts of two or three inputs with one number of samples, and their bytes per element."""
    ranks, extent = draw(st.integers(1, 6)), draw(st.integers(0, 20))
    layouts = []
    for _ in range(draw(st.integers(2, 3))):
        split, other = draw(st.integers(0, 1)), draw(st.integers(1, 4))
        shape = (extent, other) if split == 0 else (other, extent)
        layouts.append(Layout(shape, split, ranks, draw(counts_of(extent, ranks))))
    return tuple(layouts), tuple(draw(st.sampled_from([1, 4, 8])) for _ in layouts)


@given(inputs())
def test_targets_fit_the_inputs_and_each_other(drawn):
    layouts, sizes = drawn
    batch = plan_batch(layouts, sizes)
    for layout, target in zip(layouts, batch.targets, strict=True):
        assert (target.shape, target.split) == (layout.shape, layout.split)
        assert target.counts == batch.samples.counts
    assert batch.in_dims == tuple(layout.split for layout in layouts)
    assert batch.size == layouts[0].extent


@given(inputs())
def test_no_allowed_counts_of_an_input_are_cheaper(drawn):
    layouts, sizes = drawn
    batch = plan_batch(layouts, sizes)

    def cost(ragged):
        return sum(
            size * elements_moved(x, x.with_counts(ragged) if ragged else x.balanced())
            for x, size in zip(layouts, sizes, strict=True)
        )

    chosen = cost(batch.samples.ragged)
    if len({layout.ragged for layout in layouts}) == 1:
        assert chosen == 0
        return
    fair = -(-layouts[0].extent // layouts[0].ranks)
    assert max(batch.samples.counts) <= MAX_IMBALANCE * fair
    assert chosen <= cost(None)
    for layout in layouts:
        if max(layout.counts) <= MAX_IMBALANCE * fair:
            assert chosen <= cost(layout.ragged)


def test_equal_counts_stay_however_uneven():
    layout = Layout((9, 2), 0, 3, (9, 0, 0))
    assert plan_batch((layout, layout), (4, 4)).samples.counts == (9, 0, 0)


def test_the_heavier_input_stays():
    heavy, light = Layout((8, 100), 0, 2, (5, 3)), Layout((8,), 0, 2)
    assert plan_batch((light, heavy), (4, 4)).samples.counts == (5, 3)


def test_a_lopsided_layout_is_given_up_for_an_even_one():
    heavy, light = Layout((9, 100), 0, 3, (9, 0, 0)), Layout((9,), 0, 3)
    assert plan_batch((heavy, light), (4, 4)).samples.counts == (3, 3, 3)


def test_replicated_inputs_have_no_mapped_axis():
    whole, cut = Layout((3, 3), None, 2), Layout((2, 8), 1, 2)
    batch = plan_batch((whole, cut), (4, 4))
    assert batch.in_dims == (None, 1)
    assert batch.targets == (whole, cut)


def test_V6_sizes_differ():
    with pytest.raises(
        ValueError, match=r"input 0 has 4 \(axis 0 of \(4,\)\), input 2 has 5 \(axis 1 of \(2, 5\)\)"
    ):
        plan_batch((Layout((4,), 0, 2), Layout((7,), None, 2), Layout((2, 5), 1, 2)), (4, 4, 4))


def test_V8_no_split_input():
    with pytest.raises(ValueError, match="all are replicated"):
        plan_batch((Layout((4,), None, 2),), (4,))


def test_output_layout_puts_the_samples_along_the_out_dim():
    samples = Layout((5,), 0, 2, (4, 1))
    assert output_layout((2, 3), 1, samples) == Layout((2, 5, 3), 1, 2, (4, 1))
