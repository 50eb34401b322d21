"""Whether arrays are alike."""

from __future__ import annotations

import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.ops.elementwise.apply import apply_elementwise
from minisplit.ops.elementwise.functions import equal
from minisplit.ops.reductions.functions import all


def isclose(
    x1: Operand, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> DNDarray:
    """Elementwise, whether `|x1 - x2| <= atol + rtol * |x2|`; NaN is close to NaN with `equal_nan`.

    Local or collective as `minisplit.add`, and raises what that does.

    >>> import minisplit as ms
    >>> ms.isclose(ms.ones(2, split=0), 1.000001).tolist()
    [True, True]
    """

    def close(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        dtype = torch.result_type(a, b)
        return torch.isclose(a.to(dtype), b.to(dtype), rtol=rtol, atol=atol, equal_nan=equal_nan)

    return apply_elementwise(close, (x1, x2), "isclose", native=False)


def allclose(
    x1: Operand, x2: Operand, /, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether all elements are close, see `isclose`: a bool, the same on every rank.

    Collective: one message for arrays of one layout. Raises what `isclose` does.

    >>> import minisplit as ms
    >>> ms.allclose(ms.ones(2, split=0), 1.000001)
    True
    """
    return bool(all(isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)))


def array_equal(x1: DNDarray, x2: DNDarray, /) -> bool:
    """Whether the arrays have one shape and equal elements, whatever their dtypes and layouts.

    Collective: one message for arrays of one layout, none where the shapes differ. Raises TypeError for anything
    but DNDarrays, ValueError for arrays on different communicators: both on every rank.

    >>> import minisplit as ms
    >>> ms.array_equal(ms.ones(2, split=0), ms.ones(2)), ms.array_equal(ms.ones(2), ms.ones(3))
    (True, False)
    """
    as_dndarray(x1, "x1")
    as_dndarray(x2, "x2")
    return x1.shape == x2.shape and bool(all(equal(x1, x2)))
