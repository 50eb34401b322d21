"""Covariances and correlations of variables, from products of their deviations."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.ops.data_types import astype
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.elementwise.arithmetic import divide, multiply, subtract
from minisplit.ops.elementwise.exponentials import sqrt
from minisplit.ops.elementwise.floating import conj, real
from minisplit.ops.elementwise.selection import clip
from minisplit.ops.linalg.products import inner
from minisplit.ops.reductions.functions import mean
from minisplit.ops.reductions.functions import sum as sum_of
from minisplit.ops.shape.diagonal import diagonal
from minisplit.ops.shape.join import concat
from minisplit.ops.shape.manipulation import squeeze, transpose
from minisplit.ops.shape.reshape import insert_axes


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
    """The covariances of variables, which are the rows of `m`, or with `rowvar=False` its columns.

    y: more variables. fweights, aweights: how often each observation counts, and its weight, 1-d arrays.

    The sum of products of deviations is divided by the number of observations minus `ddof`: by default 1, and 0
    with `bias`. A 1-d `m` is one variable, whose result is 0-d.

    Collective for split arrays: the result is replicated where the observations are cut, by two messages (means
    and products), and else split as the variables, whose deviations are gathered. Weights take more. Raises
    ValueError for more than two dimensions, other numbers of observations, and arrays on different communicators.

    >>> import minisplit as ms
    >>> ms.cov(ms.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], split=1)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = _variables(m, rowvar, "m")
    if y is not None:
        more = _variables(y, rowvar, "y")
        if more.shape[1] != x.shape[1]:
            raise ValueError(f"m and y must have as many observations each, got {x.shape[1]} and {more.shape[1]}")
        x = concat([x, more])
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = _weights(x, fweights, aweights)
    if weights is None:
        deviations = subtract(x, mean(x, 1, keepdims=True))
        products, freedom = inner(deviations, conj(deviations)), float(max(x.shape[1] - ddof, 0))
        return squeeze(divide(products, freedom))
    amount = sum_of(weights)
    deviations = subtract(x, divide(sum_of(multiply(x, weights), 1, keepdims=True), amount))
    products = inner(multiply(deviations, weights), conj(deviations))
    uneven = amount if aweights is None else divide(sum_of(multiply(weights, aweights)), amount)
    freedom_of = subtract(amount, ddof if aweights is None else multiply(uneven, ddof))
    return squeeze(divide(products, clip(freedom_of, 0)))


def corrcoef(x: DNDarray, /, y: DNDarray | None = None, rowvar: bool = True) -> DNDarray:
    """The correlations of variables: their covariances, divided by the roots of their variances; from -1 to 1.

    Collective for split arrays: `y`, `rowvar`, layout, messages and errors are those of `cov`.

    >>> import minisplit as ms
    >>> ms.corrcoef(ms.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], split=1)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    found = cov(x, y, rowvar)
    if not found.ndim:
        return divide(found, found)
    root = sqrt(real(diagonal(found)))
    scaled = divide(divide(found, root[:, None]), root)
    if not scaled.dtype.is_complex:
        return clip(scaled, -1.0, 1.0)
    parts = torch.view_as_real(scaled.larray.resolve_conj()).clamp(-1, 1)
    return DNDarray(torch.view_as_complex(parts), scaled.layout, scaled.comm)


def _variables(x: DNDarray, rowvar: bool, name: str) -> DNDarray:
    """A matrix of floats whose rows are variables."""
    if as_dndarray(x, name).ndim > 2:
        raise ValueError(f"{name} must have 1 or 2 dimensions, got shape {x.shape}")
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        x = astype(x, torch.get_default_dtype())
    x, is_matrix = insert_axes(x, range(2 - x.ndim)), x.ndim == 2
    return x if rowvar or not is_matrix else transpose(x)


def _weights(x: DNDarray, fweights: DNDarray | None, aweights: DNDarray | None) -> DNDarray | None:
    """The weights of observations together, in the dtype of the variables."""
    given = {"fweights": fweights, "aweights": aweights}
    found: DNDarray | None = None
    for name, weights in given.items():
        if weights is None:
            continue
        if as_dndarray(weights, name).shape != x.shape[1:]:
            raise ValueError(
                f"{name} must be 1-d, one for each of {x.shape[1]} observations, got shape {weights.shape}"
            )
        check_one_communicator([x, weights])
        found = weights if found is None else multiply(found, weights)
    return found
