"""Factorisations of one matrix that is split along columns: one panel of columns is broadcast at a time.

The right-looking blocked algorithms of LAPACK and ScaLAPACK over the one split axis (Golub and Van Loan, "Matrix
Computations", 4th edition, 2013; van de Geijn and Quintana-Orti, "The Science of Programming Matrix Computations",
2008). The rank that has the columns of a panel factorises it alone, so that partial pivoting asks no other rank.
All ranks get the panel and update their own columns. A rank needs its columns and one panel.

Tensors only: no gradients, no layouts of results. What is given is overwritten where the text says so. Functions
that take a communicator are collective: one broadcast for each panel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout

# The most columns of a panel: with fewer there are more messages and slower products, with more the owner works
# longer while the others wait, and a panel takes more memory.
WIDTH = 128


@dataclass(frozen=True, slots=True)
class Panel:
    """Some neighbouring columns, all of one rank."""

    owner: int
    start: int
    stop: int


def panels(layout: Layout, stop: int | None = None) -> list[Panel]:
    """Return the panels of the first `stop` columns of a matrix, by default of all.

    >>> panels(Layout((3, 70), 1, ranks=2), 40)
    [Panel(owner=0, start=0, stop=35), Panel(owner=1, start=35, stop=40)]
    """
    return list(_panels(layout, layout.extent if stop is None else stop))


def _panels(layout: Layout, last: int) -> Iterator[Panel]:
    bounds = layout.offsets().tolist()
    for owner, (first, end) in enumerate(pairwise(bounds)):
        for start in range(first, min(end, last), WIDTH):
            yield Panel(owner, start, min(start + WIDTH, end, last))


def awaited(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """What a rank that is not the root passes to a broadcast: a shape, without memory for it."""
    return like.new_empty(()).expand(rows, columns)


@dataclass(frozen=True, slots=True, eq=False)
class LU:
    """The triangles of a matrix `a` whose rows are in another order: `L @ U` is `a[order]`.

    Attributes
    ----------
    triangles : Tensor
        This rank's columns of U, and below the diagonal of L, whose own diagonal is ones.
    layout : Layout
        That of `a`.
    order : Tensor
        The rows of `a`, on all ranks.
    diagonal : Tensor
        That of U, on all ranks.
    sign : int
        1 for an even permutation of rows, -1 for an odd one.
    """

    triangles: torch.Tensor
    layout: Layout
    order: torch.Tensor
    diagonal: torch.Tensor
    sign: int


def lu(a: torch.Tensor, layout: Layout, comm: Communication) -> LU:
    """Factorise a square matrix by Gaussian elimination with partial pivoting. `a` is overwritten."""
    size, first = layout.extent, layout.span(comm.rank)[0]
    order, diagonal, swaps = torch.arange(size), a.new_empty(size), 0
    for panel in panels(layout):
        start, stop, width = panel.start, panel.stop, panel.stop - panel.start
        rows = a[start:]
        # The factors, and a row of pivots: all that the others need, in one message. A float32 has them exactly up
        # to 16 million rows.
        message = awaited(a, size - start + 1, width)
        if comm.rank == panel.owner:
            message = a.new_empty(message.shape)
            message[:-1], pivots, _ = torch.linalg.lu_factor_ex(rows[:, start - first : stop - first])
            message[-1] = pivots - 1
        message = comm.broadcast(message, panel.owner)
        factors = message[:-1]
        pivots = message[-1].real.tolist()
        swaps += sum(place != pivot for place, pivot in enumerate(pivots))
        to, source = _swapped(pivots, a.device)
        order[start + to.cpu()] = order[start + source.cpu()]
        rows[to] = rows[source]
        if comm.rank == panel.owner:
            rows[:, start - first : stop - first] = factors
        diagonal[start:stop] = factors.diagonal()
        own = rows[:, max(stop - first, 0) :]
        if own.shape[1]:
            top = torch.linalg.solve_triangular(factors[:width], own[:width], upper=False, unitriangular=True)
            own[:width] = top
            own[width:].addmm_(factors[width:], top, alpha=-1)
    return LU(a, layout, order.to(a.device), diagonal, 1 - 2 * (swaps % 2))


def _swapped(pivots: list[float], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Which rows get others by LAPACK's swaps of row i with row pivots[i], one after the other, and which."""
    source: dict[int, int] = {}
    for place, pivot in enumerate(map(int, pivots)):
        source[place], source[pivot] = source.get(pivot, pivot), source.get(place, place)
    return torch.tensor(list(source), device=device), torch.tensor(list(source.values()), device=device)


