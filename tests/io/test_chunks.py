"""Chunks have one reader or one writer. Pure: no ranks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hypo

import minisplit as ms
from minisplit.io.chunks import blocks, chunk_aligned_layout, chunk_read_layout, chunk_shape, growing_chunk_shape
from minisplit.testing import strategies as st

pytestmark = pytest.mark.serial


def chunks_of_ranks(layout, chunks, first_row=0):
    """The numbers of the chunks, along the split axis of the dataset, of which each rank has a part."""
    axis, found = layout.split, []
    for rank in range(layout.ranks):
        span = layout.box(rank)[axis]
        offset = first_row if axis == 0 else 0
        found.append({(offset + i) // chunks[axis] for i in range(span.start, span.stop)})
    return found


@given(layout=st.layouts(), itemsize=hypo.sampled_from([1, 8]), max_bytes=hypo.sampled_from([1, 30, 10**9]))
def test_no_chunk_has_two_ranks(layout, itemsize, max_bytes):
    chunks = chunk_shape(layout, itemsize, max_bytes)
    assert np.prod(chunks) * itemsize <= max(max_bytes, itemsize)
    aligned, reading = chunk_aligned_layout(layout, chunks), chunk_read_layout(layout, chunks)
    assert aligned.shape == reading.shape == layout.shape
    assert aligned.split == layout.split
    for placed in (aligned, reading):
        if placed.split is not None and placed is not layout:
            found = chunks_of_ranks(placed, chunks)
            assert len(set().union(*found)) == sum(map(len, found))


@given(
    layout=st.layouts(st.shapes(min_dims=1)).filter(lambda layout: layout.split is not None),
    chunks=hypo.lists(hypo.integers(1, 5), min_size=3, max_size=3),
    first_row=hypo.integers(0, 9),
)
def test_chunks_of_rows_behind_others_go_to_one_rank_each(layout, chunks, first_row):
    """Rows that are added may begin in the middle of a chunk, but along axis 0 only."""
    chunks = chunks[: layout.ndim]
    aligned = chunk_aligned_layout(layout, chunks, first_row)
    found = chunks_of_ranks(aligned, chunks, first_row)
    assert len(set().union(*found)) == sum(map(len, found))
    # And it is the layout next to the one that was given.
    assert max(abs(aligned.offsets() - layout.offsets())) <= chunks[layout.split] // 2


def test_where_rows_begin_does_not_matter_along_another_axis():
    layout = ms.Layout((10, 12), 1, 2)
    assert chunk_aligned_layout(layout, (4, 6), first_row=3) == chunk_aligned_layout(layout, (4, 6))
    assert chunk_aligned_layout(ms.Layout((12, 10), 0, 2), (6, 4), first_row=3).counts == (9, 3)


def test_chunks_that_are_read_along_another_axis():
    layout = ms.Layout((100, 8), 1, 4)
    assert chunk_read_layout(layout, (10, 8)).split == 0
    assert chunk_read_layout(layout, (50, 8)) is layout  # no axis has a chunk for each of four ranks
    assert chunk_read_layout(layout, (10, 2)).split == 1


def test_chunks_of_what_grows_are_as_long_as_they_may_be():
    assert growing_chunk_shape(ms.Layout((3, 16), 0, 2), 8, 2**20) == (2**13, 16)
    assert growing_chunk_shape(ms.Layout((3, 2**20), 1, 2), 8, 2**20) == (1, 2**17)


@pytest.mark.parametrize("chunks", [(0, 1), (1,), (1, 1, 1), 3])
def test_chunks_that_do_not_fit(chunks):
    with pytest.raises(ValueError, match="do not fit the shape"):
        chunk_aligned_layout(ms.Layout((4, 4), 0, 2), chunks)


@given(
    shape=st.shapes(),
    itemsize=hypo.sampled_from([1, 8]),
    max_bytes=hypo.sampled_from([1, 30, 10**9]),
)
def test_blocks_cover_a_box(shape, itemsize, max_bytes):
    box = tuple(slice(2, 2 + n) for n in shape)
    seen = np.zeros(shape, dtype=int)
    parts = list(blocks(box, itemsize, max_bytes))
    for part, place in parts:
        seen[place] += 1
        extents = tuple(span.stop - span.start for span in part)
        assert seen[place].shape == extents
        assert np.prod(extents) * itemsize <= max(max_bytes, itemsize * np.prod(shape[1:]))
    assert (seen == 1).all()
    assert all(first[0].stop == second[0].start for (first, _), (second, _) in pairwise(parts))
