"""Singular values of bidiagonal matrices by divide and conquer, of whose vectors each rank has some rows.

The algorithm of Gu and Eisenstat ("A divide-and-conquer algorithm for the bidiagonal SVD", SIAM J. Matrix Anal.
Appl. 16, 1995), LAPACK's `bdsdc`: without a row in its middle the matrix is two smaller ones. With it, in the bases
of their vectors, it is a diagonal and one row, whose singular values are the roots of a secular equation, and
whose vectors have a formula. All ranks have the values. Each solves for a share of the roots, and multiplies its rows
of the vectors by those of the small problem, which it makes as it needs them: no vectors are sent.

Tensors only. The numbers are float64 on the host, the vectors have a dtype and device of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

import torch

from minisplit.core.communication.protocol import Communication

# Matrices of so many rows are left to LAPACK, each on one rank.
LEAF = 32
# Rows and columns of vectors that are multiplied at a time, and roots that are looked for together.
ROWS, COLUMNS = 512, 128
EPS = torch.finfo(torch.float64).eps


@dataclass(slots=True, eq=False)
class Bidiagonal:
    """A bidiagonal matrix, and what is known of its singular values.

    A part of it, rows `low` to `high`, has a column more than rows, but for the last one. Its values and vectors are
    in the places `low` to `high`, the vector of length 1 that it makes 0 in the place `high`.

    Attributes
    ----------
    diagonal, upper : Tensor
        The elements. The greatest is 1.
    comm : Communication
        The ranks.
    first : int
        The first row that this rank has of the vectors.
    vectors : list of Tensor
        This rank's rows of the left and the right vectors, of the right ones alone, or of none. At first zeros.
    values, top, bottom : Tensor
        Of each part the values, and the first and the last row of the right vectors.
    """

    diagonal: torch.Tensor
    upper: torch.Tensor
    comm: Communication
    first: int
    vectors: list[torch.Tensor]
    values: torch.Tensor
    top: torch.Tensor
    bottom: torch.Tensor


def singular_values(
    diagonal: torch.Tensor,
    upper: torch.Tensor,
    comm: Communication,
    first: int,
    vectors: list[torch.Tensor],
    *,
    descending: bool = True,
) -> torch.Tensor:
    """Return the singular values, in order, of a matrix with this diagonal and the one above.

    `vectors` are zeros, and become this rank's rows, from row `first` on, of the left and the right vectors, or of the
    right ones alone. Collective: one allreduce, and three for each part of more than `LEAF` rows. The values are the
    same on all ranks, to the bit.
    """
    size = len(diagonal)
    scale = float(torch.cat([diagonal, upper]).abs().max()) or 1.0
    zeros = torch.zeros(3, size + 1, dtype=torch.float64)
    matrix = Bidiagonal(diagonal / scale, upper / scale, comm, first, vectors, *zeros)
    merges = list(_merges(0, size))
    _solve_leaves(matrix, merges)
    for low, middle, high in merges:
        if high - low > LEAF:
            _merge(matrix, low, middle, high)
    values, order = matrix.values[:size].sort(descending=descending, stable=True)
    for part in vectors:
        for rows in part.split(ROWS):
            rows.copy_(rows[:, order.to(part.device)])
    return values * scale


def _merges(low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """The parts of a matrix, with their middle rows, smaller ones first. Leaves have no middle."""
    middle = (low + high) // 2
    if high - low > LEAF:
        yield from _merges(low, middle)
        yield from _merges(middle + 1, high)
    yield low, middle, high


def _solve_leaves(matrix: Bidiagonal, merges: list[tuple[int, int, int]]) -> None:
    # Each on one rank: vectors of equal values are whatever LAPACK takes, and must be the same on all.
    comm, size = matrix.comm, len(matrix.diagonal)
    leaves = [(low, high) for low, _, high in merges if high - low <= LEAF]
    found = torch.zeros(len(leaves), 3, LEAF + 1, LEAF + 1, dtype=torch.float64)
    for place in range(comm.rank, len(leaves), comm.size):
        low, high = leaves[place]
        rows, columns = high - low, min(high + 1, size) - low
        part = torch.zeros(rows, columns, dtype=torch.float64)
        part.diagonal().copy_(matrix.diagonal[low:high])
        part.diagonal(1).copy_(matrix.upper[low : low + columns - 1])
        u, s, vh = torch.linalg.svd(part)
        found[place, 0, :rows, :rows], found[place, 1, 0, :rows], found[place, 2, :columns, :columns] = u, s, vh.T
    for (low, high), (u, s, v) in zip(leaves, comm.allreduce(found), strict=True):
        rows, columns = high - low, min(high + 1, size) - low
        matrix.values[low:high] = s[0, :rows]
        matrix.top[low : low + columns], matrix.bottom[low : low + columns] = v[0, :columns], v[columns - 1, :columns]
        for part, whole, extent in zip(matrix.vectors[::-1], (v, u), (columns, rows), strict=False):
            start, stop = (min(max(row - matrix.first, 0), len(part)) for row in (low, low + extent))
            own = whole[start + matrix.first - low : stop + matrix.first - low, :extent] if start < stop else None
            if own is not None:
                part[start:stop, low : low + extent] = own.to(part)


def _merge(matrix: Bidiagonal, low: int, middle: int, high: int) -> None:
    """Make the vectors of a part of those of its two halves."""
    comm, top, bottom = matrix.comm, matrix.top, matrix.bottom
    alpha, beta = float(matrix.diagonal[middle]), float(matrix.upper[middle])
    # The middle row in the bases of the halves.
    row = torch.cat([alpha * bottom[low : middle + 1], beta * top[middle + 1 : high + 1]])
    has_null = high < len(matrix.diagonal)
    tolerance = 8 * EPS * max(abs(alpha), abs(beta), float(matrix.values[low:high].max()), EPS)
    cosine, sine, length = 1.0, 0.0, float(row[middle - low])
    if has_null:  # two null vectors, of which one is of the whole part as well
        length = hypot(length, float(row[-1]))
        if length > tolerance:
            cosine, sine = float(row[middle - low]) / length, float(row[-1]) / length
    if abs(length) <= tolerance:
        length = tolerance
    top[middle + 1 : high], bottom[low:middle] = 0, 0
    top[high], bottom[middle] = 0, 0
    for part in (top[None], bottom[None], *matrix.vectors[-1:]):
        if has_null:
            _rotate(part, middle, high, cosine, sine)
    for part in matrix.vectors[:-1]:
        if 0 <= middle - matrix.first < len(part):
            part[middle - matrix.first, middle] = 1
    matrix.values[middle] = 0
    kept, z, mixed = _deflate(matrix, low, middle, high, row[: high - low], length, tolerance)
    equation = _Secular.solved(matrix.values[kept], z, comm)
    ends = torch.zeros(2, len(kept), dtype=torch.float64)
    for columns in _shares(equation.size, comm):
        ends[:, columns] = torch.stack([top[kept], bottom[kept]]) @ equation.vectors(columns)[1]
    top[kept], bottom[kept] = comm.allreduce(ends)
    matrix.values[kept] = equation.roots
    bounds = [min(max(end - matrix.first, 0), _rows(matrix)) for end in (low, middle + 1, high + has_null)]
    for start, stop, is_of in zip(bounds[:2], bounds[1:], (kept <= middle, kept >= middle), strict=True):
        # What is zero in the rows of one half needs no product.
        places = (is_of | mixed).nonzero()[:, 0]
        for begin in range(start, stop, ROWS):
            _multiply(matrix, slice(begin, min(begin + ROWS, stop)), kept, places, equation)


def _rows(matrix: Bidiagonal) -> int:
    return len(matrix.vectors[0]) if matrix.vectors else 0


def _multiply(
    matrix: Bidiagonal, rows: slice, kept: torch.Tensor, places: torch.Tensor, equation: _Secular
) -> None:
    count = len(matrix.vectors)
    parts = [part[rows][:, kept[places].to(part.device)] for part in matrix.vectors]
    results = [part.new_empty((len(part), len(kept))) for part in parts]
    for begin in range(0, len(kept), COLUMNS):
        columns = slice(begin, min(begin + COLUMNS, len(kept)))
        factors = equation.vectors(columns)[2 - count :]
        for part, result, factor in zip(parts, results, factors, strict=True):
            torch.mm(part, factor[places].to(part), out=result[:, columns])
    for part, result in zip(matrix.vectors, results, strict=True):
        part[rows, kept.to(part.device)] = result


def _rotate(x: torch.Tensor, one: int, other: int, cosine: float, sine: float) -> None:
    """Column `one` becomes `cosine * one + sine * other`, and the other one what is orthogonal."""
    first, second = x[:, one].clone(), x[:, other].clone()
    x[:, one], x[:, other] = cosine * first + sine * second, cosine * second - sine * first


def _deflate(
    matrix: Bidiagonal, low: int, middle: int, high: int, row: torch.Tensor, length: float, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Set apart what is a singular value of the part already, to rounding: LAPACK's `lasd2`.

    Return the places of the others by ascending values, the row, and which places have columns of both halves.
    """
    values = matrix.values[low:high].tolist()
    z, mixed = row.tolist(), set[int]()
    z[middle - low] = length
    kept, last = [middle - low], -1
    others = [place for place in range(high - low) if place != middle - low]
    for place in sorted(others, key=values.__getitem__):
        if abs(z[place]) <= tolerance:
            continue
        if last >= 0 and values[place] - values[last] <= tolerance:
            # Of two equal values one needs no part of the row.
            norm = hypot(z[place], z[last])
            cosine, sine = z[place] / norm, -z[last] / norm
            z[place] = norm
            for part in (matrix.top[None], matrix.bottom[None], *matrix.vectors):
                _rotate(part, low + last, low + place, cosine, sine)
            mixed |= {place, last}
            kept.pop()
        kept.append(place)
        last = place
    places = torch.tensor(kept)
    # The first value is 0.
    if len(kept) > 1:
        matrix.values[low + kept[1]] = max(values[kept[1]], tolerance / 2)
    return places + low, torch.tensor(z, dtype=torch.float64)[places], torch.tensor([x in mixed for x in kept])


