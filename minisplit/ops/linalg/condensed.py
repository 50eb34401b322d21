"""Matrices split along columns, reduced to two diagonals by reflections, and vectors transformed back.

The blocked reductions of LAPACK and ScaLAPACK (Dongarra, Sorensen and Hammarling, "Block reduction of matrices to
condensed forms", J. Comput. Appl. Math. 27, 1989), from both sides: of a Hermitian matrix to a real tridiagonal
one, of any square one to a real bidiagonal one. The rank that has a column makes its reflection and broadcasts
it, and the product of the matrix by it is added up over the ranks: so a message or two for each column, of as
many numbers as it has. A rank needs its columns, and some vectors of a panel.

Tensors only. What is given is overwritten. All functions are collective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import copysign, hypot

import torch

from minisplit.core.collectives import redistribute
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.linalg.panels import Panel, compact, panels

# So many columns are reduced before the rest of the matrix is updated by a product.
WIDTH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Condensed:
    """A real tridiagonal or bidiagonal matrix, and the reflections by which another one became it.

    Attributes
    ----------
    packed : Tensor
        This rank's columns. Those of the reflections from the left are below, those from the right above the
        diagonal, without which a tridiagonal matrix has vectors below it only.
    layout : Layout
        That of the matrix.
    diagonal, other : Tensor
        The elements, float64 on the host of all ranks.
    scales : list of Tensor
        LAPACK's tau of the reflections, of one side or both, on all ranks.
    """

    packed: torch.Tensor
    layout: Layout
    diagonal: torch.Tensor
    other: torch.Tensor
    scales: list[torch.Tensor]


def _reflection(alpha: complex, square: float, tiny: float) -> tuple[complex, float]:
    """Return the tau and the new first element of a vector with this one and such a sum of squares behind it."""
    if abs(alpha.imag) <= tiny and square <= tiny * tiny:
        return 0.0, alpha.real
    beta = -copysign(hypot(alpha.real, alpha.imag, square**0.5), alpha.real)
    return complex((beta - alpha.real) / beta, -alpha.imag / beta), beta


def _square(x: torch.Tensor) -> float:
    """The sum of squares, in double precision: those of what rounding leaves of a zero may underflow."""
    return float(torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float64))) ** 2


def _tiny(x: torch.Tensor) -> float:
    """What is nothing beside the matrix, and has a square that is a number."""
    return float(torch.finfo(x.dtype).eps) ** 4


def _reflect(x: torch.Tensor) -> tuple[complex, float]:
    """Overwrite a column by the vector of the reflection that leaves only its first element."""
    alpha = complex(x[0])
    tau, beta = _reflection(alpha, _square(x[1:]), _tiny(x))
    if tau:
        x /= _number(alpha - beta, x)
    else:
        x.zero_()
    x[0] = 1
    return tau, beta


def _number(value: complex, like: torch.Tensor) -> complex | float:
    return value if like.is_complex() else complex(value).real


def _numbers(values: Sequence[complex], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([_number(x, like) for x in values], dtype=like.dtype, device=like.device)


def tridiagonal(a: torch.Tensor, layout: Layout, comm: Communication) -> Condensed:
    """Reduce a Hermitian matrix `a`, of which all elements are given, about 1 in size. It is overwritten."""
    size, (first, last) = layout.extent, layout.span(comm.rank)
    diagonal, other = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
    scales, owner = a.new_zeros(size), _owners(layout)
    for start in range(0, size, WIDTH):
        stop = min(start + WIDTH, size)
        # The matrix is now a - v @ w^H - w @ v^H.
        v, w = (a.new_zeros(size, stop - start) for _ in range(2))
        for j in range(start, stop):
            before = slice(0, j - start)
            message = a.new_zeros(size - j + 2)
            if comm.rank == owner[j]:
                column = message[:-2]
                column.copy_(a[j:, j - first])
                column.addmv_(v[j:, before], w[j, before].conj(), alpha=-1)
                column.addmv_(w[j:, before], v[j, before].conj(), alpha=-1)
                if j + 1 < size:
                    message[-2:] = _numbers(_reflect(column[1:]), a)
                a[j + 1 :, j - first] = column[1:]
            message = comm.broadcast(message, owner[j])
            vector, scales[j] = message[1:-2], message[-2]
            diagonal[j], other[j] = message[0].real, message[-1].real
            begin = max(j + 1, first)
            product = torch.zeros_like(vector)
            if begin < last:
                own = vector.conj() @ a[j + 1 :, begin - first :]
                known = [x[begin:last, before] @ (y[j + 1 :, before].mH @ vector) for x, y in ((v, w), (w, v))]
                product[begin - j - 1 : last - j - 1] = own.conj() - known[0] - known[1]
            product = comm.allreduce(product) * scales[j]
            v[j + 1 :, j - start] = vector
            w[j + 1 :, j - start] = product - scales[j] / 2 * torch.vdot(product, vector) * vector
        begin = max(stop, first)
        if begin < last:
            rest = a[stop:, begin - first :]
            rest.addmm_(v[stop:], w[begin:last].mH, alpha=-1).addmm_(w[stop:], v[begin:last].mH, alpha=-1)
    return Condensed(a, layout, diagonal, other[:-1], [scales])


def _owners(layout: Layout) -> list[int]:
    return [rank for rank, count in enumerate(layout.counts or ()) for _ in range(count)]


def bidiagonal(a: torch.Tensor, layout: Layout, comm: Communication) -> Condensed:
    """Reduce a square matrix `a`, with elements of about 1 in size. It is overwritten."""
    size, (first, last) = layout.extent, layout.span(comm.rank)
    diagonal, other = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
    scales, owner = [a.new_zeros(size), a.new_zeros(size)], _owners(layout)
    for start in range(0, size, WIDTH):
        stop = min(start + WIDTH, size)
        # The matrix is now a - v @ y^H - x @ u^H, where y and u are those rows of this rank's columns.
        v, x = (a.new_zeros(size, stop - start) for _ in range(2))
        y, u = (a.new_zeros(last - first, stop - start) for _ in range(2))
        for j in range(start, stop):
            i, before = j - start, slice(0, j - start)
            message = a.new_zeros(size - j + 2)
            if comm.rank == owner[j]:
                column = message[:-2]
                column.copy_(a[j:, j - first])
                column.addmv_(v[j:, before], y[j - first, before].conj(), alpha=-1)
                column.addmv_(x[j:, before], u[j - first, before].conj(), alpha=-1)
                message[-2:] = _numbers(_reflect(column), a)
                a[j:, j - first] = column
            message = comm.broadcast(message, owner[j])
            vector, scales[0][j], diagonal[j] = message[:-2], message[-2], message[-1].real
            v[j:, i] = vector
            begin = max(j + 1 - first, 0)
            own, own_y, own_u = a[j:, begin:], y[begin:], u[begin:]
            known = own_y[:, before] @ (v[j:, before].mH @ vector) + own_u[:, before] @ (x[j:, before].mH @ vector)
            own_y[:, i] = ((vector.conj() @ own).conj() - known) * scales[0][j]
            # The row, of which each rank has a part, as a column.
            row = own[0].conj() - own_y[:, : i + 1] @ v[j, : i + 1].conj() - own_u[:, before] @ x[j, before].conj()
            is_first = j + 1 < size and owner[j + 1] == comm.rank
            sums = torch.zeros(3, dtype=torch.float64)
            if is_first:
                sums[1], sums[2] = row[0].real, complex(row[0]).imag
            sums[0] = _square(row[is_first:])
            square, real, imaginary = comm.allreduce(sums).tolist()
            tau, other[j] = _reflection(complex(real, imaginary), square, _tiny(a))
            row = row / _number(complex(real, imaginary) - float(other[j]), a) if tau else torch.zeros_like(row)
            if is_first:
                row[0] = 1
            own_u[:, i] = own[0] = row
            scales[1][j : j + 1] = _numbers([tau], a)
            known = v[j + 1 :, : i + 1] @ (own_y[:, : i + 1].mH @ row) + x[j + 1 :, before] @ (
                own_u[:, before].mH @ row
            )
            x[j + 1 :, i] = comm.allreduce(own[1:] @ row - known) * scales[1][j]
        begin = max(stop - first, 0)
        if begin < last - first:
            rest = a[stop:, begin:]
            rest.addmm_(v[stop:], y[begin:].mH, alpha=-1).addmm_(x[stop:], u[begin:].mH, alpha=-1)
    return Condensed(a, layout, diagonal, other[:-1], scales)


def multiply_left(condensed: Condensed, b: torch.Tensor, comm: Communication, below: int) -> None:
    """Multiply columns `b` by the reflections from the left, which begin so many rows below the diagonal."""

    def vectors(panel: Panel) -> torch.Tensor:
        message = b.new_empty(condensed.layout.extent - panel.start - below, panel.stop - panel.start)
        if comm.rank == panel.owner:
            begin = condensed.layout.span(comm.rank)[0]
            message = condensed.packed[panel.start + below :, panel.start - begin : panel.stop - begin]
        return comm.broadcast(message, panel.owner)

    _multiply(condensed, condensed.scales[0], vectors, b, below)


def multiply_right(condensed: Condensed, b: torch.Tensor, comm: Communication) -> None:
    """Multiply columns `b` by the reflections from the right."""

    def vectors(panel: Panel) -> torch.Tensor:
        layout = Layout((panel.stop - panel.start, condensed.layout.extent), 1, comm.size, condensed.layout.ragged)
        rows = redistribute(condensed.packed[panel.start : panel.stop], layout, layout.with_split(None), comm)
        return rows[:, panel.start + 1 :].T

    _multiply(condensed, condensed.scales[1], vectors, b, 1)


def _multiply(
    condensed: Condensed,
    scales: torch.Tensor,
    vectors: Callable[[Panel], torch.Tensor],
    b: torch.Tensor,
    below: int,
) -> None:
    for panel in reversed(panels(condensed.layout)):
        packed, own = vectors(panel), b[panel.start + below :]
        if own.numel():
            # The last column of all may have no rows.
            steps = min(packed.shape)
            reflectors, triangle = compact(packed[:, :steps], scales[panel.start : panel.start + steps])
            own.addmm_(reflectors, triangle @ (reflectors.mH @ own), alpha=-1)
