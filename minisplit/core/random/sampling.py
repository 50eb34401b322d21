"""Tensors of random numbers, each a function of its place in the global array or batch.

An `IndexGrid` says which places a tensor has. Its numbers are made block by block, in blocks that fit the caches.
First come the words of Philox: by NumPy on the CPU, which for integers is several times faster than torch, and by
torch elsewhere (benchmarks/random_speed.py). Then torch turns the words into numbers of a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.random.philox import WORD, Key, fold, philox, philox_in_place

# Counters in a block. On the CPU so few that a block stays in the caches, and that torch uses one thread for a
# function of it: with more, the last numbers of each thread's part may be rounded otherwise. On other devices so
# many that there are few calls. Both were measured by benchmarks/random_speed.py.
_BLOCK, _BLOCK_ELSEWHERE = 2**14, 2**20
# Blocks are filled up to a multiple of this. Otherwise the last numbers of a block would be computed in the rest
# of a vector, where a library may round otherwise, and would depend on where a shard ends.
_VECTOR = 16
# The bits of the mantissa, and so of a number from 0 to 1.
_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
# Stands for an integer that has to be drawn again. Where it is itself in the range, that happens once in 2^63
# draws.
_REJECTED = 2**63 - 1
# The second number that `fold` gets, for keys of three kinds: the draws of a mapped function, repeated draws, and
# those of several numbers that become one.
DRAW, _AGAIN, PART = 1, 2, 3
# A tensor in which each column belongs to a counter: the four words of Philox, or the numbers that are made of
# them.
Planes = torch.Tensor
# Makes numbers of the words of each counter, which it may overwrite.
Transform = Callable[[Planes], Planes]


class IndexGrid(NamedTuple):
    """Which places the numbers of a tensor of `rows` rows and `length` columns have.

    Element (r, j) is number `first + r * stride + j` of sample `sample + r * step`, under `key`. An array is one
    sample. The rows of a batch are samples.
    """

    key: Key
    rows: int
    length: int
    first: int = 0
    stride: int = 0
    sample: int = 0
    step: int = 0


# Makes numbers of a distribution, in a dtype and on a device, for the places of a grid.
Sampler = Callable[[IndexGrid, torch.dtype, torch.device], torch.Tensor]


def shard_grid(layout: Layout, rank: int, key: Key) -> IndexGrid:
    """Return the places of a rank's shard. The elements of the global array are numbered in row-major order.

    >>> shard_grid(Layout((4, 6), 1, ranks=2), 1, (0, 0))[1:5]
    (4, 3, 3, 6)
    """
    if layout.split is None:
        return IndexGrid(key, 1, layout.size)
    inner = math.prod(layout.shape[layout.split + 1 :])
    start, stop = layout.span(rank)
    rows = math.prod(layout.shape[: layout.split])
    return IndexGrid(key, rows, (stop - start) * inner, start * inner, layout.extent * inner)


def batch_grid(key: Key, samples: int, each: int, first: int) -> IndexGrid:
    """Return the places of `each` numbers for each of some samples, from sample `first` on."""
    return IndexGrid(key, samples, each, sample=first, step=1)


def uniform(grid: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers from 0 to below 1, multiples of 2^-24 (float32) or 2^-53 (float64). Both parts of complex ones.

    TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _as_complex(uniform(_grid_of_parts(grid), dtype.to_real(), device))

    def transform(planes: Planes, is_double: bool) -> Planes:
        if is_double:
            return _unit_doubles(planes)
        # Only as many bits as the mantissa holds. More would be rounded, and could be rounded up to 1.
        bits = _BITS[dtype]
        return planes.bitwise_right_shift_(32 - bits).to(dtype).mul_(2.0**-bits)

    return _generate_reals(grid, transform, dtype, device)


def normal(grid: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers of mean 0 and variance 1. The two parts of complex ones have a variance of 1/2 each.

    The method is that of Box and Muller, "A note on the generation of random normal deviates", Annals of
    Mathematical Statistics 29, 1958. TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _as_complex(normal(_grid_of_parts(grid), dtype.to_real(), device).mul_(math.sqrt(0.5)))
    return _generate_reals(grid, _box_muller, dtype, device)


def log_normal(grid: IndexGrid, dtype: torch.dtype, device: torch.device, mean: float, std: float) -> torch.Tensor:
    """Draw numbers whose logarithm has a normal distribution."""

    def transform(planes: Planes, is_double: bool) -> Planes:
        return _apply_in_place("exp", _box_muller(planes, is_double).mul_(std).add_(mean))

    return _generate_reals(grid, transform, dtype, device)


def cauchy(grid: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers of the Cauchy distribution of median 0 and scale 1."""

    def transform(planes: Planes, is_double: bool) -> Planes:
        u = _unit_doubles(planes) if is_double else planes.to(torch.float32).mul_(2.0**-32)
        return _apply_in_place("tan", u.sub_(0.5).mul_(math.pi))

    return _generate_reals(grid, transform, dtype, device)


