"""Systems of linear equations, and what solves them: inverses, pseudo-inverses, ranks."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.collectives import all_reduce_gradient
from minisplit.ops.elementwise.apply import check_one_communicator, operand_shard
from minisplit.ops.elementwise.arithmetic import abs as magnitude
from minisplit.ops.elementwise.arithmetic import subtract
from minisplit.ops.elementwise.exponentials import square
from minisplit.ops.linalg.batched import Tolerance, agreed, as_matrices, check_precision, of_each, one, tolerance
from minisplit.ops.linalg.decompositions import adjoint, core, qr, svdvals
from minisplit.ops.linalg.matrix_layouts import align_solve, is_split_matrix, lengthwise
from minisplit.ops.linalg.products import matmul
from minisplit.ops.reductions.functions import sum as sum_of
from minisplit.ops.shape.reshape import insert_axes


class LstsqResult(NamedTuple):
    """The solution, sums of squares of what it leaves, the ranks and the singular values: in NumPy's order."""

    solution: DNDarray
    residuals: DNDarray
    rank: DNDarray
    singular_values: DNDarray


def solve(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """The `x` with `x1 @ x` equal to `x2`, for square matrices `x1`.

    `x2` is one vector for all matrices if it is 1-d, and else stacks of columns; leading axes broadcast. dtypes
    are promoted. The ranks share out a batch axis, as an operand is cut along it, or the columns of `x2`, and then
    each rank gets all of `x1`: the way for which the fewest bytes move. The result is split along that, and
    replicated where there is neither. Local where nothing moves, but for one small message, that none failed,
    where the result is split; else collective, by one exchange for each operand that moves.

    Raises torch.linalg.LinAlgError where a matrix is singular, ValueError for shapes that do not fit, TypeError
    for anything but floating point and complex numbers of at least 32 bits: all on every rank.

    >>> import minisplit as ms
    >>> ms.linalg.solve(2 * ms.eye(3, split=0), ms.arange(3.0, split=0)).tolist()
    [0.0, 0.5, 1.0]
    """
    x1, x2, is_vector = _system(x1, x2, "solve", square=True)
    if is_vector:
        return solve(x1, x2)[..., 0]
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    way = align_solve(x1._layout, x2._layout, (x1._larray.itemsize, x2._larray.itemsize))
    a, b = (
        operand_shard(x, None if needed == x._layout else needed, way.result).to(dtype)
        for x, needed in ((x1, way.left), (x2, way.right))
    )
    # Of fewer axes than `a` torch would take it for vectors, if it fits.
    b = b[(None,) * (way.result.ndim - b.ndim)]
    with agreed(x1._comm, "solve", way.result):
        found = torch.linalg.solve(a, b)
    return DNDarray(found, way.result, x1._comm)


def inv(x: DNDarray, /) -> DNDarray:
    """The inverses of square matrices, cut as `x` where these are whole or cannot be shared out.

    Local where the matrices are whole, but for one small message, that none failed. Where they are cut,
    collective, by one exchange before that: the ranks share out the longest batch axis, if it has an index for
    each; else each rank gets all matrices, and solves for its own rows or columns.

    Raises torch.linalg.LinAlgError where a matrix is singular, ValueError for what is not a stack of square
    matrices, TypeError for anything but floating point and complex numbers of at least 32 bits: all on
    every rank.

    >>> import minisplit as ms
    >>> ms.linalg.inv(4 * ms.eye(2, split=0)).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    x = as_matrices(x, "inv", square=True)
    layout, comm = x._layout, x._comm
    if not is_split_matrix(layout):
        return one(*of_each(torch.linalg.inv, x, "inv"))
    whole = all_reduce_gradient(x._align(layout.with_split(None))._larray, comm)
    identity = torch.eye(layout.extent, dtype=x.dtype, device=x.device).expand(x.shape)
    mine = identity[layout.box(comm.rank)]
    with agreed(comm, "inv", layout):
        found = torch.linalg.solve(whole, mine, left=layout.split == x.ndim - 1)
    return DNDarray(found, layout, comm)


def matrix_rank(x: DNDarray, /, *, rtol: Tolerance = None) -> DNDarray:
    """How many singular values of each matrix are above `rtol` times the largest, as int64.

    rtol: a number, or an array with one for each matrix; by default the larger extent times the dtype's epsilon.

    Local or collective, and cut, as `svdvals`. Raises what `svd` does, ValueError for an `rtol` whose shape does
    not fit, TypeError for one that is no floating point number.

    >>> import minisplit as ms
    >>> ms.linalg.matrix_rank(ms.ones((5, 3), split=0)).item()
    1
    """
    x = as_matrices(x, "matrix_rank")
    limit = tolerance(rtol, x, "matrix_rank")
    limit = _default_tolerance(x) if limit is None else limit
    return one(*of_each(lambda a: torch.linalg.matrix_rank(a, rtol=limit), core(x), "matrix_rank"))


def pinv(x: DNDarray, /, *, rtol: Tolerance = None) -> DNDarray:
    """The pseudo-inverses of matrices (Moore, Penrose).

    rtol: singular values up to `rtol` times the largest count as zero, as in `matrix_rank`.

    Local where the matrices are whole, but for one small message, that none failed. Where they are cut,
    collective: they are shared out along a batch axis, or else decomposed by `qr` with its messages, and the
    result is split along its longer axis. Raises what `matrix_rank` does.

    >>> import minisplit as ms
    >>> y = ms.linalg.pinv(ms.full((4, 1), 2.0, split=0))
    >>> y.split, ms.allclose(y, 0.125)
    (1, True)
    """
    x = as_matrices(x, "pinv")
    if is_split_matrix(x._layout) and x.shape[-2] < x.shape[-1]:
        return adjoint(pinv(adjoint(x), rtol=rtol))
    limit = tolerance(rtol, x, "pinv")
    limit = _default_tolerance(x) if limit is None else limit
    inverse = partial(torch.linalg.pinv, rtol=limit)
    if not is_split_matrix(x._layout):
        return one(*of_each(inverse, x, "pinv"))
    q, r = qr(x._align(lengthwise(x._layout)))
    right, left = adjoint(q), one(*of_each(inverse, r, "pinv"))
    product = torch.matmul(all_reduce_gradient(left._larray, x._comm), right._larray)
    return DNDarray(product, right._layout, x._comm)


def lstsq(x1: DNDarray, x2: DNDarray, /, *, rtol: Tolerance = None) -> LstsqResult:
    """The `x` for which `x1 @ x - x2` is least, and of these the least, by sums of squares.

    `x2` is one vector for all matrices if it is 1-d, and else stacks of columns; leading axes broadcast. dtypes
    are promoted. Singular values up to `rtol` times the largest count as zero, as in `matrix_rank`. The residuals
    are the sums of squares that are left, also where they are zero.

    Collective, with the messages of `qr` of `x1`, of products of its factors by `x2`, and of the residuals. The
    solution is replicated for tall matrices cut along their rows, and split along its rows for wide ones cut along
    their columns. Raises ValueError for shapes that do not fit, and what `matrix_rank` does.

    >>> import minisplit as ms
    >>> x = ms.linalg.lstsq(ms.ones((4, 1), split=0), ms.arange(4.0, split=0))
    >>> round(x.solution.item(), 4), round(x.residuals.item(), 4)
    (1.5, 5.0)
    """
    x1, x2, is_vector = _system(x1, x2, "lstsq")
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    x1, x2 = x1.astype(dtype, copy=False), x2.astype(dtype, copy=False)
    limit = _default_tolerance(x1) if rtol is None else rtol
    is_tall = x1.shape[-2] >= x1.shape[-1]
    q, r = qr(x1 if is_tall else adjoint(x1))
    inverse = pinv(r, rtol=limit)
    left, right = (inverse, adjoint(q)) if is_tall else (q, adjoint(inverse))
    solution = matmul(left, matmul(right, x2))
    residuals = sum_of(square(magnitude(subtract(x2, matmul(x1, solution)))), axis=-2)
    rank, values = matrix_rank(r, rtol=limit), svdvals(r)
    if is_vector:
        solution, residuals = solution[..., 0], residuals[..., 0]
    return LstsqResult(solution, residuals, rank, values)


def _system(x1: DNDarray, x2: DNDarray, name: str, *, square: bool = False) -> tuple[DNDarray, DNDarray, bool]:
    """The operands, the second with columns, and whether it is a vector; ValueError unless they fit."""
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


def _default_tolerance(x: DNDarray) -> float:
    return max(x.shape[-2:]) * torch.finfo(x.dtype).eps
