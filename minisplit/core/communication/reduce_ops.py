"""How two ranks' contributions become one, elementwise or record by record. NumPy only.

Every rule gives the same bits for `(a, b)` as for `(b, a)`, so that ranks that combine in another order agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ReduceOp = Literal["sum", "prod", "min", "max"]
MergeOp = Literal["first", "moments"]
Values = NDArray[Any]
Rule = Callable[[Values, Values], Values]


def first(a: Values, b: Values) -> Values:
    """The lexicographically greater of two pairs of integers.

    >>> first(np.array([[3, -1], [4, -9]]), np.array([[3, -2], [5, 0]])).tolist()
    [[3, -1], [5, 0]]
    """
    wins = (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] > b[..., 1]))
    return np.where(wins[..., None], a, b)


def moments(a: Values, b: Values) -> Values:
    """Count, mean and sum of squared deviations of two samples together, from those of each.

    Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician 37 (1983).

    >>> moments(np.array([1.0, 5.0, 0.0]), np.array([3.0, 1.0, 2.0])).tolist()
    [4.0, 2.0, 14.0]
    """
    leads = (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] <= b[..., 1]))
    big, small = (np.where(x, a, b) for x in (leads[..., None], ~leads[..., None]))
    with np.errstate(all="ignore"):
        count = big[..., 0] + small[..., 0]
        share = np.where(count == 0, 0.0, small[..., 0] / count)
        apart = np.where(small[..., 0] == 0, 0.0, small[..., 1] - big[..., 1])
        squares = (a[..., 2] + b[..., 2]) + apart * apart * (share * big[..., 0])
        return np.stack([count, big[..., 1] + apart * share, squares], -1)


RULES: dict[ReduceOp | MergeOp, Rule] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "first": first,
    "moments": moments,
}
