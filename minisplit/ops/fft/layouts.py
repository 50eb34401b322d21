"""In which layouts Fourier transforms are computed. Layouts in and out: no tensors, no MPI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from minisplit.core.layout import Layout, as_index
from minisplit.ops.shape.layouts import with_extent

# "complex": as many numbers out as in; "half": of real numbers the first half of the transform, which is all there
# is to know; "real": back from that half. "half" and "real" are along one axis, the others are complex.
Kind = Literal["complex", "half", "real"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Some of the axes transformed: the layouts before and after that.

    `axes` end with the one that is "half" or "real", if `is_last_kind`. `factors` are those of the extent of the
    split axis where that is transformed as it lies, see `minisplit.ops.fft.six_step`.
    """

    have: Layout
    axes: tuple[int, ...]
    is_last_kind: bool
    result: Layout
    factors: tuple[int, int] | None = None


def inputs(n: int, kind: Kind) -> int:
    """How many numbers along an axis a transform of `n` points begins with."""
    return n // 2 + 1 if kind == "real" else n


def outputs(n: int, kind: Kind) -> int:
    """How many numbers along an axis a transform of `n` points gives."""
    return n // 2 + 1 if kind == "half" else n


def points(given: Sequence[Any], extents: Sequence[int], kind: Kind, name: str) -> tuple[int, ...]:
    """How many points the transforms of axes of these extents have; where none, or -1, is given all there are.

    Raises ValueError for fewer than one.

    >>> points((None, -1), (6, 4), "real", "s")
    (6, 6)
    """
    numbers = []
    for place, (n, extent) in enumerate(zip(given, extents, strict=True), 1):
        is_real = kind == "real" and place == len(extents)
        everything = 2 * (extent - 1) if is_real else extent
        number = everything if n is None else as_index(n, name)
        number = everything if number == -1 and name == "s" else number
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number} for an axis of extent {extent}")
        numbers.append(number)
    return tuple(numbers)


@lru_cache(maxsize=256)
def stages(x: Layout, axes: tuple[int, ...], numbers: tuple[int, ...], kind: Kind) -> tuple[Stage, ...]:
    """How to transform `axes` of an array, the last of which is of that kind, with so many points.

    One stage where the split axis is not among them. Else what can be done before the split axis is, then
    the split moves to the longest other axis for that, and back for what is left. Where no other axis has an
    index for each rank, but the split one has factors, it is transformed as it lies; a lone one without is
    gathered.

    >>> [(stage.have.split, stage.axes) for stage in stages(Layout((8, 6), 0, 2), (0, 1), (8, 6), "complex")]
    [(0, (1,)), (1, (0,)), (0, ())]
    >>> [(stage.have.split, stage.axes) for stage in stages(Layout((8, 6), 1, 2), (0, 1), (8, 6), "half")]
    [(1, ()), (0, (1,)), (1, (0,))]
    """
    number_of = dict(zip(axes, numbers, strict=True))
    if x.split not in axes or x.ranks == 1:
        return (_stage(x, axes, number_of, kind, axes),)
    across, last = x.split, axes[-1]
    # Half of a transform comes before, a real one after those along other axes.
    first = () if kind == "half" and across == last else axes
    if kind == "real" and across != last:
        first = axes[:-1]
    before = _stage(x, tuple(axis for axis in first if axis != across), number_of, kind, axes)
    left = tuple(axis for axis in axes if axis == across or axis not in before.axes)
    factors = _factors(number_of[across])
    other = max(
        (axis for axis in range(x.ndim) if axis != across), key=lambda a: before.result.shape[a], default=across
    )
    room = before.result.shape[other] if other != across else 1
    if room < x.ranks <= min(factors):
        middle = _stage(before.result, (across,), number_of, kind, axes, factors)
    else:
        moved = before.result.with_split(other if room > 1 else None)
        middle = _stage(moved, tuple(axis for axis in left if axis != moved.split), number_of, kind, axes)
    shape = middle.result.shape
    home = Layout(shape, across, x.ranks, x.ragged if shape[across] == x.shape[across] else None)
    rest = tuple(axis for axis in left if axis not in middle.axes)
    return before, middle, _stage(home, rest, number_of, kind, axes)


def _stage(
    have: Layout,
    axes: tuple[int, ...],
    number_of: dict[int, int],
    kind: Kind,
    all_axes: tuple[int, ...],
    factors: tuple[int, int] | None = None,
) -> Stage:
    result, last = have, all_axes[-1]
    for axis in axes:
        extent = outputs(number_of[axis], kind if axis == last else "complex")
        counts = have.counts if extent == have.shape[axis] else None
        result = with_extent(result, axis, extent, counts)
    return Stage(have, axes, last in axes, result, factors)


@lru_cache(maxsize=256)
def _factors(n: int) -> tuple[int, int]:
    """The two factors of `n` that differ least, the smaller one first."""
    small = next(factor for factor in range(math.isqrt(n), 0, -1) if n % factor == 0)
    return small, n // small
