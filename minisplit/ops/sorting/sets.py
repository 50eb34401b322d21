"""Sets: the distinct elements of an array. Each rank finds its own, sample sort brings equal ones together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.array import DNDarray, Operand, as_dndarray, replicated
from minisplit.core.collectives import all_reduce
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.indexing.index_arrays import gather_counts
from minisplit.core.layout import Layout, layout_from_counts, normalise_axis
from minisplit.ops.elementwise.apply import check_one_communicator
from minisplit.ops.elementwise.comparison import equal
from minisplit.ops.reductions.extremes import global_index, ordinal
from minisplit.ops.shape.reshape import ravel
from minisplit.ops.shape.take import take
from minisplit.ops.sorting.local_sort import sort_stable
from minisplit.ops.sorting.sample_sort import Partition, partition_by_samples
from minisplit.ops.sorting.search import dtype_beside, number_to_find, searchable


class UniqueAll(NamedTuple):
    """The results of `unique_all`.

    Attributes
    ----------
    values : DNDarray
        The distinct elements.
    indices : DNDarray
        Where each of them is first in the array as one row.
    inverse_indices : DNDarray
        For each element of the array which of the distinct ones it is.
    counts : DNDarray
        How often each distinct element occurs.
    """

    values: DNDarray
    indices: DNDarray
    inverse_indices: DNDarray
    counts: DNDarray


class UniqueCounts(NamedTuple):
    """The results of `unique_counts`.

    Attributes
    ----------
    values : DNDarray
        The distinct elements.
    counts : DNDarray
        How often each distinct element occurs.
    """

    values: DNDarray
    counts: DNDarray


class UniqueInverse(NamedTuple):
    """The results of `unique_inverse`.

    Attributes
    ----------
    values : DNDarray
        The distinct elements.
    inverse_indices : DNDarray
        For each element of the array which of the distinct ones it is.
    """

    values: DNDarray
    inverse_indices: DNDarray


def unique_values(x: DNDarray, /) -> DNDarray:
    """Return the distinct elements of an array.

    Every NaN is distinct, and signed zeros are one element.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    DNDarray
        The distinct elements, 1-d and in ascending order: NaNs last, complex numbers by their real, then their
        imaginary parts. Split if `x` is, with about equal counts where the ranks have many distinct elements.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: three small allgathers and one exchange of the elements that
    are distinct on each rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.unique_values(ms.array([3, 1, 3], split=0)).tolist()
    [1, 3]
    """
    return _unique(x)[0]


def unique_counts(x: DNDarray, /) -> UniqueCounts:
    """Return the distinct elements of an array, and how often each occurs.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    values : DNDarray
        The distinct elements, as those of `unique_values`.
    counts : DNDarray
        How often each occurs, int64.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: three small allgathers and two exchanges of the elements that
    are distinct on each rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.unique_counts(ms.array([3, 1, 3], split=0)).counts.tolist()
    [1, 2]
    """
    return UniqueCounts(*_unique(x, "counts"))


def unique_inverse(x: DNDarray, /) -> UniqueInverse:
    """Return the distinct elements of an array, and for each of its elements the index among them.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    values : DNDarray
        The distinct elements, as those of `unique_values`.
    inverse_indices : DNDarray
        For each element of `x` its index in `values`, int64, with the layout of `x`.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: three small allgathers and three exchanges of the elements
    that are distinct on each rank, the last one back.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.unique_inverse(ms.array([3, 1, 3], split=0)).inverse_indices.tolist()
    [1, 0, 1]
    """
    return UniqueInverse(*_unique(x, "inverse"))


def unique_all(x: DNDarray, /) -> UniqueAll:
    """Return the distinct elements of an array, where they are and how often each occurs.

    Parameters
    ----------
    x : DNDarray
        The array.

    Returns
    -------
    values : DNDarray
        The distinct elements, as those of `unique_values`.
    indices : DNDarray
        Where each of them is first in the array as one row, int64.
    inverse_indices : DNDarray
        For each element of `x` its index in `values`, int64, with the layout of `x`.
    counts : DNDarray
        How often each occurs, int64.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: three small allgathers and four exchanges of the elements
    that are distinct on each rank.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.unique_all(ms.array([3, 1, 3], split=0)).indices.tolist()
    [1, 0]
    """
    return UniqueAll(*_unique(x, "indices", "inverse", "counts"))


def unique(
    x: DNDarray,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = False,
) -> Any:
    """Return the distinct elements of an array, and optionally their indices, inverse and counts.

    It is `numpy.unique`, except for the default of `equal_nan`.

    Parameters
    ----------
    x : DNDarray
        The array.
    return_index : bool, default False
        Whether to return where each distinct element is first.
    return_inverse : bool, default False
        Whether to return which of them each element is.
    return_counts : bool, default False
        Whether to return how often each occurs.
    axis : int, optional
        The axis along which slices are compared whole, as the rows of a matrix for 0. By default elements are
        compared.
    equal_nan : bool, default False
        Whether NaNs are one element. By default each is distinct, as the Python Array API standard has it. Of no
        effect on slices, as in NumPy.

    Returns
    -------
    DNDarray or tuple of DNDarray
        The distinct elements, or slices in their lexicographic order. With what else is asked for, in this order,
        in a tuple, as those of `unique_all`; of slices the inverse is 1-d.

    Raises
    ------
    IndexError
        If the axis is out of range.
    TypeError
        If `x` is not a DNDarray, or the axis not an int.

    Communication
    -------------
    Local if `x` is replicated. Otherwise collective: three small allgathers, and exchanges of the elements that
    are distinct on each rank: one for the elements, one for their places if the index or the inverse is asked for,
    and one each for the inverse and the counts. For slices two such exchanges for each element of a slice, and one
    more.

    Examples
    --------
    >>> import minisplit as ms
    >>> values, counts = ms.unique(ms.array([3, 1, 3], split=0), return_counts=True)
    >>> values.tolist(), counts.tolist()
    ([1, 3], [1, 2])
    """
    if axis is not None:
        axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
        labels = _number_slices(x, axis)
        found = unique_all(labels)
        wanted = (return_index, return_inverse, return_counts)
        others = [each for each, is_wanted in zip(found[1:], wanted, strict=True) if is_wanted]
        values = take(x, found.indices, axis)
        return (values, *others) if others else values
    asked = {"indices": return_index, "inverse": return_inverse, "counts": return_counts}
    results = _unique(x, *(name for name in asked if asked[name]), equal_nan=equal_nan)
    return tuple(results) if len(results) > 1 else results[0]


def isin(x1: Operand, x2: Operand, /, *, assume_unique: bool = False, invert: bool = False) -> DNDarray:
    """Test whether each element of one array is in another.

    Parameters
    ----------
    x1 : DNDarray or number
        The elements to look for.
    x2 : DNDarray or number
        The elements among which to look. One of the two is an array.
    assume_unique : bool, default False
        Without effect.
    invert : bool, default False
        Whether to test that it is not in the other.

    Returns
    -------
    DNDarray
        The answers, bool, with the layout of `x1`. NaN is in nothing.

    Raises
    ------
    ValueError
        If the arrays are on different communicators.
    TypeError
        If neither is an array, or one is neither array nor number.

    Communication
    -------------
    Local if `x2` is replicated. Otherwise collective: one allreduce of the results for a replicated `x1`. For a
    split `x1`: two small allgathers and three exchanges of the elements that are distinct on each rank, so no rank
    needs all of `x2`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.isin(ms.arange(4, split=0), ms.array([3, 1, 7], split=0)).tolist()
    [False, True, False, True]
    """
    first, second = _read_elements(x1, x2)
    are_split = first.split is not None and second.split is not None and first.comm.size > 1
    found = _is_among(first.larray, second.larray, first.comm if are_split else None)
    if first.split is None and second.split is not None:
        found = all_reduce(found, first.comm)
    return DNDarray(~found if invert else found, first.layout, first.comm)


def intersect1d(
    x1: DNDarray, x2: DNDarray, /, assume_unique: bool = False, return_indices: bool = False
) -> DNDarray | tuple[DNDarray, DNDarray, DNDarray]:
    """Return the distinct elements that two arrays have in common.

    Parameters
    ----------
    x1, x2 : DNDarray
        The arrays. All their elements count, for any shapes and layouts.
    assume_unique : bool, default False
        NumPy's promise that no array has an element twice. It is not needed.
    return_indices : bool, default False
        Whether to return where the elements first are, as well.

    Returns
    -------
    common : DNDarray
        The elements. Ascending, 1-d, in the dtype to which torch promotes those of both. Split where an array is.
    first : DNDarray
        Where they first are in `x1`, flattened, int64. Only if `return_indices`.
    second : DNDarray
        Where they first are in `x2`. Only if `return_indices`.

    Raises
    ------
    ValueError
        If the arrays are on different communicators.
    TypeError
        If an array is not a DNDarray.

    Communication
    -------------
    Local if both arrays are replicated. Otherwise collective, as `unique_values` of `x1`, `isin` and one small
    allgather; with `return_indices` all of it for each array, and one exchange.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.intersect1d(ms.array([3, 1, 1, 2], split=0), ms.array([2, 3, 7], split=0)).tolist()
    [2, 3]
    """
    first, second = _read_operands(x1, x2, "intersect1d")
    if not return_indices:
        values = unique_values(first)
        return values[isin(values, second)]
    found = [unique_all(x) for x in (first, second)]
    masks = [isin(one.values, other.values) for one, other in (found, found[::-1])]
    values = found[0].values[masks[0]]
    first_places, second_places = (
        each.indices[mask].to_layout(values.layout) for each, mask in zip(found, masks, strict=True)
    )
    return values, first_places, second_places


def union1d(x1: DNDarray, x2: DNDarray, /) -> DNDarray:
    """Return the distinct elements of two arrays together.

    Parameters
    ----------
    x1, x2 : DNDarray
        The arrays. All their elements count, for any shapes and layouts.

    Returns
    -------
    DNDarray
        The elements. Ascending, 1-d, in the dtype to which torch promotes those of both. Split where an array is.

    Raises
    ------
    ValueError
        If the arrays are on different communicators.
    TypeError
        If an array is not a DNDarray.

    Communication
    -------------
    Local if both arrays are replicated. Otherwise collective, as `unique_values`.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.union1d(ms.array([3, 1], split=0), ms.array([2, 3])).tolist()
    [1, 2, 3]
    """
    return unique_values(_join_elements(*_read_operands(x1, x2, "union1d")))


def setdiff1d(x1: DNDarray, x2: DNDarray, /, assume_unique: bool = False) -> DNDarray:
    """Return the distinct elements of one array that another does not have.

    Parameters
    ----------
    x1 : DNDarray
        The array that gives the elements.
    x2 : DNDarray
        The array with the elements to leave out.
    assume_unique : bool, default False
        Whether no element is in `x1` twice. Then they come in their order there.

    Returns
    -------
    DNDarray
        The elements. Ascending, 1-d, in the dtype of `x1`. Split where `x1` is.

    Raises
    ------
    ValueError
        If the arrays are on different communicators.
    TypeError
        If an array is not a DNDarray.

    Communication
    -------------
    Local if both arrays are replicated. Otherwise collective, as `unique_values` of `x1`, or `ravel` of it, `isin`
    and one small allgather.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.setdiff1d(ms.array([3, 1, 1, 2], split=0), ms.array([2, 7], split=0)).tolist()
    [1, 3]
    """
    _read_operands(x1, x2, "setdiff1d")
    values = ravel(x1) if assume_unique else unique_values(x1)
    return values[isin(values, x2, invert=True)]


def setxor1d(x1: DNDarray, x2: DNDarray, /, assume_unique: bool = False) -> DNDarray:
    """Return the distinct elements that only one of two arrays has.

    Parameters
    ----------
    x1, x2 : DNDarray
        The arrays. All their elements count, for any shapes and layouts.
    assume_unique : bool, default False
        NumPy's promise that no array has an element twice. It is not needed.

    Returns
    -------
    DNDarray
        The elements. Ascending, 1-d, in the dtype to which torch promotes those of both. Split where an array is.

    Raises
    ------
    ValueError
        If the arrays are on different communicators.
    TypeError
        If an array is not a DNDarray.

    Communication
    -------------
    Local if both arrays are replicated. Otherwise collective, as `unique_values` of each array, `unique_counts`
    and one small allgather.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.setxor1d(ms.array([3, 1, 1], split=0), ms.array([2, 3], split=0)).tolist()
    [1, 2]
    """
    first, second = (unique_values(x) for x in _read_operands(x1, x2, "setxor1d"))
    values, counts = unique_counts(_join_elements(first, second))
    return values[equal(counts, 1)]


def _join_elements(first: DNDarray, second: DNDarray) -> DNDarray:
    """The elements of two arrays as one 1-d array, in any order: each stays on its rank. Local."""
    comm, is_split = first.comm, first.split is not None or second.split is not None
    # What every rank has is shared out, so that no element counts several times.
    parts = [
        ravel(x).to_layout(Layout((x.size,), 0, comm.size)) if is_split and x.split is None else x
        for x in (first, second)
    ]
    joined = torch.cat([x.larray.flatten() for x in parts])
    counts = [sum(math.prod(x.layout.lshape(rank)) for x in parts) for rank in range(comm.size)]
    layout = layout_from_counts(counts) if is_split else Layout((len(joined),), None, comm.size)
    return DNDarray(joined, layout, comm)


def _is_among(values: torch.Tensor, others: torch.Tensor, comm: Communication | None) -> torch.Tensor:
    """Whether each element is in another tensor, or, with `comm`, in that of any rank. Collective then."""
    if comm is None and not values.is_complex():
        return torch.isin(searchable(values), searchable(others))
    number = values.numel()
    own = _distinct(torch.cat([values.flatten(), others.flatten()]))
    is_in = _mask(own.inverse[number:], len(own.values))
    if comm is not None:
        # Equal elements meet on one rank. If one of them was in the others of its rank, all of them are.
        partition = _partition(own.values, torch.arange(len(own.values), device=values.device), comm)
        met = _distinct(partition.exchange(own.values))
        is_in = _mask(met.inverse[partition.exchange(is_in)], len(met.values))
        is_in = partition.exchange_back(is_in[met.inverse])
    return is_in[own.inverse[:number]].reshape(values.shape)


def _mask(places: torch.Tensor, number: int) -> torch.Tensor:
    """A mask of a number of elements that is true at some places."""
    return torch.zeros(number, dtype=torch.bool, device=places.device).index_fill(0, places, True)


def _read_operands(x1: DNDarray, x2: DNDarray, name: str) -> tuple[DNDarray, DNDarray]:
    """Two arrays in the dtype to which theirs are promoted, and without their gradients."""
    first, second = as_dndarray(x1, f"x1 of {name}"), as_dndarray(x2, f"x2 of {name}")
    check_one_communicator([first, second])
    dtype = torch.promote_types(first.dtype, second.dtype)
    one, other = (DNDarray(x.larray.detach().to(dtype), x.layout, x.comm) for x in (first, second))
    return one, other


def _read_elements(x1: Operand, x2: Operand) -> tuple[DNDarray, DNDarray]:
    """The operands, numbers as replicated arrays, in one dtype in which equal values stay equal."""
    numbers = (int, float, complex, np.number, np.bool_)
    given: list[Any] = [number_to_find(x) if isinstance(x, numbers) else x for x in (x1, x2)]
    arrays = [
        as_dndarray(x, f"x{place}") for place, x in enumerate(given, 1) if not isinstance(x, (int, float, complex))
    ]
    if not arrays:
        raise TypeError(
            f"isin needs a DNDarray, got {short_repr(x1)} and {short_repr(x2)}; use == for two numbers"
        )
    check_one_communicator(arrays)
    dtypes = [x.dtype if isinstance(x, DNDarray) else dtype_beside(arrays[0].dtype, x) for x in given]
    dtype, comm = torch.promote_types(*dtypes), arrays[0].comm
    first, second = (
        DNDarray(x.larray.detach().to(dtype), x.layout, comm)
        if isinstance(x, DNDarray)
        else replicated(torch.tensor(x, dtype=dtype, device=arrays[0].device), comm)
        for x in given
    )
    return first, second


@dataclass(frozen=True, slots=True, eq=False)
class _Distinct:
    """The distinct elements of a 1-d tensor in order, where each is first, and which of them each element is."""

    values: torch.Tensor
    first: torch.Tensor
    inverse: torch.Tensor


def _distinct(elements: torch.Tensor, numbers: torch.Tensor | None = None, equal_nan: bool = False) -> _Distinct:
    """The distinct elements of a 1-d tensor. Of equals and of NaNs the first is that with the least number."""
    order = torch.arange(len(elements), device=elements.device) if numbers is None else torch.argsort(numbers)
    # Stable sorts by what counts less first: the number, the imaginary part, the real part.
    for part in (elements.imag, elements.real) if elements.is_complex() else (elements,):
        order = order[sort_stable(part[order], 0)[1]]
    ordered = elements[order]
    begins = torch.ones(len(elements), dtype=torch.bool, device=elements.device)
    begins[1:] = ordered[1:] != ordered[:-1]
    if equal_nan:  # they are the last
        begins[1:] &= ~(ordered[1:].isnan() & ordered[:-1].isnan())
    inverse = torch.empty_like(order)
    inverse[order] = begins.cumsum(0) - 1
    return _Distinct(ordered[begins], order[begins], inverse)


def _partition(
    values: torch.Tensor, numbers: torch.Tensor, comm: Communication, equal_nan: bool = False
) -> Partition:
    """Which of this rank's distinct values go to which rank: equal ones to one, NaNs by their numbers."""

    def keys_at(places: torch.Tensor) -> torch.Tensor:
        some = values[places]
        # Real numbers go without the first key, which is 0 for all.
        major, minor = (some.real, some.imag) if some.is_complex() else (torch.zeros_like(places), some)
        # The third key is the same for equal values, so that no splitter divides them. NaNs equal nothing, and an
        # array may be full of them: they are shared out.
        tie = torch.where(some.isnan() & (not equal_nan), numbers[places], 0)
        return torch.stack([ordinal(major), ordinal(minor), tie], -1)

    return partition_by_samples(len(values), keys_at, int(equal_nan), values.device, comm)


