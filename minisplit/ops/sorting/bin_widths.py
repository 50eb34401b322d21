"""The width of a histogram's bins, by NumPy's rules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from minisplit.core.array import DNDarray
from minisplit.core.error_text import short_repr
from minisplit.ops.reductions.functions import mean, std
from minisplit.ops.sorting.quantiles import quantile

# From the elements, in float64, the distance of the least and the greatest, and a function that counts elements in
# so many bins: the width of a bin, or 0 where the rule has none. `numpy.histogram_bin_edges` has the sources.
Rule = Callable[[DNDarray, float, Callable[[int], torch.Tensor]], float]


def _doane(x: DNDarray, spread: float, count: Callable[[int], torch.Tensor]) -> float:
    n, deviation = x.size, std(x).item()
    if n <= 2 or not deviation > 0:
        return 0.0
    skewness = mean(((x - mean(x)) / deviation) ** 3).item()
    expected = math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))
    return spread / (1 + math.log2(n) + math.log2(1 + abs(skewness) / expected))


def _freedman_diaconis(x: DNDarray, spread: float, count: Callable[[int], torch.Tensor]) -> float:
    low, high = quantile(x, [0.25, 0.75]).tolist()
    width: float = 2 * (high - low) * x.size ** (-1 / 3)
    return width


def _stone(x: DNDarray, spread: float, count: Callable[[int], torch.Tensor]) -> float:
    n = x.size

    def estimated_error(bins: int) -> float:
        shares = count(bins).double() / n
        return (2 - (n + 1) * shares.dot(shares).item()) * bins / spread

    return spread / min(range(1, max(100, math.isqrt(n)) + 1), key=estimated_error) if n > 1 and spread else 0.0


_RULES: dict[str, Rule] = {
    "sqrt": lambda x, spread, count: spread / math.sqrt(x.size),
    "sturges": lambda x, spread, count: spread / (math.log2(x.size) + 1),
    "rice": lambda x, spread, count: spread / (2 * x.size ** (1 / 3)),
    "scott": lambda x, spread, count: (24 * math.sqrt(math.pi) / x.size) ** (1 / 3) * std(x).item(),
    "doane": _doane,
    "fd": _freedman_diaconis,
    "stone": _stone,
    # The width of "fd" is 0, or tiny, where half of the elements are equal, or nearly.
    "auto": lambda x, spread, count: min(
        max(_RULES["fd"](x, spread, count), _RULES["sqrt"](x, spread, count) / 2),
        _RULES["sturges"](x, spread, count),
    ),
}


def check_rule(rule: str) -> None:
    """Raise ValueError unless there is a rule of this name."""
    if rule not in _RULES:
        raise ValueError(f"bins must be a number, edges, or one of {', '.join(_RULES)}, got {short_repr(rule)}")


def number_of_bins(
    rule: str, x: DNDarray, ends: tuple[float, float], spread: float, count: Callable[[int], torch.Tensor]
) -> int:
    """Return how many bins a rule makes of the range between two ends. Collective where `x` is split."""
    width = _RULES[rule](x.astype(torch.float64), spread, count) if x.size else 0.0
    if width and not x.dtype.is_floating_point:
        width = max(width, 1.0)
    return math.ceil((ends[1] - ends[0]) / width) if width else 1
