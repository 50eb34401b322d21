"""Tensors of random numbers, each a function of its place in the global array or batch.

The grids of `grids` say which places a tensor has, and give the random words of these places. Here the words
become numbers of a distribution, in blocks that fit the caches.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import torch

from minisplit.core.random.grids import Grid, Kind, by_numpy
from minisplit.core.random.philox import WORD

# Words in a block. On the CPU so few that a block stays in the caches, and that torch uses one thread for a
# function of it: with more, the last numbers of each thread's part may be rounded otherwise. On other devices so
# many that there are few calls. Both were measured by benchmarks/random_speed.py.
_BLOCK, _BLOCK_ELSEWHERE = 2**15, 2**22
# Blocks are filled up to a multiple of this. Otherwise the last numbers of a block would be computed in the rest
# of a vector, where a library may round otherwise, and would depend on where a shard ends.
_VECTOR = 16
# The bits of the mantissa, and so of a number from 0 to 1.
_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
# Stands for an integer that has to be drawn again. Where it is itself in the range, that happens once in 2^63
# draws.
_REJECTED = 2**63 - 1
# Numbers of 32 bits, of 64 bits, and pairs of these of which each needs both words.
_HALVES, _WHOLE, _PAIRS = Kind(2, 1), Kind(1, 1), Kind(2, 2)
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int64: np.int64}
# Makes a tensor of numbers of a 1-d tensor of words, which it may overwrite.
Transform = Callable[[torch.Tensor], torch.Tensor]
# Makes numbers of a distribution, in a dtype and on a device, for the places of a grid.
Sampler = Callable[[Grid, torch.dtype, torch.device], torch.Tensor]


def uniform(grid: Grid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers from 0 to below 1, multiples of 2^-24 (float32) or 2^-53 (float64). Both parts of complex ones.

    TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _as_complex(uniform(grid.in_parts(), dtype.to_real(), device))

    def transform(words: torch.Tensor, is_double: bool) -> torch.Tensor:
        # Only as many bits as the mantissa holds. More would be rounded, and could be rounded up to 1.
        return _fractions(words if is_double else _halves(words), _BITS[dtype])

    return _generate_reals(grid, transform, dtype, device)


def normal(grid: Grid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers of mean 0 and variance 1. The two parts of complex ones have a variance of 1/2 each.

    The method is that of Box and Muller, "A note on the generation of random normal deviates", Annals of
    Mathematical Statistics 29, 1958. TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _as_complex(normal(grid.in_parts(), dtype.to_real(), device).mul_(math.sqrt(0.5)))
    return _generate_reals(grid, _box_muller, dtype, device, _PAIRS)


def log_normal(grid: Grid, dtype: torch.dtype, device: torch.device, mean: float, std: float) -> torch.Tensor:
    """Draw numbers whose logarithm has a normal distribution."""

    def transform(words: torch.Tensor, is_double: bool) -> torch.Tensor:
        return _apply_in_place("exp", _box_muller(words, is_double).mul_(std).add_(mean))

    return _generate_reals(grid, transform, dtype, device, _PAIRS)


def cauchy(grid: Grid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers of the Cauchy distribution of median 0 and scale 1."""

    def transform(words: torch.Tensor, is_double: bool) -> torch.Tensor:
        return _apply_in_place("tan", _angles(words if is_double else _halves(words)).mul_(0.5))

    return _generate_reals(grid, transform, dtype, device)


