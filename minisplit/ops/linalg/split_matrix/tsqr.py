"""QR decompositions of matrices that are split along rows or columns.

Tall matrices are decomposed by the direct TSQR of Demmel, Grigori, Hoemmen and Langou ("Communication-optimal
parallel and sequential QR and LU factorizations", SIAM J. Sci. Comput. 34, 2012): each rank decomposes its rows,
then the stacked R factors of all ranks, or on many ranks those of two at a time, in a binary tree. What a rank
sends does not grow with its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from minisplit.core.collectives import (
    Collective,
    Gradients,
    Tensors,
    all_reduce,
    all_reduce_gradient,
    apply,
    redistribute,
)
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout, layout_from_counts
from minisplit.core.pytorch.transforms import is_followed

Factors = tuple[torch.Tensor, torch.Tensor]

# On more ranks than this, and if their R factors have more bytes than this, they go up a tree: each of its rounds
# takes a message and a decomposition, all ranks' at once take one message, and one decomposition on each rank.
FEW, GATHERED = 16, 2**20


def normalise_phases(q: torch.Tensor, r: torch.Tensor) -> Factors:
    """Return the factors of the same product for which the diagonal of R is real and not negative.

    The factors are changed in place where no gradient flows, since Q may be large.
    """
    # LAPACK's signs depend on the rows that it is given, so they would depend on the number of ranks. With a
    # diagonal that is not negative Q and R are unique.
    diagonal = r.detach().diagonal(dim1=-2, dim2=-1)
    # Zero has the phase 1, not sgn(0): otherwise a column of zeros in the matrix would make one in Q, which has
    # orthonormal columns, and a row of zeros in R.
    phases = torch.where(diagonal == 0, 1, diagonal.sgn())
    phases = torch.nn.functional.pad(phases, (0, q.shape[-1] - phases.shape[-1]), value=1)
    scale = torch.mul if is_followed(q) else torch.Tensor.mul_
    # triu: a phase of -1 makes -0.0 of the zeros below the diagonal.
    return scale(q, phases.unsqueeze(-2)), scale(r, phases.conj().unsqueeze(-1)).triu()


def multiply_tall(q: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return `q @ factor` in column-major order, as LAPACK leaves a tall Q: at least twice as fast."""
    return (factor.mT @ q.mT).mT


