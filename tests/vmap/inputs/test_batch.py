"""Which counts the inputs of a mapped call are moved to: from layouts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minisplit.core.layout import Layout
from minisplit.vmap.inputs.batch import box, output_layout, plan_batch, sample_shape

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


def test_equal_counts_stay_however_uneven():
    layout = Layout((9, 2), 0, 3, (9, 0, 0))
    assert plan_batch((layout, layout), (4, 4)).samples.counts == (9, 0, 0)


def test_the_heavier_input_stays():
    heavy, light = Layout((8, 100), 0, 2, (5, 3)), Layout((8,), 0, 2)
    assert plan_batch((light, heavy), (4, 4)).samples.counts == (5, 3)


def test_a_lopsided_layout_is_evened_out_as_far_as_the_bound_says():
    heavy, light = Layout((9, 100), 0, 3, (9, 0, 0)), Layout((9,), 0, 3)
    assert plan_batch((heavy, light), (4, 4)).samples.counts == (3, 3, 3)
    assert plan_batch((heavy, light), (4, 4), max_imbalance=2.0).samples.counts == (6, 0, 3)
    assert plan_batch((heavy, light), (4, 4), max_imbalance=3.0).samples.counts == (9, 0, 0)


def test_in_dims_choose_the_mapped_axes():
    rows, columns, whole = Layout((6, 4), 0, 2, (5, 1)), Layout((4, 6), 0, 2), Layout((6,), None, 2)
    batch = plan_batch((rows, columns, whole, rows), (4, 4, 4, 4), (0, 1, 0, None), max_imbalance=2.0)
    assert [(target.split, target.counts) for target in batch.targets] == [
        (0, (5, 1)),
        (1, (5, 1)),
        (0, (5, 1)),
        (None, None),
    ]
    assert (batch.aligned, batch.exchanges) == (False, True)


def test_replicated_inputs_are_cut_evenly_and_move_nothing():
    whole = Layout((5, 4), None, 3)
    batch = plan_batch((whole, whole), (4, 4), (0, None))
    assert batch.samples.counts == (2, 2, 1)
    assert (batch.aligned, batch.exchanges) == (False, False)


def test_an_input_that_must_be_re_split_gives_up_lopsided_counts_of_another():
    lopsided, other = Layout((9, 2), 0, 3, (9, 0, 0)), Layout((9, 2), 1, 3)
    assert max(plan_batch((lopsided, other), (4, 4), (0, 0)).samples.counts) == 3


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
    assert output_layout((2, 3), None, samples) == Layout((2, 3), None, 2)


def test_what_a_call_knows_of_its_samples() -> None:
    """Bytes of the mapped inputs alone, and the first rank with samples if some rank has none."""
    mapped, whole = Layout((3, 5, 2), 1, 3, (0, 4, 1)), Layout((7,), None, 3)
    batch = plan_batch((mapped, whole), (4, 8))
    assert (batch.size, batch.sample_bytes, batch.root) == (5, 3 * 2 * 4, 1)
    assert batch.samples == Layout((5,), 0, 3, (0, 4, 1))
    assert plan_batch((Layout((3, 5), 1, 2),), (4,)).root is None


@pytest.mark.parametrize(
    ("axis", "expected"), [(None, (2, 3, 4, 5)), (0, (3, 4, 5)), (1, (2, 4, 5)), (2, (2, 3, 5)), (3, (2, 3, 4))]
)
def test_shape_of_a_sample(axis: int | None, expected: tuple[int, ...]) -> None:
    assert sample_shape((2, 3, 4, 5), axis) == expected


def test_a_box_is_whole_along_the_other_axes() -> None:
    assert box((4, 5, 6), 1, 1, 3) == (slice(0, 4), slice(1, 3), slice(0, 6))
