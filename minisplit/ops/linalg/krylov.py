"""Krylov methods: linear systems and eigenvalues of matrices that are known by their products by vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import torch

from minisplit.core.array import DNDarray, as_dndarray, replicated
from minisplit.core.collectives import Gradients, Tensors, apply
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout, as_count, as_index
from minisplit.core.random.distributions import randn
from minisplit.core.random.generator import Generator
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.linalg.batched import as_matrices, check_precision
from minisplit.ops.linalg.products import matmul, outer
from minisplit.ops.linalg.split_matrix.one_matrix import Factorisation

# A matrix, or what it makes of a vector.
Operator = DNDarray | Callable[[DNDarray], DNDarray]
# A vector of Lanczos' method, orthogonalised twice, is zero below so many times the rounding error of its length.
_ROUNDING = 100


class LanczosResult(NamedTuple):
    """A basis of a Krylov space, and the matrix in that basis.

    Attributes
    ----------
    V : DNDarray
        The k orthonormal vectors, which are the columns.
    T : DNDarray
        The tridiagonal matrix `V^H @ A @ V`, real, of shape (k, k).
    """

    V: DNDarray
    T: DNDarray


def cg(
    A: Operator,  # noqa: N803 - SciPy's names
    b: DNDarray,
    x0: DNDarray | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Operator | None = None,  # noqa: N803
    callback: Callable[[DNDarray], object] | None = None,
) -> tuple[DNDarray, int]:
    """Solve `A @ x = b` by conjugate gradients. It is `scipy.sparse.linalg.cg`.

    Parameters
    ----------
    A : DNDarray or callable
        The matrix, symmetric or Hermitian and positive definite. Or a function of an array that returns its
        product by that, of the same shape and dtype, such as a stencil by `map_halo`. Every rank calls it.
    b : DNDarray
        The right-hand side: a vector, or for a function an array of any shape.
    x0 : DNDarray, optional
        Where to begin. By default zeros.
    rtol, atol : float, default 1e-5 and 0.0
        The steps end where the norm of `b - A @ x` is at most `max(rtol * norm(b), atol)`.
    maxiter : int, optional
        The most steps. By default ten for each element of `b`.
    M : DNDarray or callable, optional
        The preconditioner, positive definite: about the inverse of `A`, as a matrix or a function.
    callback : callable, optional
        What to call with `x` after each step, on every rank.

    Returns
    -------
    tuple of DNDarray and int
        The solution, in the layout of `b`; and 0, or `maxiter` if that many steps were not enough. All ranks take
        as many steps.

    Raises
    ------
    ValueError
        If the shapes do not fit, a function changes the shape, or the arrays are on different communicators.
    TypeError
        If a dtype is not a floating point or complex one of at least 32 bits, or a function changes it.
    torch.linalg.LinAlgError
        If `A` or `M` turns out not to be positive definite, or not finite. It is raised on every rank.

    Communication
    -------------
    Local for replicated operands. Otherwise collective: two allreduces of two numbers for each step, the messages
    of the products by `A` and by `M`, and one exchange if `x0` is in another layout than `b`.

    Notes
    -----
    The method of Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems" (1952).
    Gradients flow to `b` and to a matrix `A`, but not to tensors that a function refers to. They are the gradients
    of the solution, found by another call, and no step is kept for them.

    Examples
    --------
    >>> import minisplit as ms
    >>> x, info = ms.linalg.cg(ms.array([[4.0, 1.0], [1.0, 3.0]], split=0), ms.array([1.0, 2.0], split=0))
    >>> info, [round(each, 4) for each in x.tolist()]
    (0, [0.0909, 0.6364])
    """
    given = [x for x in (A, as_dndarray(b, "b"), x0, M) if isinstance(x, DNDarray)]
    check_one_communicator(given)
    dtype = reduce(torch.promote_types, [x.dtype for x in given])
    check_precision(dtype, "cg")
    b = b.astype(dtype, copy=False)
    if x0 is not None and x0.shape != b.shape:
        raise ValueError(f"cg needs an x0 of the shape of b, {b.shape}, got {x0.shape}")
    steps = 10 * b.size if maxiter is None else as_count(maxiter, "maxiter")
    begin = None if x0 is None else x0.detach().astype(dtype, copy=False)._align(b._layout)
    info = [0]

    def solve(operator: Operator, right: DNDarray) -> DNDarray:
        found, info[0] = _steps(operator, right, begin, rtol, atol, steps, M, callback)
        return found

    def again(operator: Operator, right: DNDarray) -> DNDarray:
        return _steps(operator, right, None, rtol, 0, steps, M, None)[0]

    function, matrix = (None, A.astype(dtype, copy=False)) if isinstance(A, DNDarray) else (A, None)
    tensors = [b._larray] if matrix is None else [b._larray, matrix._larray]
    _operator(A, b, "cg")  # checks it, before autograd has a part in errors
    solution = _Solution(b._comm, b._layout, None if matrix is None else matrix._layout, function, solve, again)
    return DNDarray(apply(solution, *tensors)[0], b._layout, b._comm), info[0]


def _steps(
    A: Operator,  # noqa: N803
    b: DNDarray,
    begin: DNDarray | None,
    rtol: float,
    atol: float,
    steps: int,
    M: Operator | None,  # noqa: N803
    callback: Callable[[DNDarray], object] | None,
) -> tuple[DNDarray, int]:
    """The solution, and 0 or how many steps did not suffice. All is constant for autograd."""
    times, precondition = _operator(A, b, "cg"), None if M is None else _operator(M, b, "cg")
    x = b * 0 if begin is None else begin
    residual = b if begin is None else b - times(x)
    limit = max(rtol * math.sqrt(_products((b, b))[0].item()), atol)
    direction, last = b, b
    for step in range(steps + 1):
        preconditioned = residual if precondition is None else precondition(residual)
        square, slope = _products((residual, residual), (residual, preconditioned))
        if math.sqrt(square.item()) <= limit:
            return x, 0
        if step == steps:
            break
        _check_positive(slope, "M", step)
        direction = direction * (slope / last) + preconditioned if step else preconditioned
        product = times(direction)
        curvature = _products((direction, product))[0]
        _check_positive(curvature, "A", step)
        x, residual, last = x + direction * (slope / curvature), residual - product * (slope / curvature), slope
        if callback is not None:
            callback(x)
    return x, steps


@dataclass(frozen=True, slots=True)
class _Solution(Factorisation):
    """The solution for a right-hand side, and for a matrix if the operator is one."""

    comm: Communication
    layout: Layout
    matrix: Layout | None
    function: Operator | None
    solve: Callable[[Operator, DNDarray], DNDarray]
    again: Callable[[Operator, DNDarray], DNDarray]

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        # The function may take derivatives itself.
        with torch.enable_grad():
            return [self.solve(self._operator(tensors), self._array(tensors[0].detach()))._larray]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return (*inputs[1:], *outputs)

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        by_b = self._array(apply(replace(self, solve=self.again), gradients[0], *kept[:-1])[0])
        if self.matrix is None:
            return [by_b._larray]
        x = self._array(kept[-1])
        by_a = -outer(by_b, x.conj())._align(self.matrix)._larray if wanted[1] else None
        return [by_b._larray, by_a]

    def tangent(self, kept: Tensors, tangents: Tensors) -> Gradients:
        right = self._array(tangents[0])
        if self.matrix is not None:
            change = DNDarray(tangents[1], self.matrix, self.comm)
            right = right - matmul(change, self._array(kept[-1]))._align(self.layout)
        return apply(replace(self, solve=self.again), right._larray, *kept[:-1])

    def _operator(self, tensors: Tensors) -> Operator:
        if self.matrix is None:
            assert self.function is not None
            return self.function
        return DNDarray(tensors[1].detach(), self.matrix, self.comm)

    def _array(self, x: torch.Tensor) -> DNDarray:
        return DNDarray(x, self.layout, self.comm)


def _check_positive(square: DNDarray, name: str, step: int) -> None:
    if not (value := square.item()) > 0:
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            f"cg needs positive definite {name} and finite numbers, but x^H @ {name} @ x is {value} at step {step}"
        )


def _products(*pairs: tuple[DNDarray, DNDarray]) -> list[DNDarray]:
    """The real parts of the inner products of arrays of one layout. Where they are split: one allreduce.

    Those of a Hermitian matrix have no others.
    """
    comm, split = pairs[0][0]._comm, pairs[0][0]._layout.split
    own = torch.stack([(x._larray.conj() * y._larray).sum().real for x, y in pairs])
    sums = own if split is None else comm.allreduce(own)
    return [replicated(each, comm) for each in sums.unbind()]


def _operator(operator: Operator, like: DNDarray, name: str) -> Callable[[DNDarray], DNDarray]:
    """Return the product by a matrix, or by what a function stands for, in the layout of its argument."""
    if isinstance(operator, DNDarray):
        matrix = as_matrices(operator, name, "a matrix", square=True)
        if matrix.shape != 2 * like.shape:
            raise ValueError(
                f"{name} needs a matrix and a vector that fit, got shapes {matrix.shape} and {like.shape}"
            )
        return lambda x: matmul(matrix.detach(), x)._align(x._layout)
    if not callable(operator):
        raise TypeError(f"{name} needs a DNDarray or a function, got {short_repr(operator)}")

    def call(x: DNDarray) -> DNDarray:
        y = as_dndarray(operator(x), f"the result of the function of {name}")
        check_one_communicator([x, y])
        if y.shape != x.shape:
            raise ValueError(f"the function of {name} must keep the shape {x.shape}, but returned {y.shape}")
        if y.dtype != x.dtype:
            raise TypeError(f"the function of {name} must keep the dtype {x.dtype}, but returned {y.dtype}")
        return y.detach()._align(x._layout)

    return call


def lanczos(
    A: Operator,  # noqa: N803 - SciPy's and Heat's name
    k: int,
    v0: DNDarray | None = None,
    *,
    generator: Generator | None = None,
) -> LanczosResult:
    """Return an orthonormal basis in which a symmetric or Hermitian matrix is tridiagonal, by Lanczos' method.

    The eigenvalues of the small matrix are near the greatest and the least ones of the large one.

    Parameters
    ----------
    A : DNDarray or callable
        The matrix, symmetric or Hermitian, of shape (n, n). Or a function of a vector that returns its product by
        that, of the same shape and dtype. Every rank calls it.
    k : int
        How many vectors, from 1 to n.
    v0 : DNDarray, optional
        The direction of the first vector. By default a random one. A function needs one.
    generator : Generator, optional
        What draws a first vector, and one more wherever the vectors before span all that `A` makes of them. By
        default that of the program.

    Returns
    -------
    LanczosResult
        The fields `V`, of shape (n, k), split along its rows if `v0`, or else `A`, is split, and `T`, real,
        replicated, of shape (k, k). Both are constants for autograd.

    Raises
    ------
    ValueError
        If the shapes do not fit, `k` is out of range, `v0` is zero or missing, or the arrays are on different
        communicators.
    TypeError
        If a dtype is not a floating point or complex one of at least 32 bits, or a function changes it.

    Communication
    -------------
    Local for replicated operands. Otherwise collective: for each vector three allreduces of k numbers at most, and
    the messages of one product by `A`.

    See Also
    --------
    linalg.rsvd : The greatest singular values by random projections.

    Notes
    -----
    Each vector is made orthogonal to all before, twice (Golub and Van Loan, "Matrix Computations", 2013, section
    10.3; Parlett, "The Symmetric Eigenvalue Problem", 1998): without that the vectors lose their orthogonality
    where eigenvalues are found. The same seed gives the same first vector for any layout and number of ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> V, T = ms.linalg.lanczos(ms.diag(ms.arange(50.0, split=0)), 20, ms.ones(50, split=0))
    >>> V.shape, V.split, round(ms.linalg.eigvalsh(T)[-1].item(), 1)
    ((50, 20), 0, 49.0)
    """
    if v0 is None and not isinstance(A, DNDarray):
        raise ValueError("lanczos of a function needs a v0, which says on which vectors it works")
    given = [as_dndarray(x).detach() for x in (A, v0) if isinstance(x, DNDarray)]
    check_one_communicator(given)
    like = given[-1]
    dtype = reduce(torch.promote_types, [x.dtype for x in given])
    check_precision(dtype, "lanczos")
    n, comm = like.shape[0] if like.ndim else 0, like._comm
    if v0 is not None and like.ndim != 1:
        raise ValueError(f"lanczos begins with a vector, got a v0 of shape {like.shape}")
    if not 1 <= as_index(k, "k") <= n:
        raise ValueError(f"k of lanczos must be from 1 to {n}, the extent of a vector, got {k}")
    layout = Layout((n,), None if like.split is None else 0, comm.size, like._layout.ragged)

    def drawn() -> DNDarray:
        found = randn(n, split=layout.split, dtype=dtype, device=like.device, comm=comm, generator=generator)
        return found.to_layout(layout)

    start = drawn() if v0 is None else like.astype(dtype, copy=False)
    times = _operator(A, start, "lanczos")
    basis = start._larray.new_zeros((len(start._larray), k))
    matrix = torch.zeros((k, k), dtype=dtype.to_real(), device=like.device)

    def rest_of(vector: torch.Tensor, before: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        """The part of a vector that is orthogonal to those before, its products by these, and its norm."""
        total = vector.new_zeros(before)
        for _ in range(2):
            products = basis[:, :before].mH @ vector
            products = products if layout.split is None else comm.allreduce(products)
            vector, total = vector - basis[:, :before] @ products, total + products
        return vector, total, _norm(vector)

    def _norm(vector: torch.Tensor) -> float:
        array = DNDarray(vector, layout, comm)
        return math.sqrt(_products((array, array))[0].item())

    vector, norm = start._larray, _norm(start._larray)
    if not norm > 0:
        raise ValueError(f"lanczos needs a v0 other than zero and of finite numbers, got one of norm {norm}")
    for place in range(k):
        basis[:, place] = vector / norm
        product = times(DNDarray(basis[:, place].clone(), layout, comm))._larray
        vector, products, norm = rest_of(product, place + 1)
        matrix[place, place] = products[place].real
        if place + 1 == k:
            break
        length = math.hypot(float(products.norm()), norm)
        if norm > _ROUNDING * torch.finfo(dtype).eps * length:
            matrix[place, place + 1] = matrix[place + 1, place] = norm
        else:  # what A makes of the vectors so far is in their span: one from outside goes on
            vector, _, norm = rest_of(drawn()._larray, place + 1)
    rows = Layout((n, k), layout.split, comm.size, layout.ragged)
    return LanczosResult(DNDarray(basis, rows, comm), replicated(matrix, comm))