def _shares(size: int, comm: Communication) -> Iterator[slice]:
    """What this rank computes of `size` numbers, some at a time."""
    start, stop = (size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
    for begin in range(start, stop, COLUMNS):
        yield slice(begin, min(begin + COLUMNS, stop))


@dataclass(frozen=True, slots=True, eq=False)
class _Secular:
    """The singular values of a diagonal whose first row, of which the first value is 0, has other numbers.

    Root j is where `1 + sum(z**2 / (d**2 - root**2))` is 0, above `d[j]` and below the next. It is kept as a distance
    from the nearer one: `root**2 = d[nearest]**2 + distance`, from which differences have all their digits.
    """

    d: torch.Tensor
    z: torch.Tensor
    nearest: torch.Tensor
    distance: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.d)

    @property
    def roots(self) -> torch.Tensor:
        d = self.d[self.nearest]
        return d + self.distance / (d + (d * d + self.distance).sqrt())

    @classmethod
    def solved(cls, d: torch.Tensor, z: torch.Tensor, comm: Communication) -> _Secular:
        found = torch.zeros(2, len(d), dtype=torch.float64)
        for roots in _shares(len(d), comm):
            found[:, roots] = _find_roots(d, z * z, roots)
        found = comm.allreduce(found)
        equation = cls(d, z, found[0].long(), found[1])
        # The row of which these are the roots exactly, so that the vectors are orthogonal (Gu and Eisenstat).
        exact = torch.zeros_like(z)
        for places in _shares(len(d), comm):
            exact[places] = equation._row(places)
        return cls(d, comm.allreduce(exact).copysign(z), equation.nearest, equation.distance)

    def _row(self, places: slice) -> torch.Tensor:
        d, k = self.d[places, None], torch.arange(self.size)[places, None]
        numerators = self._differences(places, slice(None))
        # d[j] before the place, d[j + 1] from it on, and 1 for the last root.
        other = torch.where(torch.arange(self.size) < k, self.d, self.d.roll(-1))
        denominators = (other - d) * (other + d)
        denominators[:, -1] = torch.where(k[:, 0] == self.size - 1, 1, denominators[:, -1])
        ratios = numerators / denominators
        # The last root has no denominator; for the last place that of others is complete.
        ratios[:, -1] = numerators[:, -1]
        return ratios.abs().prod(1).sqrt()

    def _differences(self, places: slice, roots: slice) -> torch.Tensor:
        """Return `root**2 - d**2` for these places and roots."""
        d, near = self.d[places, None], self.d[self.nearest[roots]]
        return (near - d).mul_(near + d).add_(self.distance[roots])

    def vectors(self, roots: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the left and right singular vectors of some roots, which are the columns."""
        right = self.z[:, None] / self._differences(slice(None), roots)
        left = self.d[:, None] * right
        left[0] = 1
        return left / left.norm(dim=0), right / right.norm(dim=0)


def _find_roots(d: torch.Tensor, weights: torch.Tensor, roots: slice) -> torch.Tensor:
    """Return for some roots which `d` is nearest, and the distances of the squares."""
    last, index = len(d) - 1, torch.arange(len(d))[roots]
    above = (index + 1).clamp(max=last)
    half = (d[above] - d[index]) * (d[above] + d[index]) / 2
    half = torch.where(index == last, weights.sum() * (1 + 4 * EPS), half)
    middle = _evaluate(_poles(d, index), weights, half)[0]
    is_low = (middle >= 0) | (index == last)
    nearest, sign = torch.where(is_low, index, above), torch.where(is_low, 1.0, -1.0)
    poles = _poles(d, nearest)
    # By Newton's method for the equation times the distance, in which the nearest pole is none; or where that leaves
    # the interval, or is slow, by bisection of the numbers that a float can be, as which it takes few steps to a root
    # that is next to a pole.
    low, high = torch.zeros_like(index), half.view(torch.int64).clone()
    distance, active = half.clone(), torch.arange(len(index))
    for step in range(1, 200):
        x, signs = distance[active], sign[active]
        value, slope, size = _evaluate(poles[:, active], weights, signs * x)
        is_below = signs * value < 0
        bits = x.view(torch.int64)
        low[active] = torch.where(is_below, bits, low[active])
        high[active] = torch.where(is_below, high[active], bits)
        lows, highs = low[active], high[active]
        following = x - x * value / (value + signs * x * slope)
        inside = (following > lows.view(torch.float64)) & (following < highs.view(torch.float64))
        between = (lows + (highs - lows) // 2).view(torch.float64)
        following = torch.where(inside & (step % 4 > 0), following, between)
        done = (value.abs() <= 4 * EPS * size) | (highs - lows <= 1) | ((following - x).abs() <= EPS * x)
        # Never 0, where the vector would be none.
        distance[active] = torch.where(value.abs() <= 4 * EPS * size, x, following.clamp(min=5e-324))
        active = active[~done]
        if not len(active):
            break
    return torch.stack([nearest.double(), sign * distance])


def _poles(d: torch.Tensor, nearest: torch.Tensor) -> torch.Tensor:
    near = d[nearest]
    return (d[:, None] - near).mul_(d[:, None] + near)


def _evaluate(
    poles: torch.Tensor, weights: torch.Tensor, distance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the secular equation at a distance, its slope, and the sum of the absolute values of its terms."""
    gaps = poles - distance
    terms = weights[:, None] / gaps
    slope = (terms / gaps).sum(0)
    return 1 + terms.sum(0), slope, 1 + terms.abs().sum(0)
