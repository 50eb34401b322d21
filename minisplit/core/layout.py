"""Who owns what: a `Layout` is the global shape, the split axis and the counts of every rank.

Integers only: nothing here knows torch, MPI or which rank is asking.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minisplit.core.error_text import FEW, short_repr

Offsets = NDArray[np.int64]


def as_index(value: Any, name: str) -> int:
    """Return `value` as an int; a bool or anything without `__index__` is a TypeError naming `name`."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {short_repr(value)} of type {type(value).__name__}") from None


def normalise_axis(axis: Any, ndim: int, name: str = "split") -> int:
    """Return `axis` counted from the front; IndexError unless `-ndim <= axis < ndim`."""
    index = as_index(axis, name)
    if not -ndim <= index < ndim:
        span = f"{-ndim} to {ndim - 1}" if ndim else "nothing: a 0-d array has no axis"
        raise IndexError(f"{name} {index} is out of range for {ndim} dimensions; allowed: {span}")
    return index % ndim


def normalise_shape(shape: Any) -> tuple[int, ...]:
    """Return `shape`, an int or a sequence of ints, as a tuple; ValueError for negative extents."""
    extents = shape if isinstance(shape, Iterable) else (shape,)
    result = tuple(as_index(n, "every extent of a shape") for n in extents)
    if any(n < 0 for n in result):
        raise ValueError(f"extents must not be negative, got shape {short_repr(result)}")
    return result


@dataclass(frozen=True, slots=True)
class Layout:
    """Who owns what of a global array: `shape`, the `split` axis, and how many ranks share it.

    Equal on every rank, hashable, and valid by construction. `split=None` means that every rank holds
    the whole array. `ragged` holds the counts of all ranks where they differ from the balanced rule
    (the first `n % ranks` ranks hold one index more), else None, so that the memory and
    comparison cost of a balanced layout do not grow with the number of ranks.

    >>> a = Layout((10, 3), 0, ranks=4)
    >>> a.counts, a.displs, a.lshape(3)
    ((3, 3, 2, 2), (0, 3, 6, 8), (2, 3))
    >>> Layout((10, 3), 0, ranks=2, ragged=(9, 1)).box(1)
    (slice(9, 10, None), slice(0, 3, None))
    """

    shape: tuple[int, ...]
    split: int | None
    ranks: int
    ragged: tuple[int, ...] | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", normalise_shape(self.shape))
        if as_index(self.ranks, "ranks") < 1:
            raise ValueError(f"a layout needs at least one rank, got {self.ranks}")
        if self.split is not None:
            object.__setattr__(self, "split", normalise_axis(self.split, len(self.shape)))
        if self.ragged is not None:
            object.__setattr__(self, "ragged", self._checked_counts(self.ragged))
        object.__setattr__(self, "_hash", hash((self.shape, self.split, self.ranks, self.ragged)))

    def __hash__(self) -> int:
        # Layouts are the keys of every cache: computed once, also for the counts of many ranks.
        return self._hash

    def _checked_counts(self, counts: Sequence[Any]) -> tuple[int, ...] | None:
        if self.split is None:
            raise ValueError("counts need a split axis, but split is None (replicated)")
        if not isinstance(counts, Iterable):
            raise TypeError(f"counts must be a sequence of ints, one per rank, got {short_repr(counts)}")
        checked = tuple(as_index(n, "every count") for n in counts)
        if len(checked) != self.ranks:
            raise ValueError(
                f"counts must be {self.ranks} ints, one per rank, got {len(checked)}: {short_repr(checked)}"
            )
        if any(n < 0 for n in checked):
            raise ValueError(f"counts must not be negative, got {short_repr(checked)}")
        if sum(checked) != self.shape[self.split]:
            raise ValueError(
                f"counts {short_repr(checked)} hold {sum(checked)} indices, "
                f"but axis {self.split} of {self.shape} has {self.shape[self.split]}"
            )
        return None if checked == _balanced_counts(self.shape[self.split], self.ranks) else checked

    def __str__(self) -> str:
        """Short, for texts: `(6, 2) split 0 over 3 ranks`, or, with uneven counts, `... over [1, 0, 5]`.

        Of the counts of many ranks only the first are shown.
        """
        over = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        if self.split is None:
            return f"{self.shape} replicated on {over}"
        if self.ragged is not None:
            over = str(list(self.ragged))
            if self.ranks > FEW:  # the checksum tells layouts apart, also where ranks compare them as text
                begin = ", ".join(map(str, self.ragged[:FEW]))
                over = f"[{begin}, ...], {self.ranks} ranks, checksum {self._hash & 0xFFFFFFFF:08x}"
        return f"{self.shape} split {self.split} over {over}"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the global array."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Length of the split axis; ValueError for a replicated layout."""
        if self.split is None:
            raise ValueError("a replicated layout has no split axis")
        return self.shape[self.split]

    @property
    def is_balanced(self) -> bool:
        return self.ragged is None

    @property
    def counts(self) -> tuple[int, ...] | None:
        """Indices of the split axis per rank; None for a replicated layout."""
        if self.split is None:
            return None
        return self.ragged or _balanced_counts(self.extent, self.ranks)

    @property
    def displs(self) -> tuple[int, ...] | None:
        """First index of the split axis per rank; None for a replicated layout."""
        return None if self.split is None else tuple(self.offsets()[:-1].tolist())

    def offsets(self) -> Offsets:
        """Where the ranks' parts of the split axis start, and the axis' length: `ranks + 1` numbers."""
        return _offsets(self.extent, self.ranks, self.ragged)

    def span(self, rank: int) -> tuple[int, int]:
        """First and past-the-last index of the split axis that `rank` holds."""
        if self.ragged is not None:
            bounds = self.offsets()
            return int(bounds[rank]), int(bounds[rank + 1])
        share, more = divmod(self.extent, self.ranks)
        start = rank * share + min(rank, more)
        return start, start + share + (rank < more)

    def lshape(self, rank: int) -> tuple[int, ...]:
        """Shape of the shard that `rank` holds."""
        if self.split is None:
            return self.shape
        start, stop = self.span(rank)
        return (*self.shape[: self.split], stop - start, *self.shape[self.split + 1 :])

    def box(self, rank: int) -> tuple[slice, ...]:
        """Global slices, one per axis, of the shard that `rank` holds."""
        spans = [(0, n) for n in self.shape]
        if self.split is not None:
            spans[self.split] = self.span(rank)
        return tuple(slice(*span) for span in spans)

    def balanced(self) -> Layout:
        """The same shape and split with the default counts."""
        return self if self.ragged is None else Layout(self.shape, self.split, self.ranks)

    def with_split(self, split: int | None) -> Layout:
        """The same shape, split along `split` with the default counts; itself where it is split there already."""
        if split is None or type(split) is int:
            return _with_split(self, split)
        return self.with_split(normalise_axis(split, len(self.shape)))

    def with_counts(self, counts: Sequence[int]) -> Layout:
        """The same shape and split with other counts."""
        return Layout(self.shape, self.split, self.ranks, self._checked_counts(counts))


