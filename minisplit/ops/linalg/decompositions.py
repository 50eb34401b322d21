"""Decompositions of matrices: Cholesky, QR, singular values, eigenvalues."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple, overload

import torch

from minisplit.core.array import DNDarray, replicated
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.floating import conj
from minisplit.ops.linalg.batched import (
    apply_to_matrices,
    apply_to_square,
    as_matrices,
    is_split_matrix,
    of_finite,
    split_longer_axis,
)
from minisplit.ops.linalg.split_matrix import one_matrix, spectra
from minisplit.ops.linalg.split_matrix.tsqr import (
    complete_basis,
    multiply_tall,
    normalise_phases,
    tsqr,
    tsqr_r,
    wide_qr,
)


class EigResult(NamedTuple):
    """Eigenvalues and eigenvectors.

    Attributes
    ----------
    eigenvalues : DNDarray
        The eigenvalues, along the last axis.
    eigenvectors : DNDarray
        The eigenvectors, which are the columns.
    """

    eigenvalues: DNDarray
    eigenvectors: DNDarray


class QRResult(NamedTuple):
    """The factors of a QR decomposition: `Q @ R` is the matrix.

    Attributes
    ----------
    Q : DNDarray
        Orthonormal columns.
    R : DNDarray
        Upper triangles.
    """

    Q: DNDarray
    R: DNDarray


class SVDResult(NamedTuple):
    """The factors of a singular value decomposition.

    The matrix is `U[..., :k] * S[..., None, :] @ Vh[..., :k, :]`.

    Attributes
    ----------
    U : DNDarray
        The left singular vectors, which are the columns.
    S : DNDarray
        The k singular values, descending, along the last axis.
    Vh : DNDarray
        The conjugates of the right singular vectors, which are the rows.
    """

    U: DNDarray
    S: DNDarray
    Vh: DNDarray


def eig(x: DNDarray, /) -> EigResult:
    """Return the eigenvalues and eigenvectors of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    EigResult
        The fields `eigenvalues`, of shape (..., n), and `eigenvectors`, of the shape of `x`. Both are complex,
        and in no order. Split along the batch axis along which `x` is split. Where matrices are split, they are
        split along the longest batch axis. If that has no index for every rank, the vectors are split as `x`
        and the values are replicated.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If eigenvalues are not found, as for NaN. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective. If matrices are split, one exchange gives each rank whole
    matrices. If ranks compute different matrices, one small message tells that no rank failed.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.eig(ms.eye(2, split=0)).eigenvalues.tolist()
    [(1+0j), (1+0j)]
    """
    return EigResult(*apply_to_square(torch.linalg.eig, x, "eig", may_fail=True))


def eigvals(x: DNDarray, /) -> DNDarray:
    """Return the eigenvalues of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    DNDarray
        The eigenvalues, of shape (..., n), complex and in no order. Split as those of `minisplit.linalg.eig`.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If eigenvalues are not found, as for NaN. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.linalg.eig`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.eigvals(ms.eye(2, split=0)).tolist()
    [(1+0j), (1+0j)]
    """
    return apply_to_square(torch.linalg.eigvals, x, "eigvals", may_fail=True)[0]


def eigh(
    x: DNDarray,
    /,
    UPLO: Literal["L", "U"] = "L",  # noqa: N803 - NumPy's name
) -> EigResult:
    """Return the eigenvalues and eigenvectors of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).
    UPLO : {"L", "U"}, default "L"
        Which triangles are read: the lower or the upper ones.

    Returns
    -------
    EigResult
        The fields `eigenvalues`, real and ascending, of shape (..., n), and `eigenvectors`, of the shape and
        dtype of `x`. Split as those of `minisplit.linalg.eig`. Signs of the vectors are LAPACK's, but of one large
        split matrix they are any.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If eigenvalues are not found, as for NaN. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.linalg.eig`. One split matrix of
    2048 rows or more is not gathered: one broadcast and one allreduce for each column, three allreduces for each
    32 rows, one broadcast for each 128 columns, and two exchanges for each 64 columns of a rank, or three if rows
    are split.

    Notes
    -----
    A large split matrix is reduced to a tridiagonal one by reflections, whose spectrum is found by divide and
    conquer (Gu and Eisenstat, SIAM J. Matrix Anal. Appl. 16, 1995), as LAPACK does it, and as exactly. A rank
    needs two and a half times its part of the matrix, and the work is split between the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.eigh(ms.eye(2, split=0)).eigenvalues.tolist()
    [1.0, 1.0]
    """
    x, uplo = as_matrices(x, "eigh", square=True), _triangle(UPLO)
    if spectra.is_large(x):
        return EigResult(*spectra.eigh(x, upper=uplo == "U"))
    return EigResult(*apply_to_matrices(partial(torch.linalg.eigh, UPLO=uplo), x, "eigh"))


def _triangle(uplo: str) -> str:
    if uplo not in {"L", "U"}:
        raise ValueError(f"UPLO must be 'L' or 'U', got {short_repr(uplo)}")
    return uplo


def eigvalsh(
    x: DNDarray,
    /,
    UPLO: Literal["L", "U"] = "L",  # noqa: N803 - NumPy's name
) -> DNDarray:
    """Return the eigenvalues of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).
    UPLO : {"L", "U"}, default "L"
        Which triangles are read: the lower or the upper ones.

    Returns
    -------
    DNDarray
        The eigenvalues, real and ascending, of shape (..., n). Split as those of `minisplit.linalg.eig`.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If eigenvalues are not found, as for NaN. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.linalg.eig`. One split matrix of
    2048 rows or more is not gathered: one broadcast and one allreduce for each column, three allreduces for each
    32 rows, one exchange for each 64 columns of a rank, and one more if rows are split.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.eigvalsh(ms.eye(2, split=0)).tolist()
    [1.0, 1.0]
    """
    x, uplo = as_matrices(x, "eigvalsh", square=True), _triangle(UPLO)
    if spectra.is_large(x):
        return spectra.eigh(x, upper=uplo == "U", vectors=False)[0]
    return apply_to_matrices(partial(torch.linalg.eigvalsh, UPLO=uplo), x, "eigvalsh")[0]


def cholesky(x: DNDarray, /, *, upper: bool = False) -> DNDarray:
    """Return the Cholesky factors of symmetric or Hermitian positive definite matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).
    upper : bool, default False
        Whether to return upper triangles U, for which `U^H @ U` is `x`, rather than lower ones L, for which
        `L @ L^H` is `x`.

    Returns
    -------
    DNDarray
        The triangles, of the shape of `x`. Split as `x` where the matrices are whole, or are too few to give
        each rank whole ones. Otherwise split along the longest batch axis.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If a matrix is not positive definite. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.linalg.eig`. One split matrix of
    512 rows or more is not gathered: one broadcast for each 128 columns, and if rows are split one exchange, and
    one for each 64 columns of a rank.

    Notes
    -----
    Of a large matrix each rank keeps its columns, and one panel of 128 columns at a time: the right-looking
    blocked algorithm over the split axis (Golub and Van Loan, "Matrix Computations", 2013).

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.cholesky(4 * ms.eye(2, split=0)).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    x = as_matrices(x, "cholesky", square=True)
    if one_matrix.is_large(x):
        return one_matrix.cholesky(x, upper=bool(upper))
    return apply_to_matrices(partial(torch.linalg.cholesky, upper=bool(upper)), x, "cholesky")[0]


