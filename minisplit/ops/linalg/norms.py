"""Norms of vectors and matrices: powers are added up on each rank, then by one allreduce, and rooted once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, isnan
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.error_text import short_repr
from minisplit.core.layout import normalise_axes
from minisplit.ops.linalg.decompositions import svdvals
from minisplit.ops.reductions.reduce import Axis, accumulation_dtype, check_inexact, plan_reduction, reduce_shard
from minisplit.ops.shape.axes import expand_dims, moveaxis, of_matrices

# The norms that are an extreme of sums of absolute values: whether to sum over rows (0) or columns (1). A positive
# order stands for the greatest sum, a negative one for the least.
_SUM_NORMS: dict[Any, int] = {1: 0, -1: 0, inf: 1, -inf: 1}
# The norms that are a reduction of the singular values.
_SINGULAR_NORMS: dict[Any, Callable[..., DNDarray]] = {"nuc": DNDarray.sum, 2: DNDarray.max, -2: DNDarray.min}
_ORDERS = "'fro', 'nuc', 1, -1, 2, -2, inf or -inf"


def vector_norm(x: DNDarray, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> DNDarray:
    """Return the norms of the vectors along an axis, over several axes, or of all elements.

    Parameters
    ----------
    x : DNDarray
        The array, of floating point or complex numbers.
    axis : int or tuple of int, optional
        The axes that a vector has. By default all of them.
    keepdims : bool, default False
        Whether these axes stay, with extent 1.
    ord : float, default 2
        The order: `inf` is the greatest absolute value, `-inf` the least, 0 the number of elements other than
        zero, any other p the p-th root of the sum of p-th powers of absolute values.

    Returns
    -------
    DNDarray
        The norms, which are real: shape of `x` without `axis`. Split as `x` if its split axis stays, otherwise
        replicated. Of no elements the norm is 0, and inf for a negative order.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If an axis is given twice, or there is no element for an infinite order.
    TypeError
        If the dtype is not a floating point or complex one, or the order is not a number.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the result.

    Notes
    -----
    Halves are accumulated in float32. The gradient of a norm that is 0 is 0, as torch's.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.vector_norm(ms.array([3.0, 4.0], split=0)).item()
    5.0
    """
    check_inexact(as_dndarray(x).dtype, "vector_norm")
    if isinstance(ord, bool) or not isinstance(ord, (int, float)) or isnan(ord):
        raise TypeError(f"ord of vector_norm must be a number, got {short_repr(ord)}")
    # Extremes need no root, and have a message of their own: maxima, not sums.
    if ord in {inf, -inf}:
        return (DNDarray.max if ord > 0 else DNDarray.min)(abs(x), axis, keepdims=keepdims)
    x, plan = plan_reduction(x, axis, keepdims)
    shard = x._larray.to(accumulation_dtype(x.dtype))
    if plan.count and not plan.crosses:
        norms = reduce_shard(partial(_torch_norm, ord), shard, plan, keepdims)
    else:
        # The power of a lone element may overflow: torch takes its absolute value, which is the sum of order 1.
        power = 1 if ord and plan.count == 1 else ord
        total = _sum_of_powers(shard, power, plan.axes, keepdims)
        # One root of the whole sum. If each rank took a root, whose square is then added up, rounding would make
        # the norm of 16 ones 3.9999998 on two ranks.
        norms = _power(all_reduce(total, x._comm) if plan.crosses else total, 1 / (power or 1))
    return DNDarray._wrap(norms.to(x.dtype.to_real()), plan.result, x._comm)


def _torch_norm(ord: float, x: torch.Tensor, dims: tuple[int, ...], keepdim: bool) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(x, ord, dims, keepdim)
    return norms


def _sum_of_powers(x: torch.Tensor, power: float, dims: tuple[int, ...], keepdim: bool) -> torch.Tensor:
    """Sum powers of absolute values along axes. The power 0 counts the elements other than zero."""
    if power in {0, 1}:
        return _torch_norm(power, x, dims, keepdim)
    if power != 2:
        return _power(x.abs(), power).sum(dims, keepdim)
    # The dot product is the fastest where one sum is wanted: it needs no memory for the squares. But cuBLAS counts
    # elements in int32.
    if len(dims) == x.ndim and x.numel() < 2**31:
        flat = x.reshape(-1)
        return torch.vdot(flat, flat).real.reshape([1] * x.ndim if keepdim else [])
    squares = x.real.square() + x.imag.square() if x.is_complex() else x.square()
    return squares.sum(dims, keepdim)


def _power(x: torch.Tensor, power: float) -> torch.Tensor:
    """Return a power of numbers that are not negative, with the gradient 0 at 0, as torch's norms have it."""
    is_zero = x == 0
    # The inner `where` keeps the slope of the power at 0 out of the gradient: it may be inf, and inf * 0 is NaN.
    return torch.where(is_zero, inf if power < 0 else 0.0, torch.where(is_zero, 1.0, x) ** power)


