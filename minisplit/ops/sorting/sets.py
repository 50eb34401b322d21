"""Sets: the distinct elements of an array. Each rank finds its own, sample sort brings equal ones together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.index_arrays import gather_counts
from minisplit.core.layout import Layout
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.reductions.extremes import comparable, global_index, ordinal
from minisplit.ops.reductions.reduce import union
from minisplit.ops.sorting.sample_sort import Deal, deal


class UniqueAll(NamedTuple):
    """What `unique_all` returns."""

    values: DNDarray
    indices: DNDarray
    inverse_indices: DNDarray
    counts: DNDarray


class UniqueCounts(NamedTuple):
    """What `unique_counts` returns."""

    values: DNDarray
    counts: DNDarray


class UniqueInverse(NamedTuple):
    """What `unique_inverse` returns."""

    values: DNDarray
    inverse_indices: DNDarray


def unique_values(x: DNDarray, /) -> DNDarray:
    """Return the distinct elements of `x`, in ascending order, as a 1-d array.

    Every NaN is distinct, and the last; signed zeros are one. Complex numbers are in order of their real, then
    their imaginary parts. Of a split array the result is split, with the counts that come of it: about equal where
    the ranks have many distinct elements. Collective then: three small messages, and one exchange of what is
    distinct on each rank. Raises TypeError for anything but a DNDarray, on every rank.

    >>> import minisplit as ms
    >>> ms.unique_values(ms.array([3, 1, 3], split=0)).tolist()
    [1, 3]
    """
    return _unique(x).values()


def unique_counts(x: DNDarray, /) -> UniqueCounts:
    """Return the distinct elements of `x`, and how often each occurs, int64: `(values, counts)`.

    Both as `minisplit.unique_values` has them. Collective for a split array, with one exchange more.

    >>> import minisplit as ms
    >>> ms.unique_counts(ms.array([3, 1, 3], split=0)).counts.tolist()
    [1, 2]
    """
    found = _unique(x)
    return UniqueCounts(found.values(), found.counts())


def unique_inverse(x: DNDarray, /) -> UniqueInverse:
    """Return the distinct elements of `x`, and for each element of `x` which of them it is.

    `(values, inverse_indices)`: the first as `minisplit.unique_values` has them, the second int64 with the shape
    and layout of `x`. Collective for a split array, with two exchanges more: there and back.

    >>> import minisplit as ms
    >>> ms.unique_inverse(ms.array([3, 1, 3], split=0)).inverse_indices.tolist()
    [1, 0, 1]
    """
    found = _unique(x, placed=True)
    return UniqueInverse(found.values(), found.inverse())


def unique_all(x: DNDarray, /) -> UniqueAll:
    """Return the distinct elements of `x` and all about them: `(values, indices, inverse_indices, counts)`.

    As `minisplit.unique_counts` and `minisplit.unique_inverse`; `indices`, int64, are where each occurs first in
    the array as one row. Collective for a split array, by three small messages and four exchanges.

    >>> import minisplit as ms
    >>> ms.unique_all(ms.array([3, 1, 3], split=0)).indices.tolist()
    [1, 0]
    """
    found = _unique(x, placed=True)
    return UniqueAll(found.values(), found.indices(), found.inverse(), found.counts())


def unique(
    x: DNDarray,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: None = None,
) -> Any:
    """Return the distinct elements of `x`, and what else is asked for in a tuple, as `numpy.unique`.

    Local or collective as `minisplit.unique_all`, whose results these are: NaNs are distinct. Raises ValueError
    for an `axis` other than None, TypeError for anything but a DNDarray.

    >>> import minisplit as ms
    >>> values, counts = ms.unique(ms.array([3, 1, 3], split=0), return_counts=True)
    >>> values.tolist(), counts.tolist()
    ([1, 3], [1, 2])
    """
    if axis is not None:
        raise ValueError(
            f"axis of unique must be None: it compares elements, not rows, got {axis!r}; number the rows first"
        )
    found = _unique(x, placed=return_index or return_inverse)
    more = [(found.indices, return_index), (found.inverse, return_inverse), (found.counts, return_counts)]
    results = [found.values(), *(part() for part, wanted in more if wanted)]
    return tuple(results) if len(results) > 1 else results[0]


def isin(x1: Operand, x2: Operand, /, *, assume_unique: bool = False, invert: bool = False) -> DNDarray:
    """Whether each element of `x1` is in `x2`; with `invert` whether it is not. One of the two may be a number.

    bool, with the shape and layout of `x1`. NaN is in nothing. Local where `x2` is replicated; else collective:
    one allreduce for a replicated `x1`, and for a split one two small messages and three exchanges of what is
    distinct on each rank, so that no rank needs all of `x2`. `assume_unique` changes nothing.

    Raises ValueError for arrays on different communicators, TypeError for anything but DNDarrays and numbers.

    >>> import minisplit as ms
    >>> ms.isin(ms.arange(4, split=0), ms.array([3, 1, 7], split=0)).tolist()
    [False, True, False, True]
    """
    first, second = _arrays(x1, x2)
    is_shared = first.split is not None and second.split is not None and first.comm.size > 1
    found = _among(first.larray, second.larray, first.comm if is_shared else None)
    if first.split is None and second.split is not None:
        found = union(found, first.comm)
    return DNDarray(~found if invert else found, first.layout, first.comm)


def _among(values: torch.Tensor, others: torch.Tensor, comm: Communication | None) -> torch.Tensor:
    """Whether each element is in another tensor, or, with `comm`, in any rank's. Collective then."""
    if comm is None and not values.is_complex():
        return torch.isin(
            *(comparable(x.to(torch.uint8) if x.dtype is torch.bool else x) for x in (values, others))
        )
    number = values.numel()
    own = _distinct(torch.cat([values.flatten(), others.flatten()]))
    has = _marked(own.inverse[number:], len(own.values))
    if comm is not None:
        way = _way(own.values, torch.arange(len(own.values), device=values.device), comm)
        there = _distinct(way.carry(own.values))
        has = way.back(_marked(there.inverse[way.carry(has)], len(there.values))[there.inverse])
    return has[own.inverse[:number]].reshape(values.shape)


