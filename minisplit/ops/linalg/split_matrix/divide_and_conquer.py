"""Spectra of matrices of two diagonals, by divide and conquer; each rank has some elements of all vectors.

The algorithms of Cuppen, and of Gu and Eisenstat ("A divide-and-conquer algorithm for the symmetric tridiagonal
eigenproblem", "... for the bidiagonal SVD", SIAM J. Matrix Anal. Appl. 16, 1995), LAPACK's `stedc` and `bdsdc`:
but for what joins its halves, the matrix is two smaller ones. In the bases of their vectors it is a diagonal and
a matrix of rank one, or a row, whose values are the roots of a secular equation, and whose vectors have a
formula. All ranks have the values. Each solves for a share of the roots, and multiplies its elements of the
vectors by those of the small problem, which it makes as it needs them: no vectors are sent. A vector is a row,
whose elements lie side by side: so vectors that are mixed, and put in order, are moved at the speed of memory.

Tensors only. The numbers are float64 on the host, the vectors have a dtype and device of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import copysign, hypot

import torch

from minisplit.core.communication.protocol import Communication

# Matrices of so many rows are left to LAPACK, each on one rank.
LEAF = 32
# So many vectors are made at a time, and roots looked for together: in a few matrices of as many columns, which
# the cache has room for.
COLUMNS = 64
# The least elements of vectors that are multiplied at a time, for which the vectors of a small problem are made
# again. A rank with more takes half of its own for one basis, a quarter for two: they are there twice meanwhile.
ROWS = 64
EPS = torch.finfo(torch.float64).eps

# The first row of a part, that of the second half, and the first row behind. Leaves have no halves.
Part = tuple[int, int, int]


def eigenvalues(
    diagonal: torch.Tensor, other: torch.Tensor, comm: Communication, first: int, vectors: list[torch.Tensor]
) -> torch.Tensor:
    """Return the eigenvalues, ascending, of a symmetric matrix with this diagonal and the one beside.

    `vectors` are zeros, as many as rows, and this rank's elements of them, from `first` on; they become those of
    the eigenvectors. Or there are none. Collective: one allreduce for `LEAF` parts of as many rows, and three for
    each part of more. The values are the same on all ranks, to the bit.
    """
    return _solve(_Tridiagonal, diagonal, other, comm, first, vectors)


def singular_values(
    diagonal: torch.Tensor, upper: torch.Tensor, comm: Communication, first: int, vectors: list[torch.Tensor]
) -> torch.Tensor:
    """Return the singular values, descending, of a matrix with this diagonal and the one above.

    `vectors` are this rank's elements of the left and of the right ones, or none. Otherwise as `eigenvalues`.
    """
    return _solve(_Bidiagonal, diagonal, upper, comm, first, vectors)


def _solve(
    kind: type[_Matrix],
    diagonal: torch.Tensor,
    other: torch.Tensor,
    comm: Communication,
    first: int,
    vectors: list[torch.Tensor],
) -> torch.Tensor:
    size = len(diagonal)
    scale = float(torch.cat([diagonal, other]).abs().max()) or 1.0
    zeros = torch.zeros(3, size + 1, dtype=torch.float64)
    matrix = kind(diagonal / scale, other / scale, comm, first, vectors, *zeros)
    parts = list(_parts(0, size, matrix.rows_between))
    matrix.solve_leaves(parts)
    for low, middle, high in parts:
        if high - low > LEAF:
            matrix.join(low, middle, high)
    values, order = matrix.values[:size].sort(descending=matrix.are_singular, stable=True)
    for part in vectors:
        for elements in torch.split(part, ROWS, 1):
            elements.copy_(elements[order.to(part.device)])
    return values * scale


def _parts(low: int, high: int, between: int) -> Iterator[Part]:
    """The parts of a matrix, smaller ones first. Between halves are so many rows."""
    middle = (low + high) // 2
    if high - low > LEAF:
        yield from _parts(low, middle, between)
        yield from _parts(middle + between, high, between)
    yield low, middle, high


@dataclass(slots=True, eq=False)
class _Matrix(ABC):
    """A matrix of two diagonals, whose greatest element is 1, and what is known of the spectra of its parts.

    Attributes
    ----------
    diagonal, other : Tensor
        The elements.
    comm : Communication
        The ranks.
    first : int
        The first element that this rank has of the vectors.
    vectors : list of Tensor
        This rank's elements of the vectors, which are rows. The right ones are last.
    values, top, bottom : Tensor
        Of each part, in the places of its vectors, the values, and the right vectors' first and last element.
    """

    diagonal: torch.Tensor
    other: torch.Tensor
    comm: Communication
    first: int
    vectors: list[torch.Tensor]
    values: torch.Tensor
    top: torch.Tensor
    bottom: torch.Tensor

    are_singular = False
    rows_between = 0

    @abstractmethod
    def leaf(self, low: int, high: int) -> tuple[torch.Tensor, ...]:
        """Return the left vectors, if there are any, the values and the right vectors of a part."""

    @abstractmethod
    def couple(self, low: int, middle: int, high: int) -> tuple[torch.Tensor, float, float]:
        """Return what joins two halves, in the basis of their vectors, and bounds.

        First that below which values are equal, then that below which a number of the row is 0.
        """

    def columns(self, low: int, high: int) -> int:
        """How many columns a part has."""
        return high - low

    def solve_leaves(self, parts: list[Part]) -> None:
        # Some at a time, since a message has room for all of the vectors of each.
        leaves = [(low, high) for low, _, high in parts if high - low <= LEAF]
        for start in range(0, len(leaves), LEAF):
            self._solve_some(leaves[start : start + LEAF])

    def _solve_some(self, leaves: list[tuple[int, int]]) -> None:
        # Each on one rank: vectors of equal values are whatever LAPACK takes, and must be the same on all.
        comm = self.comm
        found = torch.zeros(len(leaves), 3, LEAF + 1, LEAF + 1, dtype=torch.float64)
        for place in range(comm.rank, len(leaves), comm.size):
            for x, to in zip(self.leaf(*leaves[place])[::-1], found[place], strict=False):
                to[: len(x), : x.shape[-1]] = x
        for (low, high), (v, s, u) in zip(leaves, comm.allreduce(found), strict=True):
            rows, columns = high - low, self.columns(low, high)
            self.values[low:high] = s[0, :rows]
            self.top[low : low + columns] = v[0, :columns]
            self.bottom[low : low + columns] = v[columns - 1, :columns]
            for part, whole, extent in zip(self.vectors[::-1], (v, u), (columns, rows), strict=False):
                start, stop = (min(max(row - self.first, 0), part.shape[1]) for row in (low, low + extent))
                if start < stop:
                    own = whole[start + self.first - low : stop + self.first - low, :extent]
                    part[low : low + extent, start:stop] = own.T.to(part)

    def join(self, low: int, middle: int, high: int) -> None:
        """Make the vectors of a part of those of its two halves."""
        row, equal, zero = self.couple(low, middle, high)
        kept, z, mixed = self._deflate(low, middle, row, equal, zero)
        if not len(kept):
            return
        equation = _Secular.solved(self.values[kept], z, self.are_singular, self.comm)
        ends = torch.zeros(2, len(kept), dtype=torch.float64)
        for roots in _shares(len(kept), self.comm):
            ends[:, roots] = torch.stack([self.top[kept], self.bottom[kept]]) @ equation.vectors(roots)[-1]
        self.top[kept], self.bottom[kept] = self.comm.allreduce(ends)
        self.values[kept] = equation.roots
        if not self.vectors:
            return
        between, extent = middle + self.rows_between, self.vectors[0].shape[1]
        ends_of_rows = (low, between, low + self.columns(low, high))
        bounds = [min(max(end - self.first, 0), extent) for end in ends_of_rows]
        some = max(ROWS, -(-extent // (2 * len(self.vectors))))
        for start, stop, is_of in zip(bounds[:2], bounds[1:], (kept < between, kept >= middle), strict=True):
            # Vectors that are zero in these elements need no product.
            places = (is_of | mixed).nonzero()[:, 0]
            for begin in range(start, stop, some):
                self._multiply(slice(begin, min(begin + some, stop)), kept, places, equation)

    def _multiply(self, elements: slice, kept: torch.Tensor, places: torch.Tensor, equation: _Secular) -> None:
        wholes = [part[:, elements] for part in self.vectors]
        parts = [whole[kept[places].to(whole.device)] for whole in wholes]
        for begin in range(0, len(kept), COLUMNS):
            columns = slice(begin, min(begin + COLUMNS, len(kept)))
            for whole, part, factor in zip(wholes, parts, equation.vectors(columns), strict=True):
                whole[kept[columns].to(whole.device)] = factor[places].T.to(part) @ part

    def _deflate(
        self, low: int, middle: int, row: torch.Tensor, equal: float, zero: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Set apart what is in the spectrum of the part already, to rounding: LAPACK's `laed2` and `lasd2`.

        Return the places of the others by ascending values, their row, and which have columns of both halves.
        """
        values, z, mixed = self.values[low : low + len(row)].tolist(), row.tolist(), set[int]()
        # The row between halves has the value 0, and is kept.
        kept, last = ([middle - low] if self.are_singular else []), -1
        others = [place for place in range(len(row)) if place not in kept]
        for place in sorted(others, key=values.__getitem__):
            if abs(z[place]) <= zero:
                continue
            if last >= 0 and values[place] - values[last] <= equal:
                # Of two equal values one needs no part of the row.
                norm = hypot(z[place], z[last])
                for part in (self.top, self.bottom, *self.vectors):
                    _rotate(part, low + last, low + place, z[place] / norm, -z[last] / norm)
                z[place] = norm
                mixed |= {place, last}
                kept.pop()
            kept.append(place)
            last = place
        if self.are_singular and len(kept) > 1:
            self.values[low + kept[1]] = max(values[kept[1]], equal / 2)
        places = torch.tensor(kept, dtype=torch.int64)
        is_mixed = torch.tensor([place in mixed for place in kept], dtype=torch.bool)
        return places + low, torch.tensor(z, dtype=torch.float64)[places], is_mixed