def matrix_norm(x: DNDarray, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> DNDarray:
    """Return the norms of the matrices in the last two axes.

    Parameters
    ----------
    x : DNDarray
        The matrices, of floating point or complex numbers, of shape (..., m, n).
    keepdims : bool, default False
        Whether the last two axes stay, with extent 1.
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf, None}, default "fro"
        The order: "fro" or None is the root of the sum of squares; 1 and -1 are the greatest and least sum of the
        absolute values of a column, inf and -inf of a row; 2 and -2 are the greatest and least singular value,
        "nuc" is the sum of the singular values.

    Returns
    -------
    DNDarray
        The norms, which are real, of shape (...). Split as `x` along a batch axis, else replicated. Norms of
        singular values are split as `minisplit.linalg.svdvals`.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, the order is another, or there is no element for an extreme.
    TypeError
        If the dtype is not a floating point or complex one.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN.

    Communication
    -------------
    Local where a batch axis is split. Otherwise collective: one allreduce, or the messages of
    `minisplit.linalg.svdvals` for norms of singular values.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.matrix_norm(ms.ones((2, 3), split=0), ord=1).item()
    2.0
    """
    return _matrix_norm(of_matrices(x), (-2, -1), ord, keepdims)


def _matrix_norm(x: DNDarray, axes: tuple[int, int], ord: Any, keepdims: bool) -> DNDarray:
    """Return the norms of the matrices whose rows and columns are counted by these two axes."""
    check_inexact(x.dtype, "matrix_norm")
    axes = (axes[0] % x.ndim, axes[1] % x.ndim)
    if ord is None or ord == "fro":
        return vector_norm(x, axis=axes, keepdims=keepdims)
    if ord in _SUM_NORMS:
        summed, other = axes[_SUM_NORMS[ord]], axes[1 - _SUM_NORMS[ord]]
        sums, extreme = abs(x).sum(summed, keepdims=keepdims), DNDarray.max if ord > 0 else DNDarray.min
        return extreme(sums, other if keepdims else other - (summed < other), keepdims=keepdims)
    if ord not in _SINGULAR_NORMS:
        raise ValueError(f"ord of a matrix norm must be {_ORDERS}, got {short_repr(ord)}")
    if ord != "nuc" and not (x.shape[axes[0]] and x.shape[axes[1]]):
        raise ValueError(f"matrix_norm {ord} needs singular values, but matrices of shape {x.shape} have none")
    # LAPACK has no halves, so their singular values are those of float32 numbers.
    values = svdvals(moveaxis(x, axes, (-2, -1)).astype(accumulation_dtype(x.dtype)))
    norms = _SINGULAR_NORMS[ord](values, -1).astype(x.dtype.to_real())
    return expand_dims(norms, axis=axes) if keepdims else norms


def norm(x: DNDarray, /, ord: float | str | None = None, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """Return norms of vectors or of matrices, as NumPy's `norm`.

    For one axis, or a 1-d array, it is `minisplit.linalg.vector_norm`. For two axes, or a 2-d array with `ord`, it
    is `minisplit.linalg.matrix_norm`.

    Parameters
    ----------
    x : DNDarray
        The array, of floating point or complex numbers.
    ord : float or str, optional
        The order. By default the root of the sum of squares.
    axis : int or tuple of int, optional
        The axis of the vectors, or the two axes of the matrices. By default all axes; then an array of any number
        of dimensions may be given without `ord`.
    keepdims : bool, default False
        Whether these axes stay, with extent 1.

    Returns
    -------
    DNDarray
        The norms, which are real. Split as `x` if its split axis stays, otherwise replicated.

    Raises
    ------
    IndexError
        If an axis is out of range.
    ValueError
        If there are more than two axes, or no axis but `ord` and other than one or two dimensions, or the order is
        not one of vectors or of matrices.
    TypeError
        If the dtype is not a floating point or complex one, or the order of vectors is not a number.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce, or the messages of
    `minisplit.linalg.svdvals` for norms of singular values.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.norm(ms.array([[3.0, 0.0], [4.0, 1.0]], split=0), axis=0).tolist()
    [5.0, 1.0]
    """
    axes = normalise_axes(range(as_dndarray(x).ndim) if axis is None else axis, x.ndim)
    if len(axes) == 1 or (axis is None and ord is None):
        if isinstance(ord, str):
            raise ValueError(
                f"ord of a norm of vectors must be a number, got {short_repr(ord)}; "
                f"of two axes it may be {_ORDERS}"
            )
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError(
            f"norm is of vectors or matrices, of one axis or two, got shape {x.shape} and axis {axis}"
        )
    return _matrix_norm(x, (axes[0], axes[1]), ord, keepdims)
