"""Systems of linear equations, inverses, pseudo-inverses and ranks of matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from minisplit.core.array import DNDarray, as_dndarray, replicated
from minisplit.core.collectives import all_reduce_gradient
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, operand_layout
from minisplit.ops.elementwise.alignment import broadcast_shape
from minisplit.ops.elementwise.apply import check_one_communicator, operand_shard
from minisplit.ops.elementwise.floating import isnan
from minisplit.ops.elementwise.selection import where
from minisplit.ops.linalg.batched import (
    agreement_on_shards,
    align_solve,
    apply_to_matrices,
    as_matrices,
    check_precision,
    is_split_matrix,
    of_finite,
    split_longer_axis,
    splits_matrices,
    whole_matrices,
)
from minisplit.ops.linalg.decompositions import adjoint, align_longer_axis, qr, small_factor, svdvals, tall_qr
from minisplit.ops.linalg.norms import matrix_norm
from minisplit.ops.linalg.split_matrix import one_matrix, spectra
from minisplit.ops.shape.axes import insert_axes

# The tolerance below which singular values count as zero: a number, or one for each matrix.
Tolerance = float | DNDarray | None


class LstsqResult(NamedTuple):
    """The solutions of least squares problems, in NumPy's order.

    Attributes
    ----------
    solution : DNDarray
        The solutions, whose sums of squares are the least of all.
    residuals : DNDarray
        The sums of squares of `x1 @ solution - x2`.
    rank : DNDarray
        The ranks of the matrices.
    singular_values : DNDarray
        The singular values of the matrices, descending.
    """

    solution: DNDarray
    residuals: DNDarray
    rank: DNDarray
    singular_values: DNDarray


def solve(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Solve the linear systems `x1 @ x = x2`.

    Parameters
    ----------
    x1 : DNDarray
        Square matrices, of shape (..., n, n).
    x2 : DNDarray
        The right-hand sides: one vector for all matrices, of shape (n,), or columns, of shape (..., n, k).
        Leading axes broadcast.

    Returns
    -------
    DNDarray
        The solutions, of shape (..., n) or (..., n, k), in the promoted dtype. Split along a batch axis or the
        columns, replicated if neither can be split.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the operands are on different communicators.
    TypeError
        If a dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If a matrix is singular. It is raised on every rank.

    Communication
    -------------
    Local for replicated operands. Otherwise collective: one exchange for each operand that moves, and, if the
    result is split, one small message, which tells that no rank failed. The work is split along a batch axis along
    which an operand is split, or along the columns of `x2` (each rank then needs all of `x1`), so that the fewest
    bytes move. One split matrix `x1` of 512 rows or more, beside `x2` of two dimensions at most, is not gathered:
    three broadcasts for each 128 columns, and one exchange for each of `x1`, `x2` and the result that is not split
    along its columns.

    Notes
    -----
    A large split matrix is factorised by Gaussian elimination with partial pivoting, one panel of 128 columns at a
    time (Golub and Van Loan, "Matrix Computations", 2013). Each rank keeps its columns of both operands.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.solve(2 * ms.eye(3, split=0), ms.arange(3.0, split=0)).tolist()
    [0.0, 0.5, 1.0]
    """
    return _solve(torch.linalg.solve, partial(one_matrix.solve, name="solve"), x1, x2, "solve")


