"""Square matrices split along columns, transposed in their own memory: some columns of each rank at a time.

Each pair of ranks has two blocks, one of either, which are as large as each other. So what comes takes the place
of what goes, where an exchange into new memory would need the matrix twice, and for a moment more for messages.

Tensors only. What is given is overwritten. Functions are collective: one exchange for `WIDTH` columns of a rank.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout

# Of so many columns of each rank blocks go at a time. What is sent and what comes is then one panel.
WIDTH = 64


def transpose(x: torch.Tensor, layout: Layout, comm: Communication) -> None:
    """Overwrite this rank's columns of a matrix by those of its transpose: by its rows, each as a column."""
    _exchange(x, layout, comm, sends_below=True, sends_above=True)
    for one, other, corner in _own_blocks(x, layout, comm):
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)
        corner.copy_(corner.mT.clone())


def complete_hermitian(x: torch.Tensor, layout: Layout, comm: Communication, *, upper: bool) -> None:
    """Overwrite the other triangle of a matrix by the adjoint of this one. Of the diagonal the real part stays."""
    _exchange(x, layout, comm, sends_below=not upper, sends_above=upper)
    for right, below, corner in _own_blocks(x, layout, comm):
        source, target = (right, below) if upper else (below, right)
        target.copy_(source.conj())
        triangle = corner.triu(1) if upper else corner.tril(-1)
        corner.copy_(triangle + triangle.mH + corner.diagonal().real.diag())


def _own_blocks(
    x: torch.Tensor, layout: Layout, comm: Communication
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """By some columns of the diagonal square: what is right of a corner, as columns what is below it, and that."""
    first, last = layout.span(comm.rank)
    own = x[first:last]
    for start in range(0, last - first, WIDTH):
        some = slice(start, start + WIDTH)
        yield own[some, start + WIDTH :], own[start + WIDTH :, some].mT, own[some, some]


def _exchange(
    x: torch.Tensor, layout: Layout, comm: Communication, *, sends_below: bool, sends_above: bool
) -> None:
    """Exchange blocks with all ranks, or send those below the diagonal alone, or those above; with conjugates.

    A block goes to where its transpose is; if only one of two is sent, its adjoint.
    """
    first, bounds = layout.span(comm.rank)[0], layout.offsets().tolist()
    counts, both = layout.counts or (), sends_below and sends_above
    for start in range(0, max(counts), WIDTH):
        sent, received, places = list[tuple[int, torch.Tensor]](), list[tuple[int, torch.Tensor]](), []
        for peer in range(comm.size):
            lesser, greater = sorted((peer, comm.rank))
            begin, end = (min(bounds[lesser] + each, bounds[lesser + 1]) for each in (start, start + WIDTH))
            if peer == comm.rank or begin == end or not counts[greater]:
                continue
            # Both have it as columns of the lesser rank, which are rows here.
            is_below = comm.rank == lesser
            place = (
                x[bounds[peer] : bounds[peer + 1], begin - first : end - first].mT if is_below else x[begin:end]
            )
            if sends_below if is_below else sends_above:
                sent.append((peer, place.contiguous()))
            if sends_above if is_below else sends_below:
                received.append((peer, x.new_empty(place.shape)))
                places.append(place)
        comm.exchange(sent, received, (x.dtype, "transposed", layout, start, sends_below, sends_above))
        for place, (_, block) in zip(places, received, strict=True):
            place.copy_(block if both else block.conj())
