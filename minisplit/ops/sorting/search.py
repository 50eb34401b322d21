"""Where elements are: the searching functions of the Python Array API standard."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from minisplit.core import collectives
from minisplit.core.array import DNDarray, as_dndarray, replicated
from minisplit.core.collectives import all_reduce, blocks_in_turn
from minisplit.core.error_text import short_repr
from minisplit.core.indexing import index_arrays
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.pytorch.dtypes import INTEGERS, as_number, nearest_float
from minisplit.ops.elementwise.apply import check_one_communicator, into
from minisplit.ops.elementwise.floating import isnan
from minisplit.ops.elementwise.selection import where
from minisplit.ops.reductions.extremes import End, arg_extreme, comparable, ordinal
from minisplit.ops.reductions.functions import all, any
from minisplit.ops.shape.join import stack
from minisplit.ops.shape.reshape import ravel


def argmax(
    x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False, out: DNDarray | None = None
) -> DNDarray:
    """Return the index of the greatest element along an axis, or in the whole array.

    The first of equal elements counts, in row-major order of the whole array, and NaN before all, as in NumPy.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    axis : int, optional
        The axis. By default the array is searched as one row.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The indices, int64. Split as `x` if its split axis stays, otherwise replicated.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is no element.
    TypeError
        If the elements are complex numbers, which have no order, or the axis is a tuple.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the extremes and their indices.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.argmax(ms.array([3, 9, 9], split=0)).item()
    1
    """
    return into(arg_extreme("max", x, axis, keepdims), out)


def argmin(
    x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False, out: DNDarray | None = None
) -> DNDarray:
    """Return the index of the least element along an axis, or in the whole array.

    The first of equal elements counts, in row-major order of the whole array, and NaN before all, as in NumPy.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.
    axis : int, optional
        The axis. By default the array is searched as one row.
    keepdims : bool, default False
        Whether reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The indices, int64. Split as `x` if its split axis stays, otherwise replicated.

    Raises
    ------
    IndexError
        If the axis is out of range.
    ValueError
        If there is no element.
    TypeError
        If the elements are complex numbers, which have no order, or the axis is a tuple.

    Communication
    -------------
    Local where the split axis stays. Otherwise collective: one allreduce of the extremes and their indices.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.argmin(ms.array([3, 1, 1], split=0)).item()
    1
    """
    return into(arg_extreme("min", x, axis, keepdims), out)


def nonzero(x: DNDarray, /) -> tuple[DNDarray, ...]:
    """Return the indices of the nonzero elements.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    tuple of DNDarray
        For each axis the indices along it, int64 and 1-d, in row-major order of the elements. Split if `x` is:
        each rank has those of its part.

    Raises
    ------
    ValueError
        If `x` has no axes.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: one small allgather, and before it one exchange of a mask if
    `x` is split along another axis than 0.

    Examples
    --------
    >>> import minisplit as ms
    >>> [axis.tolist() for axis in ms.nonzero(ms.eye(2, split=0))]
    [[0, 1], [0, 1]]
    """
    if not as_dndarray(x).shape:
        raise ValueError("nonzero needs at least one axis, got a 0-d array; take x[None]")
    found = index_arrays.nonzero(index_arrays.Part(x._larray != 0, x._layout), x._comm)
    return tuple(DNDarray(index.contiguous(), layout, x._comm) for index, layout in found)


def nanargmax(
    x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False, out: DNDarray | None = None
) -> DNDarray:
    """Return the index of the greatest element along an axis that is not NaN, or in the whole array.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int, optional
        The axis. By default the index is into the array flattened in row-major order.
    keepdims : bool, default False
        Whether the reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The indices, int64; of equal elements the first. Split as `x`, with its counts, if its split axis stays,
        otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis is not an int, or the numbers are complex.
    IndexError
        If the axis is out of range.
    ValueError
        If all elements to choose from are NaN, on any rank, or there are no elements.

    Communication
    -------------
    Local if `x` is replicated, and for integers where the split axis stays. Otherwise collective, as `argmax`; for
    floating-point numbers one more allreduce tells whether all elements are NaN somewhere.

    See Also
    --------
    argmax : The index of the first NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanargmax(ms.array([2.0, float('nan'), 3.0, 1.0], split=0)).item()
    2
    """
    return into(_arg_extreme_without_nan("max", x, axis, keepdims), out)


def nanargmin(
    x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False, out: DNDarray | None = None
) -> DNDarray:
    """Return the index of the least element along an axis that is not NaN, or in the whole array.

    Parameters
    ----------
    x : DNDarray
        The numbers, which are real. Any shape, split and counts.
    axis : int, optional
        The axis. By default the index is into the array flattened in row-major order.
    keepdims : bool, default False
        Whether the reduced axes stay, with extent 1.
    out : DNDarray, optional
        The array to write the results into. It keeps its layout and dtype. By default a new one.

    Returns
    -------
    DNDarray
        The indices, int64; of equal elements the first. Split as `x`, with its counts, if its split axis stays,
        otherwise replicated.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray, the axis is not an int, or the numbers are complex.
    IndexError
        If the axis is out of range.
    ValueError
        If all elements to choose from are NaN, on any rank, or there are no elements.

    Communication
    -------------
    Local if `x` is replicated, and for integers where the split axis stays. Otherwise collective, as `argmin`; for
    floating-point numbers one more allreduce tells whether all elements are NaN somewhere.

    See Also
    --------
    argmin : The index of the first NaN where there is one.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.nanargmin(ms.array([2.0, float('nan'), 3.0, 1.0], split=0)).item()
    3
    """
    return into(_arg_extreme_without_nan("min", x, axis, keepdims), out)


def _arg_extreme_without_nan(end: End, x: DNDarray, axis: int | None, keepdims: bool) -> DNDarray:
    """Return the indices of the extremes of what is not NaN. ValueError where there is nothing else."""
    if as_dndarray(x).dtype.is_floating_point:
        is_nan = isnan(x)
        found = arg_extreme(end, where(is_nan, -torch.inf if end == "max" else torch.inf, x), axis, keepdims)
        if any(all(is_nan, axis)).item():
            raise ValueError(f"nanarg{end} needs an element that is not NaN, but there is none along axis {axis}")
        return found
    return arg_extreme(end, x, axis, keepdims)


def argwhere(x: DNDarray, /) -> DNDarray:
    """Return the indices of the nonzero elements, a row for each.

    Parameters
    ----------
    x : DNDarray
        The array, with at least one axis.

    Returns
    -------
    DNDarray
        The indices, int64, of shape (number of elements, axes of `x`), in row-major order. Split along the rows
        where `x` is split, each on the rank that has the element, if `x` is split along axis 0.

    Raises
    ------
    ValueError
        If `x` has no axes.
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective, as `nonzero`.

    See Also
    --------
    nonzero : The same as an array for each axis.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.argwhere(ms.array([[0, 5], [7, 0]], split=0)).tolist()
    [[0, 1], [1, 0]]
    """
    return stack(nonzero(x), axis=1)


def flatnonzero(x: DNDarray, /) -> DNDarray:
    """Return the indices of the nonzero elements in the array flattened in row-major order.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.

    Returns
    -------
    DNDarray
        The indices, int64, in one dimension. Split where `x` is.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective, as `nonzero` of `ravel(x)`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.flatnonzero(ms.array([[0, 5], [7, 0]], split=0)).tolist()
    [1, 2]
    """
    return nonzero(ravel(x))[0]


def searchsorted(
    x1: DNDarray,
    x2: DNDarray | float,
    /,
    *,
    side: Literal["left", "right"] = "left",
    sorter: DNDarray | None = None,
) -> DNDarray:
    """Return where to insert elements in a sorted array, so that it stays sorted.

    NaN counts as the greatest element, as in `minisplit.sort`.

    Parameters
    ----------
    x1 : DNDarray
        The sorted array, 1-d.
    x2 : DNDarray or float
        The elements to insert.
    side : {"left", "right"}, default "left"
        Whether they come before equal elements of `x1`, or after them.
    sorter : DNDarray, optional
        The indices that sort `x1`. By default it is sorted.

    Returns
    -------
    DNDarray
        The indices in `x1`, int64, with the shape and layout of `x2`. Replicated if that is a number.

    Raises
    ------
    ValueError
        If `x1` is not 1-d, for another side, or if the arrays are on different communicators.
    TypeError
        If the elements are complex numbers, which have no order, or `x2` is neither an array nor a number.

    Communication
    -------------
    Local if `x1` is replicated. Otherwise collective. For a replicated `x2`: one allreduce of the ranks' own
    results. For a split `x2`: one exchange gathers `x1`. If `x1` has more than 16 MiB, its parts go around the
    ranks instead, by as many exchanges as there are other ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.searchsorted(ms.arange(0, 10, 2, split=0), ms.array([3, 4, 99])).tolist()
    [2, 2, 5]
    """
    x1 = as_dndarray(x1, "x1")
    if not isinstance(x2, DNDarray):
        if not isinstance(x2, (int, float, np.number, np.bool_)):
            as_dndarray(x2, "x2")
        number = number_to_find(x2)
        x2 = replicated(torch.tensor(number, dtype=dtype_beside(x1.dtype, number), device=x1.device), x1.comm)
    check_one_communicator([x1, x2])
    if x1.ndim != 1:
        raise ValueError(f"searchsorted looks into a 1-d array, got x1 of shape {x1.shape}")
    if side not in {"left", "right"}:
        raise ValueError(f"side must be 'left' or 'right', got {short_repr(side)}")
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    if dtype.is_complex:
        raise TypeError(f"searchsorted needs numbers that have an order, got {x1.dtype} and {x2.dtype}")
    if sorter is not None:
        x1 = x1[sorter]
    # The ranks have parts of both, so each needs all of one. The table is the smaller one as a rule.
    is_ring = x1.split is not None and x2.split is not None and x1.nbytes > collectives.RING_BYTES
    if x1.split is not None and x2.split is not None and not is_ring:
        x1 = x1._align(x1.layout.with_split(None))
    table, wanted = (searchable(x.larray.detach().to(dtype)) for x in (x1, x2))

    def find(table: torch.Tensor) -> torch.Tensor:
        # torch's binary search takes no number for less than NaN, and so goes wrong where it meets one. To ask a
        # GPU whether there is one would take longer than to do without.
        if table.dtype.is_floating_point and (table.device.type != "cpu" or table.isnan().any()):
            return torch.searchsorted(ordinal(table).contiguous(), ordinal(wanted).contiguous(), side=side)
        return torch.searchsorted(table.contiguous(), wanted.contiguous(), side=side)

    if is_ring:
        warn_of_move(x1.larray.itemsize, x1.layout, x1.layout.with_split(None), x1.comm)
        total = torch.zeros_like(wanted, dtype=torch.int64, memory_format=torch.contiguous_format)
        for _, part in blocks_in_turn(table, 0, x1.counts or (), x1.comm):
            total += find(part)
        return DNDarray(total, x2.layout, x1.comm)
    found = find(table)
    # The elements that come before, on this rank: those of all ranks add up to the place in the whole array.
    return DNDarray(all_reduce(found, x1.comm) if x1.split is not None else found, x2.layout, x1.comm)


def searchable(values: torch.Tensor) -> torch.Tensor:
    """Numbers in the order of the values, of a dtype in which torch can search: bools as bytes."""
    return values.to(torch.uint8) if values.dtype is torch.bool else comparable(values)


def number_to_find(number: Any) -> Any:
    """A Python number, which is a float where it is an int that is not in int64."""
    number = as_number(number, "x2")
    return nearest_float(number) if type(number) is int and number not in INTEGERS[torch.int64] else number


def dtype_beside(dtype: torch.dtype, number: complex) -> torch.dtype:
    """The dtype in which a number is compared with an array's elements."""
    if dtype.is_floating_point or dtype.is_complex:
        return torch.result_type(torch.empty(1, dtype=dtype), number)
    # One that holds any number: 257 as a byte would be 1, and so be found among bytes.
    return {float: torch.float64, complex: torch.complex128}.get(type(number), torch.int64)
