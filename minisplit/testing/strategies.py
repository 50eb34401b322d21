"""Hypothesis strategies for arrays on any number of ranks, which shrink to few ranks and balanced layouts.

An example is drawn once, outside of the ranks, so `dndarrays` draws a `Whole`: a tensor and the layout to cut
it by. A rank's own DNDarray is `whole.cut()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import DrawFn, SearchStrategy

from minisplit.core.layout import Layout
from minisplit.testing.whole import Whole

T = TypeVar("T")
Shape = tuple[int, ...]
# An argument of a strategy: a value, a strategy that draws one, or None for what the strategy draws by default.
Drawn: TypeAlias = T | SearchStrategy[T] | None
Split = int | SearchStrategy[int | None] | Literal["any"] | None
Elements = SearchStrategy[Any] | None

MAX_RANKS = 4
DTYPES = (
    torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.complex128, torch.bfloat16, torch.float16,
)  # fmt: skip


def ranks(maximum: int = MAX_RANKS) -> SearchStrategy[int]:
    """Return a strategy for numbers of ranks: one number per example, however often it is drawn in it.

    Parameters
    ----------
    maximum : int, default 4
        The largest number.

    Returns
    -------
    SearchStrategy
        Draws ints from 1 to `maximum`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.strategies.ranks(2)
    shared(...)
    """
    return st.shared(st.integers(1, maximum), key=f"minisplit ranks {maximum}")


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 6) -> SearchStrategy[Shape]:
    """Return a strategy for shapes of global arrays, with extents of 0 and 1 among them.

    Parameters
    ----------
    min_dims : int, default 0
        The smallest number of axes.
    max_dims : int, default 3
        The largest number of axes.
    min_side : int, default 0
        The smallest extent.
    max_side : int, default 6
        The largest extent.

    Returns
    -------
    SearchStrategy
        Draws tuples of int.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> len(ms.testing.strategies.shapes(min_dims=3).example())  # doctest: +SKIP
    3
    """
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(
    number: int = 2, max_dims: int = 3, max_side: int = 6
) -> SearchStrategy[tuple[Shape, ...]]:
    """Return a strategy for tuples of shapes that broadcast together.

    Parameters
    ----------
    number : int, default 2
        How many shapes a tuple has.
    max_dims : int, default 3
        The largest number of axes.
    max_side : int, default 6
        The largest extent.

    Returns
    -------
    SearchStrategy
        Draws tuples of shapes.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> len(ms.testing.strategies.broadcastable_shapes(3).example())  # doctest: +SKIP
    3
    """
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=number, min_dims=0, max_dims=max_dims, min_side=0, max_side=max_side
    )
    return drawn.map(lambda shapes: shapes.input_shapes)


def dtypes(among: Sequence[torch.dtype] = DTYPES) -> SearchStrategy[torch.dtype]:
    """Return a strategy for dtypes.

    Parameters
    ----------
    among : sequence of torch.dtype, optional
        The dtypes to draw from, simple ones first. By default bool, integers, floats and complex numbers.

    Returns
    -------
    SearchStrategy
        Draws a torch.dtype.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.strategies.dtypes([ms.int64, ms.bool])
    sampled_from([torch.int64, torch.bool])
    """
    return st.sampled_from(among)


@st.composite
def layouts(draw: DrawFn, shape: Drawn[Shape] = None, ranks: Drawn[int] = None, split: Split = "any") -> Layout:
    """Return a strategy for layouts: balanced, ragged with empty shards, all on one rank, replicated.

    Parameters
    ----------
    shape : tuple of int or SearchStrategy, optional
        The shape. By default it is drawn.
    ranks : int or SearchStrategy, optional
        The number of ranks. By default that of the example, which is drawn.
    split : int or None or SearchStrategy or {"any"}, default "any"
        The split axis; None for replicated layouts. By default it is drawn.

    Returns
    -------
    SearchStrategy
        Draws a Layout.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.strategies.layouts((4, 2), ranks=3, split=0).example().shape  # doctest: +SKIP
    (4, 2)
    """
    extents = _draw(draw, shape, _SHAPES)
    size = _draw(draw, ranks, _RANKS)
    axis: int | None
    if split == "any":
        # Not from the axes of this shape, so that a shape can lose one while the rest of the example stays.
        axis = draw(_SPLITS)
        axis = None if axis is None or not extents else axis % len(extents)
    else:
        axis = None if split is None else _draw(draw, split, _SPLITS)
    balanced = Layout(extents, axis, size)
    if balanced.split is None:
        return balanced
    return balanced.with_counts(draw(_counts(balanced.extent, size)))


@st.composite
def tensors(
    draw: DrawFn, shape: Drawn[Shape] = None, dtype: Drawn[torch.dtype] = None, elements: Elements = None
) -> torch.Tensor:
    """Return a strategy for plain tensors.

    Parameters
    ----------
    shape : tuple of int or SearchStrategy, optional
        The shape. By default it is drawn.
    dtype : torch.dtype or SearchStrategy, optional
        The dtype. By default it is drawn.
    elements : SearchStrategy, optional
        Draws the elements. By default they are small integers, whose sums are exact in any order.

    Returns
    -------
    SearchStrategy
        Draws a torch.Tensor.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.strategies.tensors((2, 3)).example().shape  # doctest: +SKIP
    torch.Size([2, 3])
    """
    extents = _draw(draw, shape, _SHAPES)
    element_type = _draw(draw, dtype, _DTYPES)
    array = draw(_arrays(extents, _small_numbers(element_type) if elements is None else elements))
    return torch.tensor(array.tolist(), dtype=element_type).reshape(extents)


@st.composite
def dndarrays(
    draw: DrawFn,
    shape: Drawn[Shape] = None,
    dtype: Drawn[torch.dtype] = None,
    ranks: Drawn[int] = None,
    split: Split = "any",
    elements: Elements = None,
) -> Whole:
    """Return a strategy for global arrays with a layout; all of one example are for one number of ranks.

    Parameters
    ----------
    shape : tuple of int or SearchStrategy, optional
        The shape. By default it is drawn.
    dtype : torch.dtype or SearchStrategy, optional
        The dtype. By default it is drawn.
    ranks : int or SearchStrategy, optional
        The number of ranks. By default that of the example, which is drawn.
    split : int or None or SearchStrategy or {"any"}, default "any"
        The split axis; None for replicated arrays. By default it is drawn.
    elements : SearchStrategy, optional
        Draws the elements. By default they are small integers, whose sums are exact in any order.

    Returns
    -------
    SearchStrategy
        Draws a Whole.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.strategies.dndarrays((2, 3), split=1).example().layout.split  # doctest: +SKIP
    1
    """
    tensor = draw(tensors(shape, dtype, elements))
    return Whole(tensor, draw(layouts(tuple(tensor.shape), ranks, split)))


@st.composite
def broadcastable_dndarrays(
    draw: DrawFn,
    number: int = 2,
    dtype: Drawn[torch.dtype] = None,
    ranks: Drawn[int] = None,
    elements: Elements = None,
) -> tuple[Whole, ...]:
    """Return a strategy for tuples of global arrays that broadcast together, each with a layout of its own.

    Parameters
    ----------
    number : int, default 2
        How many arrays a tuple has.
    dtype : torch.dtype or SearchStrategy, optional
        The dtype. By default it is drawn.
    ranks : int or SearchStrategy, optional
        The number of ranks. By default that of the example, which is drawn.
    elements : SearchStrategy, optional
        Draws the elements. By default they are small integers, whose sums are exact in any order.

    Returns
    -------
    SearchStrategy
        Draws tuples of Whole.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> len(ms.testing.strategies.broadcastable_dndarrays(3).example())  # doctest: +SKIP
    3
    """
    extents = draw(broadcastable_shapes(number))
    return tuple(draw(dndarrays(shape, dtype, ranks, elements=elements)) for shape in extents)


# To make a strategy takes longer than to draw from one, so those that examples share are made once.
_SHAPES = shapes()
_DTYPES = dtypes()
_RANKS = ranks()
_SPLITS = st.sampled_from((0, None, 1, 2, 3))


# By extent and number of ranks: those of the strategies here are 7 times 4, so that the limit is for others.
@lru_cache(maxsize=1024)
def _counts(extent: int, size: int) -> SearchStrategy[tuple[int, ...]]:
    """Return a strategy for counts: balanced ones, ones between any cuts of the axis, all on one rank."""
    # Sorted cuts are shares of any size, also none: hypothesis shrinks them to 0, all on the last rank.
    cuts = st.lists(st.integers(0, extent), min_size=size - 1, max_size=size - 1)
    owner = st.integers(0, size - 1)
    return st.one_of(
        st.just(Layout((extent,), 0, size).counts or ()),
        cuts.map(lambda cuts: tuple(stop - start for start, stop in pairwise([0, *sorted(cuts), extent]))),
        owner.map(lambda owner: tuple(extent if rank == owner else 0 for rank in range(size))),
    )


# By shape and strategy of the elements. Of up to three extents of 0 to 6 there are 400 shapes.
@lru_cache(maxsize=1024)
def _arrays(shape: Shape, elements: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return hnp.arrays(object, shape, elements=elements)


# By dtype, of which there are few.
@cache
def _small_numbers(dtype: torch.dtype) -> SearchStrategy[Any]:
    if dtype is torch.bool:
        return st.booleans()
    if dtype.is_complex:
        return st.builds(complex, st.integers(-4, 4), st.integers(-4, 4))
    return st.integers(-8 if dtype.is_signed else 0, 8)


def _draw(draw: DrawFn, value: Drawn[T], default: SearchStrategy[T]) -> T:
    if value is None:
        return draw(default)
    return draw(value) if isinstance(value, SearchStrategy) else value
