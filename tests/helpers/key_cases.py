"""Keys of all kinds and what may be set there, against which indexing is tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from layouts import layouts

import minisplit as ms
from minisplit.testing import Whole
from minisplit.testing import strategies as drawn

SHAPE = (5, 4, 6)
WHOLE = np.arange(120).reshape(SHAPE)
rng = np.random.default_rng(0)

BASIC: dict[str, Any] = {
    "nothing": (),
    "Ellipsis": ...,
    "all": slice(None),
    "int": 3,
    "negative int": (-1, slice(None), -6),
    "ints": (2, 1, 5),
    "0-d integers": (np.array(2), torch.tensor(-1), np.int8(0)),
    "slice": slice(1, 4),
    "slices": (slice(1, None, 2), slice(-3, -1), slice(None, 100)),
    "empty slice": (slice(3, 1), slice(9, 20)),
    "strided": (slice(None, None, 3), slice(1, None, 3), slice(2, None, 3)),
    "backwards": slice(None, None, -1),
    "backwards by steps": (slice(-1, None, -2), slice(2, 0, -1), slice(None, None, -4)),
    "backwards to nothing": (slice(1, 3, -1), slice(None, None, -1)),
    "one row backwards": (slice(3, 2, -1),),
    "new axes": (None, slice(2), None, ..., None),
    "int and backwards": (1, slice(None, None, -1), None),
}
ARRAYS: dict[str, Any] = {
    "array": [4, 0, 0, -1, 2],
    "array on axis 1": (slice(None), torch.tensor([3, 3, 0])),
    "array on axis 2": (..., np.array([5, 1], dtype=np.uint8)),
    "2-d array": np.array([[0, 4, 4], [1, -5, 2]]),
    "empty array": [],
    "array of one row": (slice(None, None, -1), [[2]]),
    "one of many": ([1] * 50, slice(None), 2),
    "arrays": ([0, 4, 2], [3, 0, 0]),
    "arrays that broadcast": (np.array([[4], [1]]), slice(None, None, -1), np.array([0, 5, 5])),
    "grid": np.ix_([4, 0], [1, 1, 3], [5]),
    "arrays apart": ([0, 1], slice(None), [2, -1]),
    "int and array": (1, [0, 2]),
    "int and array apart": (3, slice(1, None), [0, 2]),
    "array and int": (slice(None), [2, 0], 1),
    "array and int apart": ([2, 0], None, 1),
    "array, Ellipsis and int": ([2, 0], ..., 1),
    "array, Ellipsis of nothing and int": (slice(None), [2, 0, 1], ..., 1),
    "lone true": True,
    "lone false": (slice(2), False),
    "true and int": (2, True),
    "true and array": (slice(None), [0, 1, 1], np.True_),
    "mask": np.array([True, False, False, True, True]),
    "mask of nothing": np.zeros(5, dtype=bool),
    "mask on axis 1": (slice(None, None, -2), np.array([True, False, False, True])),
    "mask on axis 2": (..., None, torch.tensor([True, False, True, True, False, True])),
    "mask of two axes": rng.random((5, 4)) < 0.5,
    "mask of the last axes": (slice(1, None), rng.random((4, 6)) < 0.5),
    "mask of all axes": rng.random((5, 4, 6)) < 0.3,
    "mask and int": ([True, False, True, True, False], 2),
    "mask and array": ([True, False, True, False, False], [0, 3]),
    "array and mask": (slice(None), [0, 3], torch.tensor([False, True, False, False, False, True])),
    "two masks": ([True, False, True, False, False], slice(None), [True, False, False, False, False, True]),
}


def cut_array(array: Any, layout: ms.Layout, comm: ms.Communication) -> ms.DNDarray:
    return Whole(torch.tensor(array), layout).cut(comm)


def for_numpy(key: Any) -> Any:
    """A key with tensors and nested lists as NumPy takes them."""
    items = key if isinstance(key, tuple) else (key,)
    return tuple(item.numpy() if isinstance(item, torch.Tensor) else item for item in items)


def with_split_arrays(key: Any, kind: int, comm: ms.Communication) -> Any:
    """The key with DNDarrays, on one of their layouts, for its arrays."""

    def cut_item(item: Any) -> Any:
        if not isinstance(item, (list, np.ndarray)) or not np.ndim(item):
            return item
        array = np.array(item, dtype=None if len(item) else np.int64)
        choices = layouts(array.shape, comm.size)
        return cut_array(array, choices[kind % len(choices)], comm)

    return tuple(map(cut_item, for_numpy(key)))


@st.composite
def random_keys(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Keys of all kinds; some do not fit the shape."""
    group = draw(st.sampled_from([(), (1,), (2,), (3,), (0,), (2, 3), (1, 2)]))
    key: list[Any] = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 9)):
        extent = shape[axis]
        kind = draw(st.sampled_from(["slice", "slice", "int", "array", "array", "mask", "new", "bool"]))
        if kind == "slice":
            bound = st.none() | st.integers(-extent - 1, extent + 1)
            key.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3, -1, -2, -3]))))
        elif kind == "int":
            key.append(draw(st.integers(-extent, max(extent - 1, 0))))
        elif kind == "array":
            shaped = tuple(1 if draw(st.integers(0, 4)) == 0 else n for n in group[draw(st.integers(0, 1)) :])
            numbers = st.integers(-extent - (draw(st.integers(0, 30)) == 0), max(extent - 1, 0))
            count = int(np.prod(shaped))
            drawn = draw(st.lists(numbers, min_size=count, max_size=count))
            key.append(np.array(drawn, dtype=np.int64).reshape(shaped))
        elif kind == "mask":
            masked = shape[axis : axis + draw(st.integers(1, 2))]
            count = int(np.prod(masked))
            key.append(
                np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(masked)
            )
            axis += len(masked) - 1
        elif kind == "new":
            key.append(None)
            continue
        elif kind == "bool":
            key.append(draw(st.booleans()))
            continue
        axis += 1
    if draw(st.booleans()):
        key.insert(draw(st.integers(0, len(key))), ...)
    return tuple(key)