class _Tridiagonal(_Matrix):
    """A symmetric matrix. Without the element between them, its halves are each such a matrix."""

    def solve_leaves(self, parts: list[Part]) -> None:
        for low, middle, high in parts:
            if high - low > LEAF:  # what is left has rank one
                self.diagonal[middle - 1 : middle + 1] -= self.other[middle - 1].abs()
        super().solve_leaves(parts)

    def leaf(self, low: int, high: int) -> tuple[torch.Tensor, ...]:
        lower = torch.diag(self.diagonal[low:high]) + torch.diag(self.other[low : high - 1], -1)
        values, vectors = torch.linalg.eigh(lower)
        return values[None], vectors

    def couple(self, low: int, middle: int, high: int) -> tuple[torch.Tensor, float, float]:
        element = float(self.other[middle - 1])
        row = torch.cat([self.bottom[low:middle], copysign(1, element) * self.top[middle:high]])
        self.top[middle:high], self.bottom[low:middle] = 0, 0
        row *= abs(element) ** 0.5
        norm = float(row.norm())
        equal = 8 * EPS * max(float(self.values[low:high].abs().max()), norm**2, EPS)
        return row, equal, equal / norm if norm else 0.0


class _Bidiagonal(_Matrix):
    """A square matrix. A part of it has a column more than rows, but for the last one.

    Between the halves is a row. A part has a vector of length 1 that it makes 0, in the place of the row behind.
    """

    are_singular = True
    rows_between = 1

    def columns(self, low: int, high: int) -> int:
        return min(high + 1, len(self.diagonal)) - low

    def leaf(self, low: int, high: int) -> tuple[torch.Tensor, ...]:
        part = torch.zeros(high - low, self.columns(low, high), dtype=torch.float64)
        part.diagonal().copy_(self.diagonal[low:high])
        part.diagonal(1).copy_(self.other[low : low + part.shape[1] - 1])
        u, s, vh = torch.linalg.svd(part)
        return u, s[None], vh.T

    def couple(self, low: int, middle: int, high: int) -> tuple[torch.Tensor, float, float]:
        top, bottom = self.top, self.bottom
        alpha, beta = float(self.diagonal[middle]), float(self.other[middle])
        row = torch.cat([alpha * bottom[low : middle + 1], beta * top[middle + 1 : high + 1]])
        equal = 8 * EPS * max(abs(alpha), abs(beta), float(self.values[low:high].max()), EPS)
        top[middle + 1 : high + 1], bottom[low : middle + 1] = 0, 0
        own, null = float(row[middle - low]), float(row[-1])
        if low + self.columns(low, high) > high:
            # Two vectors that the halves make 0, of which one combination the whole makes 0 as well.
            length = hypot(own, null)
            cosine, sine = (own / length, null / length) if length > equal else (1.0, 0.0)
            for part in (top, bottom, *self.vectors[-1:]):
                _rotate(part, middle, high, cosine, sine)
            own = length
        row[middle - low] = own if abs(own) > equal else equal
        self.values[middle] = 0
        for part in self.vectors[:-1]:
            if 0 <= middle - self.first < part.shape[1]:
                part[middle, middle - self.first] = 1
        return row[: high - low], equal, equal


