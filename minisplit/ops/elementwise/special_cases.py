"""torch's functions of tensors, with the special cases of the Python Array API standard where torch has others.

What they are named is what `torch` has them under. Where nothing is special they are torch's.
"""

from __future__ import annotations

import math
from typing import Any

import torch

# A tensor or a number, as the functions of torch take them that have no types for numbers.
Number = Any


def floor_divide(x1: Number, x2: Number) -> torch.Tensor:
    """`torch.floor_divide`, but of or by an infinity the quotient's floor: inf // 2 is inf, 1 // -inf is -0."""
    whole: torch.Tensor = torch.floor_divide(x1, x2)
    if not whole.is_floating_point():
        return whole
    special: Any = _infinite(x1) | _infinite(x2)
    with torch.no_grad():
        return whole.copy_(torch.where(special, torch.divide(x1, x2).floor(), whole))


def remainder(x1: Number, x2: Number) -> torch.Tensor:
    """`torch.remainder`, but a remainder of zero has the sign of the divisor."""
    left: torch.Tensor = torch.remainder(x1, x2)
    if not left.is_floating_point():
        return left
    with torch.no_grad():
        return left.copy_(torch.where(left == 0, torch.copysign(torch.zeros_like(left), x2), left))


def floor_divide_(x1: torch.Tensor, x2: Number) -> torch.Tensor:
    return x1.copy_(floor_divide(x1, x2)) if x1.is_floating_point() else x1.floor_divide_(x2)


def remainder_(x1: torch.Tensor, x2: Number) -> torch.Tensor:
    return x1.copy_(remainder(x1, x2)) if x1.is_floating_point() else x1.remainder_(x2)


def sgn(x: torch.Tensor) -> torch.Tensor:
    """`torch.sgn`, but NaN of NaN."""
    return torch.where(x.isnan(), x, torch.sgn(x)) if x.is_floating_point() or x.is_complex() else torch.sgn(x)


def heaviside(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """`torch.heaviside`, but also of two dtypes."""
    common = torch.promote_types(x1.dtype, x2.dtype)
    return torch.heaviside(x1.to(common), x2.to(common))


def acos(x: torch.Tensor) -> torch.Tensor:
    """`torch.acos`, but of a complex zero the imaginary part has the other sign."""
    found = torch.acos(x)
    if not x.is_complex():
        return found
    return torch.where(x == 0, torch.complex(found.real, -x.imag), found)


def expm1(x: torch.Tensor) -> torch.Tensor:
    """`torch.expm1`, but of complex infinities, NaN and zeros what the exponential function gives."""
    found = torch.expm1(x)
    return torch.where(x.isfinite() & (x != 0), found, torch.exp(x) - 1) if x.is_complex() else found


def log1p(x: torch.Tensor) -> torch.Tensor:
    """`torch.log1p`, but of complex infinities and NaN what the logarithm gives."""
    found = torch.log1p(x)
    return torch.where(x.isfinite(), found, torch.log(x + 1)) if x.is_complex() else found


def tanh(x: torch.Tensor) -> torch.Tensor:
    """`torch.tanh`, but of a complex infinity a zero imaginary part has the sign that the argument's has."""
    found = torch.tanh(x)
    if not x.is_complex():
        return found
    zero = torch.copysign(torch.zeros_like(x.imag), x.imag)
    return torch.where(x.real.isinf(), torch.complex(torch.sign(x.real), zero), found)


def _infinite(x: Number) -> torch.Tensor | bool:
    return x.isinf() if isinstance(x, torch.Tensor) else math.isinf(abs(x))
