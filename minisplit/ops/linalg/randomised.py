"""The greatest singular values of matrices that no rank could hold, by random projections."""

from __future__ import annotations

from minisplit.core.array import DNDarray
from minisplit.core.layout import Layout, as_count, as_index
from minisplit.core.random.distributions import randn
from minisplit.core.random.generator import Generator
from minisplit.ops.linalg.batched import as_matrices
from minisplit.ops.linalg.decompositions import SVDResult, adjoint, qr, svd
from minisplit.ops.linalg.products import matmul


def rsvd(
    x: DNDarray,
    rank: int,
    /,
    *,
    n_oversamples: int = 10,
    power_iter: int = 2,
    generator: Generator | None = None,
) -> SVDResult:
    """Return the greatest singular values of a matrix, and their vectors, by random projections.

    Parameters
    ----------
    x : DNDarray
        The matrix, of shape (m, n).
    rank : int
        How many singular values, from 1 to min(m, n).
    n_oversamples : int, default 10
        So many more columns the projection has. More are slower and more exact.
    power_iter : int, default 2
        How often the projection is multiplied by `x` and its adjoint. It needs more where the singular values fall
        slowly, and none where those that are left out are small.
    generator : Generator, optional
        What draws the projection. By default that of the program.

    Returns
    -------
    SVDResult
        The fields `U`, `S` and `Vh`, of shapes (m, rank), (rank,) and (rank, n). U is split along its rows if `x`
        is, and Vh along its columns if `x` is. The others are replicated. Signs of the vectors are LAPACK's.

    Raises
    ------
    ValueError
        If `x` is no matrix, `rank` is out of range, or the other numbers are negative.
    TypeError
        If the dtype is not a floating point or complex one of at least 32 bits, or a number is not an int.
    torch.linalg.LinAlgError
        If singular values are not found, as for NaN and infinities. It is raised on every rank.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective, with `k = rank + n_oversamples`: an exchange of `k * k`
    numbers of each rank for each QR decomposition of split vectors, and one or two messages for each of the
    `2 + 2 * power_iter` products of `x` by `k` vectors. The matrix stays where it is.

    See Also
    --------
    minisplit.linalg.svd : All of them, exact.

    Notes
    -----
    The method is the randomised range finder with power iterations; it makes the bases orthonormal at each step
    (Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011, algorithms 4.4 and
    5.1). The expected error is near the first singular value that is left out, and nearer with each power
    iteration. The same seed gives the same projection for any layout and number of ranks.

    Examples
    --------
    >>> import minisplit as ms
    >>> x = ms.arange(100.0, split=0)[:, None] * ms.ones((1, 50))
    >>> u, s, vh = ms.linalg.rsvd(x, 1)
    >>> u.split, vh.split, ms.allclose(u * s @ vh, x, rtol=1e-4)
    (0, None, True)
    """
    x = as_matrices(x, "rsvd")
    if x.ndim != 2:
        raise ValueError(f"rsvd needs one matrix, got x of shape {x.shape}")
    if not 1 <= as_index(rank, "rank") <= min(x.shape):
        raise ValueError(f"rank of rsvd must be from 1 to {min(x.shape)}, the least extent of x, got {rank}")
    more, steps = as_count(n_oversamples, "n_oversamples"), as_count(power_iter, "power_iter")
    width = min(as_index(rank, "rank") + more, *x.shape)
    split = 0 if x.split == 1 else None
    projection = randn(
        x.shape[1], width, split=split, dtype=x.dtype, device=x.device, comm=x._comm, generator=generator
    )
    left = _tall_orthonormal(x, projection.to_layout(_tall_layout(x, 1, width)))
    for _ in range(steps):
        left = _tall_orthonormal(x, _tall_orthonormal(adjoint(x), left))
    # Vh is the adjoint of a tall factor too.
    v, s, uh = svd(matmul(adjoint(x), left)._align(_tall_layout(x, 1, width)), full_matrices=False)
    u = matmul(left, adjoint(uh))._align(left._layout)
    return SVDResult(u[:, :rank], s[:rank], adjoint(v)[:rank])


def _tall_layout(x: DNDarray, axis: int, width: int) -> Layout:
    """The layout of `width` vectors along an axis of `x`, which are split as that axis is."""
    if x.split != axis:
        return Layout((x.shape[axis], width), None, x._comm.size)
    return Layout((x.shape[axis], width), 0, x._comm.size, x._layout.ragged)


def _tall_orthonormal(x: DNDarray, vectors: DNDarray) -> DNDarray:
    """Return an orthonormal basis of the span of `x @ vectors`."""
    product = matmul(x, vectors)
    return qr(product._align(_tall_layout(x, 0, product.shape[1]))).Q
