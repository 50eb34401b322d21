"""The exponential of one large split matrix, by products and a linear system; no rank gathers it.

Scaling and squaring with diagonal Pade approximants (N. J. Higham, "The scaling and squaring method for the matrix
exponential revisited", SIAM J. Matrix Anal. Appl. 26, 2005, algorithm 2.3). Gradients flow through the operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import torch

from minisplit.core.array import DNDarray
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
    columns = x._align(x._layout.with_split(1))
    # Each rank has whole columns, so the norm is a maximum over the ranks, which all know alike.
    sums = columns._larray.detach().abs().sum(0)
    norm = float(x._comm.allreduce(sums.max() if sums.numel() else sums.new_zeros(()), "max"))
    if not math.isfinite(norm):
        return x + math.nan
    limits = LIMITS[x.dtype.to_real()]
    degree = next((each for each, limit in limits.items() if norm <= limit), max(limits))
    halvings = max(0, math.ceil(math.log2(norm / limits[degree]))) if norm else 0
    result = _pade(columns * 2.0**-halvings if halvings else columns, degree)
    for _ in range(halvings):
        result = _product(result, result)
    return result._align(x._layout)


def _product(left: DNDarray, right: DNDarray) -> DNDarray:
    return matmul(left, right)._align(right._layout)


def _pade(x: DNDarray, degree: int) -> DNDarray:
    """The approximant, whose numerator is `even + odd` powers, and whose denominator `even - odd`."""
    even, odd = _even_and_odd(x, degree)
    denominator, numerator = even - odd, even + odd
    del even, odd  # each is a shard, while the system is solved
    return one_matrix.solve(denominator, numerator, "matrix_exp")


def _even_and_odd(x: DNDarray, degree: int) -> tuple[DNDarray, DNDarray]:
    """The parts of the numerator that have even and odd powers of `x`."""
    square = _product(x, x)
    powers = [one_matrix.identity(x), square]
    while len(powers) < (4 if degree == 13 else (degree + 1) // 2):
        powers.append(_product(powers[-1], square))

    def combined(own: Sequence[float]) -> DNDarray:
        """The sum of coefficients by powers of the square."""
        low = reduce(add, (power * each for power, each in zip(powers, own, strict=False)))
        if len(own) <= len(powers):
            return low
        # Those beyond the sixth power are the sixth by the lower ones, which spares three products.
        high = reduce(add, (power * each for power, each in zip(powers[1:], own[len(powers) :], strict=False)))
        return low + _product(powers[-1], high)

    return combined(PADE[degree][::2]), _product(x, combined(PADE[degree][1::2]))
