"""Linear algebra of one large split matrix that no rank gathers: arrays and their gradients.

The work is done on columns, by `panels`: a matrix that is split along its rows is moved by one exchange before.
Gradients are by the standard formulas (Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008), made of the same operations, so that they have gradients as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minisplit.core.array import DNDarray, replicated
from minisplit.core.collectives import Collective, Gradients, Tensors, all_reduce, all_reduce_gradient, apply
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_move
from minisplit.core.pytorch.transforms import is_followed, is_in_old_batch, is_transformed
from minisplit.ops.linalg.products import matmul
from minisplit.ops.linalg.split_matrix import panels
from minisplit.ops.linalg.split_matrix.transposition import transpose
from minisplit.ops.shape.diagonal import tril, triu
from minisplit.ops.shape.join import concat

# Below so many rows and columns a matrix is gathered, which takes fewer messages: see docs/performance.md. For its
# spectrum it takes many fewer, and `spectra.SMALL` is greater.
SMALL = 512


def is_large(x: DNDarray) -> bool:
    """Return whether `x` is one matrix of which each rank has a part, too large to be gathered.

    Transforms of `torch.func` are for small ones: they would map over what is sent.
    """
    return (
        x.ndim == 2
        and x._layout.split is not None
        and x._comm.size > 1
        and min(x.shape) >= SMALL
        and not (is_transformed() or is_in_old_batch(x._larray))
    )


def by_columns(x: DNDarray) -> tuple[DNDarray, bool]:
    """Return `x` split along its columns, and whether its memory is free to be overwritten."""
    columns = x._align(x._layout.with_split(1))
    return columns, columns is not x and x.split is not None and not is_followed(columns._larray)


def in_layout(x: DNDarray, layout: Layout) -> DNDarray:
    """Return a result that nobody else has in another layout. Collective if it moves.

    A square matrix that is to be split along its other axis is transposed in its own memory, so that it is there
    once and not twice.
    """
    square, ragged = Layout(x.shape, 1, x._comm.size, x._layout.ragged), layout.ragged
    turns = {x.split, layout.split} == {0, 1} and x.shape[0] == x.shape[1] and x._layout.ragged == ragged
    if not turns or is_followed(x._larray):
        return x._align(layout)
    warn_of_move(x._larray.itemsize, x._layout, layout, x._comm)
    columns = x._larray if x.split else x._larray.mT
    transpose(columns, square, x._comm)
    return DNDarray(columns if layout.split else columns.mT, layout, x._comm)


def free_copy(x: torch.Tensor, is_free: bool) -> torch.Tensor:
    return x.contiguous() if is_free else x.clone(memory_format=torch.contiguous_format)


def adjoint_columns(x: DNDarray) -> DNDarray:
    """Return the conjugate transpose, split along its columns as well. Collective: one exchange."""
    return adjoint_view(x).resplit(1)


def adjoint_view(x: DNDarray) -> DNDarray:
    """Return the conjugate transpose, split along its other axis. Local. Real numbers stay in place."""
    layout = Layout(x.shape[::-1], 1 - (x.split or 0), x._comm.size, x._layout.ragged)
    return DNDarray(x._larray.mH.resolve_conj(), layout, x._comm)


class Factorisation(Collective):
    """A collective of matrices. A batch of calls, of derivatives of a batch, is made one after the other."""

    outputs = 1
    keeps_tensors = True

    def batched(self, size: int) -> tuple[Collective, int]:
        return _Each(self.comm, self, size), -1

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return [True] * self.outputs


@dataclass(frozen=True, slots=True)
class _Each(Collective):
    comm: Communication
    one: Factorisation
    size: int
    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return self._join([self.one.forward(*self._of_call(tensors, call)) for call in range(self.size)])

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return self.one.keep(inputs, outputs)

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        calls = [(self._of_call(kept, call), self._of_call(gradients, call)) for call in range(self.size)]
        return self._join([self.one.backward(*parts, wanted) for parts in calls])

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        calls = [(self._of_call(kept, call), self._of_call(tangents, call)) for call in range(self.size)]
        return self._join([self.one.tangent(*parts) for parts in calls])

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return self.one.has_batch(inputs)

    @staticmethod
    def _of_call(tensors: Tensors, call: int) -> Tensors:
        return [x[..., call] for x in tensors]

    @staticmethod
    def _join(calls: Sequence[Sequence[torch.Tensor | None]]) -> list[torch.Tensor]:
        return [torch.stack([x for x in parts if x is not None], -1) for parts in zip(*calls, strict=True)]


def cholesky(x: DNDarray, *, upper: bool = False) -> DNDarray:
    """Return the lower triangle L for which `L @ L^H` is `x`, or the upper one `L^H`, split as `x`."""
    if upper:  # The upper triangle of x is the lower one of its adjoint.
        return adjoint_view(cholesky(adjoint_view(x)))
    columns, is_free = by_columns(x)
    layout, comm = columns._layout, x._comm
    lower = apply(_Cholesky(comm, layout, is_free), columns._larray)[0]
    return in_layout(DNDarray(lower, layout, comm), x._layout)


@dataclass(frozen=True, slots=True)
class _Cholesky(Factorisation):
    comm: Communication
    layout: Layout
    is_free: bool = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        lower = free_copy(tensors[0], self.is_free)
        if order := panels.cholesky(lower, self.layout, self.comm):
            raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                f"cholesky: the matrix is not positive-definite (its leading minor of order {order} is not)"
            )
        return [lower]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return outputs

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # L^-H (F + G) L^-1 / 2, where G is the adjoint of the lower triangle of L^H dL, and F what is below that
        # diagonal. Of complex numbers the diagonal is torch's: its imaginary part is that of no Hermitian matrix.
        lower, gradient = (DNDarray(x, self.layout, self.comm) for x in (kept[0], gradients[0]))
        product = matmul(adjoint_columns(lower), gradient)._align(self.layout)
        inner = (tril(product, k=-1) + adjoint_columns(tril(product))) / 2
        left = triangular(lower, inner, upper=False, adjoint=True)
        return [triangular(lower, adjoint_columns(left), upper=False, adjoint=True)._align(self.layout)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        # L' = L F, where F is the lower triangle of L^-1 A' L^-H, with half of its diagonal.
        lower, tangent = (DNDarray(x, self.layout, self.comm) for x in (kept[0], tangents[0]))
        left = triangular(lower, tangent, upper=False)
        product = triangular(lower, adjoint_columns(left), upper=False)
        half = (tril(product) + tril(product, k=-1)) / 2
        return [matmul(lower, half)._align(self.layout)._larray]


def triangular(a: DNDarray, b: DNDarray, *, upper: bool, unit: bool = False, adjoint: bool = False) -> DNDarray:
    """Solve `a @ x = b`, or with the adjoint of `a`, for a triangle of `a`. The columns of `x` are split."""
    if a.split == 0:  # rows are the columns of the adjoint
        a, upper, adjoint = adjoint_view(a), not upper, not adjoint
    (a, _), (b, is_free) = by_columns(a), by_columns(b)
    solver = _Triangular(a._comm, (a._layout, b._layout), upper, unit, adjoint, is_free)
    return DNDarray(apply(solver, a._larray, b._larray)[0], b._layout, b._comm)


@dataclass(frozen=True, slots=True)
class _Triangular(Factorisation):
    comm: Communication
    layouts: tuple[Layout, Layout]
    upper: bool
    unit: bool
    adjoint: bool
    is_free: bool = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        a, b = tensors[0], free_copy(tensors[1], self.is_free)
        panels.solve_triangle(
            a, self.layouts[0], b, self.comm, upper=self.upper, unit=self.unit, adjoint=self.adjoint
        )
        return [b]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs[0], outputs[0]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        a, x, gradient = self._arrays(*kept, gradients[0])
        by_b = triangular(a, gradient, upper=self.upper, unit=self.unit, adjoint=not self.adjoint)
        by_a = _of_matrix(by_b, x, self.adjoint)._align(self.layouts[0]) if wanted[0] else None
        return [None if by_a is None else self._triangle(by_a)._larray, by_b._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        a, x, right = self._arrays(*kept, tangents[1])
        change = self._triangle(DNDarray(tangents[0], self.layouts[0], self.comm))
        right -= matmul(adjoint_columns(change) if self.adjoint else change, x)._align(self.layouts[1])
        return [triangular(a, right, upper=self.upper, unit=self.unit, adjoint=self.adjoint)._larray]

    def _arrays(self, a: torch.Tensor, *columns: torch.Tensor) -> tuple[DNDarray, DNDarray, DNDarray]:
        x, other = (DNDarray(part, self.layouts[1], self.comm) for part in columns)
        return DNDarray(a, self.layouts[0], self.comm), x, other

    def _triangle(self, x: DNDarray) -> DNDarray:
        return triu(x, k=int(self.unit)) if self.upper else tril(x, k=-int(self.unit))


def _of_matrix(by_b: DNDarray, x: DNDarray, adjoint: bool) -> DNDarray:
    """The gradient of the matrix of a system, given that of the right-hand side and the solution."""
    left, right = (x, by_b) if adjoint else (by_b, x)
    return -matmul(left, adjoint_columns(right))


def solve(a: DNDarray, b: DNDarray, name: str, *, are_free: bool = False) -> DNDarray:
    """Solve `a @ x = b` by LU factors. The columns of `x` are split. `name` is that of the public function.

    Where no gradient flows both operands may be overwritten, if they are free.
    """
    may_overwrite = are_free and not (is_followed(a._larray) or is_followed(b._larray))
    a, has_moved = by_columns(a)
    factors = _regular_factors(a, has_moved or may_overwrite, name)
    b, has_moved = by_columns(b)
    return _solve_factorised(factors, a, b, is_free=has_moved or may_overwrite)


def _factorised(a: DNDarray, is_free: bool) -> panels.LU:
    return panels.lu(free_copy(a._larray.detach(), is_free), a._layout, a._comm)


def _regular_factors(a: DNDarray, is_free: bool, name: str) -> panels.LU:
    """The factors. LinAlgError, on all ranks, if the matrix is singular."""
    factors = _factorised(a, is_free)
    if len(zeros := (factors.diagonal == 0).nonzero()):
        order = int(zeros[0]) + 1
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            f"{name}: the matrix is singular, U[{order},{order}] of its LU factors is zero"
        )
    return factors


def _solve_factorised(
    factors: panels.LU, a: DNDarray, b: DNDarray, *, adjoint: bool = False, is_free: bool = False
) -> DNDarray:
    x = apply(_Solve(a._comm, factors, b._layout, adjoint, is_free), a._larray, b._larray)[0]
    return DNDarray(x, b._layout, b._comm)


@dataclass(frozen=True, slots=True)
class _Solve(Factorisation):
    comm: Communication
    factors: panels.LU
    columns: Layout
    adjoint: bool
    is_free: bool

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        b = free_copy(tensors[1], self.is_free)
        panels.solve_factorised(self.factors, b, self.comm, adjoint=self.adjoint)
        return [b]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs[0], outputs[0]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        a, x, gradient = self._arrays(*kept, gradients[0])
        by_b = _solve_factorised(self.factors, a, gradient, adjoint=not self.adjoint)
        by_a = _of_matrix(by_b, x, self.adjoint)._align(a._layout) if wanted[0] else None
        return [None if by_a is None else by_a._larray, by_b._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        a, x, right = self._arrays(*kept, tangents[1])
        change = DNDarray(tangents[0], a._layout, self.comm)
        right -= matmul(adjoint_columns(change) if self.adjoint else change, x)._align(self.columns)
        return [_solve_factorised(self.factors, a, right, adjoint=self.adjoint)._larray]

    def _arrays(self, a: torch.Tensor, *columns: torch.Tensor) -> tuple[DNDarray, DNDarray, DNDarray]:
        x, other = (DNDarray(part, self.columns, self.comm) for part in columns)
        return DNDarray(a, self.factors.layout, self.comm), x, other


def inv(x: DNDarray) -> DNDarray:
    """Return the inverse, split as `x`."""
    return in_layout(_inverse(x), x._layout)


def _inverse(x: DNDarray) -> DNDarray:
    # In a function of its own, which leaves nothing alive while the result is moved.
    a, is_free = by_columns(x)
    factors = _regular_factors(a, is_free, "inv")
    unit = identity(a)
    return _solve_factorised(factors, a, unit, is_free=not is_followed(a._larray))


def identity(x: DNDarray) -> DNDarray:
    """The identity of the shape, dtype and device of `x`, split along its columns."""
    layout = x._layout.with_split(1)
    begin, end = layout.span(x._comm.rank)
    shard = torch.zeros((layout.extent, end - begin), dtype=x.dtype, device=x.device)
    shard.diagonal(-begin).fill_(1)
    return DNDarray(shard, layout, x._comm)


def determinant(x: DNDarray) -> DNDarray:
    """Return the determinant, replicated."""
    return _determinants(x, is_log=False)[0]


def slogdet(x: DNDarray) -> tuple[DNDarray, DNDarray]:
    """Return the sign of the determinant and the logarithm of its absolute value, replicated."""
    sign, log = _determinants(x, is_log=True)
    return sign, log


def _determinants(x: DNDarray, *, is_log: bool) -> list[DNDarray]:
    columns, is_free = by_columns(x)
    factors = _factorised(columns, is_free)
    # The gradient of the determinant goes through the inverse, which a singular matrix does not have. It is then
    # that of a matrix next to it, as torch's is meant to be.
    eps = torch.finfo(x.dtype).eps
    factors.triangles.diagonal(-factors.layout.span(x._comm.rank)[0]).masked_fill_(
        _own_zeros(factors, x._comm), eps
    )
    near = torch.where(factors.diagonal == 0, eps, factors.diagonal).prod() * factors.sign
    found = apply(_Determinant(x._comm, factors, near, is_log), columns._larray)
    return [replicated(part, x._comm) for part in found]


def _own_zeros(factors: panels.LU, comm: Communication) -> torch.Tensor:
    begin, end = factors.layout.span(comm.rank)
    return factors.diagonal[begin:end] == 0


@dataclass(frozen=True, slots=True)
class _Determinant(Factorisation):
    comm: Communication
    factors: panels.LU
    near: torch.Tensor
    is_log: bool

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        diagonal, sign = self.factors.diagonal, self.factors.sign
        if not self.is_log:
            return [diagonal.prod() * sign]
        return [diagonal.sgn().prod() * sign, diagonal.abs().log().sum()]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs[0], outputs[0]

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return 1 + self.is_log

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Of log det A the differential is the trace of A^-1 dA.
        a, value = DNDarray(kept[0], self.factors.layout, self.comm), kept[1]
        if not self.is_log:
            weight = gradients[0] * (value + (self.near - value.detach())).conj()
        elif value.dtype.is_complex:
            weight = torch.complex(gradients[1], -(gradients[0].conj() * value).imag)
        else:
            weight = gradients[1]
        unit = identity(a)
        scaled = DNDarray(unit._larray * all_reduce_gradient(weight, self.comm), unit._layout, self.comm)
        return [_solve_factorised(self.factors, a, scaled, adjoint=True)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        (a, change), value = (DNDarray(x, self.factors.layout, self.comm) for x in (kept[0], tangents[0])), kept[1]
        product = _solve_factorised(self.factors, a, change)
        begin = product._layout.span(self.comm.rank)[0]
        trace = all_reduce(product._larray.diagonal(-begin).sum(), self.comm)
        if not self.is_log:
            return [(value + (self.near - value.detach())) * trace]
        if not value.dtype.is_complex:
            return [torch.zeros_like(value), trace]
        return [value * torch.complex(torch.zeros_like(trace.real), trace.imag), trace.real]


def qr(x: DNDarray, *, complete: bool = False) -> tuple[DNDarray, DNDarray]:
    """Return Q and R, whose diagonal is real and not negative, each split along its columns."""
    columns, is_free = by_columns(x)
    layout, comm, (rows, extent) = columns._layout, x._comm, x.shape
    if rows < extent and is_followed(columns._larray):
        # The gradient below is that of tall matrices. The first columns determine Q.
        lead = qr(columns[:, :rows]._align(Layout((rows, rows), 1, comm.size)))
        rest = matmul(adjoint_columns(lead[0]), columns[:, rows:].balance())
        return lead[0], concat([lead[1], rest], axis=1)._align(layout)
    steps = min(x.shape)
    if complete and rows > extent and is_followed(columns._larray):
        # No gradient flows through the columns that make Q complete.
        reduced, whole = qr(columns), qr(columns.detach(), complete=True)[0]
        basis = concat([reduced[0], whole[:, extent:]], axis=1)._align(whole._layout)
        return basis, _with_zeros_below(reduced[1], rows)
    q_layout = Layout((rows, rows if complete else steps), 1, comm.size)
    if q_layout.shape == x.shape:
        q_layout = layout
    q, r = apply(_QR(comm, layout, q_layout, is_free), columns._larray)
    triangle = DNDarray(r, Layout((steps, extent), 1, comm.size, layout.ragged), comm)
    # The columns that complete Q are multiplied by rows of zeros.
    return DNDarray(q, q_layout, comm), _with_zeros_below(triangle, q_layout.shape[1])


def _with_zeros_below(x: DNDarray, rows: int) -> DNDarray:
    if x.shape[0] == rows:
        return x
    shard = torch.nn.functional.pad(x._larray, (0, 0, 0, rows - x.shape[0]))
    return DNDarray(shard, Layout((rows, x.shape[1]), 1, x._comm.size, x._layout.ragged), x._comm)


@dataclass(frozen=True, slots=True)
class _QR(Factorisation):
    comm: Communication
    layout: Layout
    q_layout: Layout
    is_free: bool
    outputs = 2

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        reflections = panels.reflect(free_copy(tensors[0], self.is_free), self.layout, self.comm)
        q = panels.orthonormal_columns(reflections, self.q_layout, self.comm)
        r = panels.triangle_of(reflections, self.comm.rank)
        return [q, r if self.layout.shape[0] == len(r) else r.clone()]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return outputs

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # As that of TSQR: (dQ + Q sym(M)) R^-H, where M is dR R^H - Q^H dQ, and sym(M) is Hermitian and has the
        # upper triangle of M.
        (q, r), (by_q, by_r) = self._arrays(*kept), self._arrays(*gradients)
        by_product = matmul(by_r, adjoint_columns(r)) - matmul(adjoint_columns(q), by_q)
        half = _upper_half(by_product)
        inner = by_q + matmul(q, half + adjoint_columns(half))._align(by_q._layout)
        return [adjoint_columns(triangular(r, adjoint_columns(inner), upper=True))._align(self.layout)._larray]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        q, r = self._arrays(*kept)
        change = DNDarray(tangents[0], self.layout, self.comm)
        scaled = adjoint_columns(triangular(r, adjoint_columns(change), upper=True, adjoint=True))
        product = matmul(adjoint_columns(q), scaled)
        upper = _upper_half(product + adjoint_columns(product)._align(product._layout))
        by_q = scaled - matmul(q, upper)._align(scaled._layout)
        return [by_q._align(self.q_layout)._larray, matmul(upper, r)._align(r._layout)._larray]

    def _arrays(self, q: torch.Tensor, r: torch.Tensor) -> tuple[DNDarray, DNDarray]:
        columns, comm = self.layout.extent, self.comm
        r_layout = Layout((columns, columns), 1, comm.size, self.layout.ragged)
        return DNDarray(q, self.q_layout, comm), DNDarray(r, r_layout, comm)


def _upper_half(x: DNDarray) -> DNDarray:
    """The upper triangle, with half of the diagonal."""
    return (triu(x) + triu(x, k=1)) / 2
