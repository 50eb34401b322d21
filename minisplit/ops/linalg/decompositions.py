"""Decompositions of matrices: eigenvalues, singular values, triangles; determinants."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch

from minisplit.core.array import DNDarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.floating import conj
from minisplit.ops.linalg.batched import as_matrices, batched, of_each, one
from minisplit.ops.linalg.matrix_layouts import is_split_matrix, lengthwise
from minisplit.ops.linalg.tsqr import by_columns, by_rows, completed, positive, triangle, turned
from minisplit.ops.shape.manipulation import matrix_transpose


class EigResult(NamedTuple):
    """Eigenvalues, along the last axis, and the eigenvectors, as columns."""

    eigenvalues: DNDarray
    eigenvectors: DNDarray


class QRResult(NamedTuple):
    """Orthonormal columns, and an upper triangle: `Q @ R` is the matrix."""

    Q: DNDarray
    R: DNDarray


class SlogdetResult(NamedTuple):
    """The determinant is `sign * exp(logabsdet)`."""

    sign: DNDarray
    logabsdet: DNDarray


class SVDResult(NamedTuple):
    """`U * S[..., None, :] @ Vh` is the matrix, with as many columns of U and rows of Vh as there are of S."""

    U: DNDarray
    S: DNDarray
    Vh: DNDarray


det = batched(torch.linalg.det, "The determinants of square matrices", one, ".item()\n1.0")
slogdet = batched(
    torch.linalg.slogdet,
    "Signs, and logarithms of the absolute values, of the determinants of square matrices",
    SlogdetResult,
    ".logabsdet.item()\n0.0",
)
eig = batched(
    torch.linalg.eig,
    "Eigenvalues and eigenvectors of square matrices, complex and in no order",
    EigResult,
    ".eigenvalues.tolist()\n[(1+0j), (1+0j)]",
    may_fail=True,
)
eigvals = batched(
    torch.linalg.eigvals,
    "Eigenvalues of square matrices, complex and in no order",
    one,
    ".tolist()\n[(1+0j), (1+0j)]",
    may_fail=True,
)
eigh = batched(
    torch.linalg.eigh,
    "Eigenvalues, ascending, and eigenvectors of symmetric or Hermitian matrices, by their lower triangles",
    EigResult,
    ".eigenvalues.tolist()\n[1.0, 1.0]",
    may_fail=True,
)
eigvalsh = batched(
    torch.linalg.eigvalsh,
    "Eigenvalues, ascending, of symmetric or Hermitian matrices, by their lower triangles",
    one,
    ".tolist()\n[1.0, 1.0]",
    may_fail=True,
)
matrix_exp = batched(torch.linalg.matrix_exp, "The exponentials of square matrices", one, ".shape\n(2, 2)")


def cholesky(x: DNDarray, /, *, upper: bool = False) -> DNDarray:
    """The lower triangle L with `L @ L^H`, or the upper one U with `U^H @ U`, of positive definite matrices.

    `x` is symmetric or Hermitian. Local where the matrices are whole, but for one small message, that none failed.
    Where they are cut, collective, by one exchange: the ranks share out the longest batch axis, if it has an index
    for each; else each rank gets all matrices, and the result is cut as `x`.

    Raises torch.linalg.LinAlgError where a matrix is not positive definite, ValueError for what is not a stack of
    square matrices, TypeError for anything but floating point and complex numbers of at least 32 bits: all on
    every rank.

    >>> import minisplit as ms
    >>> ms.linalg.cholesky(4 * ms.eye(2, split=0)).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    x = as_matrices(x, "cholesky", square=True)
    return one(*of_each(partial(torch.linalg.cholesky, upper=bool(upper)), x, "cholesky"))


