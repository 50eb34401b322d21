"""Output once, not once for each rank: `print0`, and the values of an array as NumPy shows them."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Literal

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.protocol import get_comm
from minisplit.core.error_text import short_repr
from minisplit.ops.shape.take import take

# torch's profiles.
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def print0(*values: Any, **options: Any) -> None:
    """Print on rank 0 of the communicator in use, and nothing on the other ranks.

    Every rank must call it, because the calls that make the values may be collective.

    Parameters
    ----------
    *values : Any
        What to print.
    **options : Any
        The options of `print`.

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
    """Print the values of the global array on rank 0, as NumPy shows them. Also a method: `x.show()`.

    Parameters
    ----------
    x : DNDarray
        The array. Any shape, split and counts.

    Raises
    ------
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Collective: one broadcast of NumPy's options, and one exchange, which gathers the elements that are shown. If
    an array has more elements than the threshold of `numpy.printoptions`, only those at its edges are shown and
    sent.

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
    # Those of rank 0 for all ranks: a program may have set them there alone, and they decide which calls are made.
    record = json.dumps([options["threshold"], options["edgeitems"]]).encode()
    threshold, edge = json.loads(x.comm.broadcast_bytes(record))
    is_summarised, part = x.size > threshold, x
    if is_summarised:
        # The split axis last: then little of the array is left to move.
        for axis in sorted(range(x.ndim), key=lambda axis: axis == x.split):
            n = x.shape[axis]
            # NumPy leaves out at least one index, and must be given one in the middle to know that it does.
            if n > 2 * edge + 1:
                part = take(part, [*range(edge + 1), *range(n - edge, n)], axis=axis)
    values = part.astype(_numpy_dtype(x.dtype), copy=False).numpy()
    if x.comm.rank == 0:
        with np.printoptions(threshold=0 if is_summarised else values.size):
            print(f"{values}\n{x.layout}, {x.dtype}")


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: Literal["default", "short", "full"] | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how `repr(x)` prints this rank's values, and how `show` prints those of the whole array.

    It sets the options of torch, and those of NumPy of the same names.

    Parameters
    ----------
    precision : int, optional
        How many digits follow the point. An option that is not given stays as it is.
    threshold : int, optional
        The number of elements above which only the first and last indices of each axis are shown.
    edgeitems : int, optional
        How many indices are shown at each end of an axis.
    linewidth : int, optional
        The characters of a line.
    profile : {"default", "short", "full"}, optional
        A set of values for all options; other arguments override them.
    sci_mode : bool, optional
        Whether to write numbers as 1.0e+01. By default torch and NumPy choose.

    Raises
    ------
    ValueError
        For another profile.

    Communication
    -------------
    Local. Each rank has its own options; `show` uses those of rank 0.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.set_printoptions(precision=2)
    >>> ms.full(2, 1 / 3).larray
    tensor([0.33, 0.33])
    >>> ms.set_printoptions(profile="default")
    """
    if profile not in {None, *_PROFILES}:
        raise ValueError(f"profile must be one of {', '.join(_PROFILES)}, got {short_repr(profile)}")
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    options: dict[str, Any] = dict(_PROFILES.get(profile or "", {}))
    options |= {key: value for key, value in given.items() if value is not None}
    torch.set_printoptions(**options, sci_mode=sci_mode)  # type: ignore[no-untyped-call]
    # NumPy's limit is an int, and torch's infinity means none.
    if options.get("threshold") == math.inf:
        options["threshold"] = sys.maxsize
    np.set_printoptions(**options, suppress=None if sci_mode is None else not sci_mode)


def _numpy_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype itself, or a wider one with the same values where only torch has it."""
    if dtype is torch.complex32:
        return torch.complex64
    is_short = dtype.is_floating_point and dtype.itemsize <= 2
    return torch.float32 if is_short and dtype is not torch.float16 else dtype
