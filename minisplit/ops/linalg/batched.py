"""The maker of functions of matrices: the last two axes whole, the others shared out between the ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, operand_layout
from minisplit.ops.elementwise.alignment import broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator, named, operand_shard
from minisplit.ops.linalg.matrix_layouts import cuts_matrices, whole_matrices
from minisplit.ops.reductions.reduce import check_inexact

Result_co = TypeVar("Result_co", covariant=True)
Made = TypeVar("Made")
Torch = Callable[[torch.Tensor], Any]
# What a tolerance may be: a number, or one for each matrix.
Tolerance = float | DNDarray | None

# Of these LAPACK has no arithmetic.
_HALVES = (torch.float16, torch.bfloat16, torch.complex32)
_DOC = """{what}: `torch.linalg.{name}` of the last two axes.

Local where these are whole, {more}the result is cut along the batch axis that `x` is. Where they are cut,
collective, by one exchange: the ranks share out the longest batch axis, if it has an index for each; else each
rank gets all matrices, and what has the shape of `x` is cut as `x`, anything else replicated.

Raises ValueError for what is not a stack of square matrices, TypeError for anything but floating point and
complex numbers of at least 32 bits{errors}: all on every rank.

>>> import minisplit as ms
>>> ms.linalg.{name}(ms.eye(2, split=0)){shown}
"""
_MAY_FAIL = "but for one small message, that none failed; "
_ERRORS = ", torch.linalg.LinAlgError where no values are found, as for NaN"


class OfMatrices(Protocol[Result_co]):
    """A function of a stack of square matrices, as it is called."""

    def __call__(self, x: DNDarray, /) -> Result_co: ...


def batched(
    function: Torch, what: str, pack: Callable[..., Made], shown: str, *, may_fail: bool = False
) -> OfMatrices[Made]:
    """Make a function of square matrices, whose results `pack` puts together.

    `may_fail`: whether it may fail for one of the matrices, which costs an agreement. `shown` is for the
    docstring: what is done to the result of an identity of two rows, and what that gives.
    """
    name = function.__name__.removeprefix("linalg_")

    def operation(x: DNDarray, /) -> Made:
        return pack(*of_each(function, as_matrices(x, name, square=True), name, may_fail=may_fail))

    more, errors = (_MAY_FAIL, _ERRORS) if may_fail else ("", "")
    doc = _DOC.format(what=what, name=name, shown=shown, more=more, errors=errors)
    return named(operation, name, doc, "minisplit.ops.linalg")


def one(result: DNDarray) -> DNDarray:
    """The `pack` of functions that have one result."""
    return result


def of_each(function: Torch, x: DNDarray, name: str, *, may_fail: bool = True) -> tuple[DNDarray, ...]:
    """Apply a function of torch to the matrices of `x`, having brought each to one rank or to all.

    Its results, one tensor or several, have the batch axes in front.
    """
    layout, comm = whole_matrices(x._layout), x._comm
    shard = x._align(layout)._larray
    with agreed(comm, name, layout if may_fail else None):
        made = function(shard)
    return tuple(_laid_out(part, x, layout) for part in (made if isinstance(made, tuple) else (made,)))


def _laid_out(part: torch.Tensor, x: DNDarray, layout: Layout) -> DNDarray:
    batch = x.ndim - 2
    result = Layout((*x.shape[:batch], *part.shape[batch:]), layout.split, layout.ranks, layout.ragged)
    array = DNDarray._wrap(part, result, x._comm)
    return array._align(x._layout) if layout.split is None and result.shape == x.shape else array


def agreed(comm: Communication, name: str, result: Layout | None) -> AbstractContextManager[None]:
    """An agreement, where ranks compute parts of a result, and one alone may fail."""
    if result is None or result.split is None:
        return nullcontext()
    if cuts_matrices(result):
        return agreement(comm, f"computing {name}")
    start, stop = result.span(comm.rank)
    return agreement(comm, f"computing {name} for the indices {start} to {stop - 1} of axis {result.split}")


def as_matrices(x: DNDarray, name: str, place: str = "x", *, square: bool = False) -> DNDarray:
    """`x`, whose last two axes must be matrices of numbers that LAPACK knows."""
    x = as_dndarray(x, place)
    if x.ndim < 2:
        raise ValueError(f"{name} needs matrices, along the last two axes, got {place} of shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} needs square matrices, got {place} of shape {x.shape}")
    check_precision(x.dtype, name)
    return x


def check_precision(dtype: torch.dtype, name: str) -> None:
    """TypeError unless LAPACK computes with numbers of this dtype."""
    check_inexact(dtype, name)
    if dtype in _HALVES:
        wider = torch.complex64 if dtype.is_complex else torch.float32
        raise TypeError(f"{name} has no half precision, got {dtype}; use x.astype({wider})")


def tolerance(rtol: Tolerance, x: DNDarray, name: str) -> float | torch.Tensor | None:
    """`rtol` as torch takes it for the matrices of `x` that this rank has once they are whole. May move it."""
    if rtol is None or isinstance(rtol, (int, float, np.floating)):
        return None if rtol is None else float(rtol)
    if not isinstance(rtol, DNDarray) or not rtol.dtype.is_floating_point:
        kind = rtol.dtype if isinstance(rtol, DNDarray) else type(rtol).__name__
        raise TypeError(f"rtol of {name} must be a number or a DNDarray of floating point numbers, got {kind}")
    check_one_communicator([x, rtol])
    batch = x.shape[:-2]
    if broadcast_shape([batch, rtol.shape]) != batch:
        raise ValueError(f"rtol of {name} must broadcast to the batch axes of x, {batch}, got shape {rtol.shape}")
    layout = whole_matrices(x._layout)
    split = None if layout.split is None or layout.split >= len(batch) else layout.split
    target = Layout(batch, split, layout.ranks, layout.ragged)
    needed = operand_layout(rtol._layout, target)
    return operand_shard(rtol, None if needed == rtol._layout else needed, target).to(x.dtype.to_real())