def _marked(places: torch.Tensor, number: int) -> torch.Tensor:
    """A mask of a number of elements that is true at some places."""
    mask = torch.zeros(number, dtype=torch.bool, device=places.device)
    mask[places] = True
    return mask


def _arrays(x1: Operand, x2: Operand) -> tuple[DNDarray, DNDarray]:
    """The operands, numbers as replicated arrays, in one dtype in which equal values stay equal."""
    given: list[Any] = [x.item() if isinstance(x, (np.number, np.bool_)) else x for x in (x1, x2)]
    arrays = [
        as_dndarray(x, f"x{place}") for place, x in enumerate(given, 1) if not isinstance(x, (int, float, complex))
    ]
    if not arrays:
        raise TypeError(f"isin needs a DNDarray, got {x1!r} and {x2!r}; use == for two numbers")
    check_one_communicator(arrays)
    dtypes = [x.dtype if isinstance(x, DNDarray) else _dtype_beside(arrays[0].dtype, x) for x in given]
    dtype, comm = torch.promote_types(*dtypes), arrays[0].comm
    made = [
        DNDarray(x.larray.detach().to(dtype), x.layout, comm)
        if isinstance(x, DNDarray)
        else DNDarray(torch.tensor(x, dtype=dtype, device=arrays[0].device), Layout((), None, comm.size), comm)
        for x in given
    ]
    return made[0], made[1]


