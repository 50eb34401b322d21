"""Polynomials, by their coefficients from the highest power down: values, powers, and fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.conversion import array
from minisplit.core.layout import as_count
from minisplit.core.pytorch.dtypes import is_inexact
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.elementwise.comparison import equal
from minisplit.ops.elementwise.exponentials import sqrt
from minisplit.ops.elementwise.selection import where
from minisplit.ops.linalg.solvers import Tolerance, lstsq
from minisplit.ops.reductions.cumulative import running_products
from minisplit.ops.reductions.functions import sum
from minisplit.ops.shape.layouts import expand_layout, with_extent

Coefficients = Sequence[complex] | np.ndarray[Any, Any] | torch.Tensor | DNDarray


def vander(
    x: DNDarray,
    /,
    N: int | None = None,  # noqa: N803 - NumPy's name
    increasing: bool = False,
) -> DNDarray:
    """Return the powers of numbers, a row for each number: the Vandermonde matrix.

    Parameters
    ----------
    x : DNDarray
        The numbers, 1-d.
    N : int, optional
        How many powers, from 0 on. By default as many as there are numbers.
    increasing : bool, default False
        Whether the powers ascend along the rows.

    Returns
    -------
    DNDarray
        The matrix, of shape (length of `x`, `N`), in the dtype of `x`, or int64 for bools and smaller integers.
        Split along axis 0, with the counts of `x`, if `x` is split.

    Raises
    ------
    ValueError
        If `x` is not 1-d, or `N` is negative.
    TypeError
        If `x` is not a DNDarray, or `N` no int.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.vander(ms.array([1, 2, 3], split=0), 3).tolist()
    [[1, 1, 1], [4, 2, 1], [9, 3, 1]]
    """
    if as_dndarray(x).ndim != 1:
        raise ValueError(f"vander needs a 1-d array, got shape {x.shape}")
    number = x.size if N is None else as_count(N, "N")
    dtype = x.dtype if is_inexact(x.dtype) else torch.int64
    # Not torch.vander, which has no gradient: it changes its own intermediate results.
    factors = x.larray.to(dtype)[:, None].expand(-1, max(number - 1, 0))
    ones = factors.new_ones((len(factors), min(number, 1)))
    shard = running_products(torch.cat([ones, factors], 1), 1)
    shard = shard if increasing else shard.flip(1)
    return DNDarray(shard, with_extent(expand_layout(x.layout, (1,)), 1, number), x.comm)


def polyval(p: Coefficients, x: Operand, /) -> DNDarray:
    """Evaluate a polynomial.

    Parameters
    ----------
    p : sequence of number, torch.Tensor or DNDarray
        The coefficients, 1-d, that of the highest power first. The same on all ranks.
    x : DNDarray or number
        Where to evaluate. `p` or `x` is a DNDarray.

    Returns
    -------
    DNDarray
        The values, in the layout of `x`. The dtype is that of `result_type` of both.

    Raises
    ------
    ValueError
        If the coefficients are not 1-d, or on another communicator.
    TypeError
        If neither is a DNDarray.

    Communication
    -------------
    Local. If `p` is split, collective: one exchange gathers it.

    Notes
    -----
    By Horner's rule.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.polyval([1, 0, -1], ms.arange(3, split=0)).tolist()
    [-1, 0, 3]
    """
    if isinstance(p, torch.Tensor):
        p = array(p, comm=as_dndarray(x).comm)
    coefficients = p._align(p.layout.with_split(None)) if isinstance(p, DNDarray) else np.asarray(p)
    if coefficients.ndim != 1:
        raise ValueError(f"polyval needs coefficients in one dimension, got shape {coefficients.shape}")
    if not isinstance(p, DNDarray):
        as_dndarray(x)
    # A coefficient of Python or NumPy counts for the dtype as a number does, one of a DNDarray as an array.
    result: Any = x * 0
    for place in range(coefficients.shape[0]):
        result = result * x + (coefficients[place] if isinstance(p, DNDarray) else coefficients[place].item())
    return result if isinstance(result, DNDarray) else result + coefficients.sum()


def polyfit(
    x: DNDarray, /, y: DNDarray, deg: int, rcond: Tolerance = None, *, w: DNDarray | None = None
) -> DNDarray:
    """Fit a polynomial to points by least squares.

    Parameters
    ----------
    x : DNDarray
        The places of the points, 1-d.
    y : DNDarray
        The values, 1-d, or of shape (points, k) for k polynomials.
    deg : int
        The highest power.
    rcond : float, optional
        Below which part of the greatest singular value the others count as 0. By default the number of points
        times the precision of the dtype.
    w : DNDarray, optional
        The weights, 1-d: the deviation at each point is multiplied by them. By default 1.

    Returns
    -------
    DNDarray
        The coefficients, that of the highest power first, of shape (deg + 1,) or (deg + 1, k). Laid out as the
        solution of `linalg.lstsq`.

    Raises
    ------
    ValueError
        If `deg` is negative, the shapes do not fit, or the arrays are on different communicators.
    TypeError
        If an argument is not a DNDarray, `deg` is not an int, or a dtype is a half.
    torch.linalg.LinAlgError
        If a number is NaN or infinite. It is raised on every rank.

    Communication
    -------------
    Local if all arrays are replicated. Otherwise collective: the messages of `linalg.lstsq`, and one small
    allreduce.

    Notes
    -----
    The columns of the Vandermonde matrix are scaled to one length, which makes it better conditioned.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(4.0, split=0)
    >>> abs(ms.polyfit(x, 2 * x - 1, 1) - ms.array([2.0, -1.0])).max().item() < 1e-5
    True
    """
    number = as_count(deg, "deg") + 1
    if as_dndarray(x).ndim != 1 or as_dndarray(y, "y").ndim not in {1, 2} or y.shape[0] != x.size or not x.size:
        raise ValueError(f"polyfit needs 1-d places and as many values, at least one, got {x.shape} and {y.shape}")
    check_one_communicator([x, y])
    x, y = (each if is_inexact(each.dtype) else each.astype(torch.float64) for each in (x, y))
    powers, tolerance = vander(x, number), x.size * torch.finfo(x.dtype).eps if rcond is None else rcond
    if w is not None:
        if as_dndarray(w, "w").shape != x.shape:
            raise ValueError(f"w must have the shape of x, {x.shape}, got {w.shape}")
        powers, y = powers * w[:, None], y * (w[:, None] if y.ndim == 2 else w)
    scale = sqrt(sum(abs(powers) ** 2, 0))
    scale = where(equal(scale, 0), 1, scale)
    solution = lstsq(powers / scale, y, rtol=tolerance).solution
    return solution / (scale[:, None] if y.ndim == 2 else scale)