def solve_factorised(factors: LU, b: torch.Tensor, comm: Communication, *, adjoint: bool = False) -> None:
    """Solve `a @ x = b`, or with the adjoint of `a`, given its factors. `b`, this rank's columns, becomes `x`."""
    a, layout = factors.triangles, factors.layout
    # A few columns at a time, since the rows in another order are a copy.
    some = torch.split(b, WIDTH, 1)
    if not adjoint:
        for part in some:
            part.copy_(part[factors.order])
        solve_triangle(a, layout, b, comm, upper=False, unit=True)
        solve_triangle(a, layout, b, comm, upper=True)
        return
    solve_triangle(a, layout, b, comm, upper=True, adjoint=True)
    solve_triangle(a, layout, b, comm, upper=False, unit=True, adjoint=True)
    for part in some:
        part[factors.order] = part.clone()


def solve_triangle(
    a: torch.Tensor,
    layout: Layout,
    b: torch.Tensor,
    comm: Communication,
    *,
    upper: bool,
    unit: bool = False,
    adjoint: bool = False,
) -> None:
    """Solve `a @ x = b` for a triangle, or for its adjoint. `b`, this rank's columns, becomes `x`.

    `upper` says which triangle of `a` counts, and `unit` that its diagonal is ones.
    """
    size, first = layout.extent, layout.span(comm.rank)[0]
    is_upper = upper != adjoint
    for panel in panels(layout)[:: -1 if is_upper else 1]:
        start, stop = panel.start, panel.stop
        rows = slice(0, stop) if upper else slice(start, size)
        message = awaited(a, rows.stop - rows.start, stop - start)
        if comm.rank == panel.owner:
            message = a[rows, start - first : stop - first]
        message = comm.broadcast(message, panel.owner)
        if not b.shape[1]:
            continue
        if upper:
            rest, diagonal, others = message[:start], message[start:], b[:start]
        else:
            diagonal, rest, others = message[: stop - start], message[stop - start :], b[stop:]
        own = b[start:stop]
        if adjoint:  # a row of panels: what is known already is subtracted, and then it is solved
            own.addmm_(rest.mH, others, alpha=-1)
            diagonal = diagonal.mH
        own.copy_(torch.linalg.solve_triangular(diagonal, own, upper=is_upper, unitriangular=unit))
        if not adjoint:
            others.addmm_(rest, own, alpha=-1)


def cholesky(a: torch.Tensor, layout: Layout, comm: Communication) -> int:
    """Overwrite `a`, of which the lower triangle is read, by the triangle L for which `L @ L^H` is the matrix.

    Return 0, or the order of the first leading minor that is not positive definite, the same on all ranks.
    """
    size, (first, last) = layout.extent, layout.span(comm.rank)
    for panel in panels(layout):
        start, stop, width = panel.start, panel.stop, panel.stop - panel.start
        message = awaited(a, size - start + 1, width)
        if comm.rank == panel.owner:
            message = a.new_empty(message.shape)
            own = a[start:, start - first : stop - first]
            message[:width], failed = torch.linalg.cholesky_ex(own[:width])
            message[width:-1] = torch.linalg.solve_triangular(
                message[:width].mH, own[width:], upper=True, left=False
            )
            message[-1] = failed
            own.copy_(message[:-1])
        message = comm.broadcast(message, panel.owner)
        if failed := int(message[-1, 0].real):
            return start + failed
        begin = max(first, stop)
        if begin < last:
            below = message[begin - start : -1]
            a[begin:, begin - first :].addmm_(below, below[: last - begin].mH, alpha=-1)
    a.tril_(-first)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Reflections:
    """A QR decomposition as LAPACK leaves it.

    Attributes
    ----------
    packed : Tensor
        This rank's columns of R, and below the diagonal of the vectors of the reflections.
    layout : Layout
        That of the matrix.
    scales : Tensor
        LAPACK's tau, on all ranks.
    phases : Tensor
        Those of the diagonal of R, on all ranks, and 1 for zeros.
    """

    packed: torch.Tensor
    layout: Layout
    scales: torch.Tensor
    phases: torch.Tensor


