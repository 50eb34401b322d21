"""Tensors of random numbers, each a function of its place in the global array or batch.

An `IndexGrid` says which places. Its numbers are made in blocks that fit the caches: words of Philox first, by
NumPy on the CPU, which for integers is several times faster than torch, and by torch elsewhere. Then torch makes
of them what is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.random.philox import WORD, Key, fold, philox, philox_in_place

# Counters in a block: few enough for the caches, and for torch to use one thread for the functions that may round
# otherwise at the ends of its parts; on other devices as many as make few calls.
_BLOCK, _BLOCK_ELSEWHERE = 2**14, 2**20
# Blocks are filled up to a multiple of this: no number is computed in the rest of a vector, where a
# library may round otherwise.
_VECTOR = 16
# Bits of the mantissa, and so of a number from 0 to 1.
_BITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
_REJECTED = 2**63 - 1
# What `fold` is told to make keys for: the draws of a mapped function, and what is drawn again.
DRAW, _AGAIN = 1, 2
# What becomes of the four words of each counter, which it may overwrite: planes of as many numbers as one gives.
Planes = torch.Tensor
Transform = Callable[[Planes], Planes]


class IndexGrid(NamedTuple):
    """The places of a tensor of `rows` rows of `length` numbers.

    Number j of row r is number `first + r * stride + j` of sample `sample + r * step`, under `key`; an array is
    one sample, and rows of a batch are samples.
    """

    key: Key
    rows: int
    length: int
    first: int = 0
    stride: int = 0
    sample: int = 0
    step: int = 0


def field_of(layout: Layout, rank: int, key: Key) -> IndexGrid:
    """The places of a rank's shard: the row-major order of the global array counts.

    >>> field_of(Layout((4, 6), 1, ranks=2), 1, (0, 0))[1:5]
    (4, 3, 3, 6)
    """
    if layout.split is None:
        return IndexGrid(key, 1, layout.size)
    inner = math.prod(layout.shape[layout.split + 1 :])
    start, stop = layout.span(rank)
    rows = math.prod(layout.shape[: layout.split])
    return IndexGrid(key, rows, (stop - start) * inner, start * inner, layout.extent * inner)


def batch_of(key: Key, samples: int, each: int, first: int) -> IndexGrid:
    """The places of `each` numbers for each of some samples, from sample `first` on."""
    return IndexGrid(key, samples, each, sample=first, step=1)


def uniform(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers from 0 to below 1, multiples of 2^-24 (float32), 2^-53 (float64); of complex ones both parts.

    TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _complex(uniform(_twice(field), dtype.to_real(), device))
    check_real(dtype)
    bits = _BITS[dtype]
    if bits > 32:
        return _filled(field, 2, lambda planes: _long(planes, bits).to(dtype).mul_(2.0**-bits), dtype, device)
    return _filled(
        field, 4, lambda planes: planes.bitwise_right_shift_(32 - bits).to(dtype).mul_(2.0**-bits), dtype, device
    )


def normal(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers of mean 0 and variance 1; real and imaginary part of complex ones have a variance of 1/2 each.

    By Box and Muller, "A note on the generation of random normal deviates", Annals of Mathematical Statistics 29,
    1958. TypeError for a dtype of integers.
    """
    if dtype.is_complex:
        return _complex(normal(_twice(field), dtype.to_real(), device).mul_(math.sqrt(0.5)))
    check_real(dtype)
    if dtype is torch.float64:
        return _filled(field, 2, _normal_double, dtype, device)
    return _filled(field, 4, _normal_single, dtype, device)


def log_normal(
    field: IndexGrid, dtype: torch.dtype, device: torch.device, mean: float, std: float
) -> torch.Tensor:
    """Numbers of which the logarithm is normally distributed."""
    check_real(dtype)
    double = dtype is torch.float64

    def transform(planes: Planes) -> Planes:
        normals = _normal_double(planes) if double else _normal_single(planes)
        return _each("exp", normals.mul_(std).add_(mean))

    return _filled(field, 2 if double else 4, transform, dtype, device)


