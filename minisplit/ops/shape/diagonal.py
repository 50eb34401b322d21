"""Diagonals and triangles of matrices: taken, added up, made into matrices. Each element stays on its rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray, replicated
from minisplit.core.communication.protocol import Comm
from minisplit.core.conversion import tensor_of_numbers
from minisplit.core.factories import ones
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.core.pytorch.devices import Device
from minisplit.core.pytorch.dtypes import Dtype, as_element, sanitize_dtype
from minisplit.ops.elementwise.apply import check_one_communicator, into
from minisplit.ops.shape.axes import of_matrices
from minisplit.ops.shape.broadcast import broadcast_to
from minisplit.ops.shape.layouts import diagonal_layout, extend_ends
from minisplit.ops.shape.reshape import without_aliasing


def diagonal(x: DNDarray, /, offset: int = 0, axis1: int = 0, axis2: int = 1) -> DNDarray:
    """Return the diagonals of the matrices in two axes, by default the first two.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several along more axes.
    offset : int, default 0
        The diagonal, counted upward from the main one. Beyond the matrix it has no elements.
    axis1, axis2 : int, default 0 and 1
        The axes of the rows and of the columns. The last two are those of `minisplit.linalg.diagonal`.

    Returns
    -------
    DNDarray
        The diagonals along a new last axis, in new memory. Split along that axis if the rows or columns are, where
        each rank has the elements that it had. Otherwise split as `x`.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If `x` has fewer than two dimensions, or both axes are one.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.diagonal(ms.reshape(ms.arange(6, split=0), (2, 3)), offset=1).tolist()
    [1, 5]
    """
    x, rows, columns = _axes_of_matrices(x, axis1, axis2)
    return without_aliasing(diagonal_of(x, as_index(offset, "offset"), rows, columns), x)


def trace(
    x: DNDarray,
    /,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    dtype: Dtype = None,
    *,
    out: DNDarray | None = None,
) -> DNDarray:
    """Sum the diagonals of the matrices in two axes, by default the first two.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several along more axes.
    offset : int, default 0
        The diagonal, counted upward from the main one.
    axis1, axis2 : int, default 0 and 1
        The axes of the rows and of the columns. The last two are those of `minisplit.linalg.trace`.
    dtype : torch.dtype, optional
        The dtype of the result. By default that of `minisplit.sum`.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The sums, one for each matrix. Split as `x` where another axis is, otherwise replicated.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If `x` has fewer than two dimensions, or both axes are one.

    Communication
    -------------
    Local where another axis is split. Collective where the rows or columns are: one allreduce of the result.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.trace(ms.ones((3, 4), split=1)).item()
    3.0
    """
    (x, rows, columns), dtype = _axes_of_matrices(x, axis1, axis2), sanitize_dtype(dtype)
    # A view of the diagonals is enough: the sum is new memory.
    return into(diagonal_of(x, as_index(offset, "offset"), rows, columns).sum(-1, dtype=dtype), out)


def _axes_of_matrices(x: DNDarray, axis1: int, axis2: int) -> tuple[DNDarray, int, int]:
    """Return `x`, once it is known to have two axes, and the axes of rows and columns."""
    x = of_matrices(x)
    rows, columns = normalise_axis(axis1, x.ndim, "axis1"), normalise_axis(axis2, x.ndim, "axis2")
    if rows == columns:
        raise ValueError(f"axis1 and axis2 must be two axes, got {axis1} and {axis2} of shape {x.shape}")
    return x, rows, columns


def diag(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return the matrix that has a 1-d array on a diagonal, or a diagonal of a matrix.

    Parameters
    ----------
    x : DNDarray
        A 1-d array or a matrix.
    k : int, default 0
        The diagonal, counted upward from the main one.

    Returns
    -------
    DNDarray
        For a matrix what `diagonal` returns. For a split 1-d array, a matrix that is split along its rows. Each
        row is on the rank that has its element of `x`; rows of zeros before and after them are on the first and
        last rank.

    Raises
    ------
    ValueError
        If `x` is neither 1-d nor 2-d.

    Communication
    -------------
    Local.

    Examples
    --------
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
        return replicated(torch.diag(x.larray, k), x.comm)
    # Row i has element i of x, so that no element moves. What is left are rows of zeros at both ends.
    above, below = max(-k, 0), max(k, 0)
    # The first and the last rank also have the rows without an element. Not by torch's pad: before torch 2.9 that
    # refuses matrices without elements.
    parts = [
        x.larray.new_zeros(above * (rank == 0), extent),
        x.larray.new_zeros(len(x.larray), extent).diagonal_scatter(x.larray, x.layout.span(rank)[0] + below),
        x.larray.new_zeros(below * (rank == ranks - 1), extent),
    ]
    counts = extend_ends(x.layout, 0, above, below).ragged
    return DNDarray(torch.cat(parts), Layout((extent, extent), 0, ranks, counts), x.comm)


def fill_diagonal(x: DNDarray, /, val: Any, wrap: bool = False) -> None:
    """Set the main diagonal of an array, in place. It is `numpy.fill_diagonal`.

    Parameters
    ----------
    x : DNDarray
        A matrix, or an array of more axes, which are all equally long. It is changed.
    val : number, sequence or DNDarray
        The elements, in row-major order. Where there are too few they are taken again from the first on.
    wrap : bool, default False
        Whether the diagonal begins again below the last column of a tall matrix, after one row without it.

    Raises
    ------
    ValueError
        If there are fewer than two axes, or more than two of different lengths; if `val` is empty, or on another
        communicator.
    TypeError
        If `x` is not a DNDarray, or a number is complex and `x` is real.
    OverflowError
        If a number is not in the range of the integers of `x`.

    Communication
    -------------
    Local. If `val` is split, collective: one exchange gathers it.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.zeros((2, 3), split=0)
    >>> ms.fill_diagonal(x, 5)
    >>> x.tolist()
    [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]]
    """
    if as_dndarray(x).ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ValueError(f"fill_diagonal needs a matrix, or axes that are equally long, got shape {x.shape}")
    if isinstance(val, DNDarray):
        check_one_communicator([x, val])
        elements = val._align(val.layout.with_split(None)).larray.flatten()
    elif isinstance(val, (list, tuple, np.ndarray, torch.Tensor)) and np.ndim(val):
        elements = tensor_of_numbers(val, "val").flatten()
    else:
        elements = torch.tensor([as_element(val, x.dtype, "val")], dtype=x.dtype)
    if not len(elements):
        raise ValueError("fill_diagonal needs an element to set, got none")
    if elements.is_complex() and not x.dtype.is_complex:
        raise TypeError(f"{elements.dtype} does not become {x.dtype}: take the real part first")
    rows, columns = x.shape[:2]
    length = min(rows, columns)
    if wrap and x.ndim == 2 and columns:
        length = -(-rows * columns // (columns + 1))
    # Element k is in row and column k. Below the last column, a matrix of one row more begins again.
    place = torch.arange(length)
    index = [place] * x.ndim
    if wrap and x.ndim == 2:
        index = [place * (columns + 1) // max(columns, 1), place * (columns + 1) % max(columns, 1)]
    if x.split is not None:
        start, stop = x.layout.span(x.comm.rank)
        own = ((index[x.split] >= start) & (index[x.split] < stop)).nonzero()[:, 0]
        place, index = place[own], [axis[own] for axis in index]
        index[x.split] = index[x.split] - start
    chosen = elements.to(x.dtype)[place % len(elements)].to(x.device)
    x.larray[tuple(axis.to(x.device) for axis in index)] = chosen


def tril(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return `x` with zeros above a diagonal of each matrix.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them. A vector is each row of a square matrix, as in NumPy.
    k : int, default 0
        The diagonal, counted upward from the main one.

    Returns
    -------
    DNDarray
        The lower triangles, with the layout of `x`.

    Raises
    ------
    ValueError
        If `x` has no dimensions.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.tril(ms.ones((2, 3), split=0), k=1).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    # Diagonal k of the matrices is another one of a shard that does not begin at their first row and column.
    x = _rows_of_vector(x)
    return DNDarray(torch.tril(x.larray, local_offset(x, as_index(k, "k"))), x.layout, x.comm)


def triu(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return `x` with zeros below a diagonal of each matrix.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them. A vector is each row of a square matrix, as in NumPy.
    k : int, default 0
        The diagonal, counted upward from the main one.

    Returns
    -------
    DNDarray
        The upper triangles, with the layout of `x`.

    Raises
    ------
    ValueError
        If `x` has no dimensions.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.triu(ms.ones((2, 3), split=0), k=1).tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """
    x = _rows_of_vector(x)
    return DNDarray(torch.triu(x.larray, local_offset(x, as_index(k, "k"))), x.layout, x.comm)