def solve_triangular(
    x1: DNDarray, x2: DNDarray, /, *, lower: bool = False, unit_diagonal: bool = False
) -> DNDarray:
    """Solve linear systems `x1 @ x = x2` with triangular matrices.

    Parameters
    ----------
    x1 : DNDarray
        Square matrices, of shape (..., n, n). Elements outside of the triangle are not read.
    x2 : DNDarray
        The right-hand sides: one vector for all matrices, of shape (n,), or columns, of shape (..., n, k). Leading
        axes broadcast.
    lower : bool, default False
        Whether the triangle below the diagonal counts, and not that above it.
    unit_diagonal : bool, default False
        Whether the diagonal is taken for ones.

    Returns
    -------
    DNDarray
        The solutions, laid out as those of `solve`. Infinite or NaN where the diagonal has zeros.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the operands are on different communicators.
    TypeError
        If a dtype is not a floating point or complex one of at least 32 bits.

    Communication
    -------------
    Local for replicated operands. Otherwise collective, as `solve`; for one large split matrix with one broadcast
    for each 128 columns.

    See Also
    --------
    linalg.solve : The same for any regular matrices.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.array([[2.0, 1.0], [0.0, 4.0]], split=0)
    >>> ms.linalg.solve_triangular(x, ms.array([4.0, 8.0])).tolist()
    [1.0, 2.0]
    """
    function = partial(torch.linalg.solve_triangular, upper=not lower, unitriangular=unit_diagonal)
    of_large = partial(one_matrix.triangular, upper=not lower, unit=unit_diagonal)
    return _solve(function, of_large, x1, x2, "solve_triangular")


def _solve(
    function: Callable[..., torch.Tensor],
    of_large: Callable[[DNDarray, DNDarray], DNDarray],
    x1: DNDarray,
    x2: DNDarray,
    name: str,
) -> DNDarray:
    """Solve linear systems by a function of torch, or one large system by a function of arrays."""
    x1, x2, is_vector = _check_system(x1, x2, name, square=True)
    if is_vector:
        return _solve(function, of_large, x1, x2, name)[..., 0]
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    plan = align_solve(x1._layout, x2._layout, (x1._larray.itemsize, x2._larray.itemsize))
    if one_matrix.is_large(x1) and x2.ndim == 2:
        return of_large(x1.astype(dtype, copy=False), x2.astype(dtype, copy=False))._align(plan.result)
    operands = zip((x1, x2), plan.needed, strict=True)
    a, b = (operand_shard(x, needed, plan.result).to(dtype) for x, needed in operands)
    # torch would take a `b` of fewer axes than `a` for vectors, if the shapes allow it.
    b = b[(None,) * (plan.result.ndim - b.ndim)]
    with agreement_on_shards(x1._comm, name, plan.result):
        solutions = function(a, b)
    return DNDarray(solutions, plan.result, x1._comm)


