"""The layouts on which tests of arrays go through every case, and the check of an array against a whole tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close

KINDS = ["balanced", "ragged", "one rank"]


def layout_of(shape: tuple[int, ...], split: int | None, kind: str, size: int) -> ms.Layout:
    if split is None or kind == "balanced":
        return ms.Layout(shape, split, size)
    extent = shape[split]
    counts = [0] * (size - 1) + [extent]
    if kind == "ragged":  # most on the last rank, nothing on the first of three or more
        counts[size // 2] += extent // 3
        counts[-1] -= extent // 3
    return ms.Layout(shape, split, size, tuple(counts))


def layouts(shape: tuple[int, ...], size: int) -> list[ms.Layout]:
    """Replicated, and every split on every kind of layout."""
    cut = [layout_of(shape, split, kind, size) for split in range(len(shape)) for kind in KINDS]
    return [ms.Layout(shape, None, size), *cut]


def dealt(whole: torch.Tensor, layout: ms.Layout, comm: ms.Communication | None = None) -> ms.DNDarray:
    """The array of which every rank has all, cut by this layout."""
    return Whole(whole, layout).cut(comm)


def assert_gradients(
    ours: Callable[..., ms.DNDarray],
    theirs: Callable[..., torch.Tensor],
    wholes: Sequence[torch.Tensor],
    size: int,
) -> None:
    """The gradients of a function of arrays are torch's, whatever the layouts of the arrays."""
    plain = [whole.clone().requires_grad_() for whole in wholes]
    wanted = theirs(*plain)
    weights = torch.arange(1.0, wanted.numel() + 1).reshape(wanted.shape).to(wanted.dtype)
    gradients = torch.autograd.grad(wanted, plain, weights)
    for places in product(*(layouts(tuple(whole.shape), size) for whole in wholes)):
        arrays = [dealt(whole, layout) for whole, layout in zip(wholes, places, strict=True)]
        for x in arrays:
            x.larray.requires_grad_()
        result = ours(*arrays)
        assert_close(result, wanted.detach())
        mine = torch.autograd.grad(
            result.larray, [x.larray for x in arrays], weights[result.layout.box(result.comm.rank)]
        )
        for x, own, gradient in zip(arrays, mine, gradients, strict=True):
            assert_close(ms.DNDarray(own, x.layout, x.comm), gradient)


def assert_is(
    x: ms.DNDarray, whole: torch.Tensor, split: int | None, comm: ms.Communication | None = None
) -> None:
    """`x` is `whole`, cut along `split` with the default counts."""
    comm = comm or ms.get_comm()
    with agreement(comm, "checking"):
        assert x.layout == ms.Layout(tuple(whole.shape), split, comm.size)
        assert x.dtype is whole.dtype
        assert x.comm is comm
        mine = whole[x.layout.box(comm.rank)]
        assert torch.equal(x.larray, mine)
        assert x.lshape == tuple(mine.shape)
        assert x.device == whole.device
