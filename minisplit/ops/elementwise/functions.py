"""Elementwise functions, under the names of the Python Array API standard, and the operators of a DNDarray.

dtypes are torch's promotion of the operands' dtypes. A function is a row: the function of torch, its own name
where that differs, and what is special about it.
"""

from __future__ import annotations

from functools import wraps

import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.ops.elementwise import special_cases
from minisplit.ops.elementwise.apply import (
    Torch,
    apply_elementwise,
    binary,
    divides_integers,
    promoting,
    unary,
)

_INTEGERS = "ms.arange(6, split=0)"
_COMPLEX = "ms.ones(6, dtype=torch.complex64, split=0)"


def _copied(function: Torch) -> Torch:
    """`function`, which may return its argument or a view of it, with memory of its own for the result."""

    @wraps(function)
    def copied(x: torch.Tensor) -> torch.Tensor:
        return function(x).clone()

    return copied


abs = unary(torch.abs)
acos = unary(special_cases.acos)
acosh = unary(torch.acosh)
asin = unary(torch.asin)
asinh = unary(torch.asinh)
atan = unary(torch.atan)
atanh = unary(torch.atanh)
bitwise_invert = unary(torch.bitwise_not, "bitwise_invert", example=_INTEGERS)
ceil = unary(torch.ceil)
conj = unary(_copied(torch.conj))
cos = unary(torch.cos)
cosh = unary(torch.cosh)
deg2rad = unary(torch.deg2rad)
exp = unary(torch.exp)
exp2 = unary(torch.exp2)
expm1 = unary(special_cases.expm1)
fix = unary(torch.fix, "fix")
floor = unary(torch.floor)
imag = unary(_copied(torch.imag), example=_COMPLEX)
isfinite = unary(torch.isfinite)
isinf = unary(torch.isinf)
isnan = unary(torch.isnan)
isneginf = unary(torch.isneginf)
isposinf = unary(torch.isposinf)
isreal = unary(torch.isreal)
log = unary(torch.log)
log10 = unary(torch.log10)
log1p = unary(special_cases.log1p)
log2 = unary(torch.log2)
logical_not = unary(torch.logical_not)
negative = unary(torch.negative)
positive = unary(_copied(torch.positive))
rad2deg = unary(torch.rad2deg)
real = unary(_copied(torch.real))
reciprocal = unary(torch.reciprocal)
round = unary(torch.round)
sign = unary(special_cases.sgn, "sign")
signbit = unary(torch.signbit)
sin = unary(torch.sin)
sinc = unary(torch.sinc)
sinh = unary(torch.sinh)
sqrt = unary(torch.sqrt)
square = unary(torch.square)
tan = unary(torch.tan)
tanh = unary(special_cases.tanh)
trunc = unary(torch.trunc)

add = binary(torch.add)
atan2 = binary(torch.atan2, numbers=0)
bitwise_and = binary(torch.bitwise_and, example=_INTEGERS)
bitwise_left_shift = binary(torch.bitwise_left_shift, example=_INTEGERS)
bitwise_or = binary(torch.bitwise_or, example=_INTEGERS)
bitwise_right_shift = binary(torch.bitwise_right_shift, example=_INTEGERS)
bitwise_xor = binary(torch.bitwise_xor, example=_INTEGERS)
copysign = binary(torch.copysign, numbers=1)
divide = binary(torch.divide)
equal = binary(torch.eq, "equal", numbers=1)
floor_divide = binary(special_cases.floor_divide, may_fail=divides_integers)
fmax = binary(torch.fmax, numbers=0)
fmin = binary(torch.fmin, numbers=0)
fmod = binary(torch.fmod, numbers=1, may_fail=divides_integers)
gcd = binary(torch.gcd, numbers=0, example=_INTEGERS)
greater = binary(torch.greater, numbers=1)
greater_equal = binary(torch.greater_equal, numbers=1)
heaviside = binary(special_cases.heaviside, numbers=0)
hypot = binary(torch.hypot, numbers=0)
lcm = binary(torch.lcm, numbers=0, example=_INTEGERS)
less = binary(torch.less, numbers=1)
less_equal = binary(torch.less_equal, numbers=1)
logaddexp = binary(torch.logaddexp, numbers=0)
logical_and = binary(torch.logical_and, numbers=0)
logical_or = binary(torch.logical_or, numbers=0)
logical_xor = binary(torch.logical_xor, numbers=0)
maximum = binary(torch.maximum, numbers=0)
minimum = binary(torch.minimum, numbers=0)
multiply = binary(torch.multiply)
nextafter = binary(torch.nextafter, numbers=0)
not_equal = binary(torch.not_equal, numbers=1)
pow = binary(torch.pow)
remainder = binary(special_cases.remainder, may_fail=divides_integers)
subtract = binary(torch.subtract)


def clip(x: DNDarray, /, min: Operand | None = None, max: Operand | None = None) -> DNDarray:
    """Elementwise `torch.clip`: `x` where it is within the bounds, which are arrays, numbers or None.

    Local or collective as `minisplit.add` of all the arrays. Raises what that does; TypeError where `x` is no
    DNDarray.

    >>> import minisplit as ms
    >>> ms.clip(ms.arange(5, split=0), 1, 3).tolist()
    [1, 1, 2, 3, 3]
    """
    bounds = [bound for bound in (min, max) if bound is not None]
    function = _at_most if min is None else torch.clip
    numbers = not any(isinstance(bound, DNDarray) for bound in bounds)
    return apply_elementwise(
        function if bounds else torch.clone, (as_dndarray(x), *bounds), "clip", native=numbers
    )


def _at_most(x: torch.Tensor, bound: torch.Tensor | complex) -> torch.Tensor:
    return torch.clip(x, max=bound)


def nan_to_num(
    x: DNDarray, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> DNDarray:
    """Elementwise `torch.nan_to_num`: `x` with numbers for NaN and infinities, if not given 0 and the extremes.

    Local.

    >>> import minisplit as ms
    >>> ms.nan_to_num(ms.array([float("nan"), 1.0], split=0), nan=7.0).tolist()
    [7.0, 1.0]
    """
    shard = torch.nan_to_num(as_dndarray(x).larray, nan, posinf, neginf)
    return DNDarray(shard, x.layout, x.comm)


def where(condition: DNDarray, x1: Operand, x2: Operand, /) -> DNDarray:
    """Elements of `x1` where `condition`, of dtype bool, is true, and of `x2` elsewhere.

    Local or collective as `minisplit.add` of all the arrays. Raises what that does; TypeError where `condition` is
    no DNDarray of dtype bool.

    >>> import minisplit as ms
    >>> x = ms.arange(4, split=0)
    >>> ms.where(x > 1, x, -1).tolist()
    [-1, -1, 2, 3]
    """
    if as_dndarray(condition, "condition").dtype is not torch.bool:
        raise TypeError(f"condition must be of dtype torch.bool, got {condition.dtype}; compare it, as in x != 0")
    return apply_elementwise(_where, (condition, x1, x2), "where")


def _where(condition: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    return promoting(lambda a, b: torch.where(condition, a, b))(x1, x2)
