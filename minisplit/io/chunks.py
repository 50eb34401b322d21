"""Which chunks an array is cut into, and in which layouts a chunk has one reader and one writer. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minisplit.core.layout import Layout, as_index
from minisplit.core.storage import Box


def chunks_of(layout: Layout, itemsize: int, most: int) -> tuple[int, ...]:
    """The shape of chunks for a layout, whatever its counts: default parts, or shares of them of `most` bytes.

    >>> chunks_of(Layout((10, 4), 0, ranks=4), 8, 2**24), chunks_of(Layout((4000, 4000), None, ranks=1), 8, 2**24)
    ((3, 4), (500, 4000))
    """
    chunks = [max(n, 1) for n in layout.shape]
    if layout.split is not None:
        chunks[layout.split] = -(-chunks[layout.split] // layout.ranks)
    for axis in sorted(range(layout.ndim), key=lambda axis: axis != layout.split):
        fit = most * chunks[axis] // (math.prod(chunks) * itemsize)
        shares = -(-chunks[axis] // max(fit, 1))
        chunks[axis] = -(-chunks[axis] // shares)
    return tuple(chunks)


def unending(layout: Layout) -> Layout:
    """A layout with so many rows that chunks for it are as long as they may be."""
    return Layout((2**31, *layout.shape[1:]), None, layout.ranks)


def aligned(layout: Layout, chunks: Any, first: int = 0) -> Layout:
    """The layout next to this one in which no chunk has parts on two ranks.

    `first`: where the array begins along axis 0 of that which is cut into chunks.

    >>> aligned(Layout((10, 4), 0, ranks=4), (3, 4)).counts, aligned(Layout((10, 4), 0, ranks=4), (3, 4), 1).counts
    ((3, 3, 3, 1), (2, 3, 3, 2))
    """
    given = chunks if isinstance(chunks, (tuple, list)) else [chunks]
    sizes = [as_index(n, "every extent of a chunk") for n in given]
    if len(sizes) != layout.ndim or min(sizes, default=1) < 1:
        raise ValueError(f"chunks {chunks!r} do not fit the shape {layout.shape}: give an extent above 0 per axis")
    if layout.split is None:
        return layout
    step, start = sizes[layout.split], 0 if layout.split else first
    borders = (start + layout.offsets()[1:-1] + step // 2) // step * step - start
    ends = [0, *np.clip(borders, 0, layout.extent).tolist(), layout.extent]
    return layout.with_counts([stop - start for start, stop in pairwise(ends)])


def by_chunks(layout: Layout, chunks: Sequence[int]) -> Layout:
    """The layout in which ranks read chunks, each of them once, for an array that is to have `layout`.

    That is along another axis where that has more chunks; this layout itself where no axis has one for every rank.

    >>> by_chunks(Layout((100, 8), 1, ranks=4), (10, 8)).counts
    (30, 20, 30, 20)
    """
    number = [-(-n // step) for n, step in zip(layout.shape, chunks, strict=True)]
    if layout.split is None or max(number, default=0) < layout.ranks:
        return layout
    axis = layout.split if number[layout.split] >= layout.ranks else number.index(max(number))
    return aligned(layout.with_split(axis), chunks)


def blocks(box: Box, itemsize: int, most: int) -> Iterator[tuple[Box, tuple[slice, ...]]]:
    """Parts of a box of at most `most` bytes, or one index of its first axis, and where they are within the box.

    >>> [block[0] for block, _ in blocks((slice(3, 8), slice(0, 2)), 8, 32)]
    [slice(3, 5, None), slice(5, 7, None), slice(7, 8, None)]
    """
    if not box:
        yield box, ()
        return
    rows, rest = box[0], box[1:]
    step = max(1, most // max(1, itemsize * math.prod(span.stop - span.start for span in rest)))
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        yield (slice(start, stop), *rest), (slice(start - rows.start, stop - rows.start),)