def tsqr(shard: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
    """Return this rank's rows of Q, and R, of tall matrices that are split along their rows.

    Collective: one exchange; on many ranks two for each level of a tree, and a broadcast. Its backward pass is one
    allreduce.
    """
    q, r = apply(_TallQR(comm, layout), shard)
    return q, r


def tsqr_r(shard: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """Return the R of `tsqr`, without the work for Q where no gradient is to flow. Collective as `tsqr`."""
    if is_followed(shard):
        return tsqr(shard, layout, comm)[1]
    return _qr_of_stacked(torch.linalg.qr(shard.detach(), "r")[1], layout, comm, has_q=False)[1]


@dataclass(frozen=True, slots=True)
class _TallQR(Collective):
    comm: Communication
    layout: Layout
    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        q, r = torch.linalg.qr(tensors[0])
        if self.comm.size == 1:
            return normalise_phases(q, r)
        own_rows, r = _qr_of_stacked(r, self.layout, self.comm)
        return multiply_tall(q, own_rows), r

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # The gradient is that of the QR decomposition of the whole matrix: (dQ + Q sym(M)) R^-H, where M is
        # dR R^H - Q^H dQ, and sym(M) is Hermitian and has the upper triangle of M. The gradients of the two levels
        # would not do: a rank's own R may be singular, although that of the whole matrix is not.
        (_, q, r), (dq, dr) = kept, gradients
        upper = (dr @ r.mH - all_reduce(q.mH @ dq, self.comm)).triu()
        both = upper + upper.mH
        hermitian = both - torch.diag_embed(both.diagonal(dim1=-2, dim2=-1) / 2)
        # Each rank uses these two for its own rows, so that their gradient, for second derivatives, is a sum over
        # the ranks.
        hermitian, r = all_reduce_gradient(hermitian, self.comm), all_reduce_gradient(r, self.comm)
        return [torch.linalg.solve_triangular(r.mH, dq + q @ hermitian, upper=False, left=False)]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        # dQ R + Q dR = dA. With M = Q^H dA R^-1 the upper triangle dR R^-1, whose diagonal is real, is that of
        # M + M^H, but half of its diagonal.
        (_, q, r), (tangent,) = kept, tangents
        own_r = all_reduce_gradient(r, self.comm)
        scaled = torch.linalg.solve_triangular(own_r, tangent, upper=True, left=False)
        product = all_reduce(q.mH @ scaled, self.comm)
        both = product + product.mH
        upper = both.triu() - torch.diag_embed(both.diagonal(dim1=-2, dim2=-1) / 2)
        return [scaled - q @ all_reduce_gradient(upper, self.comm), upper @ r]

    def batched(self, size: int) -> tuple[Collective, int]:
        # Matrices are in the last two axes.
        layout = layout_from_counts(self.layout.counts or (), (size, *self.layout.shape), self.layout.ndim - 1)
        return replace(self, layout=layout), 0

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return [True, True]


def _qr_of_stacked(r: torch.Tensor, layout: Layout, comm: Communication, has_q: bool = True) -> Factors:
    """Decompose the stacked R factors of all ranks. Return the rows of that Q that are this rank's, and R."""
    # A rank with fewer rows than columns has an R with as many rows as the shard.
    counts = [min(n, layout.shape[-1]) for n in layout.counts or ()]
    if comm.size > FEW and sum(counts) * layout.size // max(layout.extent, 1) * r.itemsize > GATHERED:
        return _qr_by_tree(r, counts, comm, has_q)
    stacked = layout_from_counts(counts, layout.shape, layout.ndim - 2)
    q, r = normalise_phases(*torch.linalg.qr(redistribute(r, stacked, stacked.with_split(None), comm)))
    start, stop = stacked.span(comm.rank)
    return q[..., start:stop, :], r


def _qr_by_tree(r: torch.Tensor, counts: Sequence[int], comm: Communication, has_q: bool) -> Factors:
    """Do `_qr_of_stacked` in a binary tree: with a rank at a distance of 1, then with those of 2, 4 and so on.

    Rows of Q, if they are wanted, come back the same way. So a rank has the factors of two ranks at a time.
    Collective: two exchanges for each level, and a broadcast.
    """
    rank, columns, offsets = comm.rank, r.shape[-1], np.cumsum([0, *counts]).tolist()
    kind = (*r.shape[:-2], columns, r.dtype)
    steps = [1 << level for level in range((comm.size - 1).bit_length())]
    # By step the Q of what was stacked, and how many rows of it belong to what was this rank's.
    stacked: dict[int, tuple[torch.Tensor, int]] = {}
    for step in steps:
        # Of two ranks that are a step apart the second has no part in later steps.
        to = rank - step if rank % (2 * step) == step else None
        source = rank + step if rank % (2 * step) == 0 and rank + step < comm.size else None
        under = r.new_empty(0)
        if source is not None:
            rows = min(columns, offsets[min(source + step, comm.size)] - offsets[source])
            under = r.new_empty((*r.shape[:-2], rows, columns))
        comm.exchange(
            [(to, r)] if to is not None and r.numel() else [],
            [(source, under)] if source is not None and under.numel() else [],
            ("R under another", step, *kind),
            r.device,
        )
        if source is not None:
            own = r.shape[-2]
            q, r = torch.linalg.qr(torch.cat([r, under], -2))
            stacked[step] = q, own
    rows_of_q = torch.eye(r.shape[-2], columns, dtype=r.dtype, device=r.device).expand(*r.shape[:-2], -1, -1)
    if rank == 0:
        rows_of_q, whole = normalise_phases(rows_of_q.contiguous(), r)
    else:
        whole = r.new_empty((*r.shape[:-2], columns, columns))
    whole = comm.broadcast(whole)
    for step in reversed(steps if has_q else []):
        is_second, below = rank % (2 * step) == step, r.new_empty(0)
        if is_second:
            rows_of_q = torch.empty_like(rows_of_q)
        elif step in stacked:
            q, own = stacked.pop(step)
            both = q @ rows_of_q
            rows_of_q, below = both[..., :own, :], both[..., own:, :].contiguous()
        comm.exchange(
            [(rank + step, below)] if below.numel() else [],
            [(rank - step, rows_of_q)] if is_second and rows_of_q.numel() else [],
            ("rows of Q", step, *kind),
            r.device,
        )
    return rows_of_q, whole


def complete_basis(q: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's rows of unitary matrices whose first columns are those of tall Q factors.

    Collective: one exchange, by which each rank gets all of Q.
    """
    # The reflections that make Q an upper triangle span the missing columns. Each rank applies them to its rows of
    # the identity only.
    reflectors, scales = torch.geqrf(redistribute(q.detach(), layout, layout.with_split(None), comm))
    start, stop = layout.span(comm.rank)
    # Not by torch's pad: before torch 2.9 that refuses matrices without elements.
    identity_rows = torch.zeros(layout.extent, stop - start, dtype=q.dtype, device=q.device)
    identity_rows[start:stop].fill_diagonal_(1)
    identity_rows = identity_rows.expand(*q.shape[:-2], *identity_rows.shape)
    reflected = torch.ormqr(reflectors, scales, identity_rows, transpose=True)
    return torch.cat([q, reflected.mH[..., q.shape[-1] :]], -1)


def wide_qr(lead: torch.Tensor, shard: torch.Tensor, layout: Layout, comm: Communication) -> Factors:
    """Return Q, and this rank's columns of R, of wide matrices that are split along their columns. Local.

    `lead` is the square block of leading columns, which all ranks have. They determine Q.
    """
    q, r = normalise_phases(*torch.linalg.qr(lead))
    start, stop = layout.span(comm.rank)
    # Each rank uses all of the replicated factors for its own columns, so that their gradient is a sum over ranks.
    rest = all_reduce_gradient(q, comm).mH @ shard[..., max(lead.shape[-1] - start, 0) :]
    return q, torch.cat([all_reduce_gradient(r, comm)[..., start:stop], rest], -1)
