"""`x[key]` and `x[key] = value`, against NumPy on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.errors import agreement

Comm = ms.Communication
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


def layouts(shape: tuple[int, ...], size: int) -> list[ms.Layout]:
    """Replicated; split along each axis evenly, unevenly with nothing on some rank, and all on one rank."""
    found = [ms.Layout(shape, None, size)]
    for split, extent in enumerate(shape):
        uneven = [0] * size
        uneven[size // 2] += extent // 3
        uneven[-1] += extent - extent // 3
        one = [extent if rank == size // 2 else 0 for rank in range(size)]
        found += [ms.Layout(shape, split, size, counts) for counts in (None, tuple(uneven), tuple(one))]
    return found


def dealt(whole: Any, layout: ms.Layout, comm: ms.Communication) -> ms.DNDarray:
    return ms.DNDarray(torch.tensor(whole)[layout.box(comm.rank)].clone(), layout, comm)


def for_numpy(key: Any) -> Any:
    """A key with tensors and nested lists as NumPy takes them."""
    items = key if isinstance(key, tuple) else (key,)
    return tuple(item.numpy() if isinstance(item, torch.Tensor) else item for item in items)


def with_split_arrays(key: Any, kind: int, comm: ms.Communication) -> Any:
    """The key with DNDarrays, on one of their layouts, for its arrays."""

    def dealt_array(item: Any) -> Any:
        if not isinstance(item, (list, np.ndarray)) or not np.ndim(item):
            return item
        array = np.array(item, dtype=None if len(item) else np.int64)
        choices = layouts(array.shape, comm.size)
        return dealt(array, choices[kind % len(choices)], comm)

    return tuple(map(dealt_array, for_numpy(key)))


def check_get(x: ms.DNDarray, key: Any, wanted: Any) -> ms.DNDarray:
    before = x.larray.clone()
    got = x[key]
    gathered = got.numpy()
    with agreement(x.comm, "checking"):
        np.testing.assert_array_equal(gathered, wanted)
        assert (got.shape, got.dtype, got.comm) == (wanted.shape, x.dtype, x.comm)
        assert got.larray.is_contiguous()
        got.larray.fill_(1)
        assert torch.equal(x.larray, before), "the result shares memory"
    return got


def check_put(x: ms.DNDarray, key: Any, value: Any, wanted: Any) -> None:
    layout, shard = x.layout, x.larray
    x[key] = value
    gathered = x.numpy()
    with agreement(x.comm, "checking"):
        np.testing.assert_array_equal(gathered, wanted)
        assert x.layout is layout
        assert x.larray is shard


def nth_value(n: int, selected: Any, comm: ms.Communication) -> tuple[Any, Any]:
    """Something to which a selection may be set: for minisplit, and for NumPy."""
    fresh = -1 - np.arange(selected.size).reshape(selected.shape)
    row, first = fresh[..., :1] if fresh.ndim else fresh, fresh[:1] if fresh.ndim else fresh
    found: list[tuple[Any, Any]] = [(-7, -7), (fresh, fresh), (torch.tensor(fresh[None]), fresh)]
    for value in (fresh, row, first, first[None]):
        found += [(layout, value) for layout in layouts(value.shape, comm.size)]
    value, plain = found[n % len(found)]
    return (dealt(plain, value, comm) if isinstance(value, ms.Layout) else value), plain


@pytest.mark.parametrize("name", [*BASIC, *ARRAYS])
def test_A8_get_and_set(comm: Comm, name: str) -> None:
    key = {**BASIC, **ARRAYS}[name]
    selected = WHOLE[for_numpy(key)]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        check_get(dealt(WHOLE, layout, comm), key, selected)
        value, plain = nth_value(turn + len(name), selected, comm)
        wanted = WHOLE.copy()
        wanted[for_numpy(key)] = plain
        check_put(dealt(WHOLE, layout, comm), key, value, wanted)


@pytest.mark.parametrize("name", ARRAYS)
def test_A8_get_and_set_with_split_arrays_in_the_key(comm: Comm, name: str) -> None:
    selected = WHOLE[for_numpy(ARRAYS[name])]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        for kind in (1 + turn % 3, 4 + turn):
            key = with_split_arrays(ARRAYS[name], kind, comm)
            check_get(dealt(WHOLE, layout, comm), key, selected)
            value, plain = nth_value(turn + kind, selected, comm)
            wanted = WHOLE.copy()
            wanted[for_numpy(ARRAYS[name])] = plain
            check_put(dealt(WHOLE, layout, comm), key, value, wanted)
