"""The chunks in which an array is stored, and the layouts in which a chunk has one reader or one writer. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_index
from minisplit.core.storage import Box


def chunk_shape(layout: Layout, itemsize: int, max_bytes: int) -> tuple[int, ...]:
    """Return the shape of chunks for a layout: what a rank has by the default counts, or equal shares of that.

    The counts of the layout do not matter, so that any number of ranks finds the chunks of an even layout.

    >>> chunk_shape(Layout((10, 4), 0, ranks=4), 8, 2**24)
    (3, 4)
    >>> chunk_shape(Layout((4000, 4000), None, ranks=1), 8, 2**24)
    (500, 4000)
    """
    shape = [max(n, 1) for n in layout.shape]
    if layout.split is not None:
        shape[layout.split] = -(-shape[layout.split] // layout.ranks)
    # The split axis first: shorter chunks along it have borders where ranks' parts have them.
    for axis in sorted(range(layout.ndim), key=lambda axis: axis != layout.split):
        fitting = max_bytes * shape[axis] // (math.prod(shape) * itemsize)
        shares = -(-shape[axis] // max(fitting, 1))
        shape[axis] = -(-shape[axis] // shares)
    return tuple(shape)


def growing_chunk_shape(layout: Layout, itemsize: int, max_bytes: int) -> tuple[int, ...]:
    """Return the shape of chunks for an array to which rows are added: as long as chunks may be."""
    # Not by the rows that there are now: with one row at first, each that is added would be a chunk.
    return chunk_shape(Layout((2**31, *layout.shape[1:]), None, layout.ranks), itemsize, max_bytes)


def chunk_aligned_layout(layout: Layout, chunks: Any, first_row: int = 0) -> Layout:
    """Return the layout next to this one in which no chunk has parts on two ranks.

    `first_row` is where the array begins, along axis 0, in the dataset that is in chunks: rows are added behind
    those that are there, which may end in the middle of a chunk. The other axes begin where the dataset does.

    >>> chunk_aligned_layout(Layout((10, 4), 0, ranks=4), (3, 4)).counts
    (3, 3, 3, 1)
    >>> chunk_aligned_layout(Layout((10, 4), 0, ranks=4), (3, 4), first_row=1).counts
    (2, 3, 3, 2)
    """
    # As the libraries take them: a number for an array of one axis.
    given = chunks if isinstance(chunks, (tuple, list)) else [chunks]
    shape = [as_index(n, "every extent of a chunk") for n in given]
    if len(shape) != layout.ndim or min(shape, default=1) < 1:
        raise ValueError(
            f"chunks {short_repr(chunks)} do not fit the shape {layout.shape}: give an extent above 0 per axis"
        )
    if layout.split is None:
        return layout
    step, offset = shape[layout.split], first_row if layout.split == 0 else 0
    # Each bound between two ranks moves to the border of a chunk that is nearest to it.
    bounds = (offset + layout.offsets()[1:-1] + step // 2) // step * step - offset
    # The first bound may come before the first row, where a chunk has more old rows than new ones.
    ends = [0, *np.clip(bounds, 0, layout.extent).tolist(), layout.extent]
    return layout.with_counts([stop - start for start, stop in pairwise(ends)])


def chunk_read_layout(layout: Layout, chunks: Sequence[int]) -> Layout:
    """Return the layout in which ranks read chunks, each of them once, for an array that is to have `layout`.

    It is split along another axis where that has more chunks. It is `layout` itself where no axis has a chunk for
    every rank: to read some chunks twice is then better than that some ranks read nothing.

    >>> chunk_read_layout(Layout((100, 8), 1, ranks=4), (10, 8)).counts
    (30, 20, 30, 20)
    """
    number = [-(-n // step) for n, step in zip(layout.shape, chunks, strict=True)]
    if layout.split is None or max(number, default=0) < layout.ranks:
        return layout
    axis = layout.split if number[layout.split] >= layout.ranks else number.index(max(number))
    return chunk_aligned_layout(layout.with_split(axis), chunks)


def blocks(box: Box, itemsize: int, max_bytes: int) -> Iterator[tuple[Box, Box]]:
    """Yield parts of a box of at most `max_bytes`, or one index of its first axis, and where they are in it.

    >>> [block[0] for block, _ in blocks((slice(3, 8), slice(0, 2)), 8, 32)]
    [slice(3, 5, None), slice(5, 7, None), slice(7, 8, None)]
    """
    if not box:
        yield box, ()
        return
    rows, rest = box[0], box[1:]
    step = max(1, max_bytes // max(1, itemsize * math.prod(span.stop - span.start for span in rest)))
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        yield (slice(start, stop), *rest), (slice(start - rows.start, stop - rows.start),)
