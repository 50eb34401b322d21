"""Eigenvalues, singular values and pseudo-inverses of one large matrix that is cut: arrays and their gradients.

The matrix is reduced to two diagonals (`condensed`), whose values and vectors are found by divide and conquer,
and the vectors are taken back. A rank needs its columns, of the matrix and of the vectors, and no matrix whole.
Gradients are torch's, made of products of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch

from minisplit.core.array import DNDarray, replicated
from minisplit.core.collectives import Gradients, Tensors, all_reduce, all_reduce_gradient, apply
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.linalg.products import matmul
from minisplit.ops.linalg.ring import sum_of_products
from minisplit.ops.linalg.split_matrix import condensed, one_matrix
from minisplit.ops.linalg.split_matrix.divide_and_conquer import eigenvalues, singular_values
from minisplit.ops.linalg.split_matrix.one_matrix import (
    Factorisation,
    adjoint_columns,
    adjoint_view,
    by_columns,
    free_copy,
    in_layout,
)
from minisplit.ops.linalg.split_matrix.transposition import complete_hermitian, transpose
from minisplit.ops.shape.join import concat

# Below so many rows and columns a matrix is gathered. That takes one message, where this takes two or three for
# each column, which all ranks wait for: so this is more than `one_matrix.SMALL`, that of factorisations, which
# send panels. It costs a rank 32 MiB of float64, and some times that in LAPACK. Measured: docs/performance.md.
SMALL = 2048


def is_large(x: DNDarray) -> bool:
    """Return whether `x` is one matrix too large to be gathered for its spectrum, whose R is larger than a shard.

    That of a matrix with `ranks` times as many rows as columns, or as many columns as rows, is not.
    """
    return one_matrix.is_large(x) and min(x.shape) >= SMALL and max(x.shape) < x._comm.size * min(x.shape)


def eigh(x: DNDarray, *, upper: bool = False, vectors: bool = True) -> list[DNDarray]:
    """Return the eigenvalues, ascending and replicated, and the eigenvectors, if asked for, split as `x`."""
    columns, is_free = by_columns(x)
    wanted = vectors or is_followed(columns._larray)
    found = apply(_Eigh(x._comm, columns._layout, upper, wanted, is_free), columns._larray)
    del columns
    values = replicated(found[0], x._comm)
    if not vectors:
        return [values]
    return [values, in_layout(DNDarray(found[1], x._layout.with_split(1), x._comm), x._layout)]


def _scaled(a: torch.Tensor, comm: Communication, error: str) -> float:
    """Divide a matrix by its greatest element, so that no square overflows, and return that.

    Collective: one allreduce. LinAlgError, on all ranks, if an element is not finite.
    """
    # Not `abs().max()`, which has memory for all of them.
    largest = torch.linalg.vector_norm(a, torch.inf) if a.numel() else a.new_zeros(()).real
    scale = float(comm.allreduce(largest, "max"))
    if not scale < inf:
        raise torch.linalg.LinAlgError(error)  # type: ignore[attr-defined]
    a /= scale or 1
    return scale


def _as_columns(vectors: torch.Tensor, layout: Layout, like: torch.Tensor, comm: Communication) -> torch.Tensor:
    """This rank's vectors, as columns of the dtype of `like`, given its elements of all. These are overwritten."""
    transpose(vectors, layout, comm)
    return vectors.to(like.dtype)


def _no_vectors(like: torch.Tensor) -> torch.Tensor:
    """Zeros, in which divide and conquer puts this rank's elements of as many vectors as there are rows."""
    return like.new_zeros(like.shape, dtype=like.dtype.to_real())


