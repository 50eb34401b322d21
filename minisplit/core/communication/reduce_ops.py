"""The rules by which two ranks' contributions become one, elementwise or record by record

MPI combines contributions in an order of its own, which differs between ranks. So every rule gives the same bits
for `(a, b)` as for `(b, a)`: then what is the same for the ranks stays the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

ReduceOp = Literal["sum", "prod", "min", "max"]
MergeOp = Literal["first", "moments"]
Values = NDArray[Any]
Rule = Callable[[Values, Values], Values]
# On a device, where NumPy reads no memory.
TensorRule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def first(a: Any, b: Any, xp: Any = np) -> Any:
    """Return the lexicographically greater of two pairs of integers.

    With a value and minus its index, that is the first of the greatest values. `xp` is torch for tensors.

    >>> first(np.array([[3, -1], [4, -9]]), np.array([[3, -2], [5, 0]])).tolist()
    [[3, -1], [5, 0]]
    """
    is_a = (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] > b[..., 1]))
    return xp.where(is_a[..., None], a, b)


def moments(a: Any, b: Any, xp: Any = np) -> Any:
    """Return count, mean and sum of squared deviations of two samples together, from those of each.

    `xp` is torch for tensors.

    Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician 37 (1983).

    >>> moments(np.array([1.0, 5.0, 0.0]), np.array([3.0, 1.0, 2.0])).tolist()
    [4.0, 2.0, 14.0]
    """
    # The formula is not symmetric in its rounding, so the larger sample, or else that of the lower mean, comes
    # first.
    is_a = (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] <= b[..., 1]))
    large, small = (xp.where(x, a, b) for x in (is_a[..., None], ~is_a[..., None]))
    with np.errstate(all="ignore"):
        count = large[..., 0] + small[..., 0]
        fraction = xp.where(count == 0, 0.0, small[..., 0] / count)
        # An empty sample has no mean: whatever stands there must not count, also NaN.
        difference = xp.where(small[..., 0] == 0, 0.0, small[..., 1] - large[..., 1])
        squares = (a[..., 2] + b[..., 2]) + difference * difference * (fraction * large[..., 0])
        return xp.stack([count, large[..., 1] + difference * fraction, squares], -1)


RULES: dict[ReduceOp | MergeOp, Rule] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "first": first,
    "moments": moments,
}
_TENSOR_RULES: dict[ReduceOp | MergeOp, TensorRule] = {
    "sum": torch.add,
    "prod": torch.mul,
    "min": torch.minimum,
    "max": torch.maximum,
    "first": functools.partial(first, xp=torch),
    "moments": functools.partial(moments, xp=torch),
}
# Sums and products modulo 2**n have the same bits with a sign and without.
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def fold(parts: torch.Tensor | Sequence[torch.Tensor], op: ReduceOp | MergeOp) -> torch.Tensor:
    """Reduce tensors of one shape, dtype and device, or the rows of one, in their order, where they are.

    >>> fold(torch.tensor([[1, 5], [3, 2]]), "max").tolist()
    [3, 5]
    """
    dtype = parts[0].dtype
    if parts[0].device.type != "cpu" and dtype in SIGNED:  # of which torch does not compute
        # With the first bit turned round the order is that of signed integers.
        turn = torch.iinfo(SIGNED[dtype]).min if op in {"min", "max"} else 0
        return (fold([part.view(SIGNED[dtype]) ^ turn for part in parts], op) ^ turn).view(dtype)
    if parts[0].device.type != "cpu":
        return functools.reduce(_TENSOR_RULES[op], parts)
    rows = parts.numpy() if isinstance(parts, torch.Tensor) else [part.numpy() for part in parts]
    # Not `ufunc.reduce`, which would sum small integers in a wider type. Torch and MPI do not warn of an overflow.
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.asarray(functools.reduce(RULES[op], rows)))