def reflect(a: torch.Tensor, layout: Layout, comm: Communication) -> Reflections:
    """Make an upper triangle of a matrix by reflections of Householder. `a` is overwritten."""
    (size, _), first = layout.shape, layout.span(comm.rank)[0]
    steps = min(layout.shape)
    scales, phases = a.new_empty(steps), a.new_empty(steps)
    for panel in panels(layout, steps):
        start, stop = panel.start, panel.stop
        message = awaited(a, size - start + 1, stop - start)
        if comm.rank == panel.owner:
            message = a.new_empty(message.shape)
            own = a[start:, start - first : stop - first]
            message[:-1], message[-1] = torch.geqrf(own)
            own.copy_(message[:-1])
        message = comm.broadcast(message, panel.owner)
        scales[start:stop] = message[-1]
        diagonal = message[:-1].diagonal()
        # Zero has the phase 1, as in `normalise_phases`.
        phases[start:stop] = torch.where(diagonal == 0, 1, diagonal.sgn())
        own = a[start:, max(stop - first, 0) :]
        if own.shape[1]:
            vectors, triangle = compact(message[:-1], message[-1])
            own.addmm_(vectors, triangle.mH @ (vectors.mH @ own), alpha=-1)
            del vectors, triangle  # or they would be there beside the next panel
        del message
    return Reflections(a, layout, scales, phases)


def compact(packed: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return V and T for which the product of the reflections is `1 - V @ T @ V^H` (Puglisi 1992).

    The inverse of T has the upper triangle of V^H V, and 1 / scales along its diagonal. Written so that nothing
    is divided by a scale of 0, that of a column that needs no reflection. V is in the memory of `packed`.
    """
    vectors = packed.tril_(-1)
    vectors.diagonal().fill_(1)
    upper = scales[:, None] * (vectors.mH @ vectors).triu(1)
    return vectors, torch.linalg.solve_triangular(upper, scales.diag(), upper=True, unitriangular=True)


def orthonormal_columns(reflections: Reflections, target: Layout, comm: Communication) -> torch.Tensor:
    """Return this rank's columns of Q, of which there are as many as `target`, a layout, has."""
    layout, packed = reflections.layout, reflections.packed
    (size, _), steps, first = layout.shape, len(reflections.scales), layout.span(comm.rank)[0]
    begin, end = target.span(comm.rank)
    q = packed.new_zeros((size, end - begin))
    q.diagonal(-begin).fill_(1)
    for panel in reversed(panels(layout, steps)):
        start, stop = panel.start, panel.stop
        message = awaited(packed, size - start, stop - start)
        if comm.rank == panel.owner:
            message = packed[start:, start - first : stop - first]
        message = comm.broadcast(message, panel.owner)
        # The columns to the left are those of the identity, zeros in these rows.
        own = q[start:, max(start - begin, 0) :]
        if own.shape[1]:
            vectors, triangle = compact(message, reflections.scales[start:stop])
            own.addmm_(vectors, triangle @ (vectors.mH @ own), alpha=-1)
            del vectors, triangle
        del message
    own_phases = reflections.phases[begin:end]
    q[:, : len(own_phases)] *= own_phases
    return q


def triangle_of(reflections: Reflections, rank: int) -> torch.Tensor:
    """Return this rank's columns of R, whose diagonal is real and not negative. Local. `packed` is overwritten."""
    first, steps = reflections.layout.span(rank)[0], len(reflections.scales)
    # triu last: a phase of -1 makes -0.0 of the zeros below the diagonal.
    return reflections.packed[:steps].mul_(reflections.phases.conj()[:, None]).triu_(-first)