def qr(x: DNDarray, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """Orthonormal columns Q and upper triangles R with `Q @ R` equal to `x`, of shape (..., m, n).

    Q has min(m, n) columns, with `mode="complete"` m. The diagonal of R is real and not negative: so both are
    unique, and the same for every layout up to rounding, where the first min(m, n) columns are independent.

    Local where the matrices are whole. Where they are cut, collective: by one exchange where a batch axis has an
    index for each rank, along which the matrices are then shared out. Else tall ones cut along their rows take
    one exchange of the ranks' R (TSQR: Demmel, Grigori, Hoemmen and Langou, 2012), wide ones cut along their
    columns one of the first m columns, and those cut along the other axis two more. The factor of the shape of `x`
    is cut as `x`, the other replicated. The complete Q of tall ones is split along its rows, and takes one
    exchange more, by which each rank gets the reduced one; no gradient flows through the columns that complete it.

    Raises ValueError for another mode and less than two dimensions, TypeError for anything but floating point
    and complex numbers of at least 32 bits: all on every rank.

    >>> import minisplit as ms
    >>> q, r = ms.linalg.qr(ms.ones((100, 1), split=0))
    >>> q.split, r.split, round(r.item(), 4)
    (0, None, 10.0)
    """
    x = as_matrices(x, "qr")
    if mode not in {"reduced", "complete"}:
        raise ValueError(f"mode of qr must be 'reduced' or 'complete', got {mode!r}")
    if not is_split_matrix(x._layout):
        return QRResult(*of_each(lambda a: positive(*torch.linalg.qr(a, mode)), x, "qr", may_fail=False))
    rows, columns, comm = *x.shape[-2:], x._comm
    long = x._align(lengthwise(x._layout))
    if rows < columns:
        lead = long[..., :rows].resplit(None)._larray
        q, r = by_columns(lead, long._larray, long._layout, comm)
        return QRResult(_replicated(q, comm), DNDarray(r, long._layout, comm).to_layout(x._layout))
    q, r = by_rows(long._larray, long._layout, comm)
    if mode == "reduced" or rows == columns:
        return QRResult(DNDarray(q, long._layout, comm).to_layout(x._layout), _replicated(r, comm))
    below = torch.nn.functional.pad(r, (0, 0, 0, rows - columns))
    return QRResult(_completed(DNDarray(q, long._layout, comm)), _replicated(below, comm)._align(x._layout))


def svd(x: DNDarray, /, *, full_matrices: bool = True) -> SVDResult:
    """Singular values S, descending, and vectors: the columns of U and the rows of Vh.

    Of a matrix (m, n) there are min(m, n); with `full_matrices` U and Vh are square. Signs are LAPACK's.

    Local where the matrices are whole, but for one small message, that none failed. Where they are cut,
    collective: they are shared out along a batch axis, or else decomposed by `qr` with its messages, and each rank
    decomposes the small factor: U of tall matrices, Vh of wide ones, is cut as `x`, the rest is replicated. Where
    that one is full, it takes one exchange more, as the complete Q of `qr`, and is split along the rows of U, or
    the columns of Vh.

    Raises torch.linalg.LinAlgError for NaN and infinities, and what `qr` does: all on every rank.

    >>> import minisplit as ms
    >>> u, s, vh = ms.linalg.svd(ms.ones((100, 1), split=0), full_matrices=False)
    >>> u.split, vh.shape, round(s.item(), 4)
    (0, (1, 1), 10.0)
    """
    x = as_matrices(x, "svd")
    full = bool(full_matrices) and x.shape[-2] != x.shape[-1]
    if not is_split_matrix(x._layout):
        return SVDResult(*of_each(partial(torch.linalg.svd, full_matrices=full), x, "svd"))
    if x.shape[-2] < x.shape[-1]:
        u, s, vh = svd(adjoint(x), full_matrices=full)
        return SVDResult(adjoint(vh), s, adjoint(u))
    q, r = qr(x._align(lengthwise(x._layout)))
    u, s, vh = svd(r)
    columns = DNDarray(turned(q._larray, all_reduce_gradient(u._larray, x._comm)), q._layout, x._comm)
    return SVDResult(_completed(columns) if full else columns.to_layout(x._layout), s, vh)


def svdvals(x: DNDarray, /) -> DNDarray:
    """The singular values of matrices, descending.

    Local where the matrices are whole, but for one small message, that none failed. Where they are cut,
    collective: they are shared out along a batch axis, or else decomposed by `qr` with its messages, and the
    result is replicated. Raises what `svd` does.

    >>> import minisplit as ms
    >>> ms.linalg.svdvals(2 * ms.eye(2, split=0)).tolist()
    [2.0, 2.0]
    """
    return one(*of_each(torch.linalg.svdvals, core(as_matrices(x, "svdvals")), "svdvals"))


def core(x: DNDarray) -> DNDarray:
    """Matrices that have the singular values of `x`: its R, replicated, where ranks have parts of one matrix."""
    if not is_split_matrix(x._layout):
        return x
    if x.shape[-2] < x.shape[-1]:
        return core(adjoint(x))
    long = x._align(lengthwise(x._layout))
    return _replicated(triangle(long._larray, long._layout, x._comm), x._comm)


def adjoint(x: DNDarray) -> DNDarray:
    """The conjugate transposes of matrices. Local."""
    transposed = matrix_transpose(x)
    return conj(transposed) if x.dtype.is_complex else transposed


def _replicated(whole: torch.Tensor, comm: Communication) -> DNDarray:
    return DNDarray(whole, Layout(tuple(whole.shape), None, comm.size), comm)


def _completed(q: DNDarray) -> DNDarray:
    layout = q._layout
    shape = (*layout.shape[:-1], layout.shape[-2])
    rows = completed(q._larray, layout, q._comm)
    return DNDarray(rows, Layout(shape, layout.split, layout.ranks, layout.ragged), q._comm)
