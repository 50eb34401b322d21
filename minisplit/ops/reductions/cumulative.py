"""Running sums and products: each rank computes its part, and one scan adds the totals of the ranks before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient, cat, linear
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, normalise_axis
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.elementwise.apply import into
from minisplit.ops.reductions.reduce import Combine, accumulation_dtype, gather_parts, sum_dtype


def cumulative_sum(
    x: DNDarray,
    /,
    axis: int | None = None,
    *,
    dtype: Dtype = None,
    include_initial: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Compute the running sums along an axis.

    Parameters
    ----------
    x : DNDarray
        The summands. Any shape, split and counts.
    axis : int, optional
        The axis along which to add up. It can be left out for a 1-d array only.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    include_initial : bool, default False
        Whether the result begins with 0, and so is longer by one index, which rank 0 holds.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        For each element the sum of all up to and including it. Split as `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis no int or `dtype` no dtype.
    ValueError
        If no axis is given for an array that is not 1-d.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local where the axis is not the split axis. Otherwise collective: one scan of the sum of each rank's part.

    See Also
    --------
    cumsum : The same of the elements in row-major order, by default.

    Notes
    -----
    Halves are added up in float32.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cumulative_sum(ms.arange(1, 5, split=0)).tolist()
    [1, 3, 6, 10]
    """
    return into(_accumulate_along(_SUM, x, axis, dtype, include_initial), out)