def inv(x: DNDarray, /) -> DNDarray:
    """Return the inverses of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    DNDarray
        The inverses, of the shape of `x`. Split as `x` where the matrices are whole, or are too few to give each
        rank whole ones. Otherwise split along the longest batch axis.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If a matrix is singular. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: one exchange where matrices are split, and one small
    message, that no rank failed. If there are too few matrices to give each rank whole ones, each rank gets
    all, and solves for its own rows or columns. One split matrix of 512 rows or more is not gathered, and takes
    the messages of `minisplit.linalg.solve`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.inv(4 * ms.eye(2, split=0)).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    x = as_matrices(x, "inv", square=True)
    layout, comm = x._layout, x._comm
    if not is_split_matrix(layout):
        return apply_to_matrices(torch.linalg.inv, x, "inv")[0]
    if one_matrix.is_large(x):
        return one_matrix.inv(x)
    # Row i of the inverse solves y @ x = e_i, column i solves x @ y = e_i. So each rank computes its own from all
    # of `x`, of whose gradient it computes a part.
    whole = all_reduce_gradient(x._align(layout.with_split(None))._larray, comm)
    identity = torch.eye(layout.extent, dtype=x.dtype, device=x.device).expand(x.shape)
    with agreement_on_shards(comm, "inv", layout):
        shard = torch.linalg.solve(whole, identity[layout.box(comm.rank)], left=layout.split == x.ndim - 1)
    return DNDarray(shard, layout, comm)


def cond(x: DNDarray, /, p: float | str | None = None) -> DNDarray:
    """Return the condition numbers of matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).
    p : {None, 1, -1, 2, -2, inf, -inf, "fro", "nuc"}, optional
        The norm: the condition number is that of the matrix times that of its inverse. By default, and for 2, the
        ratio of the greatest and the least singular value; of these and -2 the matrices need not be square.

    Returns
    -------
    DNDarray
        The condition numbers, real, of shape (...). Infinite for singular matrices. Split along the batch axis
        along which the matrices are whole, or replicated.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, a matrix has no elements or is not square, or for another norm.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective, as `svdvals`; for other norms as `inv` of matrices that are
    whole on their ranks, or of one split matrix of 512 rows or more and a reduction for each norm.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.cond(ms.array([[4.0, 0.0], [0.0, 2.0]], split=0)).item()
    2.0
    """
    if isinstance(p, DNDarray) or p not in (None, 1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"):
        raise ValueError(f"p must be None, 1, -1, 2, -2, inf, -inf, 'fro' or 'nuc', got {short_repr(p)}")
    x = as_matrices(x, "cond", square=p not in (None, 2, -2))
    if not all(x.shape[-2:]):
        raise ValueError(f"cond needs matrices that have elements, got shape {x.shape}")
    if p not in (None, 2, -2) and one_matrix.is_large(x):
        norm = matrix_norm(x, ord=p)
        try:
            return norm * matrix_norm(inv(x), ord=p)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # singular, on all ranks
            return norm * 0 + torch.inf
    if p not in (None, 2, -2):
        return apply_to_matrices(partial(_condition, p=p), x, "cond")[0]
    values = svdvals(x)
    ratios = values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    # Of a matrix of zeros.
    return where(isnan(ratios), torch.inf, ratios)


def _condition(stack: torch.Tensor, p: float | str) -> torch.Tensor:
    """Return `torch.linalg.cond`, whose gradient in torch is an error: it writes into what that needs."""
    inverses, info = torch.linalg.inv_ex(stack)
    # What it leaves of a singular matrix may be no numbers, for which the nuclear norm is an error.
    inverses = torch.where((info == 0)[..., None, None], inverses, 1)
    numbers = torch.linalg.matrix_norm(stack, p) * torch.linalg.matrix_norm(inverses, p)
    return torch.where(info == 0, numbers, torch.inf)


def matrix_rank(x: DNDarray, /, *, rtol: Tolerance = None) -> DNDarray:
    """Return the ranks of matrices: how many singular values are above a tolerance.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).
    rtol : float or DNDarray, optional
        The tolerance relative to the largest singular value, as a number or an array with one for each matrix.
        By default max(m, n) times the epsilon of the dtype.

    Returns
    -------
    DNDarray
        The ranks, int64, of shape (...). Split as `minisplit.linalg.svdvals`.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, or `rtol` does not broadcast to the batch axes.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits, or `rtol` is not a floating
        point number or an array of these.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.linalg.svdvals`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.matrix_rank(ms.ones((5, 3), split=0)).item()
    1
    """
    x = as_matrices(x, "matrix_rank")
    tolerance = _local_tolerance(rtol, x, "matrix_rank")
    if spectra.is_large(x):
        values = svdvals(x)._larray.detach()
        return replicated((values > tolerance * values[0]).sum(), x._comm)
    function = of_finite(partial(torch.linalg.matrix_rank, rtol=tolerance))
    return apply_to_matrices(function, small_factor(x), "matrix_rank")[0]


def pinv(x: DNDarray, /, *, rtol: Tolerance = None) -> DNDarray:
    """Return the pseudo-inverses of matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, n).
    rtol : float or DNDarray, optional
        The tolerance below which singular values count as zero, as in `minisplit.linalg.matrix_rank`.

    Returns
    -------
    DNDarray
        The pseudo-inverses of Moore and Penrose, of shape (..., n, m). Split along their longer axis where the
        ranks have parts of one matrix. Elsewhere split along the batch axis along which the matrices are whole.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, or `rtol` does not broadcast to the batch axes.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits, or `rtol` is not a floating
        point number or an array of these.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective. If the ranks have parts of one matrix: the messages of
    `minisplit.linalg.qr`, or for one of 2048 rows and columns or more those of `minisplit.linalg.svd` and of a
    product of its factors, in a ring.
    Otherwise one exchange if matrices are split, and one small message, which tells that no rank failed.

    Examples
    --------
    >>> import minisplit as ms
    >>> y = ms.linalg.pinv(ms.full((4, 1), 2.0, split=0))
    >>> y.split, ms.allclose(y, 0.125)
    (1, True)
    """
    x = as_matrices(x, "pinv")
    if is_split_matrix(x._layout) and x.shape[-2] < x.shape[-1]:
        return adjoint(pinv(adjoint(x), rtol=rtol))
    tolerance = _local_tolerance(rtol, x, "pinv")
    if spectra.is_large(x):
        layout = split_longer_axis(x._layout)
        return spectra.pinv(x, float(tolerance), Layout(x.shape[::-1], 1, layout.ranks, layout.ragged))
    inverse = of_finite(partial(torch.linalg.pinv, rtol=tolerance))
    if not is_split_matrix(x._layout):
        return apply_to_matrices(inverse, x, "pinv")[0]
    # The columns of Q are orthonormal, so that the pseudo-inverse of Q R is that of R by Q^H.
    q, r = tall_qr(align_longer_axis(x))
    left, right = apply_to_matrices(inverse, r, "pinv")[0], adjoint(q)
    product = torch.matmul(all_reduce_gradient(left._larray, x._comm), right._larray)
    return DNDarray(product, right._layout, x._comm)


def lstsq(x1: DNDarray, x2: DNDarray, /, *, rtol: Tolerance = None) -> LstsqResult:
    """Solve least squares problems: find the `x` for which the sum of squares of `x1 @ x - x2` is least.

    Parameters
    ----------
    x1 : DNDarray
        The matrices, of shape (..., m, n).
    x2 : DNDarray
        The right-hand sides: one vector for all matrices, of shape (m,), or columns, of shape (..., m, k).
        Leading axes broadcast.
    rtol : float or DNDarray, optional
        The tolerance below which singular values count as zero, as in `minisplit.linalg.matrix_rank`.

    Returns
    -------
    LstsqResult
        The fields `solution`, `residuals`, `rank` and `singular_values`. If there are several solutions, it is the
        solution with the least sum of squares. The residuals are returned also where they are zero. The solution
        is replicated for tall matrices that are split along their rows, and split along its rows for wide ones
        that are split along their columns.

    Raises
    ------
    ValueError
        If the shapes do not fit, the operands are on different communicators, or `rtol` does not broadcast to
        the batch axes.
    TypeError
        If a dtype is not a floating point or complex one of at least 32 bits, or `rtol` is not a floating point
        number or an array of these.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated operands. Otherwise collective: the messages of `minisplit.linalg.qr` of `x1`, those of
    the products of its factors by `x2`, and one allreduce of the residuals where rows are split. One split
    matrix of 512 rows and columns or more takes those of `svdvals` of the large R as well, and those of
    `solve_triangular`, or of `pinv` where the rank is less.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.linalg.lstsq(ms.ones((4, 1), split=0), ms.arange(4.0, split=0))
    >>> round(x.solution.item(), 4), round(x.residuals.item(), 4)
    (1.5, 5.0)
    """
    x1, x2, is_vector = _check_system(x1, x2, "lstsq")
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    x1, x2 = x1.astype(dtype, copy=False), x2.astype(dtype, copy=False)
    # The default depends on the extents of x1. Those of its R are smaller.
    rtol = _default_tolerance(x1) if rtol is None else rtol
    is_tall = x1.shape[-2] >= x1.shape[-1]
    tall = x1 if is_tall else adjoint(x1)
    if one_matrix.is_large(x1) and max(x1.shape) < x1._comm.size * min(x1.shape):
        # The R factors of all ranks would be as large as the matrix.
        solution, rank, values = least_squares(tall, x2, rtol, is_tall=is_tall)
        return _with_residuals(x1, x2, solution, rank, values, is_vector=is_vector)
    q, r = tall_qr(align_longer_axis(tall)) if is_split_matrix(x1._layout) else qr(tall)
    inverse = pinv(r, rtol=rtol)
    # (Q R)^+ = R^+ Q^H. Of a wide matrix it is the adjoint of that of the adjoint.
    left, right = (inverse, adjoint(q)) if is_tall else (q, adjoint(inverse))
    # R has the singular values of x1, and where ranks have parts of one matrix, it is small and replicated.
    solution, rank, values = left @ (right @ x2), matrix_rank(r, rtol=rtol), svdvals(r)
    return _with_residuals(x1, x2, solution, rank, values, is_vector=is_vector)


def _with_residuals(
    x1: DNDarray, x2: DNDarray, solution: DNDarray, rank: DNDarray, values: DNDarray, *, is_vector: bool
) -> LstsqResult:
    residuals = (abs(x2 - x1 @ solution) ** 2).sum(axis=-2)
    if is_vector:
        solution, residuals = solution[..., 0], residuals[..., 0]
    return LstsqResult(solution, residuals, rank, values)


def least_squares(
    tall: DNDarray, x2: DNDarray, rtol: Tolerance, *, is_tall: bool
) -> tuple[DNDarray, DNDarray, DNDarray]:
    """The solution, the rank and the singular values for a large matrix, or for its adjoint if that is tall."""
    q, r = one_matrix.qr(tall)
    values = svdvals(r)
    rank = (values > values[:1] * float(_local_tolerance(rtol, r, "lstsq"))).sum(axis=0)
    is_regular = rank.item() == r.shape[1]
    # (Q R)^+ = R^+ Q^H, and of the adjoint it is the adjoint of that.
    if is_tall:
        right = adjoint(q) @ x2
        solution = one_matrix.triangular(r, right, upper=True) if is_regular else pinv(r, rtol=rtol) @ right
        return solution.resplit(None), rank, values
    right = (
        one_matrix.triangular(r, x2, upper=True, adjoint=True) if is_regular else adjoint(pinv(r, rtol=rtol)) @ x2
    )
    ragged = tall._layout.ragged if tall.split == 0 else None
    return (q @ right).to_layout(Layout((q.shape[0], x2.shape[1]), 0, q._comm.size, ragged)), rank, values


def _check_system(
    x1: DNDarray, x2: DNDarray, name: str, *, square: bool = False
) -> tuple[DNDarray, DNDarray, bool]:
    """Return the operands of a system, the second one with columns, and whether that was a vector.

    Raise an error unless they fit.
    """
    x1, x2 = as_matrices(x1, name, "x1", square=square), as_dndarray(x2, "x2")
    check_one_communicator([x1, x2])
    check_precision(x2.dtype, name)
    is_vector = x2.ndim == 1
    columns = insert_axes(x2, 1) if is_vector else x2
    if columns.ndim < 2 or columns.shape[-2] != x1.shape[-2]:
        raise ValueError(
            f"{name} needs as many rows of x2 as x1 has, got shapes {x1.shape} and {x2.shape}; a vector is 1-d"
        )
    return x1, columns, is_vector


def _local_tolerance(rtol: Tolerance, x: DNDarray, name: str) -> float | torch.Tensor:
    """Return `rtol` as torch takes it for the matrices of `x` that this rank gets. Collective if it moves."""
    if rtol is None:
        return _default_tolerance(x)
    if isinstance(rtol, (int, float, np.floating)):
        return float(rtol)
    if not isinstance(rtol, DNDarray) or not rtol.dtype.is_floating_point:
        kind = rtol.dtype if isinstance(rtol, DNDarray) else type(rtol).__name__
        raise TypeError(f"rtol of {name} must be a number or a DNDarray of floating point numbers, got {kind}")
    check_one_communicator([x, rtol])
    batch = x.shape[:-2]
    if broadcast_shape([batch, rtol.shape]) != batch:
        raise ValueError(f"rtol of {name} must broadcast to the batch axes of x, {batch}, got shape {rtol.shape}")
    # Where matrices are still split each rank needs the tolerances of all, else those
    # of its part of the batch axis.
    layout = whole_matrices(x._layout)
    split = None if splits_matrices(layout) else layout.split
    target = Layout(batch, split, layout.ranks, None if split is None else layout.ragged)
    return operand_shard(rtol, operand_layout(rtol._layout, target), target).to(x.dtype.to_real())


def _default_tolerance(x: DNDarray) -> float:
    return max(x.shape[-2:]) * torch.finfo(x.dtype).eps
