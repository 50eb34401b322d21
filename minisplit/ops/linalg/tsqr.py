"""QR decompositions of matrices of which each rank has rows, or columns."""

from __future__ import annotations

from typing import Any

import torch

from minisplit.core.collectives import all_reduce, all_reduce_gradient, redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout

Factors = tuple[torch.Tensor, torch.Tensor]


def positive(q: torch.Tensor, r: torch.Tensor) -> Factors:
    """The same product with a diagonal of R that is real and not negative, which makes the factors unique.

    In their memory where no gradient flows, since Q may be large.
    """
    diagonal = r.detach().diagonal(dim1=-2, dim2=-1)
    phases = torch.where(diagonal == 0, 1, diagonal.sgn())
    phases = torch.nn.functional.pad(phases, (0, q.shape[-1] - phases.shape[-1]), value=1)
    scale = torch.mul if q.requires_grad else torch.Tensor.mul_
    # triu: below the diagonal are zeros, of which a phase may make negative ones.
    return scale(q, phases.unsqueeze(-2)), scale(r, phases.conj().unsqueeze(-1)).triu()


def turned(q: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """`q @ by`, column after column, as LAPACK leaves a tall Q: at least twice as fast."""
    return (by.mT @ q.mT).mT


def by_rows(shard: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
    """This rank's rows of Q, and R, of tall matrices that are cut along their rows. Collective: one exchange.

    Each rank decomposes its rows, and all the R factors of the ranks: the direct TSQR of Demmel, Grigori,
    Hoemmen and Langou (2012), with one level. What a rank sends does not grow with its rows. The backward pass
    sends one allreduce.
    """
    if shard.requires_grad and torch.is_grad_enabled():
        factors: Factors = _ByRows.apply(shard, layout, comm)  # type: ignore[no-untyped-call]
        return factors
    first, r = torch.linalg.qr(shard.detach())
    if comm.size == 1:
        return positive(first, r)
    second, r = _of_all(r, layout, comm)
    return turned(first, second), r


def triangle(shard: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """The R of `by_rows`, for less work where no gradient is to flow. Collective: one exchange."""
    if shard.requires_grad and torch.is_grad_enabled():
        return by_rows(shard, layout, comm)[1]
    return _of_all(torch.linalg.qr(shard.detach(), "r")[1], layout, comm)[1]


def _of_all(r: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
    """From the R of this rank's rows the rows of the second Q that belong to it, and the R of all."""
    counts = [min(n, layout.shape[-1]) for n in layout.counts or ()]
    shape = (*layout.shape[:-2], sum(counts), layout.shape[-1])
    stack = Layout(shape, layout.split, layout.ranks, tuple(counts))
    q, r = positive(*torch.linalg.qr(redistribute(r, stack, stack.with_split(None), comm)))
    start, stop = stack.span(comm.rank)
    return q[..., start:stop, :], r


def completed(q: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """This rank's rows of unitary matrices whose first columns are those of tall Q. Collective: one exchange.

    Each rank gets all of Q, decomposes it into reflections, and applies these to its own rows of the identity.
    """
    reflectors, scales = torch.geqrf(redistribute(q.detach(), layout, layout.with_split(None), comm))
    start, stop = layout.span(comm.rank)
    mine = torch.zeros(layout.extent, stop - start, dtype=q.dtype, device=q.device)
    mine[start:stop].fill_diagonal_(1)
    mine = mine.expand(*q.shape[:-2], *mine.shape)
    return torch.cat([q, torch.ormqr(reflectors, scales, mine, transpose=True).mH[..., q.shape[-1] :]], -1)


class _ByRows(torch.autograd.Function):
    """`by_rows`, and the gradient of the QR decomposition of the whole."""

    @staticmethod
    def forward(ctx: Any, shard: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
        ctx.comm = comm
        q, r = by_rows(shard.detach(), layout, comm)
        ctx.save_for_backward(q, r)
        return q, r

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With M = dR R^H - Q^H dQ, and its upper triangle mirrored: (dQ + Q sym(M)) R^-H."""
        (q, r), (dq, dr), comm = ctx.saved_tensors, gradients, ctx.comm
        # On a GPU autograd runs this in a thread of its own, while the one that called backward() waits.
        with comm.taken_over():
            inner = dr @ r.mH - all_reduce(q.mH @ dq, comm)
            both = inner.triu() + inner.triu().mH
            mirrored = all_reduce_gradient(both - torch.diag_embed(both.diagonal(dim1=-2, dim2=-1) / 2), comm)
            r = all_reduce_gradient(r, comm)
        found = torch.linalg.solve_triangular(r.mH, dq + q @ mirrored, upper=False, left=False)
        return found, None, None


def by_columns(lead: torch.Tensor, shard: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
    """Q, and this rank's columns of R, of wide matrices whose leading columns, a square, all ranks have. Local."""
    q, r = positive(*torch.linalg.qr(lead))
    start, stop = layout.span(comm.rank)
    rest = all_reduce_gradient(q, comm).mH @ shard[..., max(lead.shape[-1] - start, 0) :]
    return q, torch.cat([all_reduce_gradient(r, comm)[..., start:stop], rest], -1)