def cumulative_prod(
    x: DNDarray,
    /,
    axis: int | None = None,
    *,
    dtype: Dtype = None,
    include_initial: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Compute the running products along an axis.

    Parameters
    ----------
    x : DNDarray
        The factors. Any shape, split and counts.
    axis : int, optional
        The axis along which to multiply. It can be left out for a 1-d array only.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    include_initial : bool, default False
        Whether the result begins with 1, and so is longer by one index, which rank 0 holds.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        For each element the product of all up to and including it. Split as `x`.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis no int or `dtype` no dtype.
    ValueError
        If no axis is given for an array that is not 1-d.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local where the axis is not the split axis. Otherwise collective: one scan of the product of each rank's part,
    or one gather of these products where a gradient is required.

    See Also
    --------
    cumprod : The same of the elements in row-major order, by default.

    Notes
    -----
    Halves are multiplied in float32.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cumulative_prod(ms.arange(1, 5, split=0)).tolist()
    [1, 2, 6, 24]
    """
    return into(_accumulate_along(_PRODUCT, x, axis, dtype, include_initial), out)


def cumsum(
    x: DNDarray, /, axis: int | None = None, *, dtype: Dtype = None, out: DNDarray | None = None
) -> DNDarray:
    """Compute the running sums along an axis, or of all elements in row-major order.

    Parameters
    ----------
    x : DNDarray
        The summands. Any shape, split and counts.
    axis : int, optional
        The axis along which to add up. By default the elements are flattened first, as by `ravel`.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        For each element the sum of all up to and including it. Split as `x`, or as `ravel` gives it.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis no int or `dtype` no dtype.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local or collective as `cumulative_sum`, after `ravel` where no axis is given.

    See Also
    --------
    cumulative_sum : The same in the Python Array API standard.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cumsum(ms.arange(1, 5, split=0).reshape((2, 2))).tolist()
    [1, 3, 6, 10]
    """
    return into(cumulative_sum(as_dndarray(x).ravel() if axis is None else x, axis, dtype=dtype), out)


def cumprod(
    x: DNDarray, /, axis: int | None = None, *, dtype: Dtype = None, out: DNDarray | None = None
) -> DNDarray:
    """Compute the running products along an axis, or of all elements in row-major order.

    Parameters
    ----------
    x : DNDarray
        The factors. Any shape, split and counts.
    axis : int, optional
        The axis along which to multiply. By default the elements are flattened first, as by `ravel`.
    dtype : torch.dtype, optional
        The dtype of the result, to which `x` is cast first. By default that of `x`, but int64 for bools and
        integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        For each element the product of all up to and including it. Split as `x`, or as `ravel` gives it.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis no int or `dtype` no dtype.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local or collective as `cumulative_prod`, after `ravel` where no axis is given.

    See Also
    --------
    cumulative_prod : The same in the Python Array API standard.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cumprod(ms.arange(1, 5, split=0).reshape((2, 2))).tolist()
    [1, 2, 6, 24]
    """
    return into(cumulative_prod(as_dndarray(x).ravel() if axis is None else x, axis, dtype=dtype), out)


def nancumsum(
    x: DNDarray, /, axis: int | None = None, *, dtype: Dtype = None, out: DNDarray | None = None
) -> DNDarray:
    """Compute the running sums of the elements that are not NaN, along an axis or of all elements.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int, optional
        The axis. By default all elements are taken in row-major order.
    dtype : torch.dtype, optional
        The dtype of the result. By default that of `x`, but int64 for bools and integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The sums, in which NaN counts as 0. In the layout of `x`, or 1-d without an axis.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or `dtype` no dtype.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective, as `cumsum`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nancumsum(ms.array([2.0, float('nan'), 3.0], split=0)).tolist()
    [2.0, 2.0, 5.0]
    """
    x = as_dndarray(x)
    return into(
        cumsum(
            DNDarray._wrap(torch.where(x._larray.isnan(), 0, x._larray), x._layout, x._comm), axis, dtype=dtype
        ),
        out,
    )


def nancumprod(
    x: DNDarray, /, axis: int | None = None, *, dtype: Dtype = None, out: DNDarray | None = None
) -> DNDarray:
    """Compute the running products of the elements that are not NaN, along an axis or of all elements.

    Parameters
    ----------
    x : DNDarray
        The numbers. Any shape, split and counts.
    axis : int, optional
        The axis. By default all elements are taken in row-major order.
    dtype : torch.dtype, optional
        The dtype of the result. By default that of `x`, but int64 for bools and integers.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The products, in which NaN counts as 1. In the layout of `x`, or 1-d without an axis.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, or `dtype` no dtype.
    IndexError
        If the axis is out of range.

    Communication
    -------------
    Local unless `axis` is the split axis. Then collective, as `cumprod`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nancumprod(ms.array([2.0, float('nan'), 3.0], split=0)).tolist()
    [2.0, 2.0, 6.0]
    """
    x = as_dndarray(x)
    return into(
        cumprod(
            DNDarray._wrap(torch.where(x._larray.isnan(), 1, x._larray), x._layout, x._comm), axis, dtype=dtype
        ),
        out,
    )


class _Rule(NamedTuple):
    """What sums and products have in common: torch's functions, and the scan over the ranks."""

    name: str
    run: Callable[[torch.Tensor, int], torch.Tensor]
    total: Callable[[torch.Tensor, int, bool], torch.Tensor]
    before: Combine
    join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    initial: int


def _accumulate_along(rule: _Rule, x: DNDarray, axis: int | None, dtype: Dtype, include_initial: bool) -> DNDarray:
    """Compute running sums or products."""
    x = as_dndarray(x)
    if axis is None and x.ndim != 1:
        raise ValueError(f"{rule.name} needs an axis, except for 1-d arrays, got shape {x.shape}")
    axis = normalise_axis(0 if axis is None else axis, x.ndim, "axis")
    dtype, layout = sum_dtype(x.dtype, sanitize_dtype(dtype)), x._layout
    shard = x._larray.to(dtype).to(accumulation_dtype(dtype))
    result = rule.run(shard, axis)
    if layout.split == axis and layout.ranks > 1:
        result = rule.join(rule.before(rule.total(shard, axis, True), x._comm), result)
    result = result.to(dtype)
    if include_initial:
        # Where the axis is split, only rank 0 holds the first index.
        if layout.split != axis or x._comm.rank == 0:
            row = [1 if place == axis else n for place, n in enumerate(result.shape)]
            result = cat([result.new_full(row, rule.initial), result], axis)
        layout = _layout_with_initial(layout, axis)
    return DNDarray._wrap(result, layout, x._comm)


def _layout_with_initial(layout: Layout, axis: int) -> Layout:
    """Return the layout with one more index in front of an axis. Of the split axis rank 0 gets it."""
    shape = tuple(n + (place == axis) for place, n in enumerate(layout.shape))
    if layout.split != axis:
        return Layout(shape, layout.split, layout.ranks, layout.ragged)
    first, *rest = layout.counts or ()
    return Layout(shape, axis, layout.ranks, (first + 1, *rest))


def _sums_before(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return the sum of the parts of the ranks before this one. Collective: one scan, MPI's `Exscan`."""
    return linear(part, comm, comm.scan, partial(_sums_after, comm=comm))


def _sums_after(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return the sum of the parts of the ranks after this one. Collective: one allreduce and one scan."""

    def reversed_scan(part: torch.Tensor) -> torch.Tensor:
        # MPI has no reversed scan: what comes after is the total without what comes before. In float64, since the
        # difference of large sums would have few digits.
        wide = part.to(torch.complex128 if part.is_complex() else torch.float64)
        return (comm.allreduce(wide) - comm.scan(wide) - wide).to(part.dtype)

    return linear(part, comm, reversed_scan, partial(_sums_before, comm=comm))


def _products_before(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return the product of the parts of the ranks before this one. Collective: one scan, or one gather."""
    if not is_followed(part):
        return comm.scan(part, "prod")
    # The gradient of a factor is the product of the others, also where the factor is 0 (see `product`). So each
    # rank gets the factors of all.
    parts = all_reduce_gradient(gather_parts(part, comm), comm)
    # Not the first rows alone: on rank 0 there is none, and no gradient of a gradient would come from its product.
    is_before = torch.arange(comm.size, device=parts.device) < comm.rank
    return torch.where(is_before.reshape(-1, *[1] * part.ndim), parts, 1).prod(0)


def running_products(shard: torch.Tensor, axis: int) -> torch.Tensor:
    """Return running products along an axis, whose derivatives depend on the shard on every rank."""
    if shard.numel() <= 1 and is_followed(shard):
        # In torch the gradient of so few elements is what comes in, whatever the elements are: a rank with one
        # would not come to the collective calls for the gradient of the gradient. So there are more.
        padded = cat([shard.reshape(-1), shard.new_ones(2)], 0)
        return torch.cumprod(padded, 0)[: shard.numel()].reshape(shard.shape)
    return torch.cumprod(shard, axis)


def _product(shard: torch.Tensor, axis: int, keepdim: bool) -> torch.Tensor:
    """Return products along an axis, as `torch.prod`, whose derivatives depend on the shard on every rank."""
    if is_followed(shard):
        # The tangent of a product of one number is that of the number, whatever that is: a rank with one would not
        # come to the collective calls for the gradient of the tangent. So there is a second factor, of 1.
        one = shard.sum(axis, keepdim=True)
        one = torch.where(torch.ones_like(one, dtype=torch.bool), 1, one)
        shard = cat([shard, one], axis)
    return torch.prod(shard, axis, keepdim)


_SUM = _Rule("cumulative_sum", torch.cumsum, torch.sum, _sums_before, torch.add, 0)
_PRODUCT = _Rule("cumulative_prod", running_products, _product, _products_before, torch.mul, 1)
