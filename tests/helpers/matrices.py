"""Matrices in every layout, and what tests of linear algebra assert."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from layouts import layouts

import minisplit as ms
from minisplit.ops.linalg.batched import is_split_matrix, whole_matrices
from minisplit.testing import Whole, assert_close

Shape = tuple[int, ...]
DTYPES = (torch.float64, torch.complex128, torch.float32)
# Tall and wide, empty ones among them; few and many.
SHAPES: tuple[Shape, ...] = (
    (9, 2), (5, 4), (3, 3), (2, 7), (4, 5), (1, 1), (0, 0), (3, 0), (0, 2),
    (2, 5, 2), (5, 3, 3), (2, 2, 4), (0, 3, 2), (2, 3, 3, 2),
)  # fmt: skip
SQUARES: tuple[Shape, ...] = ((5, 5), (3, 3), (1, 1), (0, 0), (2, 4, 4), (5, 3, 3), (0, 2, 2), (2, 3, 2, 2))
# Of full rank.
REGULAR: tuple[Shape, ...] = ((6, 3), (3, 3), (3, 6), (2, 5, 2), (7, 1), (2, 3, 4))


def numbers(shape: Shape, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Numbers whose matrices have full rank, and are far from losing it."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def regular(shape: Shape, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Square matrices that are far from singular."""
    return numbers(shape, dtype, seed) + 5 * torch.eye(shape[-1], dtype=dtype)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return x + x.mH


def definite(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mH + torch.eye(x.shape[-1], dtype=x.dtype)


def stacks(
    ranks: int, shapes: Sequence[Shape] = SHAPES, dtypes: Sequence[torch.dtype] = DTYPES
) -> Iterator[Whole]:
    """Yield stacks of matrices of these shapes, each in every layout, of one dtype after the other."""
    for shape in shapes:
        for place, layout in enumerate(layouts(shape, ranks)):
            yield Whole(numbers(shape, dtypes[place % len(dtypes)], place), layout)


def phases(r: torch.Tensor) -> torch.Tensor:
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    return diagonal / diagonal.abs()


def unique_qr(x: Any) -> tuple[Any, ...]:
    """Return the factors of an array, or of a tensor those that have a positive diagonal too."""
    if isinstance(x, ms.DNDarray):
        return ms.linalg.qr(x)
    q, r = torch.linalg.qr(x)
    signs = phases(r).detach()
    return q * signs.unsqueeze(-2), signs.conj().unsqueeze(-1) * r


def gathered(x: ms.DNDarray) -> torch.Tensor:
    return x.resplit(None).larray.detach()


def as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


def assert_layout(result: ms.DNDarray, x: ms.DNDarray, *, split_as: bool) -> None:
    """Assert that a result is split as whole matrices are, or of a split matrix as `x`, or replicated."""
    layout = x.layout if split_as and is_split_matrix(x.layout) else whole_matrices(x.layout)
    assert (result.split, result.counts) == (layout.split, layout.counts)


def assert_gradients(
    ours: Callable[..., Any], theirs: Callable[..., Any], *wholes: Whole, rtol: float = 1e-6, atol: float = 1e-8
) -> None:
    """Assert that a function of arrays has the gradients of one of tensors. Results may be tuples."""
    tensors, arrays = [whole.tensor.clone().requires_grad_() for whole in wholes], [x.cut() for x in wholes]
    for x in arrays:
        x.larray.requires_grad_()
    wanted, results = as_tuple(theirs(*tensors)), as_tuple(ours(*arrays))
    weights = [numbers(tuple(part.shape), part.dtype, 7 + place) for place, part in enumerate(wanted)]
    shards = [weight[part.layout.box(part.comm.rank)] for weight, part in zip(weights, results, strict=True)]
    gradients = torch.autograd.grad(wanted, tensors, weights, allow_unused=True, materialize_grads=True)
    own = torch.autograd.grad(
        [x.larray for x in results], [x.larray for x in arrays], shards, allow_unused=True, materialize_grads=True
    )
    for x, gradient, shard in zip(arrays, gradients, own, strict=True):
        assert_close(ms.DNDarray(shard, x.layout, x.comm), gradient, rtol=rtol, atol=atol)