def exponential(grid: Grid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers above 0 of the exponential distribution of mean 1."""

    def transform(words: torch.Tensor, is_double: bool) -> torch.Tensor:
        # Single precision uses all 32 bits. They are rounded, but not those of small numbers, whose logarithms are
        # the large results. Zero becomes 2^-32, so that the logarithm is finite.
        u = _positive(words if is_double else _halves(words), 1)
        return _apply_in_place("log", u).neg_().clamp_(min=torch.finfo(dtype).tiny)

    return _generate_reals(grid, transform, dtype, device)


def integers(grid: Grid, low: int, high: int, device: torch.device) -> torch.Tensor:
    """Draw int64 numbers from `low` to below `high`, all as likely.

    The method is that of Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019. Above 2^32
    values by as many bits as can hold them. What is rejected is drawn again.
    """
    span = high - low
    kind = _HALVES if span <= 2**32 else _WHOLE
    # 2^32 words do not spread evenly over the values. So many products would favour some of them.
    surplus, bits = 2**32 % span, (span - 1).bit_length()
    has_rejected = False

    def transform(words: torch.Tensor) -> torch.Tensor:
        nonlocal has_rejected
        if kind is _HALVES:
            value = _unsigned(_halves(words), torch.int64).mul_(span)
            is_over = (value & WORD) < surplus if surplus else None
            value = _shift_right(value, 32)
        else:
            value = _shift_right(words, 64 - bits)
            # torch cannot compare uint64. With the highest bit inverted, the order of int64 is that of uint64.
            is_over = (value ^ -(2**63)) >= span - 2**63 if bits == 64 else value >= span
        value.add_(low)
        if is_over is not None and bool(is_over.any()):
            has_rejected = True
            value.masked_fill_(is_over, _REJECTED)
        return value

    numbers = _generate(grid, kind, transform, torch.int64, device)
    flat, attempt = numbers.view(-1), 0
    again = (flat == _REJECTED).nonzero().squeeze(1) if has_rejected else flat[:0]
    while again.numel():
        attempt += 1
        flat[again] = transform(grid.again(again, attempt)[0])[:: kind.numbers]
        again = again[flat[again] == _REJECTED]
    return numbers


def bernoulli(grid: Grid, p: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """Draw bools that are true with probability `p`: one for all, or a tensor with one for each."""

    def transform(words: torch.Tensor) -> torch.Tensor:
        return _unsigned(_halves(words), torch.float64).mul_(2.0**-32)

    u = _generate(grid, _HALVES, transform, torch.float64, device)
    return u < (p if isinstance(p, float) else p.to(torch.float64))


def scale(u: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Turn numbers from 0 to below 1 into numbers from `low` to below `high`. In place."""
    # Rounding may reach `high`, which must not be drawn.
    largest = torch.nextafter(torch.tensor(high, dtype=u.dtype), torch.tensor(low, dtype=u.dtype))
    return u.mul_(high - low).add_(low).clamp_(max=largest.item())


def cumulative_shares(weights: torch.Tensor) -> torch.Tensor:
    """Return the share of the weights up to each one, along the last axis, in double precision. The last is 1.

    `searchsorted(shares, u, right=True)` turns uniform numbers into the places of weights.
    """
    total = weights.to(torch.float64).cumsum(-1)
    return total / total[..., -1:]


def poisson(grid: Grid, rate: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Draw float64 counts of the Poisson distribution, one for each of the rates in a tensor of the grid's size.

    Rates below 10 by the sum of probabilities, larger ones by rejection (PTRS): Hörmann, "The transformed
    rejection method for generating Poisson random variables", Insurance: Mathematics and Economics 12, 1993.
    """
    rates = rate.to(torch.float64).reshape(-1).to(device)
    counts = torch.zeros_like(rates)
    small = (rates < 10).nonzero().squeeze(1)
    counts[small] = _poisson_by_sums(grid, small, rates[small])
    left = (rates >= 10).nonzero().squeeze(1)
    attempt = 0
    while left.numel():
        attempt += 1
        proposed, accepted = _poisson_by_rejection(rates[left], grid.again(left, attempt))
        counts[left[accepted]] = proposed[accepted]
        left = left[~accepted]
    return counts.view(grid.rows, grid.length)


def _poisson_by_sums(grid: Grid, index: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """The counts for small rates: how many probabilities, from that of 0 on, add up to a uniform number."""
    u = _fractions(grid.again(index, 0)[0], 53)
    probability = torch.exp(-rate)
    count, total = torch.zeros_like(rate), probability.clone()
    # The probabilities that are left may be too small to change the sum while that is still below u.
    while bool((going := (u >= total) & (probability > 2.0**-60)).any()):
        count += going
        probability *= torch.where(going, rate / count.clamp(min=1), 1)
        total += torch.where(going, probability, 0)
    return count


def _poisson_by_rejection(rate: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Propose a count for each rate, and say whether it is accepted. The names are those of Hörmann's paper."""
    u, v = between(words)
    u = u - 0.5
    b = 0.931 + 2.53 * rate.sqrt()
    a = -0.059 + 0.02483 * b
    us = 0.5 - u.abs()
    count = ((2 * a / us + b) * u + rate + 0.43).floor()
    is_inside = (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    density = torch.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / us**2 + b))
    is_below = density <= -rate + count * rate.log() - torch.lgamma(count + 1)
    return count, is_inside | ((count >= 0) & ((us >= 0.013) | (v <= us)) & is_below)


def check_real(dtype: torch.dtype) -> None:
    """Raise TypeError unless random real numbers are made in this dtype."""
    if dtype not in _BITS:
        raise TypeError(f"random real numbers have dtype {', '.join(map(str, _BITS))}, not {dtype}")


def _as_complex(parts: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(parts.view(parts.shape[0], -1, 2))


def between(words: torch.Tensor) -> torch.Tensor:
    """Return numbers between 0 and 1, neither of which is an end, in place of words."""
    return _positive(words, 0.5)


def _halves(words: torch.Tensor) -> torch.Tensor:
    """The lower and the upper half of each word, as int32 with the same bits."""
    if sys.byteorder == "big":
        words = (words << 32) | _shift_right(words, 32)
    return words.view(torch.int32)


def _shift_right(words: torch.Tensor, by: int) -> torch.Tensor:
    """Shift unsigned words, in place, which in torch are signed ones."""
    if by_numpy(words.device):
        array = words.numpy().view(f"u{words.itemsize}")
        np.right_shift(array, by, out=array)
        return words
    return words.bitwise_right_shift_(by).bitwise_and_((1 << 8 * words.itemsize - by) - 1)


def _unsigned(halves: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Unsigned words of 32 bits, which in torch are signed ones, in another dtype."""
    if by_numpy(halves.device):
        return torch.from_numpy(halves.numpy().view(np.uint32).astype(_NUMPY[dtype]))
    return (halves.to(torch.int64) & WORD).to(dtype)


def _fractions(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Numbers from 0 to below 1, multiples of 2^-bits, double ones of words of 64 bits, which are overwritten."""
    dtype = torch.float64 if words.itemsize == 8 else torch.float32
    return _shift_right(words, 8 * words.itemsize - bits).to(dtype).mul_(2.0**-bits)


def _positive(words: torch.Tensor, more: float) -> torch.Tensor:
    """Numbers above 0: words plus `more`, of 53 bits in double precision or of 32 bits. Overwrites them."""
    if words.itemsize == 8:
        return _shift_right(words, 11).to(torch.float64).add_(more).mul_(2.0**-53)
    return _unsigned(words, torch.float32).add_(more).mul_(2.0**-32)


def _angles(words: torch.Tensor) -> torch.Tensor:
    """Numbers from -pi to pi, of which sine and cosine lose no bits. Overwrites the words."""
    if words.itemsize == 8:
        return words.bitwise_right_shift_(11).to(torch.float64).mul_(math.pi * 2.0**-52)
    words = torch.from_numpy(words.numpy().astype(np.float32)) if by_numpy(words.device) else words
    return words.to(torch.float32).mul_(math.pi * 2.0**-31)


def _box_muller(words: torch.Tensor, is_double: bool) -> torch.Tensor:
    """Normal numbers, two of each pair of a radius and an angle."""
    words = words if is_double else _halves(words)
    # Half a step more than the word: the logarithm of 0 would be infinite.
    logarithm = _apply_in_place("log", _positive(words[0::2], 0.5))
    radius, angle = _apply_in_place("sqrt", logarithm.mul_(-2)), _angles(words[1::2])
    numbers = radius.new_empty(len(radius), 2)
    for number, function in zip(numbers.unbind(1), ("cos", "sin"), strict=True):
        product = _apply_in_place(function, angle.clone()).mul_(radius)
        if by_numpy(number.device):
            np.copyto(number.numpy(), product.numpy())  # in half the time of torch's copy_
        else:
            number.copy_(product)
    return numbers.view(-1)


def _apply_in_place(function: str, numbers: torch.Tensor) -> torch.Tensor:
    """Apply a function to every number, in place. On the CPU NumPy's are faster for single precision."""
    if numbers.dtype is torch.float32 and by_numpy(numbers.device):
        getattr(np, function)(numbers.numpy(), out=numbers.numpy())
    else:
        getattr(torch, f"{function}_")(numbers)
    return numbers


def _generate_reals(
    grid: Grid,
    transform: Callable[[torch.Tensor, bool], torch.Tensor],
    dtype: torch.dtype,
    device: torch.device,
    fine: Kind = _WHOLE,
) -> torch.Tensor:
    """Make the tensor of a grid of real numbers. `transform` also gets whether they are of double precision.

    Then their kind is `fine`. Else a number needs 32 bits.
    """
    check_real(dtype)
    is_double = dtype is torch.float64
    return _generate(
        grid, fine if is_double else _HALVES, lambda words: transform(words, is_double), dtype, device
    )


def _generate(
    grid: Grid, kind: Kind, transform: Transform, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Make the tensor of a grid, by blocks of numbers that are made together."""
    out = torch.empty((grid.rows, grid.length), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    block = (_BLOCK if by_numpy(device) else _BLOCK_ELSEWHERE) // kind.words
    # Rows may begin in the middle of them. Those that begin alike are made together.
    for alike, part, phase in grid.alike(kind.numbers):
        rows, read = out[alike], part.reader(kind, device)
        groups = -(-(phase + grid.length) // kind.numbers)
        width = min(groups, block)
        height = block // width
        for row in range(0, part.rows, height):
            here = range(row, min(row + height, part.rows))
            for column in range(0, groups, width):
                columns = range(column, min(column + width, groups))
                words = _fill_up(read(here, columns).reshape(-1).contiguous())
                values = transform(words)[: len(here) * len(columns) * kind.numbers].view(len(here), -1)
                start = column * kind.numbers - phase
                first, last = max(start, 0), min(start + values.shape[1], grid.length)
                rows[here.start : here.stop, first:last] = values[:, first - start : last - start]
    return out


def _fill_up(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers in a 1-d tensor, and ones up to the next multiple of `_VECTOR`."""
    missing = -len(numbers) % _VECTOR
    return torch.cat((numbers, numbers.new_ones(missing))) if missing else numbers


def apply_exactly(function: str, x: torch.Tensor) -> torch.Tensor:
    """Return a function of torch of 1-d numbers, where each result depends on its number alone.

    Not on its place: see `_BLOCK` and `_VECTOR`.
    """
    filled = torch.cat((x, x.new_ones(-len(x) % _VECTOR)))
    for block in torch.split(filled, _BLOCK):
        getattr(torch, f"{function}_")(block)
    return filled[: len(x)]