def _number_slices(x: DNDarray, axis: int) -> DNDarray:
    """The places of slices along an axis in their lexicographic order, equal ones alike, 1-d. Collective."""
    x = x._align(x.layout.with_split(axis)) if x.split is not None else x
    layout = Layout((x.shape[axis],), None if x.split is None else 0, x.comm.size, x.counts)
    rows = x.larray.detach().movedim(axis, 0)
    numbers = DNDarray(torch.zeros(len(rows), dtype=torch.int64, device=x.device), layout, x.comm)
    for column in rows.reshape(len(rows), math.prod(rows.shape[1:])).unbind(1):
        values, places = _unique(DNDarray(column, layout, x.comm), "inverse")
        numbers = _unique(numbers * values.size + places, "inverse")[1]
    return numbers


def _unique(x: DNDarray, *names: str, equal_nan: bool = False) -> list[DNDarray]:
    """The distinct elements of `x`, and those of "indices", "inverse" and "counts" that are named."""
    x = as_dndarray(x)
    comm, own = x.comm, _distinct(x.larray.detach().flatten(), equal_nan=equal_nan)
    found = {"values": own.values, "indices": own.first, "inverse": own.inverse}
    if "counts" in names:
        found["counts"] = torch.bincount(own.inverse, minlength=len(own.values))
    layout = Layout((len(own.values),), None if x.split is None else 0, comm.size)
    if x.split is not None and comm.size > 1:
        numbers = global_index(own.first, x.layout, comm.rank, x.layout.span(comm.rank)[0])
        partition = _partition(own.values, numbers, comm, equal_nan)
        received = partition.exchange(own.values)
        # Places matter where NaNs are told apart, and where it is asked which of equal elements is the first.
        has_places = "indices" in names or "inverse" in names
        numbers = partition.exchange(numbers) if has_places else numbers
        part = _distinct(received, numbers if has_places else None, equal_nan)
        layout = gather_counts(len(part.values), comm)
        found["values"] = part.values
        if "indices" in names:
            found["indices"] = numbers[part.first]
        if "inverse" in names:
            answers = partition.exchange_back(part.inverse + layout.span(comm.rank)[0])
            found["inverse"] = answers[own.inverse]
        if "counts" in names:
            counts = partition.exchange(found["counts"])
            found["counts"] = counts.new_zeros(len(part.values)).index_add(0, part.inverse, counts)
    found["inverse"] = found["inverse"].reshape(x.lshape)
    return [DNDarray(found[name], x.layout if name == "inverse" else layout, comm) for name in ("values", *names)]