def cauchy(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers of the Cauchy distribution of median 0 and scale 1."""
    check_real(dtype)
    double = dtype is torch.float64

    def transform(planes: Planes) -> Planes:
        u = (
            _long(planes, 53).to(torch.float64).mul_(2.0**-53)
            if double
            else planes.to(torch.float32).mul_(2.0**-32)
        )
        return _each("tan", u.sub_(0.5).mul_(math.pi))

    return _filled(field, 2 if double else 4, transform, dtype, device)


def exponential(field: IndexGrid, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers above 0 of the exponential distribution of mean 1."""
    check_real(dtype)
    bits = _BITS[dtype]

    def transform(planes: Planes) -> Planes:
        # Small numbers, of which the logarithm is large, have all their bits; the largest are rounded to 1.
        u = _long(planes, bits).to(dtype) if bits > 32 else planes.to(torch.float32)
        u = u.add_(1).mul_(2.0 ** -(bits if bits > 32 else 32))
        return _each("log", u).neg_().clamp_(min=torch.finfo(dtype).tiny)

    return _filled(field, 2 if bits > 32 else 4, transform, dtype, device)


def integers(field: IndexGrid, low: int, high: int, device: torch.device) -> torch.Tensor:
    """int64 numbers from `low` to below `high`, all as likely.

    By Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019; from 2^32 values on
    by the lowest bits. What is rejected is drawn again, as often as needed.
    """
    span = high - low
    exact = span & (span - 1) == 0  # a power of 2: nothing to reject
    if span <= 2**32:
        few = 2**32 % span  # so many of the 2^32 products would favour a value

        def transform(planes: Planes) -> Planes:
            product = planes * span
            value = ((product >> 32) & WORD).add_(low)
            return value if exact else value.masked_fill_((product & WORD) < few, _REJECTED)

        per = 4
    else:
        bits = (span - 1).bit_length()

        def transform(planes: Planes) -> Planes:
            value = _long(planes, bits)
            if exact:
                return value.add_(low)
            over = (value ^ -(2**63)) >= span - 2**63 if bits == 64 else value >= span  # as without a sign
            return value.add_(low).masked_fill_(over, _REJECTED)

        per = 2
    drawn = _filled(field, per, transform, torch.int64, device)
    if exact:
        return drawn
    flat = drawn.view(-1)
    again = (flat == _REJECTED).nonzero().squeeze(1)
    attempt = 0
    while again.numel():
        attempt += 1
        flat[again] = transform(_attempt(field, again, attempt))[0]
        again = again[flat[again] == _REJECTED]
    return drawn


def bernoulli(field: IndexGrid, p: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """Whether of so many chances each came true: `p` is one, or one for each number."""
    drawn = _filled(field, 4, lambda planes: planes.to(torch.float64).mul_(2.0**-32), torch.float64, device)
    return drawn < (p if isinstance(p, float) else p.to(torch.float64))


def stretched(drawn: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Numbers from 0 to below 1 as numbers from `low` to below `high`, which rounding could reach. In place."""
    largest = torch.nextafter(torch.tensor(high, dtype=drawn.dtype), torch.tensor(low, dtype=drawn.dtype))
    return drawn.mul_(high - low).add_(low).clamp_(max=largest.item())


def cumulated(weights: torch.Tensor) -> torch.Tensor:
    """Along the last axis the share up to each weight, the last being 1: to be searched with `right=True`."""
    total = weights.to(torch.float64).cumsum(-1)
    return total / total[..., -1:]


def poisson(field: IndexGrid, rate: torch.Tensor, device: torch.device) -> torch.Tensor:
    """float64 counts of the Poisson distribution, one for each of the rates, a tensor like the field.

    Rates below 10 by the sum of probabilities, larger ones by rejection (PTRS): Hörmann, "The transformed
    rejection method for generating Poisson random variables", Insurance: Mathematics and Economics 12, 1993.
    """
    rates = rate.to(torch.float64).reshape(-1).to(device)
    drawn = torch.zeros_like(rates)
    few = (rates < 10).nonzero().squeeze(1)
    drawn[few] = _poisson_by_sums(field, few, rates[few])
    left = (rates >= 10).nonzero().squeeze(1)
    attempt = 0
    while left.numel():
        attempt += 1
        count, accepted = _poisson_by_rejection(rates[left], _attempt(field, left, attempt))
        drawn[left[accepted]] = count[accepted]
        left = left[~accepted]
    return drawn.view(field.rows, field.length)


def _poisson_by_sums(field: IndexGrid, index: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    u = _long(_attempt(field, index, 0), 53)[0].to(torch.float64).mul_(2.0**-53)
    probability = torch.exp(-rate)
    count, total = torch.zeros_like(rate), probability.clone()
    # The sum may come to stand below the largest u.
    while bool((going := (u >= total) & (probability > 2.0**-60)).any()):
        count += going
        probability *= torch.where(going, rate / count.clamp(min=1), 1)
        total += torch.where(going, probability, 0)
    return count


def _poisson_by_rejection(rate: torch.Tensor, planes: Planes) -> tuple[torch.Tensor, torch.Tensor]:
    """A count for each rate, and whether it stands."""
    u, v = _long(planes, 53).to(torch.float64).add_(0.5).mul_(2.0**-53)
    u = u - 0.5
    b = 0.931 + 2.53 * rate.sqrt()
    a = -0.059 + 0.02483 * b
    us = 0.5 - u.abs()
    count = ((2 * a / us + b) * u + rate + 0.43).floor()
    at_once = (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
    density = torch.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / us**2 + b))
    fits = density <= -rate + count * rate.log() - torch.lgamma(count + 1)
    return count, at_once | ((count >= 0) & ((us >= 0.013) | (v <= us)) & fits)


def check_real(dtype: torch.dtype) -> None:
    """TypeError unless random real numbers are made in this dtype."""
    if dtype not in _BITS:
        raise TypeError(f"random real numbers have dtype {', '.join(map(str, _BITS))}, not {dtype}")


def _twice(field: IndexGrid) -> IndexGrid:
    """The places of real and imaginary parts."""
    return field._replace(length=2 * field.length, first=2 * field.first, stride=2 * field.stride)


def _complex(parts: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(parts.view(parts.shape[0], -1, 2))


def _long(planes: Planes, bits: int) -> Planes:
    """Numbers of so many bits, more than 32: two planes from four."""
    both = planes[0::2] | (planes[1::2] << 32)
    return both if bits == 64 else (both >> (64 - bits)) & ((1 << bits) - 1)


def _normal_single(planes: Planes) -> Planes:
    radius = _each("log", planes[0::2].to(torch.float32).add_(0.5).mul_(2.0**-32)).mul_(-2).sqrt_()
    return _turned(radius, planes[1::2].sub_(2**31).to(torch.float32).mul_(math.pi * 2.0**-31))


def _normal_double(planes: Planes) -> Planes:
    long = _long(planes, 53)
    radius = _each("log", long[0:1].to(torch.float64).add_(0.5).mul_(2.0**-53)).mul_(-2).sqrt_()
    return _turned(radius, long[1:2].sub_(2**52).to(torch.float64).mul_(math.pi * 2.0**-52))


def _each(function: str, planes: Planes) -> Planes:
    """A function of numbers, in place: NumPy's of single ones on the CPU, which are several times faster.

    Plane by plane, as torch uses one thread for one of them.
    """
    if planes.dtype is torch.float32 and planes.device.type == "cpu":
        getattr(np, function)(planes.numpy(), out=planes.numpy())
    else:
        for plane in planes:
            getattr(torch, f"{function}_")(plane)
    return planes


def _turned(radius: torch.Tensor, angle: torch.Tensor) -> Planes:
    cos, sin = _each("cos", angle.clone()), _each("sin", angle)
    return torch.cat([cos.mul_(radius), sin.mul_(radius)])


def _filled(
    field: IndexGrid, per: int, transform: Transform, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The tensor of a field, of which each counter gives `per` numbers."""
    out = torch.empty((field.rows, field.length), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    # Of rows that begin within a counter, each phase for itself.
    groups = per // math.gcd(field.stride, per) if field.rows > 1 else 1
    for start in range(min(groups, field.rows)):
        part = field._replace(
            rows=len(range(start, field.rows, groups)),
            first=field.first + start * field.stride,
            stride=field.stride * groups,
            sample=field.sample + start * field.step,
            step=field.step * groups,
        )
        _fill(out[start::groups], part, per, transform)
    return out


def _fill(out: torch.Tensor, field: IndexGrid, per: int, transform: Transform) -> None:
    """Fill `out` by blocks of counters; all rows begin at the same number of their first counters."""
    first, phase = divmod(field.first, per)
    stride = field.stride // per
    counters = -(-(phase + field.length) // per)
    on_cpu = out.device.type == "cpu"
    block = _BLOCK if on_cpu else _BLOCK_ELSEWHERE
    width = min(counters, block)
    height = min(field.rows, block // width)
    length = _lengthened(width * height)
    room = np.empty((6, length), np.int64) if on_cpu else None
    places: Any = np.arange(length) if on_cpu else torch.arange(length, device=out.device)
    samples: Any = 0
    if height > 1:
        rows_of = places // width
        places = places + rows_of * (stride - width)
        samples = rows_of * field.step if field.step else 0
    for row in range(0, field.rows, height):
        rows = min(height, field.rows - row)
        for column in range(0, counters, width):
            columns = min(width, counters - column)
            length = _lengthened(rows * columns)
            place = places[:length], first + row * stride + column
            sample = samples if isinstance(samples, int) else samples[:length], field.sample + row * field.step
            values = transform(_planes(field.key, place, sample, out.device, room))[:, : rows * columns]
            _put(values.view(per, rows, columns), out[row : row + rows], column * per - phase)


def _put(values: torch.Tensor, out: torch.Tensor, start: int) -> None:
    """Write planes of values into the columns of `out` from `start` on, as far as these are there."""
    per, rows, columns = values.shape
    stop = start + columns * per
    if start >= 0 and stop <= out.shape[1]:
        strides = out.stride(0), per, 1
        out.as_strided((rows, columns, per), strides, out.storage_offset() + start).copy_(values.permute(1, 2, 0))
        return
    whole = values.permute(1, 2, 0).reshape(rows, columns * per)
    first, last = max(start, 0), min(stop, out.shape[1])
    out[:, first:last] = whole[:, first - start : last - start]


def _lengthened(counters: int) -> int:
    return -(-counters // _VECTOR) * _VECTOR


def _attempt(field: IndexGrid, index: torch.Tensor, attempt: int) -> Planes:
    """Four more words for each of some numbers of a field, given by their places in its tensor."""
    at: Any = index.numpy() if index.device.type == "cpu" else index
    rows_of = at // field.length
    place = at - rows_of * field.length + rows_of * field.stride
    sample = rows_of * field.step
    key = fold(field.key, attempt, _AGAIN)
    return _planes(key, (place, field.first), (sample, field.sample), index.device)


def _planes(
    key: Key, place: tuple[Any, int], sample: tuple[Any, int], device: torch.device, room: Any = None
) -> Planes:
    """The words of counters: of places and samples, each the sum of an int64 array or tensor and an int.

    Of `sample` both may be ints.
    """
    if device.type == "cpu":
        length = len(place[0])
        planes = np.empty((6, length), np.int64) if room is None else room[:, :length]
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