def _rotate(x: torch.Tensor, one: int, other: int, cosine: float, sine: float) -> None:
    """Vector `one` becomes `cosine * one + sine * other`, and the other one what is orthogonal."""
    first, second = x[one].clone(), x[other].clone()
    x[one], x[other] = cosine * first + sine * second, cosine * second - sine * first


def _shares(size: int, comm: Communication) -> Iterator[slice]:
    """What this rank computes of `size` numbers, some at a time."""
    start, stop = (size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
    for begin in range(start, stop, COLUMNS):
        yield slice(begin, min(begin + COLUMNS, stop))


@dataclass(frozen=True, slots=True, eq=False)
class _Secular:
    """The eigenvalues of a diagonal and `z z^T`, or the singular values of one with the first row z.

    Root j is where `1 + sum(z**2 / (d - root))` is 0, above `d[j]` and below the next; for singular values with
    the squares of `d`, whose first is 0, and of the root. It is kept as its distance, of squares, from the nearer
    one: `root = d[nearest] + distance`, from which differences have all their digits.
    """

    d: torch.Tensor
    z: torch.Tensor
    are_singular: bool
    nearest: torch.Tensor
    distance: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.d)

    @property
    def roots(self) -> torch.Tensor:
        d = self.d[self.nearest]
        if self.are_singular:
            return d + self.distance / (d + (d * d + self.distance).sqrt())
        return d + self.distance

    @classmethod
    def solved(cls, d: torch.Tensor, z: torch.Tensor, are_singular: bool, comm: Communication) -> _Secular:
        found = torch.zeros(2, len(d), dtype=torch.float64)
        for roots in _shares(len(d), comm):
            found[:, roots] = _find_roots(d, z * z, are_singular, roots)
        found = comm.allreduce(found)
        equation = cls(d, z, are_singular, found[0].long(), found[1])
        # The row of which these are the roots exactly, so that the vectors are orthogonal (Gu and Eisenstat).
        exact = torch.zeros_like(z)
        for places in _shares(len(d), comm):
            exact[places] = equation._row(places)
        return replace(equation, z=comm.allreduce(exact).copysign(z))

    def _row(self, places: slice) -> torch.Tensor:
        d, k = self.d[places, None], torch.arange(self.size)[places, None]
        numerators = self._differences(places, slice(None))
        # d[j] before the place, d[j + 1] from it on, and 1 for the last root.
        other = torch.where(torch.arange(self.size) < k, self.d, self.d.roll(-1))
        denominators = _difference(other, d, self.are_singular)
        # The last root has no denominator; for the last place that of others is complete.
        denominators[:, -1] = 1
        return numerators.div_(denominators).abs_().prod(1).sqrt()

    def _differences(self, places: slice, roots: slice) -> torch.Tensor:
        """Return `root - d`, or of the squares, for these places and roots."""
        nearest = self.d[self.nearest[roots]]
        return _difference(nearest, self.d[places, None], self.are_singular).add_(self.distance[roots])

    def vectors(self, roots: slice) -> list[torch.Tensor]:
        """Return the eigenvectors of some roots, which are the columns, or the left and right singular vectors."""
        right = self._differences(slice(None), roots)
        found = [torch.div(self.z[:, None], right, out=right)]
        if self.are_singular:
            left = self.d[:, None] * right
            left[0] = 1
            found.insert(0, left)
        for vectors in found:
            vectors.div_(vectors.norm(dim=0))
        return found


