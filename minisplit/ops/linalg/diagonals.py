"""Diagonals and traces of the matrices in the last two axes, as the Python Array API standard has them."""

from __future__ import annotations

from minisplit.core.array import DNDarray
from minisplit.core.pytorch.dtypes import Dtype
from minisplit.ops.elementwise.apply import into
from minisplit.ops.shape import diagonal as shape
from minisplit.ops.shape.axes import of_matrices


def diagonal(x: DNDarray, /, *, offset: int = 0) -> DNDarray:
    """Return the diagonals of the matrices in the last two axes.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them.
    offset : int, default 0
        The diagonal, counted upward from the main one. Beyond the matrix it has no elements.

    Returns
    -------
    DNDarray
        The diagonals along a new last axis, in new memory. Split along that axis if the rows or columns are, where
        each rank has the elements that it had. Otherwise split as `x`.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

    Communication
    -------------
    Local.

    See Also
    --------
    minisplit.diagonal : Of the first two axes, or any two.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.diagonal(ms.reshape(ms.arange(6, split=0), (2, 3)), offset=1).tolist()
    [1, 5]
    """
    return shape.diagonal(of_matrices(x), offset, -2, -1)


def trace(x: DNDarray, /, *, offset: int = 0, dtype: Dtype = None, out: DNDarray | None = None) -> DNDarray:
    """Sum the diagonals of the matrices in the last two axes.

    Parameters
    ----------
    x : DNDarray
        A matrix, or several with batch axes before them.
    offset : int, default 0
        The diagonal, counted upward from the main one.
    dtype : torch.dtype, optional
        The dtype of the result. By default that of `minisplit.sum`.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The sums, one for each matrix. Split as `x` where a batch axis is, otherwise replicated.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

    Communication
    -------------
    Local where a batch axis is split. Collective where the rows or columns are: one allreduce of the result.

    See Also
    --------
    minisplit.trace : Of the first two axes, or any two.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.trace(ms.ones((3, 4), split=1)).item()
    3.0
    """
    return into(shape.trace(of_matrices(x), offset, -2, -1, dtype), out)
