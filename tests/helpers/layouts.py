"""The layouts on which tests of arrays go through every case, and the check of an array against a whole tensor."""

from __future__ import annotations

import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole

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
