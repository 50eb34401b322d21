"""Functions of square matrices: determinants, powers, exponentials."""

from __future__ import annotations

from functools import reduce
from operator import matmul
from typing import NamedTuple

import torch

from minisplit.core.array import DNDarray
from minisplit.core.layout import as_index
from minisplit.ops.linalg.batched import apply_to_matrices, as_matrices
from minisplit.ops.linalg.solvers import inv
from minisplit.ops.linalg.split_matrix import one_matrix
from minisplit.ops.linalg.split_matrix.exponential import exponential
from minisplit.ops.reductions.reduce import accumulation_dtype, check_inexact
from minisplit.ops.shape.axes import of_matrices
from minisplit.ops.shape.diagonal import local_offset
from minisplit.ops.shape.layouts import without_axis
from minisplit.ops.shape.reshape import without_aliasing


class SlogdetResult(NamedTuple):
    """The sign and logarithm of determinants: each determinant is `sign * exp(logabsdet)`.

    Attributes
    ----------
    sign : DNDarray
        The signs, of absolute value 1 for complex numbers, or 0.
    logabsdet : DNDarray
        The logarithms of the absolute values, which are real.
    """

    sign: DNDarray
    logabsdet: DNDarray


def det(x: DNDarray, /) -> DNDarray:
    """Return the determinants of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    DNDarray
        The determinants, of shape (...). Split along the batch axis along which `x` is split. If matrices are
        split, the result is split along the longest batch axis, or replicated if that has no index for every rank.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.

    Communication
    -------------
    Local where the matrices are whole. Otherwise collective: one exchange, which gives each rank whole matrices.
    One split matrix of 512 rows or more is not gathered: one broadcast for each 128 columns, and one exchange if
    rows are split.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.det(ms.eye(2, split=0)).item()
    1.0
    """
    x = as_matrices(x, "det", square=True)
    if one_matrix.is_large(x):
        return one_matrix.determinant(x)
    return apply_to_matrices(torch.linalg.det, x, "det", may_fail=False)[0]


def slogdet(x: DNDarray, /) -> SlogdetResult:
    """Return the signs, and logarithms of the absolute values, of the determinants of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    SlogdetResult
        The fields `sign` and `logabsdet`, each of shape (...). Split as the result of `minisplit.linalg.det`.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.

    Communication
    -------------
    Local where the matrices are whole. Otherwise collective: one exchange, which gives each rank whole matrices.
    One split matrix of 512 rows or more is not gathered: one broadcast for each 128 columns, and one exchange if
    rows are split.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.slogdet(ms.eye(2, split=0)).logabsdet.item()
    0.0
    """
    x = as_matrices(x, "slogdet", square=True)
    if one_matrix.is_large(x):
        return SlogdetResult(*one_matrix.slogdet(x))
    return SlogdetResult(*apply_to_matrices(torch.linalg.slogdet, x, "slogdet", may_fail=False))


def matrix_exp(x: DNDarray, /) -> DNDarray:
    """Return the exponentials of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., n, n).

    Returns
    -------
    DNDarray
        The exponentials, of the shape of `x`. Split as `x` where the matrices are whole, or are too few to give
        each rank whole ones. Otherwise split along the longest batch axis.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits.

    Communication
    -------------
    Local where the matrices are whole. Otherwise collective: one exchange, which gives each rank whole matrices.
    One split matrix of 512 rows or more is not gathered: the messages of up to six calls of `minisplit.matmul`, of
    one more for each time that its norm is halved, and of `minisplit.linalg.solve`.

    Notes
    -----
    A large split matrix is scaled, a Pade approximant is taken, and squared again (Higham, "The scaling and
    squaring method for the matrix exponential revisited", 2005).

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.matrix_exp(ms.zeros((2, 2), split=0)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    x = as_matrices(x, "matrix_exp", square=True)
    if one_matrix.is_large(x):
        return exponential(x)
    return apply_to_matrices(torch.linalg.matrix_exp, x, "matrix_exp", may_fail=False)[0]


def matrix_power(x: DNDarray, /, n: int) -> DNDarray:
    """Return powers of square matrices.

    Parameters
    ----------
    x : DNDarray
        The matrices, of shape (..., m, m).
    n : int
        The exponent. 0 gives identities, a negative one powers of the inverses.

    Returns
    -------
    DNDarray
        The powers, of the shape and dtype of `x`. Split as `x` if that is split along a batch axis, replicated if
        `x` is replicated. Otherwise split as the products of `minisplit.matmul` are.

    Raises
    ------
    ValueError
        If the last two axes are not square matrices.
    TypeError
        If `n` is not an int, or is negative and the dtype is not a floating point or complex one.
    torch.linalg.LinAlgError
        If `n` is negative and a matrix is singular.

    Communication
    -------------
    Local where the matrices are whole. Otherwise collective: the messages of some calls of `minisplit.matmul`,
    two for each binary digit of `n` at most. A negative power has those of `minisplit.linalg.inv` before these.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.linalg.matrix_power(ms.array([[1, 1], [0, 1]], split=0), 5).tolist()
    [[1, 5], [0, 1]]
    """
    x, n = of_matrices(x), as_index(n, "n")
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power needs square matrices, got shape {x.shape}")
    # Powers of halves are computed in float32 and rounded once.
    wide = accumulation_dtype(x.dtype)
    if n == 0:
        identity = torch.zeros_like(x.larray)
        identity.diagonal(local_offset(x, 0), -2, -1).fill_(1)
        return DNDarray(identity, x.layout, x.comm)
    if n < 0:
        check_inexact(x.dtype, "a negative matrix_power")
        return matrix_power(inv(x.astype(wide)), -n).astype(x.dtype)
    if without_axis(x.layout, x.ndim - 2, x.ndim - 1) == x.layout:
        return DNDarray(torch.linalg.matrix_power(x.larray.to(wide), n).to(x.dtype), x.layout, x.comm)
    # Split matrices are squared where they are. The power is the product of the squares that n is the sum of.
    squares = [x]
    while 2 ** len(squares) <= n:
        squares.append(squares[-1] @ squares[-1])
    return without_aliasing(reduce(matmul, [square for bit, square in enumerate(squares) if n >> bit & 1]), x)