def _dtype_beside(dtype: torch.dtype, number: complex) -> torch.dtype:
    """In which dtype a number is compared with an array's elements: of integers in one that holds any number."""
    if dtype.is_floating_point or dtype.is_complex:
        return torch.result_type(torch.empty(1, dtype=dtype), number)
    return {float: torch.float64, complex: torch.complex128}.get(type(number), torch.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Distinct:
    """The distinct elements of a row, in order; where each is first; and for every element of the row which it
    is."""

    values: torch.Tensor
    first: torch.Tensor
    inverse: torch.Tensor


def _distinct(row: torch.Tensor, numbers: torch.Tensor | None = None) -> _Distinct:
    """The distinct elements of a row; of equals and of NaNs the first is that with the least of the `numbers`."""
    order = torch.arange(len(row), device=row.device) if numbers is None else torch.argsort(numbers)
    for part in (row.imag, row.real) if row.is_complex() else (row,):
        order = order[torch.sort(part[order], stable=True).indices]
    ordered = row[order]
    begins = torch.ones(len(row), dtype=torch.bool, device=row.device)
    begins[1:] = ordered[1:] != ordered[:-1]
    inverse = torch.empty_like(order)
    inverse[order] = begins.cumsum(0) - 1
    return _Distinct(ordered[begins], order[begins], inverse)


def _way(values: torch.Tensor, numbers: torch.Tensor, comm: Communication) -> Deal:
    """Where each rank's distinct values go: equal ones to one rank, but NaNs, which their numbers tell apart."""

    def key_at(places: torch.Tensor) -> torch.Tensor:
        some = values[places]
        major, minor = (some.real, some.imag) if some.is_complex() else (torch.zeros_like(places), some)
        tie = torch.where(some.isnan(), numbers[places], 0)
        return torch.stack([ordinal(major), ordinal(minor), tie], -1)

    return deal(len(values), key_at, values.device, comm)


@dataclass(frozen=True, slots=True, eq=False)
class _Unique:
    """The distinct elements of `x` on this rank, and those of all ranks of which this one has a part.

    `way` leads from the first to the second, `numbers` are the places in `x` of what came. Without ranks to talk
    to both are the same, and `way` is None.
    """

    x: DNDarray
    mine: _Distinct
    way: Deal | None
    numbers: torch.Tensor
    part: _Distinct
    layout: Layout

    def _wrapped(self, elements: torch.Tensor) -> DNDarray:
        return DNDarray(elements, self.layout, self.x.comm)

    def values(self) -> DNDarray:
        return self._wrapped(self.part.values)

    def indices(self) -> DNDarray:
        return self._wrapped(self.numbers[self.part.first])

    def counts(self) -> DNDarray:
        counts = torch.bincount(self.mine.inverse, minlength=len(self.mine.values))
        if self.way is not None:
            came = self.way.carry(counts)
            counts = came.new_zeros(len(self.part.values)).index_add(0, self.part.inverse, came)
        return self._wrapped(counts)

    def inverse(self) -> DNDarray:
        which = self.mine.inverse
        if self.way is not None:
            start, _ = self.layout.span(self.x.comm.rank)
            which = self.way.back(self.part.inverse + start)[which]
        return DNDarray(which.reshape(self.x.lshape), self.x.layout, self.x.comm)


def _unique(x: DNDarray, placed: bool = False) -> _Unique:
    """The distinct elements of `x`; `placed` if their places are asked for, or which of them each element is."""
    x = as_dndarray(x)
    comm, mine = x.comm, _distinct(x.larray.detach().flatten())
    if x.split is None or comm.size == 1:
        layout = Layout((len(mine.values),), None if x.split is None else 0, comm.size)
        return _Unique(x, mine, None, torch.arange(x.size, device=x.device), mine, layout)
    numbers = global_index(mine.first, x.layout, comm.rank, x.layout.span(comm.rank)[0])
    way = _way(mine.values, numbers, comm)
    came = way.carry(mine.values)
    numbers = way.carry(numbers) if placed else numbers
    part = _distinct(came, numbers if placed else None)
    return _Unique(x, mine, way, numbers, part, gather_counts(len(part.values), comm))