@dataclass(frozen=True, slots=True)
class _Eigh(Factorisation):
    comm: Communication
    layout: Layout
    upper: bool
    vectors: bool
    is_free: bool

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return 1 + self.vectors

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        comm, layout = self.comm, self.layout
        first = layout.span(comm.rank)[0]
        a = free_copy(tensors[0], self.is_free)
        complete_hermitian(a, layout, comm, upper=self.upper)
        scale = _scaled(a, comm, "eigenvalues are of finite elements, got NaN or infinities")
        reduced = condensed.tridiagonal(a, layout, comm)
        bases = [_no_vectors(a)] if self.vectors else []
        values = eigenvalues(reduced.diagonal, reduced.other, comm, first, bases) * scale
        values = values.to(a.device, a.dtype.to_real())
        if not bases:
            return [values]
        own = _as_columns(bases.pop(), layout, a, comm)
        condensed.multiply_left(reduced, own, comm, 1)
        return [values, own]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return outputs

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # V (skew(V^H dV) / E + diag(dL)) V^H, where E[i, j] is L[j] - L[i].
        vectors, by_vectors = (DNDarray(x, self.layout, self.comm) for x in (kept[1], gradients[1]))
        inner = _skew(matmul(adjoint_columns(vectors), by_vectors)._align(self.layout)) / 2
        shard = _divided(inner, kept[0], self.layout, self.comm)
        shard = _with_diagonal(shard, all_reduce_gradient(gradients[0], self.comm), self.layout, self.comm)
        product = matmul(vectors, DNDarray(shard, self.layout, self.comm))._align(self.layout)
        return [matmul(product, adjoint_columns(vectors))._align(self.layout)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        vectors, change = (DNDarray(x, self.layout, self.comm) for x in (kept[1], tangents[0]))
        inner = matmul(adjoint_columns(vectors), matmul(change, vectors)._align(self.layout))._align(self.layout)
        shard = _divided(inner._larray, kept[0], self.layout, self.comm)
        by_vectors = matmul(vectors, DNDarray(shard, self.layout, self.comm))._align(self.layout)
        return [_diagonal_of(inner).real, by_vectors._larray]


def _divided(x: torch.Tensor, values: torch.Tensor, layout: Layout, comm: Communication) -> torch.Tensor:
    """Divide columns by the values of their places minus those of the rows. The diagonal becomes 0."""
    first, last = layout.span(comm.rank)
    values = all_reduce_gradient(values, comm)
    gaps = values[first:last] - values[:, None]
    # 0 / 0 is 0: of equal values where only these are used. The diagonal does not count.
    gaps = torch.where((gaps == 0) & (x == 0), 1, gaps)
    return _with_diagonal(x, None, layout, comm) / _with_diagonal(gaps, values.new_ones(len(values)), layout, comm)


def _with_diagonal(
    x: torch.Tensor, diagonal: torch.Tensor | None, layout: Layout, comm: Communication
) -> torch.Tensor:
    """This rank's columns with another diagonal, of which all ranks have all. None is zeros."""
    first, last = layout.span(comm.rank)
    own = x.new_zeros(last - first) if diagonal is None else diagonal[first:last].to(x.dtype)
    return torch.diagonal_scatter(x, own, -first)


def _skew(x: DNDarray) -> torch.Tensor:
    """This rank's columns of a matrix minus its adjoint."""
    return x._larray - adjoint_columns(x)._align(x._layout)._larray


def _diagonal_of(x: DNDarray) -> torch.Tensor:
    """The diagonal of a square matrix that is split along its columns, on all ranks. Collective: one allreduce."""
    first, last = x._layout.span(x._comm.rank)
    own = torch.nn.functional.pad(x._larray.diagonal(-first), (first, x.shape[1] - last))
    return all_reduce(own, x._comm)


def svdvals(x: DNDarray) -> DNDarray:
    """Return the singular values, descending and replicated."""
    return _svd(x, vectors=False)[0]


def svd(x: DNDarray, *, full_matrices: bool) -> tuple[DNDarray, DNDarray, DNDarray]:
    """Return U, split along its columns, the singular values, replicated, and Vh, split along its rows."""
    if x.shape[0] < x.shape[1]:
        u, s, vh = svd(adjoint_view(x), full_matrices=full_matrices)
        return adjoint_view(vh), s, adjoint_view(u)
    if x.shape[0] == x.shape[1]:
        s, u, v = _svd(x, vectors=True)
        return u, s, adjoint_view(v)
    q, r = one_matrix.qr(x, complete=full_matrices)
    steps = x.shape[1]
    s, u, v = _svd(r[:steps], vectors=True)
    # With R = U S Vh the decomposition of Q R is (Q U) S Vh.
    left = matmul(q[:, :steps].balance(), u).resplit(1)
    if full_matrices:
        left = concat([left, q[:, steps:]], axis=1)
    return left, s, adjoint_view(v)


def _svd(x: DNDarray, *, vectors: bool) -> list[DNDarray]:
    """Return the singular values, and U and V of a square matrix if asked for, else of any."""
    if x.shape[0] < x.shape[1]:
        x = adjoint_view(x)
    columns, is_free = by_columns(x if x.shape[0] == x.shape[1] else one_matrix.qr(x)[1])
    layout, comm = columns._layout, x._comm
    wanted = vectors or is_followed(columns._larray)
    found = apply(_SVD(comm, layout, wanted, is_free), columns._larray)
    return [replicated(found[0], comm), *[DNDarray(part, layout, comm) for part in found[1:]]]


@dataclass(frozen=True, slots=True)
class _SVD(Factorisation):
    comm: Communication
    layout: Layout
    vectors: bool
    is_free: bool

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return 1 + 2 * self.vectors

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        comm, layout = self.comm, self.layout
        a = free_copy(tensors[0], self.is_free)
        scale = _scaled(a, comm, "singular values are of finite elements, got NaN or infinities")
        reduced = condensed.bidiagonal(a, layout, comm)
        bases = [_no_vectors(a) for _ in range(2 * self.vectors)]
        first = layout.span(comm.rank)[0]
        values = singular_values(reduced.diagonal, reduced.other, comm, first, bases) * scale
        values = values.to(a.device, a.dtype.to_real())
        if not bases:
            return [values]
        right = _as_columns(bases.pop(), layout, a, comm)
        condensed.multiply_right(reduced, right, comm)
        left = _as_columns(bases.pop(), layout, a, comm)
        condensed.multiply_left(reduced, left, comm, 0)
        return [values, left, right]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return outputs

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # U ((skew(U^H dU) S + S skew(V^H dV)) / E + diag(dS)) V^H, where E[i, j] is S[j]**2 - S[i]**2.
        comm, layout = self.comm, self.layout
        u, v, by_u, by_v = (DNDarray(x, layout, comm) for x in (*kept[1:], *gradients[1:]))
        left, right = (_skew(matmul(adjoint_columns(x), by)._align(layout)) for x, by in ((u, by_u), (v, by_v)))
        s = all_reduce_gradient(kept[0], comm)
        first, last = layout.span(comm.rank)
        both = left * s[first:last] + s[:, None] * right
        inner = _divided(both, kept[0] ** 2, layout, comm)
        diagonal = all_reduce_gradient(gradients[0], comm)[first:last].to(inner.dtype)
        if inner.is_complex():  # a phase of U and of V together is free
            phase = left.diagonal(-first)
            own = s[first:last]
            diagonal = diagonal + phase / torch.where((own == 0) & (phase == 0), 1, 2 * own)
        inner = torch.diagonal_scatter(inner, diagonal, -first)
        product = matmul(u, DNDarray(inner, layout, comm))._align(layout)
        return [matmul(product, adjoint_columns(v))._align(layout)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        comm, layout = self.comm, self.layout
        u, v, change = (DNDarray(x, layout, comm) for x in (*kept[1:], tangents[0]))
        inner = matmul(adjoint_columns(u), matmul(change, v)._align(layout))._align(layout)
        first, last = layout.span(comm.rank)
        s = all_reduce_gradient(kept[0], comm)
        by_s, found = _diagonal_of(inner), list[torch.Tensor]()
        other = adjoint_columns(inner)._align(layout)._larray
        # Of U: (P S + S P^H) / E, of V: (S P + P^H S) / E.
        sums = (
            inner._larray * s[first:last] + s[:, None] * other,
            s[:, None] * inner._larray + other * s[first:last],
        )
        for vectors, both, sign in zip((u, v), sums, (1, -1), strict=True):
            shard = _divided(both, kept[0] ** 2, layout, comm)
            if shard.is_complex():
                phase = sign * (inner._larray.diagonal(-first) - other.diagonal(-first)) / (4 * s[first:last])
                shard = torch.diagonal_scatter(shard, phase, -first)
            found.append(matmul(vectors, DNDarray(shard, layout, comm))._align(layout)._larray)
        return [by_s.real, *found]


def pinv(x: DNDarray, rtol: float, target: Layout) -> DNDarray:
    """Return the pseudo-inverse of a matrix that is not wide, in the layout `target`."""
    return DNDarray(apply(_Pinv(x._comm, x._layout, target, rtol), x._larray)[0], target, x._comm)


@dataclass(frozen=True, slots=True)
class _Pinv(Factorisation):
    comm: Communication
    layout: Layout
    target: Layout
    rtol: float

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        u, s, vh = svd(DNDarray(tensors[0], self.layout, self.comm), full_matrices=False)
        values = s._larray
        inverses = torch.where(values > self.rtol * values[0], 1 / values, 0)
        first, last = vh._layout.span(self.comm.rank)
        vh._larray.mul_(inverses[first:last, None])
        # No more than these two and the result: a rank's columns of both give a part of all.
        u = u._align(Layout(u.shape, 1, u._comm.size, vh._layout.ragged))
        return [sum_of_products(vh._larray.mH, u._larray, self.target, self.comm)]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs[0], outputs[0]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Golub and Pereyra (1973), of matrices of constant rank: with K = P dP^H it is
        # P^H K + (dP^H - A K) P P^H - (K P + P^H K P A)^H.
        a, p = DNDarray(kept[0], self.layout, self.comm), DNDarray(kept[1], self.target, self.comm)
        by_p = adjoint_view(DNDarray(gradients[0], self.target, self.comm))
        p_adjoint = adjoint_view(p)
        k = matmul(p, by_p)
        lead = matmul(p_adjoint, k)
        first = matmul(matmul(by_p - matmul(a, k), p), p_adjoint)
        total = lead + first - matmul(matmul(lead, p), a) - adjoint_view(matmul(k, p))
        return [total._align(self.layout)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        # -P dA P + P P^H dA^H (1 - A P) + (1 - P A) dA^H P^H P.
        a, change = (DNDarray(x, self.layout, self.comm) for x in (kept[0], tangents[0]))
        p = DNDarray(kept[1], self.target, self.comm)
        p_adjoint, turned = adjoint_view(p), adjoint_view(change)
        first = matmul(matmul(p, p_adjoint), turned)
        second = matmul(turned, matmul(p_adjoint, p))
        total = first - matmul(matmul(first, a), p) + second - matmul(p, matmul(a, second))
        return [(total - matmul(matmul(p, change), p))._align(self.target)._larray]
