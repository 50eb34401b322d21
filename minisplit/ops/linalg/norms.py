"""Norms of vectors and matrices: each rank's own by torch, and one allreduce of their powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import inf
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.error_text import short_repr
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.arithmetic import abs as abs_of
from minisplit.ops.linalg.decompositions import svdvals
from minisplit.ops.reductions.functions import max as max_of
from minisplit.ops.reductions.functions import min as min_of
from minisplit.ops.reductions.functions import sum as sum_of
from minisplit.ops.reductions.reduce import (
    Axis,
    Dims,
    Reduce,
    accumulation_dtype,
    check_inexact,
    plan_reduction,
    reduce_shard,
)
from minisplit.ops.shape.layouts import normalise_axes
from minisplit.ops.shape.manipulation import expand_dims, moveaxis, of_matrices

# The order of a matrix norm: over which of rows and columns absolute values are added up, and what of these sums.
_SUMS: dict[Any, tuple[int, Reduce]] = {1: (0, max_of), -1: (0, min_of), inf: (1, max_of), -inf: (1, min_of)}
# What of the singular values.
_SINGULAR: dict[Any, Callable[..., DNDarray]] = {"nuc": sum_of, 2: max_of, -2: min_of}
_ORDERS = "'fro', 'nuc', 1, -1, 2, -2, inf or -inf"


def vector_norm(x: DNDarray, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> DNDarray:
    """The norms of the vectors along an axis, over a tuple of axes, or of all elements (None).

    ord: `inf` is the greatest absolute value, `-inf` the least, 0 the number of elements other than zero, any
        other p the p-th root of the sum of p-th powers of absolute values.

    Local where the split axis stays; where that is reduced, collective, by one message, and the result replicated.
    It is real; halves are accumulated in float32. Of no elements it is 0, for a negative `ord` inf; there is none
    of the orders inf and -inf.

    Raises IndexError for an axis out of range, ValueError for one given twice, and for infinite orders where there
    is no element, TypeError for anything but a DNDarray, a dtype that has no fractions, and an order that is no
    number: all on every rank.

    >>> import minisplit as ms
    >>> ms.linalg.vector_norm(ms.array([3.0, 4.0], split=0)).item()
    5.0
    """
    check_inexact(as_dndarray(x).dtype, "vector_norm")
    if isinstance(ord, bool) or not isinstance(ord, (int, float)) or math.isnan(ord):
        raise TypeError(f"ord of vector_norm must be a number, got {short_repr(ord)}")
    if ord in {inf, -inf}:
        return (max_of if ord > 0 else min_of)(abs_of(x), axis, keepdims=keepdims)
    x, way = plan_reduction(x, axis, keepdims)

    def local(shard: torch.Tensor, dims: Dims, keepdim: bool) -> torch.Tensor:
        if ord < 0 and not all(shard.shape[dim] for dim in dims):  # which torch refuses
            return shard.abs().sum(dims, keepdim) + inf
        found: torch.Tensor = torch.linalg.vector_norm(shard, ord, dims, keepdim)
        return found

    found = reduce_shard(local, x._larray.to(accumulation_dtype(x.dtype)), way, keepdims)
    if way.crosses:
        power = ord or 1  # the number of elements is added up
        found = _power(all_reduce(_power(found, power), x._comm), 1 / power)
    return DNDarray._wrap(found.to(_real(x.dtype)), way.result, x._comm)


def _power(x: torch.Tensor, power: float) -> torch.Tensor:
    """A power of numbers from 0 on, with the gradient 0 at 0, as torch's norms have it."""
    is_zero = x == 0
    return torch.where(is_zero, inf if power < 0 else 0.0, torch.where(is_zero, 1.0, x) ** power)


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype


def matrix_norm(x: DNDarray, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> DNDarray:
    """The norms of the matrices in the last two axes.

    ord: "fro" (or None), the root of the sum of squares; 1 and -1, the greatest and least sum of absolute values
        of a column, inf and -inf, of a row; 2 and -2, the greatest and least singular value; "nuc", their sum.

    Local where a batch axis is cut. Where rows or columns are, collective, and the result replicated, by one
    message; but of singular values as `minisplit.linalg.svdvals`.

    Raises ValueError for fewer than two dimensions, another order, and an extreme of no elements, TypeError for a
    dtype that has no fractions, LinAlgError where there are no singular values: all on every rank.

    >>> import minisplit as ms
    >>> ms.linalg.matrix_norm(ms.ones((2, 3), split=0), ord=1).item()
    2.0
    """
    return _matrix_norm(of_matrices(x), (-2, -1), ord, keepdims)


def _matrix_norm(x: DNDarray, axes: tuple[int, int], ord: Any, keepdims: bool) -> DNDarray:
    check_inexact(x.dtype, "matrix_norm")
    both = tuple(axis % x.ndim for axis in axes)
    if ord is None or ord == "fro":
        return vector_norm(x, axis=both, keepdims=keepdims)
    if ord in _SUMS:
        place, extreme = _SUMS[ord]
        summed, other = both[place], both[1 - place]
        sums = sum_of(abs_of(x), summed, keepdims=keepdims)
        return extreme(sums, other if keepdims else other - (summed < other), keepdims=keepdims)
    if ord not in _SINGULAR:
        raise ValueError(f"ord of a matrix norm must be {_ORDERS}, got {short_repr(ord)}")
    if ord != "nuc" and not (x.shape[both[0]] and x.shape[both[1]]):
        raise ValueError(f"matrix_norm {ord} needs singular values, but matrices of shape {x.shape} have none")
    values = svdvals(astype(moveaxis(x, both, (-2, -1)), accumulation_dtype(x.dtype)))
    found = astype(_SINGULAR[ord](values, -1), _real(x.dtype))
    return expand_dims(found, axis=both) if keepdims else found


def norm(x: DNDarray, /, ord: float | str | None = None, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
    """NumPy's `norm`: of vectors for one axis or a 1-d `x`, of matrices for two axes or a 2-d `x`.

    Without `ord` the root of the sum of squares; then without `axis` that of all elements of any array. Else see
    `minisplit.linalg.vector_norm` and `minisplit.linalg.matrix_norm` for values and errors, and for when it is
    local and when collective. Raises ValueError for an `ord` of other than 1-d and 2-d arrays without an axis, and
    for more than two axes.

    >>> import minisplit as ms
    >>> ms.norm(ms.array([[3.0, 0.0], [4.0, 1.0]], split=0), axis=0).tolist()
    [5.0, 1.0]
    """
    if axis is None and (ord is None or as_dndarray(x).ndim == 1):
        return vector_norm(x, keepdims=keepdims, ord=_number(ord))
    axes = normalise_axes(tuple(range(as_dndarray(x).ndim)) if axis is None else axis, as_dndarray(x).ndim)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=_number(ord))
    if len(axes) != 2:
        raise ValueError(
            f"norm is of vectors or matrices, of one axis or two, got shape {x.shape} and axis {axis}"
        )
    return _matrix_norm(x, (axes[0], axes[1]), ord, keepdims)


def _number(ord: float | str | None) -> float:
    if isinstance(ord, str):
        raise ValueError(
            f"ord of a norm of vectors must be a number, got {ord!r}; of two axes it may be {_ORDERS}"
        )
    return 2 if ord is None else ord
