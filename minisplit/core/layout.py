"""Which rank owns which part of an array: `Layout`, and the checks of shapes and axes.

This module is pure. It computes with integers, and knows neither torch nor MPI nor the rank that asks.
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

from minisplit.core.error_text import FEW, counted, short_repr

Offsets = NDArray[np.int64]
# A number for each rank, None for what is replicated. `Any` rather than None: whoever asks for the counts of an
# array that is split would have to say to a type checker each time that they are not None.
PerRank = tuple[int, ...] | Any
_INTS = frozenset({int})


def as_index(value: Any, name: str) -> int:
    """Return `value` as an int. TypeError, which names `name`, for a bool and for anything without `__index__`."""
    try:
        # Python takes True for the int 1, but as an axis or an extent it is a mistake.
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {short_repr(value)} of type {type(value).__name__}") from None


def as_count(value: Any, name: str) -> int:
    """Return `value` as an int, as `as_index` does. ValueError for a negative one."""
    count = as_index(value, name)
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}")
    return count


def normalise_axis(axis: Any, ndim: int, name: str = "split") -> int:
    """Return `axis` counted from the front. IndexError unless `-ndim <= axis < ndim`."""
    # `type`: nearly all axes are ints, and the check of bools takes longer than the rest.
    index = axis if type(axis) is int else as_index(axis, name)
    if not -ndim <= index < ndim:
        span = f"{-ndim} to {ndim - 1}" if ndim else "nothing: a 0-d array has no axis"
        raise IndexError(f"{name} {index} is out of range for {ndim} dimensions; allowed: {span}")
    return index % ndim


def normalise_axes(axes: Any, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Return `axes`, an int or several, counted from the front and in the order in which they are given.

    IndexError for an axis out of range, ValueError for one that is given twice, TypeError for what is not an int.
    None is no int either: what it means is for the caller to say.

    >>> normalise_axes((-1, 0), 3), normalise_axes(-2, 3)
    ((2, 0), (1,))
    """
    given = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    result = tuple([normalise_axis(axis, ndim, name) for axis in given])
    if len(set(result)) != len(result):
        raise ValueError(f"{name} {given} names an axis of {ndim} dimensions more than once")
    return result


