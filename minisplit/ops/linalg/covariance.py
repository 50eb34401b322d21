"""Covariances and correlations of variables, from products of their deviations."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.elementwise.exponentials import sqrt
from minisplit.ops.elementwise.floating import conj, real
from minisplit.ops.elementwise.selection import clip
from minisplit.ops.linalg.products import inner
from minisplit.ops.shape.axes import insert_axes
from minisplit.ops.shape.diagonal import diagonal
from minisplit.ops.shape.join import concat


def cov(
    m: DNDarray,
    /,
    y: DNDarray | None = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: DNDarray | None = None,
    aweights: DNDarray | None = None,
) -> DNDarray:
    """Return the covariances of variables, as NumPy's `cov`.

    Parameters
    ----------
    m : DNDarray
        Observations of variables, 2-d. A 1-d array has those of one variable.
    y : DNDarray, optional
        More variables, with as many observations.
    rowvar : bool, default True
        Whether the rows are the variables, rather than the columns.
    bias : bool, default False
        Whether `ddof` is 0 by default, rather than 1.
    ddof : int, optional
        Sums of products of deviations are divided by the number of observations minus `ddof`.
    fweights : DNDarray, optional
        How often each observation counts, a 1-d array.
    aweights : DNDarray, optional
        The weight of each observation, a 1-d array.

    Returns
    -------
    DNDarray
        The covariances: a matrix with a row and a column for each variable, or a 0-d array for one variable.
        Replicated where the observations are split. Split along the rows where the variables are.

    Raises
    ------
    ValueError
        If there are more than two dimensions or other numbers of observations, or the arrays are on different
        communicators.
    TypeError
        If one is not a DNDarray.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: two allreduces, of means and of products, if the
    observations are split; one exchange, which gathers the deviations, if the variables are split. A second array
    and weights take more messages.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.cov(ms.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], split=1)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = _as_variables(m, rowvar, "m")
    if y is not None:
        more = _as_variables(y, rowvar, "y")
        if more.shape[1] != x.shape[1]:
            raise ValueError(
                f"m and y must have the same number of observations, got {x.shape[1]} and {more.shape[1]}"
            )
        x = concat([x, more])
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = _combine_weights(x, fweights, aweights)
    if weights is None:
        # Deviations first: the difference of the mean of squares and the square of the mean loses digits.
        deviations = x - x.mean(1, keepdims=True)
        return (inner(deviations, conj(deviations)) / float(max(x.shape[1] - ddof, 0))).squeeze()
    amount = weights.sum()
    deviations = x - (x * weights).sum(1, keepdims=True) / amount
    products = inner(deviations * weights, conj(deviations))
    # NumPy's rule for weights that are no counts.
    lost = ddof if aweights is None else (weights * aweights).sum() / amount * ddof
    return (products / clip(amount - lost, 0)).squeeze()


def corrcoef(x: DNDarray, /, y: DNDarray | None = None, rowvar: bool = True) -> DNDarray:
    """Return the correlations of variables: covariances divided by the roots of the variances.

    Parameters
    ----------
    x : DNDarray
        Observations of variables, 2-d. A 1-d array has those of one variable.
    y : DNDarray, optional
        More variables, with as many observations.
    rowvar : bool, default True
        Whether the rows are the variables, rather than the columns.

    Returns
    -------
    DNDarray
        The correlations, from -1 to 1. Shape and split are those of `minisplit.cov`.

    Raises
    ------
    ValueError
        If there are more than two dimensions or other numbers of observations, or the arrays are on different
        communicators.
    TypeError
        If one is not a DNDarray.

    Communication
    -------------
    Local for replicated arrays. Otherwise collective: the messages of `minisplit.cov`, and one exchange of the
    variances where the variables are split.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.corrcoef(ms.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], split=1)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    covariances = cov(x, y, rowvar)
    if not covariances.ndim:
        return covariances / covariances
    root = sqrt(real(diagonal(covariances)))
    scaled = covariances / root[:, None] / root
    # Rounding may leave more than 1.
    if not scaled.dtype.is_complex:
        return clip(scaled, -1.0, 1.0)
    parts = torch.view_as_real(scaled.larray.resolve_conj()).clamp(-1, 1)
    return DNDarray(torch.view_as_complex(parts), scaled.layout, scaled.comm)


def _as_variables(x: DNDarray, rowvar: bool, name: str) -> DNDarray:
    """Return `x` as a matrix of floating point or complex numbers whose rows are variables."""
    if as_dndarray(x, name).ndim > 2:
        raise ValueError(f"{name} must have 1 or 2 dimensions, got shape {x.shape}")
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        x = x.astype(torch.float64)
    x, is_matrix = insert_axes(x, range(2 - x.ndim)), x.ndim == 2
    return x if rowvar or not is_matrix else x.T


def _combine_weights(x: DNDarray, fweights: DNDarray | None, aweights: DNDarray | None) -> DNDarray | None:
    """Return the product of both weights of each observation, or None where there are none."""
    combined: DNDarray | None = None
    for name, weights in {"fweights": fweights, "aweights": aweights}.items():
        if weights is None:
            continue
        if as_dndarray(weights, name).shape != x.shape[1:]:
            raise ValueError(
                f"{name} must be 1-d, one for each of {x.shape[1]} observations, got shape {weights.shape}"
            )
        check_one_communicator([x, weights])
        combined = weights if combined is None else combined * weights
    return combined
