"""The lower and upper triangles of matrices. Local: each rank has the rows or columns that it had."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Comm
from minisplit.core.devices import Device
from minisplit.core.dtypes import Dtype
from minisplit.core.factories import ones
from minisplit.core.layout import as_index
from minisplit.ops.shape.diagonal import local_offset
from minisplit.ops.shape.transpose import of_matrices


def tril(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return `x` with zeros above a diagonal of each matrix.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them.
    k : int, default 0
        The diagonal, counted upward from the main one.

    Returns
    -------
    DNDarray
        The lower triangles, with the layout of `x`.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

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
    x = of_matrices(x)
    return DNDarray(torch.tril(x.larray, local_offset(x, as_index(k, "k"))), x.layout, x.comm)


def triu(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return `x` with zeros below a diagonal of each matrix.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them.
    k : int, default 0
        The diagonal, counted upward from the main one.

    Returns
    -------
    DNDarray
        The upper triangles, with the layout of `x`.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.triu(ms.ones((2, 3), split=0), k=1).tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """
    x = of_matrices(x)
    return DNDarray(torch.triu(x.larray, local_offset(x, as_index(k, "k"))), x.layout, x.comm)


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