def exponential(grid: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Draw numbers above 0 of the exponential distribution of mean 1."""

    def transform(planes: Planes, is_double: bool) -> Planes:
        # Single precision uses all 32 bits. They are rounded, but not those of small numbers, whose logarithms are
        # the large results. Zero becomes 2^-32, so that the logarithm is finite.
        words = join_words(planes, 53).to(dtype) if is_double else planes.to(torch.float32)
        u = words.add_(1).mul_(2.0 ** (-53 if is_double else -32))
        return _apply_in_place("log", u).neg_().clamp_(min=torch.finfo(dtype).tiny)

    return _generate_reals(grid, transform, dtype, device)


def integers(grid: IndexGrid, low: int, high: int, device: torch.device) -> torch.Tensor:
    """Draw int64 numbers from `low` to below `high`, all as likely.

    The method is that of Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019. Above 2^32
    values by as many bits as can hold them. What is rejected is drawn again.
    """
    span = high - low
    is_exact = span & (span - 1) == 0  # a power of 2: nothing to reject
    if span <= 2**32:
        # 2^32 words do not spread evenly over the values. So many products would favour some of them.
        surplus = 2**32 % span

        def transform(planes: Planes) -> Planes:
            product = planes * span
            value = ((product >> 32) & WORD).add_(low)
            return value if is_exact else value.masked_fill_((product & WORD) < surplus, _REJECTED)

    else:
        bits = (span - 1).bit_length()

        def transform(planes: Planes) -> Planes:
            value = join_words(planes, bits)
            if is_exact:
                return value.add_(low)
            # torch cannot compare uint64. With the highest bit inverted, the order of int64 is that of uint64.
            is_over = (value ^ -(2**63)) >= span - 2**63 if bits == 64 else value >= span
            return value.add_(low).masked_fill_(is_over, _REJECTED)

    numbers = _generate(grid, 4 if span <= 2**32 else 2, transform, torch.int64, device)
    if is_exact:
        return numbers
    flat = numbers.view(-1)
    again = (flat == _REJECTED).nonzero().squeeze(1)
    attempt = 0
    while again.numel():
        attempt += 1
        flat[again] = transform(words_again(grid, again, attempt))[0]
        again = again[flat[again] == _REJECTED]
    return numbers


def bernoulli(grid: IndexGrid, p: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """Draw bools that are true with probability `p`: one for all, or a tensor with one for each."""
    u = _generate(grid, 4, lambda planes: planes.to(torch.float64).mul_(2.0**-32), torch.float64, device)
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


def poisson(grid: IndexGrid, rate: torch.Tensor, device: torch.device) -> torch.Tensor:
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
        proposed, accepted = _poisson_by_rejection(rates[left], words_again(grid, left, attempt))
        counts[left[accepted]] = proposed[accepted]
        left = left[~accepted]
    return counts.view(grid.rows, grid.length)


def _poisson_by_sums(grid: IndexGrid, index: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """The counts for small rates: how many probabilities, from that of 0 on, add up to a uniform number."""
    u = _unit_doubles(words_again(grid, index, 0))[0]
    probability = torch.exp(-rate)
    count, total = torch.zeros_like(rate), probability.clone()
    # The probabilities that are left may be too small to change the sum while that is still below u.
    while bool((going := (u >= total) & (probability > 2.0**-60)).any()):
        count += going
        probability *= torch.where(going, rate / count.clamp(min=1), 1)
        total += torch.where(going, probability, 0)
    return count


def _poisson_by_rejection(rate: torch.Tensor, planes: Planes) -> tuple[torch.Tensor, torch.Tensor]:
    """Propose a count for each rate, and say whether it is accepted. The names are those of Hörmann's paper."""
    u, v = join_words(planes, 53).to(torch.float64).add_(0.5).mul_(2.0**-53)
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


def _grid_of_parts(grid: IndexGrid) -> IndexGrid:
    """The places of the real and imaginary parts of complex numbers, which alternate."""
    return grid._replace(length=2 * grid.length, first=2 * grid.first, stride=2 * grid.stride)


def _as_complex(parts: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(parts.view(parts.shape[0], -1, 2))


def join_words(planes: Planes, bits: int) -> Planes:
    """Join the four words of each counter to two numbers of so many bits, more than 32."""
    both = planes[0::2] | (planes[1::2] << 32)
    return both if bits == 64 else (both >> (64 - bits)) & ((1 << bits) - 1)


def _unit_doubles(planes: Planes) -> Planes:
    """Two numbers from 0 to below 1, multiples of 2^-53, for each counter."""
    return join_words(planes, 53).to(torch.float64).mul_(2.0**-53)


def _box_muller(planes: Planes, is_double: bool) -> Planes:
    """Normal numbers, two of each pair of a radius and an angle."""
    dtype, bits = (torch.float64, 53) if is_double else (torch.float32, 32)
    words = join_words(planes, bits) if is_double else planes
    # Half a step more than the word: the logarithm of 0 would be infinite.
    u = words[0::2].to(dtype).add_(0.5).mul_(2.0**-bits)
    radius = _apply_in_place("log", u).mul_(-2).sqrt_()
    # From -pi to pi, where sine and cosine lose no bits.
    angle = words[1::2].sub_(2 ** (bits - 1)).to(dtype).mul_(math.pi * 2.0 ** (1 - bits))
    cos, sin = _apply_in_place("cos", angle.clone()), _apply_in_place("sin", angle)
    return torch.cat([cos.mul_(radius), sin.mul_(radius)])


def _apply_in_place(function: str, planes: Planes) -> Planes:
    """Apply a function to every number, in place.

    On the CPU those of NumPy are several times faster for single precision. Elsewhere plane by plane: torch uses
    one thread for a plane, and the numbers must not depend on the number of threads.
    """
    if planes.dtype is torch.float32 and planes.device.type == "cpu":
        getattr(np, function)(planes.numpy(), out=planes.numpy())
    else:
        for plane in planes:
            getattr(torch, f"{function}_")(plane)
    return planes


def _generate_reals(
    grid: IndexGrid, transform: Callable[[Planes, bool], Planes], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Make the tensor of a grid of real numbers. `transform` also gets whether they are of double precision.

    Double precision needs two words for a number, so that a counter gives two numbers instead of four.
    """
    check_real(dtype)
    is_double = dtype is torch.float64
    return _generate(grid, 2 if is_double else 4, lambda planes: transform(planes, is_double), dtype, device)


def _generate(
    grid: IndexGrid, per: int, transform: Transform, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Make the tensor of a grid, where the words of each counter give `per` numbers."""
    out = torch.empty((grid.rows, grid.length), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    # Rows may begin in the middle of a counter. Those that begin at the same number of it are made together.
    groups = per // math.gcd(grid.stride, per) if grid.rows > 1 else 1
    for start in range(min(groups, grid.rows)):
        part = grid._replace(
            rows=len(range(start, grid.rows, groups)),
            first=grid.first + start * grid.stride,
            stride=grid.stride * groups,
            sample=grid.sample + start * grid.step,
            step=grid.step * groups,
        )
        _fill_rows(out[start::groups], part, per, transform)
    return out


def _fill_rows(out: torch.Tensor, grid: IndexGrid, per: int, transform: Transform) -> None:
    """Fill `out`, whose rows all begin at the same number of their first counters, by blocks of counters."""
    first, phase = divmod(grid.first, per)
    stride = grid.stride // per
    counters = -(-(phase + grid.length) // per)
    on_cpu = out.device.type == "cpu"
    block = _BLOCK if on_cpu else _BLOCK_ELSEWHERE
    width = min(counters, block)
    height = min(grid.rows, block // width)
    length = _round_up(width * height)
    buffer = np.empty((6, length), np.int64) if on_cpu else None
    places: Any = np.arange(length) if on_cpu else torch.arange(length, device=out.device)
    samples: Any = 0
    if height > 1:
        row_numbers = places // width
        places = places + row_numbers * (stride - width)
        samples = row_numbers * grid.step if grid.step else 0
    for row in range(0, grid.rows, height):
        rows = min(height, grid.rows - row)
        for column in range(0, counters, width):
            columns = min(width, counters - column)
            length = _round_up(rows * columns)
            place = places[:length], first + row * stride + column
            sample = samples if isinstance(samples, int) else samples[:length], grid.sample + row * grid.step
            values = transform(_words(grid.key, place, sample, out.device, buffer))[:, : rows * columns]
            _write_planes(values.view(per, rows, columns), out[row : row + rows], column * per - phase)


def _write_planes(values: torch.Tensor, out: torch.Tensor, start: int) -> None:
    """Write planes of values, counter by counter, into those columns of `out` from `start` on that exist."""
    per, rows, columns = values.shape
    stop = start + columns * per
    if start >= 0 and stop <= out.shape[1]:
        strides = out.stride(0), per, 1
        out.as_strided((rows, columns, per), strides, out.storage_offset() + start).copy_(values.permute(1, 2, 0))
        return
    whole = values.permute(1, 2, 0).reshape(rows, columns * per)
    first, last = max(start, 0), min(stop, out.shape[1])
    out[:, first:last] = whole[:, first - start : last - start]


def apply_exactly(function: str, x: torch.Tensor) -> torch.Tensor:
    """Return a function of torch of 1-d numbers, where each result depends on its number alone.

    Not on its place: see `_BLOCK` and `_VECTOR`.
    """
    padded = torch.ones(_round_up(len(x)), dtype=x.dtype, device=x.device)
    padded[: len(x)] = x
    for block in torch.split(padded, _BLOCK):
        getattr(torch, f"{function}_")(block)
    return padded[: len(x)]


def _round_up(counters: int) -> int:
    """The next multiple of `_VECTOR`."""
    return -(-counters // _VECTOR) * _VECTOR


def words_again(grid: IndexGrid, index: torch.Tensor, attempt: int) -> Planes:
    """Return four more words for each of some numbers of a grid, given by their places in its flattened tensor."""
    at: Any = index.numpy() if index.device.type == "cpu" else index
    row_numbers = at // grid.length
    place = at - row_numbers * grid.length + row_numbers * grid.stride
    sample = row_numbers * grid.step
    key = fold(grid.key, attempt, _AGAIN)
    return _words(key, (place, grid.first), (sample, grid.sample), index.device)


def _words(
    key: Key, place: tuple[Any, int], sample: tuple[Any, int], device: torch.device, buffer: Any = None
) -> Planes:
    """Return the words of counters, each of which is a place and a sample.

    Both are the sum of an int64 array or tensor and an int. Of `sample` both may be ints. `buffer` is memory for
    six rows of int64, on the CPU.
    """
    if device.type == "cpu":
        length = len(place[0])
        planes = np.empty((6, length), np.int64) if buffer is None else buffer[:, :length]
        for (numbers, more), lower, upper in zip((place, sample), planes[0:4:2], planes[1:4:2], strict=True):
            np.add(numbers, more, out=lower)
            if lower.max(initial=0) > WORD:
                np.right_shift(lower, 32, out=upper)
                np.bitwise_and(lower, WORD, out=lower)
            else:
                upper.fill(0)
        philox_in_place(planes.view(np.uint64), key)
        return torch.from_numpy(planes[:4])
    places = place[0] + place[1]
    samples = torch.zeros_like(places) + sample[0] + sample[1]
    return torch.stack(philox((places & WORD, places >> 32, samples & WORD, samples >> 32), key))