@overload
def qr(x: DNDarray, /, mode: Literal["reduced", "complete"] = "reduced") -> QRResult: ...


@overload
def qr(x: DNDarray, /, mode: Literal["r"]) -> DNDarray: ...


def qr(x: DNDarray, /, mode: Literal["reduced", "complete", "r"] = "reduced") -> Any:
    """Decompose matrices into orthonormal columns and upper triangles.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).
    mode : {"reduced", "complete", "r"}, default "reduced"
        Whether Q has min(m, n) columns, or m, or only R is returned.

    Returns
    -------
    QRResult
        The fields `Q` and `R`. If the ranks have parts of one matrix, a factor of the shape of `x` is split as
        `x`, and the other factor is replicated. Both factors of a square matrix are split as `x`. The complete Q
        of a tall matrix is split along its rows, the complete R as `x`. Elsewhere both are split along the batch
        axis along which the matrices are whole.

    Raises
    ------
    ValueError
        If the mode is another, or there are fewer than two dimensions.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.

    Communication
    -------------
    Local where the matrices are whole. Otherwise collective. Where a batch axis has an index for every rank:
    one exchange. Else for tall matrices that are split along their rows: one exchange of the R factors of all
    ranks; on more than 16, if these are more than 1 MiB, two exchanges for each level of a binary tree, and a
    broadcast. For wide ones that are split along their columns: one exchange of the first m columns. Matrices
    that are split along their shorter axis take two more exchanges, and a complete Q of tall ones takes one more.
    One matrix of 512 rows and columns or more, and fewer than `ranks` times as many of one as of the other, takes
    two broadcasts for each 128 columns, and one exchange for each of `x`, Q and R that is not split along its
    columns.

    Notes
    -----
    The diagonal of R is real and not negative, unlike NumPy's and torch's. So both factors are unique where the
    first min(m, n) columns are independent, and up to rounding the same for any layout and number of ranks.
    Tall matrices are decomposed by TSQR (Demmel, Grigori, Hoemmen and Langou, 2012), large square ones by blocks
    of reflections (Golub and Van Loan, "Matrix Computations", 2013); each rank keeps its own blocks. No gradient
    flows through the columns that make Q complete.

    Examples
    --------
    >>> import minisplit as ms
    >>> q, r = ms.linalg.qr(ms.ones((100, 1), split=0))
    >>> q.split, r.split, round(r.item(), 4)
    (0, None, 10.0)
    """
    x = as_matrices(x, "qr")
    if mode not in {"reduced", "complete", "r"}:
        raise ValueError(f"mode of qr must be 'reduced', 'complete' or 'r', got {short_repr(mode)}")
    if mode == "r":
        return qr(x).R
    if not is_split_matrix(x._layout):
        return QRResult(
            *apply_to_matrices(lambda a: normalise_phases(*torch.linalg.qr(a, mode)), x, "qr", may_fail=False)
        )
    rows, columns, comm = *x.shape[-2:], x._comm
    if one_matrix.is_large(x) and max(x.shape) < comm.size * min(x.shape):
        # The R factors of all ranks, or the first m columns, would be as large as the matrix.
        q, r = one_matrix.qr(x, complete=mode == "complete")
        if mode == "complete" and rows > columns:
            return QRResult(q.resplit(0), r._align(x._layout))
        q, r = (
            one_matrix.in_layout(part, x._layout if part.shape == x.shape else part._layout.with_split(None))
            for part in (q, r)
        )
        return QRResult(q, r)
    aligned = align_longer_axis(x)
    layout = aligned._layout
    if rows < columns:
        # The first m columns determine Q, which makes R of the other columns: they stay where they are.
        lead = aligned[..., :rows].resplit(None)._larray
        factor, rest = wide_qr(lead, aligned._larray, layout, comm)
        return QRResult(replicated(factor, comm), DNDarray(rest, layout, comm).to_layout(x._layout))
    q, r = tall_qr(aligned)
    if rows == columns:
        return QRResult(q.to_layout(x._layout), r._align(x._layout))
    if mode == "reduced":
        return QRResult(q.to_layout(x._layout), r)
    # The columns that complete Q are multiplied by rows of zeros.
    zeros_below = torch.nn.functional.pad(r._larray, (0, 0, 0, rows - columns))
    return QRResult(_with_complete_basis(q._larray, layout, comm), replicated(zeros_below, comm)._align(x._layout))


