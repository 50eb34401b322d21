"""Hypothesis strategies for arrays on any number of ranks, which shrink to few ranks and balanced layouts.

An example is drawn once, outside of the ranks, so `dndarrays` draws a `Whole`: a tensor and the layout to cut
it by. A rank's own DNDarray is `whole.cut()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import DrawFn, SearchStrategy

from minisplit.core.layout import Layout
from minisplit.testing.whole import Whole

Drawn = TypeVar("Drawn")
Shape = tuple[int, ...]

MAX_RANKS = 4
DTYPES = (
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
    torch.bfloat16,
    torch.float16,
)


def ranks(maximum: int = MAX_RANKS) -> SearchStrategy[int]:
    """Numbers of ranks from 1 to `maximum`: one number per example, however often it is drawn in it.

    >>> import minisplit as ms
    >>> ms.testing.strategies.ranks(2)
    shared(...)
    """
    return st.shared(st.integers(1, maximum), key=f"minisplit ranks {maximum}")


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 6) -> SearchStrategy[Shape]:
    """Shapes of global arrays, with sides of 0 and 1 among them."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(
    number: int = 2, max_dims: int = 3, max_side: int = 6
) -> SearchStrategy[tuple[Shape, ...]]:
    """Tuples of `number` shapes that broadcast together."""
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=number, min_dims=0, max_dims=max_dims, min_side=0, max_side=max_side
    )
    return drawn.map(lambda shapes: shapes.input_shapes)


def dtypes(among: Sequence[torch.dtype] = DTYPES) -> SearchStrategy[torch.dtype]:
    """torch's dtypes, simple ones first."""
    return st.sampled_from(among)


@st.composite
def layouts(
    draw: DrawFn,
    shape: Shape | SearchStrategy[Shape] | None = None,
    ranks: int | SearchStrategy[int] | None = None,
    split: int | SearchStrategy[int | None] | Literal["any"] | None = "any",
) -> Layout:
    """Layouts of `shape`: balanced, ragged with empty shards, all on one rank, replicated.

    Without `shape`, `ranks` or `split` these are drawn too; `split=None` means replicated.
    """
    extents = draw(_SHAPES) if shape is None else _drawn(draw, shape)
    size = draw(_RANKS) if ranks is None else _drawn(draw, ranks)
    axis: int | None
    if split == "any":
        # Not from the axes that there are, so that a shape can lose one while the rest of the example stands.
        axis = draw(_SPLITS)
        axis = None if axis is None or not extents else axis % len(extents)
    else:
        axis = _drawn(draw, split)
    balanced = Layout(extents, axis, size)
    if balanced.split is None:
        return balanced
    return balanced.with_counts(draw(_counts(balanced.extent, size)))


@st.composite
def tensors(
    draw: DrawFn,
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None = None,
    elements: SearchStrategy[Any] | None = None,
) -> torch.Tensor:
    """Plain tensors. Without `elements` these are small integers, whose sums are exact in any order."""
    extents = draw(_SHAPES) if shape is None else _drawn(draw, shape)
    kind = draw(_DTYPES) if dtype is None else _drawn(draw, dtype)
    drawn = draw(_arrays(extents, _small(kind) if elements is None else elements))
    return torch.tensor(drawn.tolist(), dtype=kind).reshape(extents)


@st.composite
def dndarrays(
    draw: DrawFn,
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None = None,
    ranks: int | SearchStrategy[int] | None = None,
    split: int | SearchStrategy[int | None] | Literal["any"] | None = "any",
    elements: SearchStrategy[Any] | None = None,
) -> Whole:
    """Global arrays with a layout, as `Whole`; all of one example are for one number of ranks."""
    tensor = draw(tensors(shape, dtype, elements))
    return Whole(tensor, draw(layouts(tuple(tensor.shape), ranks, split)))


@st.composite
def broadcastable_dndarrays(
    draw: DrawFn,
    number: int = 2,
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None = None,
    ranks: int | SearchStrategy[int] | None = None,
    elements: SearchStrategy[Any] | None = None,
) -> tuple[Whole, ...]:
    """Tuples of `number` global arrays that broadcast together, each with a layout of its own."""
    extents = draw(broadcastable_shapes(number))
    return tuple(draw(dndarrays(shape, dtype, ranks, elements=elements)) for shape in extents)


# To make a strategy costs more than to draw from one, so those that examples share are made once.
_SHAPES = shapes()
_DTYPES = dtypes()
_RANKS = ranks()
_SPLITS = st.sampled_from((0, None, 1, 2, 3))


@lru_cache(maxsize=1024)
def _counts(extent: int, size: int) -> SearchStrategy[tuple[int, ...]]:
    """Balanced counts, ones between any cuts of the axis, all on one rank."""
    cuts = st.lists(st.integers(0, extent), min_size=size - 1, max_size=size - 1)
    owner = st.integers(0, size - 1)
    return st.one_of(
        st.just(Layout((extent,), 0, size).counts or ()),
        cuts.map(lambda cuts: tuple(stop - start for start, stop in pairwise([0, *sorted(cuts), extent]))),
        owner.map(lambda owner: tuple(extent if rank == owner else 0 for rank in range(size))),
    )


@lru_cache(maxsize=1024)
def _arrays(shape: Shape, elements: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return hnp.arrays(object, shape, elements=elements)


@cache
def _small(dtype: torch.dtype) -> SearchStrategy[Any]:
    if dtype is torch.bool:
        return st.booleans()
    if dtype.is_complex:
        return st.builds(complex, st.integers(-4, 4), st.integers(-4, 4))
    return st.integers(-8 if dtype.is_signed else 0, 8)


def _drawn(draw: DrawFn, value: Drawn | SearchStrategy[Drawn]) -> Drawn:
    return draw(value) if isinstance(value, SearchStrategy) else value
