"""Diagonals: taken from matrices, added up, and made into matrices."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout, as_index
from minisplit.ops.reductions.functions import sum as sum_of
from minisplit.ops.shape.layouts import diagonal_layout
from minisplit.ops.shape.manipulation import of_matrices
from minisplit.ops.shape.reshape import without_aliasing


def diagonal(x: DNDarray, /, *, offset: int = 0) -> DNDarray:
    """The diagonals of the matrices in the last two axes, along a new last axis. Local.

    offset: which, counted upward from the main one; there is none, of length 0, beyond the matrix.

    Each rank takes what it has: where the rows or columns are cut the result is split along the diagonal, else as
    `x`. ValueError for fewer than two dimensions.

    >>> import minisplit as ms
    >>> ms.diagonal(ms.reshape(ms.arange(6, split=0), (2, 3)), offset=1).tolist()
    [1, 5]
    """
    x = of_matrices(x)
    return without_aliasing(diagonal_of(x, as_index(offset, "offset"), x.ndim - 2, x.ndim - 1), x)


def diagonal_of(x: DNDarray, offset: int, rows: int, columns: int) -> DNDarray:
    """The diagonals of the matrices in any two axes, along a new last axis, as a view. Local."""
    box = x.layout.box(x.comm.rank)
    layout = diagonal_layout(x.layout, offset, rows, columns)
    own = offset + box[rows].start - box[columns].start
    return DNDarray(x.larray.diagonal(own, rows, columns), layout, x.comm)


def trace(x: DNDarray, /, *, offset: int = 0, dtype: torch.dtype | None = None) -> DNDarray:
    """The sums of the diagonals of the matrices in the last two axes.

    offset: which, counted upward from the main one. dtype: of the result, as in `minisplit.sum`.

    Local where a batch axis is cut; else collective, by one message, and the result is replicated. Raises
    ValueError for fewer than two dimensions.

    >>> import minisplit as ms
    >>> ms.trace(ms.ones((3, 4), split=1)).item()
    3.0
    """
    x, dtype = of_matrices(x), sanitize_dtype(dtype)
    return sum_of(diagonal_of(x, as_index(offset, "offset"), x.ndim - 2, x.ndim - 1), -1, dtype=dtype)


def diag(x: DNDarray, /, k: int = 0) -> DNDarray:
    """The matrix that has a 1-d array on its diagonal `k`, or the diagonal `k` of a matrix. Local.

    Diagonals count from the main one, upward. The matrix is split along its rows where `x` is, each where its
    element is; rows of zeros before and after them are on the first and last rank. ValueError for other than 1-d
    and 2-d arrays.

    >>> import minisplit as ms
    >>> ms.diag(ms.array([1, 2], split=0), k=-1).tolist()
    [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    """
    k = as_index(k, "k")
    if as_dndarray(x).ndim == 2:
        return diagonal(x, offset=k)
    if x.ndim != 1:
        raise ValueError(f"diag needs a 1-d array or a matrix, got shape {x.shape}")
    extent, rank, ranks = x.size + abs(k), x.comm.rank, x.comm.size
    if x.split is None:
        return DNDarray(torch.diag(x.larray, k), Layout((extent, extent), None, ranks), x.comm)
    counts = list(x.counts or ())
    counts[0] += max(-k, 0)
    counts[-1] += max(k, 0)
    layout = Layout((extent, extent), 0, ranks, tuple(counts))
    # The first and the last rank also have the rows without an element. Not by torch's pad: before torch 2.9 that
    # refuses matrices without elements.
    first_column = x.layout.span(rank)[0] + max(k, 0)
    above = x.larray.new_zeros(max(-k, 0) * (rank == 0), extent)
    below = x.larray.new_zeros(max(k, 0) * (rank == ranks - 1), extent)
    rows = x.larray.new_zeros(len(x.larray), extent).diagonal_scatter(x.larray, first_column)
    return DNDarray(torch.cat([above, rows, below]), layout, x.comm)