def tall_qr(x: DNDarray) -> QRResult:
    """Return Q, split as `x`, and the replicated R of matrices that are split along their rows, and not wide."""
    q, r = tsqr(x._larray, x._layout, x._comm)
    return QRResult(DNDarray(q, x._layout, x._comm), replicated(r, x._comm))


@overload
def svd(x: DNDarray, /, full_matrices: bool = True, compute_uv: Literal[True] = True) -> SVDResult: ...


@overload
def svd(x: DNDarray, /, full_matrices: bool = True, *, compute_uv: Literal[False]) -> DNDarray: ...


def svd(x: DNDarray, /, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Decompose matrices into singular values and singular vectors.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).
    full_matrices : bool, default True
        Whether U and Vh are square, rather than of min(m, n) columns and rows.
    compute_uv : bool, default True
        Whether to return the vectors too. Without them it is `svdvals`.

    Returns
    -------
    SVDResult
        The fields `U`, `S` and `Vh`. There are min(m, n) singular values, descending. If the ranks have parts of
        one matrix, U of a tall matrix or Vh of a wide one is split as `x`, and both factors of a square one are;
        if it is full, U is split along its rows, or Vh along its columns. The others are replicated. Otherwise all
        are split along the batch axis along which the matrices are whole. Signs of the vectors are LAPACK's; for
        one large split matrix they are arbitrary.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective. If the ranks have parts of one matrix: the messages of
    `minisplit.linalg.qr`, and one more exchange for a full U or Vh. Otherwise, if matrices are split, one exchange
    gives each rank whole matrices; and one small message tells that no rank failed. One matrix of 2048 rows and
    columns or more, and fewer than `ranks` times as many of one as of the other, is not gathered: one broadcast
    and two allreduces for each column, three allreduces for each 32 rows, three messages for each 128 columns, and
    an exchange or two of each factor for 64 columns of a rank; before them the messages of `minisplit.linalg.qr`
    if it is not square.

    Notes
    -----
    Reflections reduce a large split matrix to a bidiagonal one, and divide and conquer finds its singular values
    (Gu and Eisenstat, SIAM J. Matrix Anal. Appl. 16, 1995), as LAPACK does it, and as exactly. A rank needs
    three and a half times its part of the matrix, and the work is split between the ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> u, s, vh = ms.linalg.svd(ms.ones((100, 1), split=0), full_matrices=False)
    >>> u.split, vh.shape, round(s.item(), 4)
    (0, (1, 1), 10.0)
    """
    if not compute_uv:
        return svdvals(x)
    x = as_matrices(x, "svd")
    # Of square matrices the reduced factors are the full ones, and take no exchange more.
    full = bool(full_matrices) and x.shape[-2] != x.shape[-1]
    if not is_split_matrix(x._layout):
        return SVDResult(*apply_to_matrices(of_finite(partial(torch.linalg.svd, full_matrices=full)), x, "svd"))
    # The adjoint of a wide matrix is tall, and its factors are the adjoints in reverse order.
    if x.shape[-2] < x.shape[-1]:
        u, s, vh = svd(adjoint(x), full_matrices=full)
        return SVDResult(adjoint(vh), s, adjoint(u))
    if spectra.is_large(x):
        u, s, vh = spectra.svd(x, full_matrices=full)
        if full:
            layout = Layout(u.shape, 0, x._comm.size, split_longer_axis(x._layout).ragged)
            return SVDResult(u._align(layout), s, vh._align(vh._layout.with_split(None)))
        u, vh = one_matrix.in_layout(u, x._layout), one_matrix.in_layout(vh, _of_square(vh, x))
        return SVDResult(u, s, vh)
    # With R = U S Vh the decomposition of Q R is (Q U) S Vh.
    q, r = tall_qr(align_longer_axis(x))
    u, s, vh = svd(r)
    columns = multiply_tall(q._larray, all_reduce_gradient(u._larray, x._comm))
    if full:
        return SVDResult(_with_complete_basis(columns, q._layout, x._comm), s, vh)
    return SVDResult(DNDarray(columns, q._layout, x._comm).to_layout(x._layout), s, vh._align(_of_square(vh, x)))


def _of_square(vh: DNDarray, x: DNDarray) -> Layout:
    """The layout of the lesser factor of `x`: that of `x`, if it has its shape."""
    return x._layout if vh.shape == x.shape else vh._layout.with_split(None)


def svdvals(x: DNDarray, /) -> DNDarray:
    """Return the singular values of matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).

    Returns
    -------
    DNDarray
        The singular values, descending, of shape (..., min(m, n)). Replicated where the ranks have parts of one
        matrix. Elsewhere split along the batch axis along which the matrices are whole.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective. If the ranks have parts of one matrix: the messages of
    `minisplit.linalg.qr`, or for a large one some of those of `minisplit.linalg.svd`. Otherwise one exchange if
    matrices are split, and one small message, which tells that no rank failed.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.svdvals(2 * ms.eye(2, split=0)).tolist()
    [2.0, 2.0]
    """
    x = as_matrices(x, "svdvals")
    if spectra.is_large(x):
        return spectra.svdvals(x)
    return apply_to_matrices(of_finite(torch.linalg.svdvals), small_factor(x), "svdvals")[0]


def small_factor(x: DNDarray) -> DNDarray:
    """Return matrices with the singular values of `x`.

    They are the R of `x`, or of its adjoint if it is wide, where ranks have parts of one matrix. Else they are
    `x`.
    """
    if not is_split_matrix(x._layout):
        return x
    if x.shape[-2] < x.shape[-1]:
        return small_factor(adjoint(x))
    aligned = align_longer_axis(x)
    return replicated(tsqr_r(aligned._larray, aligned._layout, x._comm), x._comm)


def align_longer_axis(x: DNDarray) -> DNDarray:
    """Return `x` split along the longer axis of its matrices. Collective if it is split along the shorter one."""
    return x._align(split_longer_axis(x._layout))


def adjoint(x: DNDarray) -> DNDarray:
    """Return the conjugate transposes of matrices. Local."""
    return conj(x.mT) if x.dtype.is_complex else x.mT


def _with_complete_basis(q: torch.Tensor, layout: Layout, comm: Communication) -> DNDarray:
    """Return the square array whose first columns are those of tall Q factors of this layout. Collective."""
    square = Layout((*layout.shape[:-1], layout.shape[-2]), layout.split, layout.ranks, layout.ragged)
    return DNDarray(complete_basis(q, layout, comm), square, comm)