def normalise_shape(shape: Any) -> tuple[int, ...]:
    """Return `shape`, an int or a sequence of ints, as a tuple. ValueError for negative extents."""
    result = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    # Every operation makes layouts, and nearly all extents are ints already: a call for each would show.
    if not _INTS.issuperset(map(type, result)):
        result = tuple([as_index(n, "every extent of a shape") for n in result])
    if min(result, default=0) < 0:
        raise ValueError(f"extents must not be negative, got shape {short_repr(result)}")
    return result


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rank owns which part of a global array.

    A layout is the same on every rank. It can be hashed and compared, and it is checked when it is made. A
    balanced layout stores no counts, so its memory and the cost of a comparison do not grow with the number of
    ranks.

    Parameters
    ----------
    shape : tuple of int
        The shape of the global array.
    split : int or None
        The axis that is cut over the ranks. None: every rank holds the whole array (it is replicated).
    ranks : int
        The number of ranks.
    ragged : tuple of int, optional
        The counts: how many indices of the split axis each rank holds. By default the array is balanced: the first
        `n % ranks` ranks hold one index more than the others.

    Attributes
    ----------
    shape : tuple of int
        The shape of the global array.
    split : int or None
        The axis that is cut over the ranks, counted from the front.
    ranks : int
        The number of ranks.
    ragged : tuple of int or None
        The counts if they are not those of a balanced layout, else None. `counts` has the counts of any layout.

    Raises
    ------
    ValueError
        If an extent or a count is negative, there is no rank, or the counts do not fit the split axis.
    IndexError
        If the split axis is out of range.
    TypeError
        If an extent, a count, the split axis or the number of ranks is not an int.

    Communication
    -------------
    Local, as all methods are. A layout asks no other rank.

    Examples
    --------
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
        # The class is frozen, since layouts are keys of caches: so its fields are set past it, and only here.
        object.__setattr__(self, "shape", normalise_shape(self.shape))
        if as_index(self.ranks, "ranks") < 1:
            raise ValueError(f"a layout needs at least one rank, got {self.ranks}")
        if self.split is not None:
            object.__setattr__(self, "split", normalise_axis(self.split, len(self.shape)))
        if self.ragged is not None:
            object.__setattr__(self, "ragged", self._checked_counts(self.ragged))
        object.__setattr__(self, "_hash", hash((self.shape, self.split, self.ranks, self.ragged)))

    def __hash__(self) -> int:
        # Layouts are the keys of every cache, and to hash the counts of many ranks takes long: it is done once.
        return self._hash

    def _checked_counts(self, counts: Sequence[Any]) -> tuple[int, ...] | None:
        """Return the counts as a tuple, or None where they are the balanced ones."""
        if self.split is None:
            raise ValueError("counts need a split axis, but split is None (replicated)")
        if not isinstance(counts, Iterable):
            raise TypeError(f"counts must be a sequence of ints, one per rank, got {short_repr(counts)}")
        checked = tuple(counts)
        if not _INTS.issuperset(map(type, checked)):
            checked = tuple([as_index(n, "every count") for n in checked])
        if len(checked) != self.ranks:
            raise ValueError(
                f"counts must be {self.ranks} ints, one per rank, got {len(checked)}: {short_repr(checked)}"
            )
        if min(checked) < 0:
            raise ValueError(f"counts must not be negative, got {short_repr(checked)}")
        if sum(checked) != self.shape[self.split]:
            raise ValueError(
                f"counts {short_repr(checked)} hold {sum(checked)} indices, "
                f"but axis {self.split} of {self.shape} has {self.shape[self.split]}"
            )
        # Layouts with the same counts must compare equal, whether the counts were given or not.
        return None if checked == _balanced_counts(self.shape[self.split], self.ranks) else checked

    def __str__(self) -> str:
        """Return a short text: `(6, 2) split 0 over 3 ranks`, or `... over [1, 0, 5]` with uneven counts."""
        over = counted(self.ranks, "rank")
        if self.split is None:
            return f"{self.shape} replicated on {over}"
        if self.ragged is not None:
            over = str(list(self.ragged))
            if self.ranks > FEW:
                # Debug mode compares texts of layouts between ranks: the checksum tells apart those that differ
                # in counts which are not shown.
                begin = ", ".join(map(str, self.ragged[:FEW]))
                over = f"[{begin}, ...], {self.ranks} ranks, checksum {self._hash & 0xFFFFFFFF:08x}"
        return f"{self.shape} split {self.split} over {over}"

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements of the global array."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """The length of the split axis. ValueError for a replicated layout."""
        if self.split is None:
            raise ValueError("a replicated layout has no split axis")
        return self.shape[self.split]

    @property
    def is_balanced(self) -> bool:
        """Whether the first `n % ranks` ranks hold one index more than the others. True if replicated."""
        return self.ragged is None

    @property
    def counts(self) -> PerRank:
        """The number of indices of the split axis that each rank holds. None for a replicated layout."""
        if self.split is None:
            return None
        return self.ragged or _balanced_counts(self.extent, self.ranks)

    @property
    def displs(self) -> PerRank:
        """The first index of the split axis that each rank holds. None for a replicated layout."""
        return None if self.split is None else tuple(self.offsets()[:-1].tolist())

    def offsets(self) -> Offsets:
        """Return where the ranks' parts of the split axis start, and where the last one ends.

        Returns
        -------
        numpy.ndarray of int64
            The `displs` and the length of the split axis: `ranks + 1` numbers in memory that cannot be written.

        Raises
        ------
        ValueError
            If the layout is replicated.
        """
        return _balanced_offsets(self.extent, self.ranks) if self.ragged is None else _ragged_offsets(self)

    def span(self, rank: int) -> tuple[int, int]:
        """Return where the part of the split axis that a rank holds starts and stops.

        Parameters
        ----------
        rank : int
            The rank.

        Returns
        -------
        tuple of int
            Its first index, and the index after its last.

        Raises
        ------
        ValueError
            If the layout is replicated.
        """
        if self.ragged is not None:
            bounds = _ragged_offsets(self)
            return int(bounds[rank]), int(bounds[rank + 1])
        # Not by `offsets`, which makes an array of all ranks.
        share, more = divmod(self.extent, self.ranks)
        start = rank * share + min(rank, more)
        return start, start + share + (rank < more)

    def lshape(self, rank: int) -> tuple[int, ...]:
        """Return the shape of the shard that a rank holds.

        Parameters
        ----------
        rank : int
            The rank.

        Returns
        -------
        tuple of int
            The shape of the array, with the rank's count as the extent of the split axis.
        """
        if self.split is None:
            return self.shape
        start, stop = self.span(rank)
        return (*self.shape[: self.split], stop - start, *self.shape[self.split + 1 :])

    def box(self, rank: int) -> tuple[slice, ...]:
        """Return which part of the global array a rank holds.

        Parameters
        ----------
        rank : int
            The rank.

        Returns
        -------
        tuple of slice
            A slice for each axis, with start and stop.
        """
        spans = [(0, n) for n in self.shape]
        if self.split is not None:
            spans[self.split] = self.span(rank)
        return tuple([slice(*span) for span in spans])

    def balanced(self) -> Layout:
        """Return the balanced layout of the same shape and split.

        Returns
        -------
        Layout
            The layout itself if it is balanced.
        """
        return self if self.ragged is None else Layout(self.shape, self.split, self.ranks)

    def with_split(self, split: int | None) -> Layout:
        """Return a layout of the same shape that is split along another axis.

        Parameters
        ----------
        split : int or None
            The axis. None for a replicated layout.

        Returns
        -------
        Layout
            The layout itself, with its counts, if it is split along that axis. Otherwise a balanced layout.

        Raises
        ------
        IndexError
            If the axis is out of range.
        """
        if split is None or type(split) is int:
            return _with_split(self, split)
        return self.with_split(normalise_axis(split, len(self.shape)))

    def with_counts(self, counts: Sequence[int]) -> Layout:
        """Return the layout of the same shape and split with other counts.

        Parameters
        ----------
        counts : sequence of int
            How many indices of the split axis each rank holds.

        Returns
        -------
        Layout
            The layout with these counts.

        Raises
        ------
        ValueError
            If the counts do not add up to the extent of the split axis, are negative or are not one for each rank,
            or the layout is replicated.
        """
        return Layout(self.shape, self.split, self.ranks, self._checked_counts(counts))


def layout_from_counts(counts: Sequence[int], shape: Sequence[int] = (0,), split: int = 0) -> Layout:
    """Return the layout of an array of which rank r holds `counts[r]` indices of the split axis.

    The array has the extents of `shape` along its other axes.

    >>> layout_from_counts([2, 0, 1]), layout_from_counts([1, 1], (5, 4), split=1).shape
    (Layout(shape=(3,), split=0, ranks=3, ragged=(2, 0, 1)), (5, 2))
    """
    whole = (*shape[:split], sum(counts), *shape[split + 1 :])
    return Layout(whole, split, len(counts), tuple(counts))


# The caches below have layouts, or what makes them, as keys. An operation uses a handful of layouts and a program
# some dozens of operations, so that 256 entries serve its loops. There are fewer of offsets: one of 65,536 ranks
# takes half a MiB.


@lru_cache(maxsize=256)
def _with_split(layout: Layout, split: int | None) -> Layout:
    """`Layout.with_split`, cached."""
    target = Layout(layout.shape, split, layout.ranks)
    # The axis that it has already keeps its counts: `balance` evens them out, `resplit` does not.
    return layout if target.split == layout.split else target


@lru_cache(maxsize=256)
def operand_layout(operand: Layout, result: Layout) -> Layout:
    """The layout in which each rank has that part of an operand which broadcasts to its shard of the result.

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
    """The counts of a balanced layout."""
    share, more = divmod(extent, ranks)
    return (share + 1,) * more + (share,) * (ranks - more)


# One array for all callers, so that nobody may write to it.
@lru_cache(maxsize=64)
def _balanced_offsets(extent: int, ranks: int) -> Offsets:
    """`Layout.offsets` of balanced layouts, cached."""
    share, more = divmod(extent, ranks)
    rank = np.arange(ranks + 1, dtype=np.int64)
    bounds: Offsets = rank * share + np.minimum(rank, more)
    bounds.flags.writeable = False
    return bounds


# Key: the layout, which knows its hash. To hash the counts of 65,536 ranks anew took most of the time of a plan.
@lru_cache(maxsize=64)
def _ragged_offsets(layout: Layout) -> Offsets:
    """`Layout.offsets` of ragged layouts, cached."""
    bounds = np.zeros(layout.ranks + 1, dtype=np.int64)
    np.cumsum(np.fromiter(layout.counts, np.int64, layout.ranks), out=bounds[1:])
    bounds.flags.writeable = False
    return bounds
