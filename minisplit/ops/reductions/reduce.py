"""The makers of reductions: torch's function for a rank's shard, and a rule by which the ranks' parts combine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout, normalise_axes
from minisplit.core.performance_warning import warn_if_large
from minisplit.ops.elementwise.apply import named
from minisplit.ops.reductions.axes import ReducedLayout, reduce_layout

Axis = int | tuple[int, ...] | None
Dims = tuple[int, ...]
# From a shard, the axes to reduce and whether they stay with length 1: this rank's part of the result.
Local = Callable[[torch.Tensor, Dims, bool], torch.Tensor]
# From the ranks' parts the result, on all of them. Collective, one call.
Across = Callable[[torch.Tensor, Communication], torch.Tensor]


class Reduce(Protocol):
    """A reduction, as it is called."""

    def __call__(self, x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray: ...


class Accumulate(Protocol):
    """A reduction that takes a dtype, as it is called."""

    def __call__(
        self, x: DNDarray, /, axis: Axis = None, *, dtype: torch.dtype | None = None, keepdims: bool = False
    ) -> DNDarray: ...


# In which dtype numbers are added up and multiplied; others in int64, whose bits are those of any integers.
_WIDE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
_DOC = """{what} over {over}.

Local where the split axis stays: then the result is split along it, with the counts of `x`. Where that is reduced,
it is collective, by one message, and the result replicated. `keepdims` keeps reduced axes, with length 1.{more}

Raises IndexError for an axis out of range, ValueError for one given twice, TypeError for anything but a
DNDarray{errors}: all on every rank.

>>> import minisplit as ms
>>> ms.{name}(ms.ones((2, 3), split=0)).item()
{shown}
"""
_ADDED_UP = (
    "the split axis is reduced, so that every rank gets all of the result. Split x along an axis that stays"
)
AXES = "an axis, a tuple of axes, or all of them (None)"
DTYPES = """

Bools and integers give int64, since torch has no arithmetic of uint64; halves are accumulated in float32.
`dtype` is that of the result, to which `x` is cast first."""
INEXACT = ", or for a dtype that has no fractions"
ORDERED = ", or for complex numbers; ValueError where there is no element"


def reduction(local: Local, across: Across, name: str, what: str, shown: object) -> Reduce:
    """Make a reduction whose parts have the result's dtype. `shown` is that of six ones."""

    def operation(x: DNDarray, /, axis: Axis = None, *, keepdims: bool = False) -> DNDarray:
        x, way = plan_reduction(x, axis, keepdims)
        part = reduce_shard(local, x._larray, way, keepdims)
        return DNDarray._wrap(across(part, x._comm) if way.crosses else part, way.result, x._comm)

    return named(operation, name, documentation(name, what, shown))


def accumulation(
    local: Local, across: Across, name: str, what: str, shown: object, *, is_mean: bool = False
) -> Accumulate:
    """Make a reduction that is rounded once, to a dtype that users may choose; `is_mean` divides by the count."""

    def operation(
        x: DNDarray, /, axis: Axis = None, *, dtype: torch.dtype | None = None, keepdims: bool = False
    ) -> DNDarray:
        x, way = plan_reduction(x, axis, keepdims)
        dtype = sanitize_dtype(dtype)
        if is_mean:
            dtype = dtype or x.dtype
            check_inexact(dtype, name)
        dtype = sum_dtype(x.dtype, dtype)
        part = reduce_shard(local, x._larray.to(dtype).to(accumulation_dtype(dtype)), way, keepdims)
        whole = across(part, x._comm) if way.crosses else part
        return DNDarray._wrap((whole / way.count if is_mean else whole).to(dtype), way.result, x._comm)

    more = DTYPES if not is_mean else DTYPES[DTYPES.index(" halves") :].replace(" halves", "\n\nHalves", 1)
    return named(operation, name, documentation(name, what, shown, more=more, errors=INEXACT if is_mean else ""))


def documentation(
    name: str, what: str, shown: object, *, more: str = "", errors: str = "", over: str = AXES
) -> str:
    """The docstring of a reduction, which is `shown` for six ones."""
    return _DOC.format(name=name, what=what, shown=shown, more=more, errors=errors, over=over)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which dtype numbers of `dtype` are accumulated."""
    return _WIDE.get(dtype, torch.int64)


def sum_dtype(of: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    """The dtype of a sum or product of numbers: the wanted one, or their own, but int64 for bools and integers."""
    return wanted or (of if of in _WIDE else torch.int64)


def plan_reduction(x: DNDarray, axis: Axis, keepdims: bool) -> tuple[DNDarray, ReducedLayout]:
    """`x`, which must be a DNDarray, and what reducing these axes makes of its layout."""
    x = as_dndarray(x)
    axes = range(x.ndim) if axis is None else sorted(normalise_axes(axis, x.ndim))
    way = reduce_layout(x._layout, tuple(axes), bool(keepdims))
    if way.crosses:
        warn_if_large(way.result.size * x._larray.itemsize * (x._comm.size - 1), _ADDED_UP, x._comm)
    return x, way


def reduce_shard(local: Local, shard: torch.Tensor, way: ReducedLayout, keepdims: bool) -> torch.Tensor:
    """Apply `local`; for torch no axes would mean all of them."""
    return local(shard, way.axes, keepdims) if way.axes else local(shard.unsqueeze(-1), (-1,), False)


def check_inexact(dtype: torch.dtype, name: str) -> None:
    """TypeError unless numbers of this dtype can have fractions."""
    if dtype not in _WIDE:
        raise TypeError(f"{name} needs floating point or complex numbers, got {dtype}; multiply by 1.0, say")


def check_ordered(x: DNDarray, way: ReducedLayout, name: str) -> None:
    """TypeError for complex numbers, ValueError where no element can be the one that is asked for."""
    if x.dtype.is_complex:
        raise TypeError(f"{name} needs numbers that have an order, got {x.dtype}; take abs() or real() first")
    if not way.count:
        raise ValueError(
            f"{name} needs at least one element, but shape {x.shape} has none along axes {way.axes}; "
            "test x.size first"
        )


def product(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """The product of the ranks' parts. Collective."""
    if not (part.requires_grad and torch.is_grad_enabled()):
        return comm.allreduce(part, "prod")
    # The gradient of one factor is the product of the others, also where one is zero: so each rank gets them all.
    factors = Layout((comm.size, *part.shape), 0, comm.size)
    return redistribute(part.unsqueeze(0), factors, factors.with_split(None), comm).prod(0)


def union(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Whether it is true on any rank. Collective."""
    return comm.allreduce(part)


def intersection(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Whether it is true on all ranks. Collective."""
    return comm.allreduce(part, "prod")
