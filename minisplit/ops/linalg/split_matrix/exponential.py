"""The exponential of one large split matrix, by products and a linear system; no rank gathers it.

Scaling and squaring with diagonal Pade approximants (N. J. Higham, "The scaling and squaring method for the matrix
exponential revisited", SIAM J. Matrix Anal. Appl. 26, 2005, algorithm 2.3). Gradients flow through the operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from minisplit.core.array import DNDarray
from minisplit.core.pytorch.transforms import is_followed
from minisplit.ops.linalg.products import matmul
from minisplit.ops.linalg.split_matrix import one_matrix

# By degree the coefficients of the numerator, from that of the identity on. The denominator is that of -x.
PADE: dict[int, tuple[float, ...]] = {
    3: (120, 60, 12, 1),
    5: (30240, 15120, 3360, 420, 30, 1),
    7: (17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1),
    9: (17643225600, 8821612800, 2075673600, 302702400, 30270240, 2162160, 110880, 3960, 90, 1),
    13: (
        64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
        670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
    ),
}  # fmt: skip
# Up to which 1-norm the approximant of a degree is exact to the precision: the table 2.3 of Higham's paper.
LIMITS: dict[torch.dtype, dict[int, float]] = {
    torch.float64: {3: 1.495585e-2, 5: 2.539398e-1, 7: 9.504178e-1, 9: 2.097847, 13: 5.371920},
    torch.float32: {3: 4.258730e-1, 5: 1.880152, 7: 3.925724},
}


def exponential(x: DNDarray) -> DNDarray:
    """Return the exponential of a large matrix, split as `x`. Collective."""
    if x.split == 0:  # the adjoint of the exponential is that of the adjoint
        return one_matrix.adjoint_view(exponential(one_matrix.adjoint_view(x)))
    # Each rank has whole columns, so the norm is a maximum over the ranks, which all know alike.
    sums = torch.linalg.vector_norm(x._larray.detach(), 1, dim=0)
    norm = float(x._comm.allreduce(sums.max() if sums.numel() else sums.new_zeros(()), "max"))
    if not math.isfinite(norm):
        return x + math.nan
    limits = LIMITS[x.dtype.to_real()]
    degree = next((each for each, limit in limits.items() if norm <= limit), max(limits))
    halvings = max(0, math.ceil(math.log2(norm / limits[degree]))) if norm else 0
    result = _pade(x, degree, 2.0**-halvings)
    for _ in range(halvings):
        result = _product(result, result)
    return result


def _product(left: DNDarray, right: DNDarray) -> DNDarray:
    return matmul(left, right)._align(right._layout)


def _pade(x: DNDarray, degree: int, scale: float) -> DNDarray:
    """The approximant for `scale * x`: a numerator of even and odd powers, and a denominator of their difference.

    There are five matrices at most at a time. What is overwritten autograd does not need.
    """
    square = _product(x, x)
    square._larray.mul_(scale**2)
    powers = [square]
    while len(powers) < (3 if degree == 13 else (degree - 1) // 2):
        powers.append(_product(powers[-1], square))
    del square
    even = _polynomial(powers, PADE[degree][::2])
    odd = _product(x, _polynomial(powers, [each * scale for each in PADE[degree][1::2]], is_last=True))
    denominator = even - odd
    odd._larray.add_(even._larray)
    del even
    return one_matrix.solve(denominator, odd, "matrix_exp", are_free=True)


def _polynomial(powers: list[DNDarray], coefficients: Sequence[float], *, is_last: bool = False) -> DNDarray:
    """A polynomial of the first of the powers. If it is the last one to be computed, the powers are dropped."""
    low, high = coefficients[: len(powers) + 1], coefficients[len(powers) + 1 :]
    if not high:
        return _sum(low, powers)
    # What is beyond the greatest power is that one by lower ones, which spares three products.
    if not is_last:
        total = _product(powers[-1], _sum((0, *high), powers))
        total._larray.add_(_sum(low, powers)._larray)
        return total
    total, factor = _sum(low, powers), powers[0]
    if is_followed(factor._larray):
        factor = _sum((0, *high), powers)
    else:
        factor._larray.mul_(high[0])
        _add(factor, high[1:], powers[1:])
    del powers[:-1]
    total._larray.add_(_product(powers.pop(), factor)._larray)
    return total


def _sum(coefficients: Sequence[float], powers: Sequence[DNDarray]) -> DNDarray:
    """The sum of a multiple of the identity and multiples of the powers."""
    total = one_matrix.identity(powers[0])
    total._larray.mul_(coefficients[0])
    _add(total, coefficients[1:], powers)
    return total


def _add(total: DNDarray, coefficients: Sequence[float], powers: Sequence[DNDarray]) -> None:
    for coefficient, power in zip(coefficients, powers, strict=False):
        total._larray.add_(power._larray, alpha=coefficient)