def check_key(key: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    """IndexError for what NumPy lets pass where the result or a mask is empty."""
    axes = [np.ndim(item) if np.asarray(item).dtype == bool else int(item is not None) for item in key]
    axis = 0
    for item, used in zip(key, axes, strict=True):
        if item is ...:
            axis += len(shape) - (sum(axes) - 1)
            continue
        if used:
            np.zeros(shape[axis : axis + used])[item]
        if isinstance(item, np.ndarray) and item.dtype == bool and item.shape != shape[axis : axis + used]:
            raise IndexError
        axis += used


@st.composite
def random_cases(draw: Any) -> tuple[Whole, tuple[Any, ...], Any]:
    """An array, a key, and what may be set there, None where the key does not fit. Some are `Whole`."""

    def whole(array: Any) -> Whole:
        return Whole(torch.tensor(array), draw(drawn.layouts(array.shape)))

    def as_it_is_or_whole(array: Any) -> Any:
        return whole(array) if isinstance(array, np.ndarray) and draw(st.booleans()) else array

    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    x = np.arange(int(np.prod(shape))).reshape(shape)
    key = draw(random_keys(shape))
    value = None
    try:
        selected = x[key]
        check_key(key, shape)
        fresh = -1 - np.arange(np.size(selected)).reshape(np.shape(selected))
        value = fresh[tuple(slice(None) if draw(st.integers(0, 3)) else slice(1) for _ in range(fresh.ndim))]
        kept = draw(st.integers(0, fresh.ndim))
        value = value.reshape(value.shape[next((k for k in range(kept) if value.shape[k] != 1), kept) :])
    except IndexError:
        pass
    return whole(x), tuple(map(as_it_is_or_whole, key)), as_it_is_or_whole(value)


def plain(item: Any) -> Any:
    return item.tensor.numpy() if isinstance(item, Whole) else item


def cut(item: Any) -> Any:
    return item.cut() if isinstance(item, Whole) else item
