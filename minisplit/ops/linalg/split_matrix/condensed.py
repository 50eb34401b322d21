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
from minisplit.ops.linalg.split_matrix.panels import Panel, awaited, compact, panels

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
        # The matrix is now a - left @ right^H, with vectors v and w: left is [v, w], and right [w, v].
        width = stop - start
        left, right = (a.new_zeros(size, 2 * width) for _ in range(2))
        for j in range(start, stop):
            message = a.new_zeros(size - j + 2)
            if comm.rank == owner[j]:
                column = message[:-2]
                torch.addmv(a[j:, j - first], left[j:], right[j].conj(), alpha=-1, out=column)
                if j + 1 < size:
                    message[-2:] = _numbers(_reflect(column[1:]), a)
                a[j + 1 :, j - first] = column[1:]
            message = comm.broadcast(message, owner[j])
            vector, scales[j] = message[1:-2], message[-2]
            diagonal[j], other[j] = message[0].real, message[-1].real
            begin, product = max(j + 1, first), torch.zeros_like(vector)
            if begin < last:
                own = (vector.conj() @ a[j + 1 :, begin - first :]).conj()
                product[begin - j - 1 : last - j - 1] = own - right[begin:last] @ (left[j + 1 :].mH @ vector)
            product = comm.allreduce(product) * scales[j]
            product -= scales[j] / 2 * torch.vdot(product, vector) * vector
            for x, i in ((left, j - start), (right, j - start + width)):
                x[j + 1 :, i] = vector
                x[j + 1 :, (i + width) % (2 * width)] = product
        begin = max(stop, first)
        if begin < last:
            a[stop:, begin - first :].addmm_(left[stop:], right[begin:last].mH, alpha=-1)
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
        # The matrix is now a - left @ right^H. The vectors of reflections from the left are the first half of
        # left, what this rank's columns have of those from the right is the second half of right.
        width = stop - start
        left, right = (a.new_zeros(rows, 2 * width) for rows in (size, last - first))
        for j in range(start, stop):
            i, message = j - start, a.new_zeros(size - j + 2)
            if comm.rank == owner[j]:
                column = message[:-2]
                torch.addmv(a[j:, j - first], left[j:], right[j - first].conj(), alpha=-1, out=column)
                message[-2:] = _numbers(_reflect(column), a)
                a[j:, j - first] = column
            message = comm.broadcast(message, owner[j])
            vector, scales[0][j], diagonal[j] = message[:-2], message[-2], message[-1].real
            begin = max(j + 1 - first, 0)
            own, mine = a[j:, begin:], right[begin:]
            mine[:, i] = ((vector.conj() @ own).conj() - mine @ (left[j:].mH @ vector)) * scales[0][j]
            left[j:, i] = vector
            # The row, of which each rank has a part, as a column.
            row = own[0].conj() - mine @ left[j].conj()
            is_first = j + 1 < size and owner[j + 1] == comm.rank
            alpha = complex(row[0]) if is_first else 0j
            sums = torch.tensor([_square(row[is_first:]), alpha.real, alpha.imag], dtype=torch.float64)
            square, real, imaginary = comm.allreduce(sums).tolist()
            alpha = complex(real, imaginary)
            tau, other[j] = _reflection(alpha, square, _tiny(a))
            row = row / _number(alpha - float(other[j]), a) if tau else torch.zeros_like(row)
            if is_first:
                row[0] = 1
            mine[:, width + i] = own[0] = row
            scales[1][j : j + 1] = _numbers([tau], a)
            product = own[1:] @ row - left[j + 1 :] @ (mine.mH @ row)
            left[j + 1 :, width + i] = comm.allreduce(product) * scales[1][j]
        begin = max(stop - first, 0)
        if begin < last - first:
            a[stop:, begin:].addmm_(left[stop:], right[begin:].mH, alpha=-1)
    return Condensed(a, layout, diagonal, other[:-1], scales)


def multiply_left(condensed: Condensed, b: torch.Tensor, comm: Communication, below: int) -> None:
    """Multiply columns `b` by the reflections from the left, which begin so many rows below the diagonal."""

    def vectors(panel: Panel) -> torch.Tensor:
        message = awaited(b, condensed.layout.extent - panel.start - below, panel.stop - panel.start)
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
            del reflectors, triangle  # or they would be there beside the next panel
        del packed
