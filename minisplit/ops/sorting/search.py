"""Where elements are: the searching functions of the Python Array API standard."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.reductions.extremes import arg_extreme, comparable, ordinal


def argmax(x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False) -> DNDarray:
    """Return where the greatest element is, along an axis or in the array as one row (None).

    Local where the split axis stays; else collective, by one message. The first of equals counts; NaN before all.

    >>> import minisplit as ms
    >>> ms.argmax(ms.ones((2, 3), split=0)).item()
    0
    """
    return arg_extreme("max", x, axis, keepdims)


def argmin(x: DNDarray, /, axis: int | None = None, *, keepdims: bool = False) -> DNDarray:
    """Return where the least element is, along an axis or in the array as one row (None).

    Local where the split axis stays; else collective, by one message. The first of equals counts; NaN before all.

    >>> import minisplit as ms
    >>> ms.argmin(ms.ones((2, 3), split=0)).item()
    0
    """
    return arg_extreme("min", x, axis, keepdims)


def nonzero(x: DNDarray, /) -> tuple[DNDarray, ...]:
    """The indices of elements other than zero: an int64 array per axis, in row-major order.

    Collective: one small message, and before it one move of a mask if `x` is split along another axis than 0. The
    results of a split array are split; each rank has those of its part. Raises ValueError for a 0-d array,
    TypeError for anything but a DNDarray: both on every rank.

    >>> import minisplit as ms
    >>> [axis.tolist() for axis in ms.nonzero(ms.eye(2, split=0))]
    [[0, 1], [0, 1]]
    """
    x = as_dndarray(x)
    if not x.shape:
        raise ValueError("nonzero needs at least one axis, got a 0-d array; take x[None]")
    mask, rank = DNDarray(x._larray != 0, x._layout, x._comm), x._comm.rank
    if x.split is None:
        found = mask._larray.nonzero(as_tuple=True)
        layout = Layout((len(found[0]),), None, x._comm.size)
    else:
        mask = mask._align(x._layout.with_split(0))
        first, *rest = mask._larray.nonzero(as_tuple=True)
        found = (first + mask._layout.span(rank)[0], *rest)
        counts = x._comm.allgather(np.array([len(first)]))[:, 0].tolist()
        layout = Layout((sum(counts),), 0, x._comm.size, tuple(counts))
    return tuple(DNDarray(indices.contiguous(), layout, x._comm) for indices in found)


def searchsorted(
    x1: DNDarray,
    x2: DNDarray | float,
    /,
    *,
    side: Literal["left", "right"] = "left",
    sorter: DNDarray | None = None,
) -> DNDarray:
    """Where to insert each element of `x2`, an array or a number, in the 1-d array `x1`, so that it stays sorted.

    Before equal elements (`side="left"`) or after them; NaN is the greatest, as in `minisplit.sort`.
    `sorter` are the indices that sort `x1`, where it is not sorted. The result is int64 and has the layout of
    `x2`, but is replicated where `x2` is a number. Local where `x1` is replicated; else collective, by one
    message: each rank counts for a replicated `x2`, but for a split one `x1` is gathered.

    Raises ValueError for an `x1` that is not 1-d, another `side` and arrays on different communicators, TypeError
    for anything but DNDarrays and for complex numbers: all on every rank.

    >>> import minisplit as ms
    >>> ms.searchsorted(ms.arange(0, 10, 2, split=0), ms.array([3, 4, 99])).tolist()
    [2, 2, 5]
    """
    x1 = as_dndarray(x1, "x1")
    if not isinstance(x2, DNDarray):
        if not isinstance(x2, (int, float)):
            as_dndarray(x2, "x2")
        value = torch.tensor(x2, dtype=torch.result_type(x1._larray, x2), device=x1.device)
        x2 = DNDarray(value, Layout((), None, x1._comm.size), x1._comm)
    check_one_communicator([x1, x2])
    if x1.ndim != 1:
        raise ValueError(f"searchsorted looks into a 1-d array, got x1 of shape {x1.shape}")
    if side not in {"left", "right"}:
        raise ValueError(f"side must be 'left' or 'right', got {side!r}")
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    if dtype.is_complex:
        raise TypeError(f"searchsorted needs numbers that have an order, got {x1.dtype} and {x2.dtype}")
    if sorter is not None:
        x1 = x1[sorter]
    if x1.split is not None and x2.split is not None:
        x1 = x1._align(x1._layout.with_split(None))
    table, wanted = (_bytes(comparable(x._larray.detach().to(dtype))) for x in (x1, x2))
    if table.isnan().any():  # behind which torch finds no order
        table, wanted = ordinal(table), ordinal(wanted)
    found = torch.searchsorted(table.contiguous(), wanted.contiguous(), side=side)
    return DNDarray(all_reduce(found, x1._comm) if x1.split is not None else found, x2._layout, x1._comm)


def _bytes(values: torch.Tensor) -> torch.Tensor:
    """Bools, in which torch does not search, as bytes."""
    return values.to(torch.uint8) if values.dtype is torch.bool else values