def _difference(x: torch.Tensor, y: torch.Tensor, of_squares: bool) -> torch.Tensor:
    return (x - y).mul_(x + y) if of_squares else x - y


def _find_roots(d: torch.Tensor, weights: torch.Tensor, of_squares: bool, roots: slice) -> torch.Tensor:
    """Return for some roots which `d` is nearest, and their distances from it."""
    last, index = len(d) - 1, torch.arange(len(d))[roots]
    above = (index + 1).clamp(max=last)
    half = _difference(d[above], d[index], of_squares) / 2
    half = torch.where(index == last, weights.sum() * (1 + 4 * EPS), half)
    middle = _evaluate(_difference(d[:, None], d[index], of_squares).sub_(half), weights)[0]
    is_low = (middle >= 0) | (index == last)
    nearest, sign = torch.where(is_low, index, above), torch.where(is_low, 1.0, -1.0)
    poles = _difference(d[:, None], d[nearest], of_squares)
    # By Newton's method for the equation times the distance, in which the nearest pole is none; or where that
    # leaves the interval, or is slow, by bisection of the numbers that a float can be, as which it takes few
    # steps to a root that is next to a pole.
    low, high = torch.zeros_like(index), half.view(torch.int64).clone()
    distance, active = half.clone(), torch.arange(len(index))
    for step in range(1, 200):
        x, signs = distance[active], sign[active]
        value, slope, size = _evaluate(poles[:, active].sub_(signs * x), weights)
        is_below = signs * value < 0
        bits = x.view(torch.int64)
        low[active] = torch.where(is_below, bits, low[active])
        high[active] = torch.where(is_below, high[active], bits)
        lows, highs = low[active], high[active]
        following = x - x * value / (value + signs * x * slope)
        inside = (following > lows.view(torch.float64)) & (following < highs.view(torch.float64))
        between = (lows + (highs - lows) // 2).view(torch.float64)
        following = torch.where(inside & (step % 16 > 0), following, between)
        done = (value.abs() <= 4 * EPS * size) | (highs - lows <= 1) | ((following - x).abs() <= EPS * x)
        # Never 0, where the vector would be none.
        distance[active] = torch.where(value.abs() <= 4 * EPS * size, x, following.clamp(min=5e-324))
        active = active[~done]
        if not len(active):
            break
    return torch.stack([nearest.double(), sign * distance])


def _evaluate(gaps: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the secular equation at distances, its slope, and the sum of the absolute values of its terms.

    `gaps`, by columns the poles minus the distance, are overwritten.
    """
    terms = weights[:, None] / gaps
    slope = torch.div(terms, gaps, out=gaps).sum(0)
    return 1 + terms.sum(0), slope, 1 + terms.abs_().sum(0)
