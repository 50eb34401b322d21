"""Numbers to transform."""

from __future__ import annotations

import math

import torch

# The transforms that take real numbers.
OF_REALS = {"rfft", "ihfft", "rfftn", "rfft2"}


def values(shape: tuple[int, ...], name: str = "fft") -> torch.Tensor:
    """Numbers without any pattern, real where the function needs them to be."""
    index = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    x = torch.complex((index * index * 0.7).sin(), (index * 1.3 + 1).cos())
    return x.real.clone() if name in OF_REALS else x
