"""Running sums and products: each rank runs over its part, and a scan tells it what lies before that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient, redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.dtypes import sanitize_dtype
from minisplit.core.layout import Layout, normalise_axis
from minisplit.ops.elementwise.apply import named
from minisplit.ops.reductions.reduce import accumulation_dtype, sum_dtype
from minisplit.ops.shape.reshape import ravel

# torch's cumsum or cumprod, or sum or prod with the axis kept.
Along = Callable[[torch.Tensor, int], torch.Tensor]
# From the total of each rank that of all ranks before this one. Collective, one call.
Before = Callable[[torch.Tensor, Communication], torch.Tensor]
Join = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_DOC = """{what} up to and including each element along an axis, which only a 1-d array need not name.

The result is split as `x`. Local, but where `axis` is the split axis collective, by one scan of what each rank has
in all. With `include_initial` it begins with {initial}, which rank 0 holds: the axis is longer by 1. Bools and
integers give int64; halves are accumulated in float32. `dtype` is that of the result, to which `x` is cast first.

Raises ValueError without an axis for other than 1-d arrays, IndexError for one out of range, TypeError for
anything but a DNDarray: all on every rank.

>>> import minisplit as ms
>>> ms.{name}(ms.arange(1, 5, split=0)).tolist()
{example}
"""


class Cumulate(Protocol):
    """A cumulative operation, as it is called."""

    def __call__(
        self,
        x: DNDarray,
        /,
        axis: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        include_initial: bool = False,
    ) -> DNDarray: ...


def cumulation(
    along: Along, ends: Along, before: Before, join: Join, initial: int, name: str, what: str, example: str
) -> Cumulate:
    """Make a cumulative operation: `along` an axis of a shard, whose `ends` make what is `before` other ranks."""

    def operation(
        x: DNDarray,
        /,
        axis: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        include_initial: bool = False,
    ) -> DNDarray:
        x = as_dndarray(x)
        if axis is None and x.ndim != 1:
            raise ValueError(f"{name} needs an axis, except for 1-d arrays, got shape {x.shape}")
        axis = normalise_axis(0 if axis is None else axis, x.ndim, "axis")
        dtype, layout = sum_dtype(x.dtype, sanitize_dtype(dtype)), x._layout
        shard = x._larray.to(dtype).to(accumulation_dtype(dtype))
        found = along(shard, axis)
        if layout.split == axis and layout.ranks > 1:
            found = join(before(ends(shard, axis), x._comm), found)
        found = found.to(dtype)
        if include_initial:
            if layout.split != axis or x._comm.rank == 0:
                row = [1 if place == axis else n for place, n in enumerate(found.shape)]
                found = torch.cat([found.new_full(row, initial), found], axis)
            layout = _longer(layout, axis)
        return DNDarray._wrap(found, layout, x._comm)

    return named(operation, name, _DOC.format(name=name, what=what, initial=initial, example=example))


def _longer(layout: Layout, axis: int) -> Layout:
    """The layout with one index more in front of an axis."""
    shape = tuple(n + (place == axis) for place, n in enumerate(layout.shape))
    if layout.split != axis:
        return Layout(shape, layout.split, layout.ranks, layout.ragged)
    first, *rest = layout.counts or ()
    return Layout(shape, axis, layout.ranks, (first + 1, *rest))


def _sums_before(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    if not (part.requires_grad and torch.is_grad_enabled()):
        return comm.scan(part)
    sums: torch.Tensor = _Sums.apply(part, comm, False)  # type: ignore[no-untyped-call]
    return sums


def _products_before(part: torch.Tensor, comm: Communication) -> torch.Tensor:
    if not (part.requires_grad and torch.is_grad_enabled()):
        return comm.scan(part, "prod")
    # The gradient of a factor is the product of the others, also where one is zero: so each rank gets them all.
    factors = Layout((comm.size, *part.shape), 0, comm.size)
    everywhere = redistribute(part.unsqueeze(0), factors, factors.with_split(None), comm)
    return all_reduce_gradient(everywhere, comm)[: comm.rank].prod(0)


class _Sums(torch.autograd.Function):
    """The sum over the ranks before this one, or after it; each is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, comm: Communication, is_after: bool) -> torch.Tensor:
        ctx.of = comm, not is_after
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with comm.taken_over():
            if not is_after:
                return comm.scan(part)
            exact = part.to(torch.complex128 if part.is_complex() else torch.float64)
            return (comm.allreduce(exact) - comm.scan(exact) - exact).to(part.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Sums.apply(gradients[0], *ctx.of), None, None  # type: ignore[no-untyped-call]


def _sum(shard: torch.Tensor, axis: int) -> torch.Tensor:
    return shard.sum(axis, keepdim=True)


def _prod(shard: torch.Tensor, axis: int) -> torch.Tensor:
    return shard.prod(axis, keepdim=True)


cumulative_sum = cumulation(
    torch.cumsum, _sum, _sums_before, torch.add, 0, "cumulative_sum", "The sums", "[1, 3, 6, 10]"
)
cumulative_prod = cumulation(
    torch.cumprod, _prod, _products_before, torch.mul, 1, "cumulative_prod", "The products", "[1, 2, 6, 24]"
)


class Flattening(Protocol):
    """A cumulative operation with NumPy's default axis, as it is called."""

    def __call__(
        self, x: DNDarray, /, axis: int | None = None, *, dtype: torch.dtype | None = None
    ) -> DNDarray: ...


def _flattening(function: Cumulate, name: str, what: str, example: str) -> Flattening:
    """Make NumPy's form of a cumulative operation."""

    def operation(x: DNDarray, /, axis: int | None = None, *, dtype: torch.dtype | None = None) -> DNDarray:
        return function(ravel(x), 0, dtype=dtype) if axis is None else function(x, axis, dtype=dtype)

    doc = f"""The {what} along an axis; None takes the elements in row-major order, as `ravel` does.

    Local or collective as that and `cumulative_{name[3:]}`, and with its dtypes and errors.

    >>> import minisplit as ms
    >>> ms.{name}(ms.arange(1, 5, split=0).reshape((2, 2))).tolist()
    {example}
    """
    return named(operation, name, doc)


cumsum = _flattening(cumulative_sum, "cumsum", "running sums", "[1, 3, 6, 10]")
cumprod = _flattening(cumulative_prod, "cumprod", "running products", "[1, 2, 6, 24]")
