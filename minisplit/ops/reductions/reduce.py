"""How arrays are reduced: by torch's function of each rank's shard, and one collective that combines the results.

The functions here are called by the reductions of this folder. Sorting and linear algebra use the plans and
checks.

Tested in tests/ops/reductions/test_functions.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, normalise_axes
from minisplit.core.performance_warning import warn_if_large
from minisplit.core.pytorch.dtypes import Dtype, sanitize_dtype
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.shape.layouts import ReducedLayout, reduce_layout

Axis = int | tuple[int, ...] | None
Dims = tuple[int, ...]
# From a shard, the axes to reduce and whether they stay with extent 1: this rank's part of the result.
Local = Callable[[torch.Tensor, Dims, bool], torch.Tensor]
# From the ranks' parts the result, on all of them. Collective: one call.
Combine = Callable[[torch.Tensor, Communication], torch.Tensor]

# The dtype in which numbers are added up and multiplied. Halves in float32: 2048 + 1 is 2048 in float16, so that a
# long sum would stop growing, and ranks would round one after another. All others in int64: a sum of many bytes is
# beyond a byte, and torch has no arithmetic of uint64, whose sums are the same bits.
_WIDE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
_ADDED_UP = (
    "the split axis is reduced, so that every rank gets all of the result. Split x along an axis that stays"
)


def reduce(local: Local, combine: Combine, x: DNDarray, axis: Axis, keepdims: bool) -> DNDarray:
    """Reduce axes by functions whose results have the dtype of the reduction's result."""
    x, reduced = plan_reduction(x, axis, keepdims)
    part = reduce_shard(local, x._larray, reduced, keepdims)
    return DNDarray._wrap(combine(part, x._comm) if reduced.crosses else part, reduced.result, x._comm)


def accumulate(
    local: Local, combine: Combine, x: DNDarray, axis: Axis, dtype: Dtype, keepdims: bool, is_mean: bool = False
) -> DNDarray:
    """Add up or multiply numbers in a wide dtype, and round once, to `dtype`. `is_mean` divides by the count."""
    x, reduced = plan_reduction(x, axis, keepdims)
    dtype = sum_dtype(x._larray.dtype, sanitize_dtype(dtype))
    part = reduce_shard(local, x._larray.to(dtype).to(accumulation_dtype(dtype)), reduced, keepdims)
    total = combine(part, x._comm) if reduced.crosses else part
    return DNDarray._wrap((total / reduced.count if is_mean else total).to(dtype), reduced.result, x._comm)


def plan_reduction(x: DNDarray, axis: Axis, keepdims: bool) -> tuple[DNDarray, ReducedLayout]:
    """Return `x`, which must be a DNDarray, and what reducing these axes makes of its layout."""
    if type(x) is not DNDarray:
        x = as_dndarray(x)
    ndim = len(x._layout.shape)
    # In order: `reduce_layout` is cached, and torch reduces the same axes in any order alike.
    axes = tuple(range(ndim)) if axis is None else tuple(sorted(normalise_axes(axis, ndim)))
    reduced = reduce_layout(x._layout, axes, bool(keepdims))
    if reduced.crosses:
        warn_if_large(reduced.result.size * x._larray.itemsize * (x._comm.size - 1), _ADDED_UP, x._comm)
    return x, reduced


def reduce_shard(local: Local, shard: torch.Tensor, reduced: ReducedLayout, keepdims: bool) -> torch.Tensor:
    """Apply a function to a shard and the axes to reduce."""
    return local(*with_axes(shard, reduced), keepdims and bool(reduced.axes))


def with_axes(shard: torch.Tensor, reduced: ReducedLayout) -> tuple[torch.Tensor, Dims]:
    """Return a shard and the axes to reduce, of which there is one at least."""
    # For torch no axes would mean all of them. Each element is then reduced alone, along a new axis.
    return (shard, reduced.axes) if reduced.axes else (shard.unsqueeze(-1), (shard.ndim,))


def product(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Multiply the ranks' parts. Collective: one allreduce, or one gather where a gradient is required.

    The product of bools is whether all are true, as their sum (`all_reduce`) is whether any is.
    """
    if not is_followed(part):
        return comm.allreduce(part, "prod")
    # The gradient of one factor is the product of the others. The total divided by the factor is that only where
    # the factor is not 0, so each rank gets the factors of all, and torch's own gradient does the rest.
    return gather_parts(part, comm).prod(0)


def gather_parts(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return the parts of all ranks along a new first axis. Collective: one exchange."""
    parts = Layout((comm.size, *part.shape), 0, comm.size)
    return redistribute(part.unsqueeze(0), parts, parts.with_split(None), comm)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which numbers of `dtype` are accumulated."""
    return _WIDE.get(dtype, torch.int64)


def sum_dtype(of: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    """Return the dtype of a sum: the wanted one, or that of the numbers, but int64 for bools and integers."""
    return wanted or (of if of in _WIDE else torch.int64)


def with_fractions(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a mean of numbers of `dtype`: theirs, but float64 for bools and integers."""
    return dtype if dtype in _WIDE else torch.float64


def check_inexact(dtype: torch.dtype, name: str) -> None:
    """Raise TypeError unless numbers of this dtype can have fractions."""
    if dtype not in _WIDE:
        raise TypeError(f"{name} needs floating point or complex numbers, got {dtype}; multiply by 1.0, say")


def check_ordered(x: DNDarray, reduced: ReducedLayout, name: str) -> None:
    """Raise TypeError for complex numbers, ValueError where there is no element to choose from."""
    if x.dtype.is_complex:
        raise TypeError(f"{name} needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    if not reduced.count:
        raise ValueError(
            f"{name} needs at least one element, but shape {x.shape} has none along axes {reduced.axes}; "
            "test x.size first"
        )
