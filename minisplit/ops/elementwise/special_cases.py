"""Functions of tensors that differ from torch's: in special cases of the Python Array API standard, or in memory.

The standard says what functions give at infinities, NaN and signed zeros
(https://data-apis.org/array-api/2025.12/API_specification/elementwise_functions.html). Where torch gives something
else, a function here has torch's name and gives what the standard says.
"""

from __future__ import annotations

import math
from typing import Any

import torch

# A tensor or a number. torch's type hints know no numbers where its functions take them.
Number = Any


def floor_divide(x1: Number, x2: Number) -> torch.Tensor:
    """Return `torch.floor_divide`, but of or by an infinity the floor of the quotient, where torch has NaN."""
    quotient: torch.Tensor = torch.floor_divide(x1, x2)
    if not quotient.is_floating_point():
        return quotient
    special: Any = _is_infinite(x1) | _is_infinite(x2)
    # Without autograd: the gradient is torch's, also where the value is not.
    with torch.no_grad():
        return quotient.copy_(torch.where(special, torch.divide(x1, x2).floor(), quotient))


def remainder(x1: Number, x2: Number) -> torch.Tensor:
    """Return `torch.remainder`, but give a remainder of zero the sign of the divisor."""
    result: torch.Tensor = torch.remainder(x1, x2)
    if not result.is_floating_point():
        return result
    with torch.no_grad():
        return result.copy_(torch.where(result == 0, torch.copysign(torch.zeros_like(result), x2), result))


def floor_divide_(x1: torch.Tensor, x2: Number) -> torch.Tensor:
    """Do `floor_divide` in place."""
    return x1.copy_(floor_divide(x1, x2)) if x1.is_floating_point() else x1.floor_divide_(x2)


def remainder_(x1: torch.Tensor, x2: Number) -> torch.Tensor:
    """Do `remainder` in place."""
    return x1.copy_(remainder(x1, x2)) if x1.is_floating_point() else x1.remainder_(x2)


def sgn(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.sgn`, but NaN of NaN, where torch has 0."""
    sign = torch.sgn(x)
    return torch.where(x.isnan(), x, sign) if x.is_floating_point() or x.is_complex() else sign


def heaviside(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Return `torch.heaviside`, which takes tensors of one dtype only, of any two."""
    common = torch.promote_types(x1.dtype, x2.dtype)
    return torch.heaviside(x1.to(common), x2.to(common))


def acos(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.acos`, but of a complex zero with the other sign of the imaginary part."""
    result = torch.acos(x)
    if not x.is_complex():
        return result
    return torch.where(x == 0, torch.complex(result.real, -x.imag), result)


def expm1(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.expm1`, but of complex infinities, NaN and zeros what the exponential function gives."""
    result = torch.expm1(x)
    return torch.where(x.isfinite() & (x != 0), result, torch.exp(x) - 1) if x.is_complex() else result


def log1p(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.log1p`, but of complex infinities and NaN what the logarithm gives."""
    result = torch.log1p(x)
    return torch.where(x.isfinite(), result, torch.log(x + 1)) if x.is_complex() else result


def tanh(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.tanh`, but of a complex infinity with a zero imaginary part that has the argument's sign."""
    result = torch.tanh(x)
    if not x.is_complex():
        return result
    zero = torch.copysign(torch.zeros_like(x.imag), x.imag)
    return torch.where(x.real.isinf(), torch.complex(torch.sign(x.real), zero), result)


def modf_fraction(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.frac`, but zeros of infinities, where torch has NaN, and with the sign of `x`."""
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    # Without autograd: the gradient is torch's, also of infinities.
    result = torch.frac(x)
    with torch.no_grad():
        return result.copy_(torch.where(x.isinf() | (result == 0), torch.copysign(torch.zeros_like(x), x), result))


# torch's own return their argument or a view of it. Without the clone y = ms.real(x) would share memory with x,
# and y += 1 would change x.


def positive(x: torch.Tensor) -> torch.Tensor:
    """Return a copy. RuntimeError for bools, as torch has it."""
    return torch.positive(x).clone()


def conj(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.conj` in memory of its own."""
    return torch.conj(x).clone()


def real(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.real` in memory of its own."""
    return torch.real(x).clone()


def imag(x: torch.Tensor) -> torch.Tensor:
    """Return `torch.imag` in memory of its own, and zeros of real numbers."""
    return torch.imag(x).clone() if x.is_complex() else torch.zeros_like(x)


def _is_infinite(x: Number) -> torch.Tensor | bool:
    """Return where a tensor is infinite, or whether a number is."""
    return x.isinf() if isinstance(x, torch.Tensor) else math.isinf(abs(x))