def _rows_of_vector(x: DNDarray) -> DNDarray:
    """Return the matrices of `x`; of a vector the square one with it in each row. Local."""
    return broadcast_to(x, (x.size, x.size)) if as_dndarray(x).ndim == 1 else of_matrices(x)


def tri(
    n_rows: int,
    n_cols: int | None = None,
    /,
    k: int = 0,
    *,
    dtype: Dtype = None,
    split: int | None = None,
    device: Device = None,
    comm: Comm = None,
) -> DNDarray:
    """Make a matrix with ones on and below a diagonal, and zeros above it.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    n_cols : int, optional
        The number of columns. By default that of rows.
    k : int, default 0
        The diagonal, counted upward from the main one.
    dtype : torch.dtype, optional
        The dtype of the elements. By default torch's default dtype.
    split : int, optional
        The axis that is cut over the ranks. By default the matrix is replicated.
    device : str or torch.device, optional
        The device. By default the default device of minisplit.
    comm : Communication, optional
        The ranks that hold the matrix. By default those of `minisplit.get_comm`.

    Returns
    -------
    DNDarray
        The matrix, with the default counts.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.tri(2, 3, split=0).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    return tril(ones(shape, dtype=dtype, split=split, device=device, comm=comm), k)


def diagonal_of(x: DNDarray, offset: int, rows: int, columns: int) -> DNDarray:
    """The diagonals of the matrices in any two axes, along a new last axis, in the memory of `x`. Local."""
    own = x.larray.diagonal(local_offset(x, offset, rows, columns), rows, columns)
    return DNDarray(own, diagonal_layout(x.layout, offset, rows, columns), x.comm)


def local_offset(x: DNDarray, offset: int, rows: int = -2, columns: int = -1) -> int:
    """Which diagonal of this rank's shard a diagonal of the whole matrices is."""
    box = x.layout.box(x.comm.rank)
    row, column = box[rows].start, box[columns].start
    # The main diagonal of the matrix is diagonal row - column of a shard that begins at (row, column).
    return int(offset + row - column)
