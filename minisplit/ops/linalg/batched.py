"""Functions of torch applied to matrices, each of which must be whole on one rank."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.linalg.matrix_layouts import splits_matrices, whole_matrices
from minisplit.ops.reductions.reduce import check_inexact

# LAPACK has no arithmetic of these.
_HALVES = (torch.float16, torch.bfloat16, torch.complex32)


def apply_to_square(
    function: Callable[..., Any], x: DNDarray, name: str, *, may_fail: bool = False
) -> tuple[DNDarray, ...]:
    """Apply a function of torch to square matrices, as `apply_to_matrices`. First check that they are square."""
    return apply_to_matrices(function, as_matrices(x, name, square=True), name, may_fail=may_fail)


def apply_to_matrices(
    function: Callable[..., Any], x: DNDarray, name: str, *, may_fail: bool = True
) -> tuple[DNDarray, ...]:
    """Apply a function of torch to the matrices of `x`, having moved them to where each is whole.

    `may_fail` says whether the function may fail for one of the matrices, so that the ranks must agree on that.
    The results of the function, one tensor or several, have the batch axes in front.
    """
    layout, comm, batch = whole_matrices(x._layout), x._comm, x.ndim - 2
    shard = x._align(layout)._larray
    # Where every rank computes the same, all fail alike, and no agreement is needed.
    with agreement_on_shards(comm, name, layout) if may_fail else nullcontext():
        results = function(shard)
    arrays = []
    for part in results if isinstance(results, tuple) else (results,):
        result = Layout((*x.shape[:batch], *part.shape[batch:]), layout.split, layout.ranks, layout.ragged)
        array = DNDarray._wrap(part, result, comm)
        # Where every rank has all matrices, a result of the shape of `x` is split as `x`. The user chose that
        # split, and it takes no message.
        arrays.append(array._align(x._layout) if layout.split is None and result.shape == x.shape else array)
    return tuple(arrays)


def agreement_on_shards(comm: Communication, name: str, result: Layout) -> AbstractContextManager[None]:
    """Return an agreement if the ranks compute different shards of the result, so that one alone may fail."""
    if result.split is None:
        return nullcontext()
    if splits_matrices(result):
        return agreement(comm, f"computing {name}")
    start, stop = result.span(comm.rank)
    return agreement(comm, f"computing {name} for the indices {start} to {stop - 1} of axis {result.split}")


def as_matrices(x: DNDarray, name: str, argument: str = "x", *, square: bool = False) -> DNDarray:
    """Return `x` if its last two axes are matrices of a dtype that LAPACK knows. Otherwise raise an error."""
    x = as_dndarray(x, argument)
    if x.ndim < 2:
        raise ValueError(f"{name} needs matrices, along the last two axes, got {argument} of shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} needs square matrices, got {argument} of shape {x.shape}")
    check_precision(x.dtype, name)
    return x


def check_precision(dtype: torch.dtype, name: str) -> None:
    """Raise a TypeError unless LAPACK computes with numbers of this dtype."""
    check_inexact(dtype, name)
    if dtype in _HALVES:
        wider = torch.complex64 if dtype.is_complex else torch.float32
        raise TypeError(f"{name} has no half precision, got {dtype}; use x.astype({wider})")
