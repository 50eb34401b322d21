"""The layouts in which Fourier transforms are computed. Layouts in, layouts out: no tensors, no MPI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from minisplit.core.layout import Layout, as_index
from minisplit.ops.shape.layouts import with_extent

# The kind of a transform along its last axis. "complex" gives as many numbers as it takes. "half" takes real
# numbers, and gives the first half of their transform, since the other half is its mirror image. "real" goes back
# from that half. Along all other axes a transform is complex.
Kind = Literal["complex", "half", "real"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a transform, which needs no message, or is a six-step transform of the split axis.

    Attributes
    ----------
    before, after : Layout
        The layouts before and after it.
    axes : tuple of int
        The axes that are transformed.
    factors : tuple of int, optional
        The factors of the number of points for `minisplit.ops.fft.six_step`.
    is_convolution : bool
        Whether the factors are those of a greater number, for `minisplit.ops.fft.bluestein`.
    """

    before: Layout
    axes: tuple[int, ...]
    after: Layout
    factors: tuple[int, int] | None = None
    is_convolution: bool = False


def input_extent(n: int, kind: Kind) -> int:
    """Return how many numbers a transform of `n` points takes."""
    return n // 2 + 1 if kind == "real" else n


def output_extent(n: int, kind: Kind) -> int:
    """Return how many numbers a transform of `n` points gives."""
    return n // 2 + 1 if kind == "half" else n


def count_points(given: Sequence[Any], extents: Sequence[int], kind: Kind, name: str) -> tuple[int, ...]:
    """Return how many points the transforms along axes of these extents have. None stands for all, in `s` also -1.

    Raise a ValueError for fewer than one.

    >>> count_points((None, -1), (6, 4), "real", "s")
    (6, 6)
    """
    numbers = []
    for place, (n, extent) in enumerate(zip(given, extents, strict=True), 1):
        is_real = kind == "real" and place == len(extents)
        default = 2 * (extent - 1) if is_real else extent
        number = default if n is None else as_index(n, name)
        number = default if number == -1 and name == "s" else number
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number} for an axis of extent {extent}")
        numbers.append(number)
    return tuple(numbers)


# Key: the layout and the arguments of the transform. A loop makes the same few transforms again and again.
@lru_cache(maxsize=256)
def plan_stages(
    x: Layout, axes: tuple[int, ...], numbers: tuple[int, ...], kind: Kind, most: float = math.inf
) -> tuple[Stage, ...]:
    """Plan the transform along `axes`, with so many points each. `kind` is that along the last one.

    `most` is how many elements a rank may have of an array that is not shared out among all.

    If the split axis is not transformed there is one stage. Otherwise the first stage transforms the other axes
    that can be transformed before the split axis. For the second stage the array is split along the longest other
    axis, and for the third one along the first axis again, where the axes that are left are transformed.

    If no other axis has an index for every rank, but the number of points along the split axis has large enough
    factors, the second stage is a six-step transform. Without such factors an array of more than `most` elements
    is transformed by a convolution, a smaller one is split along the longest other axis, and if that has one index
    it is gathered.

    >>> stages = plan_stages(Layout((8, 6), 0, ranks=2), (0, 1), (8, 6), "complex")
    >>> [(stage.before.split, stage.axes) for stage in stages]
    [(0, (1,)), (1, (0,)), (0, ())]
    >>> stages = plan_stages(Layout((8, 6), 1, ranks=2), (0, 1), (8, 6), "half")
    >>> [(stage.before.split, stage.axes) for stage in stages]
    [(1, ()), (0, (1,)), (1, (0,))]
    """
    points = dict(zip(axes, numbers, strict=True))
    if x.split not in axes or x.ranks == 1:
        return (_stage(x, axes, points, kind),)
    split, last = x.split, axes[-1]
    # A "half" transform takes real numbers, so it comes before those along other axes, which give complex ones. A
    # "real" one gives real numbers, so it comes after them.
    early = () if kind == "half" and split == last else axes
    if kind == "real" and split != last:
        early = axes[:-1]
    first = _stage(x, tuple(axis for axis in early if axis != split), points, kind)
    left = tuple(axis for axis in axes if axis == split or axis not in first.axes)
    others = [axis for axis in range(x.ndim) if axis != split]
    longest = max(others, key=lambda axis: first.after.shape[axis], default=None)
    indices = 1 if longest is None else first.after.shape[longest]
    factors = _factors(points[split])
    # The six-step method gives each rank whole rows and columns of a matrix of factors[0] by factors[1].
    if indices < x.ranks <= min(factors):
        second = replace(_stage(first.after, (split,), points, kind), factors=factors)
    elif indices < x.ranks and math.prod(first.after.shape) > most and points[split] >= x.ranks:
        whole = _stage(first.after, (split,), points, kind)
        taken = min(x.extent, input_extent(points[split], kind if split == last else "complex"))
        padded = padded_factors(taken + whole.after.extent - 1, x.ranks)
        second = replace(whole, factors=padded, is_convolution=True)
    else:
        moved = first.after.with_split(longest if indices > 1 else None)
        second = _stage(moved, tuple(axis for axis in left if axis != moved.split), points, kind)
    shape = second.after.shape
    home = Layout(shape, split, x.ranks, x.ragged if shape[split] == x.shape[split] else None)
    return first, second, _stage(home, tuple(axis for axis in left if axis not in second.axes), points, kind)


def _stage(before: Layout, axes: tuple[int, ...], points: dict[int, int], kind: Kind) -> Stage:
    """Return the stage that transforms `axes`. `points` has those of all axes, in order."""
    after, last = before, list(points)[-1]
    for axis in axes:
        extent = output_extent(points[axis], kind if axis == last else "complex")
        counts = before.counts if extent == before.shape[axis] else None
        after = with_extent(after, axis, extent, counts)
    return Stage(before, axes, after)


# Key: the number of points. Finding the factors of a prime number takes a loop up to its root.
@lru_cache(maxsize=256)
def _factors(n: int) -> tuple[int, int]:
    """Return the two factors of `n` that differ least, the smaller one first."""
    small = next(factor for factor in range(math.isqrt(n), 0, -1) if n % factor == 0)
    return small, n // small


# Key: the number of points and of ranks.
@lru_cache(maxsize=256)
def padded_factors(n: int, ranks: int) -> tuple[int, int]:
    """Return two numbers whose product is `n` or more, none less than `ranks`, which have small factors only.

    >>> padded_factors(201, 2)
    (15, 15)
    """
    first = _smooth(max(math.isqrt(n - 1) + 1, ranks))
    return first, _smooth(max(-(-n // first), ranks))


def _smooth(n: int) -> int:
    """Return the least number from `n` on that has no prime factors but 2, 3 and 5."""

    def is_smooth(m: int) -> bool:
        for prime in (2, 3, 5):
            while m % prime == 0:
                m //= prime
        return m == 1

    while not is_smooth(n):
        n += 1
    return n
