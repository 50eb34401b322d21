"""Printing once, not once for each rank; the values of an array as NumPy shows them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import get_comm
from minisplit.ops.shape.take import take


def print0(*values: Any, **options: Any) -> None:
    """Print on rank 0 of the communicator in use, and nothing on the others.

    What makes the values may be collective, so every rank calls this, and none asks for its rank first.

    Parameters
    ----------
    *values : Any
        What to print.
    **options : Any
        Those of `print`, as `sep`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.print0("sum:", 3, sep=" ")  # doctest: +SKIP
    sum: 3
    """
    if get_comm().rank == 0:
        print(*values, **options)


def show(x: DNDarray) -> None:
    """Print the values of the global array as NumPy shows them, on rank 0.

    Of an array of more elements than `numpy.printoptions` has as its threshold, only those at the edges are shown,
    and only those are moved. Also a method: `x.show()`.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.

    Raises
    ------
    TypeError
        If `x` is no DNDarray.

    Communication
    -------------
    Collective: one small broadcast, and one exchange that gathers what is shown; of a large array one more, for
    the edges of the split axis.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.arange(2000, split=0).reshape((1000, 2)).show()  # doctest: +SKIP
    [[   0    1]
     [   2    3]
     [   4    5]
     ...
     [1994 1995]
     [1996 1997]
     [1998 1999]]
    (1000, 2) split 0 over 1 rank, torch.int64
    """
    x = as_dndarray(x)
    options = np.get_printoptions()
    # Those of rank 0, as each rank may have set others, but all must take the same elements.
    data = x.comm.broadcast_bytes(json.dumps([options["threshold"], options["edgeitems"]]).encode())
    threshold, edge = json.loads(data)
    summarised, edges = x.size > threshold, x
    if summarised:
        # The split axis last, so that as little as possible has to be moved.
        for axis in sorted(range(x.ndim), key=lambda axis: axis == x.split):
            n = x.shape[axis]
            if n > 2 * edge + 1:
                # One index more than is shown, so that NumPy puts dots behind it.
                edges = take(edges, [*range(edge + 1), *range(n - edge, n)], axis=axis)
    values = edges.astype(_numpy_compatible(x.dtype), copy=False).numpy()
    if x.comm.rank == 0:
        with np.printoptions(threshold=0 if summarised else values.size):
            print(f"{values}\n{x.layout}, {x.dtype}")


def _numpy_compatible(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype itself, or a wider one with the same values where NumPy does not have it."""
    if dtype is torch.complex32:
        return torch.complex64
    short = dtype.is_floating_point and dtype.itemsize <= 2
    return torch.float32 if short and dtype is not torch.float16 else dtype


DNDarray.show = show  # type: ignore[method-assign, assignment]