@lru_cache(maxsize=256)
def _with_split(layout: Layout, split: int | None) -> Layout:
    target = Layout(layout.shape, split, layout.ranks)
    return layout if target.split == layout.split else target


@lru_cache(maxsize=256)
def operand_layout(operand: Layout, result: Layout) -> Layout:
    """The layout in which every rank has of an operand what its shard of the result, once broadcast, is made from.

    >>> operand_layout(Layout((4, 1), None, ranks=2), Layout((4, 3), 0, ranks=2)).split
    0
    """
    if result.split is not None:
        axis = result.split - (result.ndim - operand.ndim)
        if axis >= 0 and operand.shape[axis] == result.extent:
            return Layout(operand.shape, axis, operand.ranks, result.ragged)
    return Layout(operand.shape, None, operand.ranks)


@lru_cache(maxsize=256)
def _balanced_counts(extent: int, ranks: int) -> tuple[int, ...]:
    share, more = divmod(extent, ranks)
    return (share + 1,) * more + (share,) * (ranks - more)


@lru_cache(maxsize=64)
def _offsets(extent: int, ranks: int, ragged: tuple[int, ...] | None) -> Offsets:
    if ragged is None:
        share, more = divmod(extent, ranks)
        rank = np.arange(ranks + 1, dtype=np.int64)
        bounds = rank * share + np.minimum(rank, more)
    else:
        bounds = np.zeros(ranks + 1, dtype=np.int64)
        np.cumsum(ragged, out=bounds[1:])
    bounds.flags.writeable = False
    return bounds
