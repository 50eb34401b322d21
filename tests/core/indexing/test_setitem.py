"""`x[key] = value`, against NumPy on the whole array."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from key_cases import (
    ARRAYS,
    BASIC,
    SHAPE,
    WHOLE,
    cut,
    cut_array,
    for_numpy,
    plain,
    random_cases,
    with_split_arrays,
)
from layouts import layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd

Comm = ms.Communication


def set_by_numpy(whole: Any, key: Any, value: Any) -> Any:
    """The array with a selection set. With an Ellipsis NumPy takes more shapes of values for an item or mask."""
    items = for_numpy(key)
    wanted = whole.copy()
    wanted[items if any(item is ... for item in items) else (*items, ...)] = value
    return wanted


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
    for value in (fresh, row, first, first[None] if fresh.ndim else fresh):
        found += [(layout, value) for layout in layouts(value.shape, comm.size)]
    value, plain = found[n % len(found)]
    return (cut_array(plain, value, comm) if isinstance(value, ms.Layout) else value), plain


@pytest.mark.parametrize("name", [*BASIC, *ARRAYS])
def test_A8_set(comm: Comm, name: str) -> None:
    key = {**BASIC, **ARRAYS}[name]
    selected = WHOLE[for_numpy(key)]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        value, plain_value = nth_value(turn + len(name), selected, comm)
        check_put(cut_array(WHOLE, layout, comm), key, value, set_by_numpy(WHOLE, key, plain_value))


@pytest.mark.parametrize("name", ARRAYS)
def test_A8_set_with_split_arrays_in_the_key(comm: Comm, name: str) -> None:
    selected = WHOLE[for_numpy(ARRAYS[name])]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        for kind in (1 + turn % 3, 4 + turn):
            key = with_split_arrays(ARRAYS[name], kind, comm)
            value, plain_value = nth_value(turn + kind, selected, comm)
            wanted = set_by_numpy(WHOLE, ARRAYS[name], plain_value)
            check_put(cut_array(WHOLE, layout, comm), key, value, wanted)


@given(case=random_cases())
@spmd
def test_A8_any_key_on_any_layout(case: tuple[Whole, tuple[Any, ...], Any]) -> None:
    x, key, value = case
    ours = tuple(map(cut, key))
    if value is None:
        with pytest.raises(IndexError):
            x.cut()[ours] = 0
        return
    wanted = set_by_numpy(x.tensor.numpy(), tuple(map(plain, key)), plain(value))
    check_put(x.cut(), ours, cut(value), wanted)


@pytest.mark.parametrize(
    "key",
    [
        slice(1, -1),
        (slice(None), slice(None, None, -1)),
        (slice(None), [3, 0]),
        np.arange(12) % 3 == 0,
        5,
        (5, [0, 3]),
        [0, 11, 0],
    ],
    ids=str,
)
def test_A8_replicated_values_need_no_message(comm: Comm, calls: Counter[str], key: Any) -> None:
    x = ms.zeros((12, 4), split=0)
    calls.clear()
    x[key] = 3
    x[key] = np.zeros(np.zeros((12, 4))[key].shape)
    assert not calls


@pytest.mark.parametrize("key", [slice(1, -1), (slice(None), [3, 0]), np.arange(12) % 3 == 0], ids=str)
def test_A8_values_that_are_where_they_are_set_need_no_message(comm: Comm, calls: Counter[str], key: Any) -> None:
    x = ms.zeros((12, 4), split=0)
    value = x[key]
    calls.clear()
    x[key] = value
    assert not calls


@pytest.mark.parametrize("split", [None, 0, 1])
def test_A8_values_that_do_not_fit(comm: Comm, split: int | None, raises_alike: Any) -> None:
    x = ms.zeros((4, 3), split=split)
    for value in (np.ones(2), ms.ones(2, split=0), ms.ones((2, 2, 3), split=0)):
        with raises_alike(
            ValueError, match=r"a value of shape .* does not broadcast to the selection's shape \(2, 3\)"
        ):
            x[:2] = value
    with raises_alike(ValueError, match="communicator"):
        x[:2] = ms.ones(3, comm=ms.MPI_SELF)
    with raises_alike(ValueError, match="communicator"):
        x[ms.arange(3, comm=ms.MPI_SELF)]
    assert not x.numpy().any()


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.uint16, torch.uint64, torch.bfloat16, torch.float8_e5m2, torch.complex64],
)
def test_dtypes(comm: Comm, size: int, dtype: torch.dtype) -> None:
    whole = torch.arange(3 * size).to(dtype)
    x = ms.array(whole, split=0)
    x[[0, -1]] = 1.75
    x[1:2] = torch.tensor([3])
    whole[0] = whole[-1] = torch.tensor(1.75).to(dtype)
    whole[1] = torch.tensor(3).to(dtype)
    assert x.tolist() == whole.tolist()


@pytest.mark.parametrize("split", [0, 1])
def test_A8_the_last_value_of_a_row_stays(comm: Comm, split: int) -> None:
    values, twice = np.array([[1, 2], [3, 4]]), np.array([[0, 1], [1, 0]])
    x = ms.zeros((2, 2), split=0)
    x[1, ms.array(twice, split=split)] = ms.array(values, split=1 - split)
    x[[[0, 0]], twice] = ms.array(values, split=split)
    assert x.tolist() == [[4, 3], [4, 3]]
    y = ms.zeros(2, split=0)
    y[ms.array(twice, split=split)] = values
    assert y.tolist() == [4, 3]


@pytest.mark.parametrize("split", [None, 0])
def test_A8_an_array_set_from_itself(comm: Comm, split: int | None) -> None:
    numbers = np.array([3, 0, 2, 2, 1])
    x = ms.array(numbers, split=split)
    x[::-1] = x
    assert x.tolist() == numbers[::-1].tolist()
    numbers = numbers[::-1].copy()
    x[x] = x
    numbers[numbers.copy()] = numbers.copy()
    assert x.tolist() == numbers.tolist()
    y = ms.array([3, 0, 2, 2, 1])
    y[1:] = y.larray[:-1]
    assert y.tolist() == [3, 3, 0, 2, 2]


def test_A19_an_assigned_number_must_be_in_the_dtype(raises_alike: Any) -> None:
    """torch takes -1 for 255."""
    x = ms.zeros(5, dtype=torch.uint8, split=0)
    for number in (-1, 300, 2**70):
        with raises_alike(OverflowError, r"the assigned value must be in torch.uint8, from 0 to 255, got"):
            x[0] = number
    x[1], x[2] = 255, 2.9
    assert_equal(x, torch.tensor([0, 255, 2, 0, 0], dtype=torch.uint8))


def test_a_leaf_that_requires_a_gradient_cannot_be_set(comm: Comm, size: int, raises_alike: Any) -> None:
    leaf = ms.DNDarray(torch.zeros(1, requires_grad=True), ms.Layout((size,), 0, size), comm)
    view = ms.DNDarray(leaf.larray[:], leaf.layout, comm)
    for x in (leaf, view):
        with raises_alike(RuntimeError, match="an x that is no leaf requiring a gradient, nor a view of one"):
            x[0] = 1
    with torch.no_grad():
        leaf[-1] = 1
        x = ms.zeros(size, split=0)
        x[:] = leaf
    assert leaf.tolist() == x.tolist() == [0.0] * (size - 1) + [1.0]
    assert not x.requires_grad


@pytest.mark.parametrize("name", [*BASIC, *ARRAYS])
def test_A8_gradients_of_what_is_set(comm: Comm, size: int, name: str) -> None:
    """Each element of the result is one of `x` or of the value: that one has the element's gradient."""
    key = {**BASIC, **ARRAYS}[name]
    shape = WHOLE[for_numpy(key)].shape
    value_shapes = [shape, (*shape[:-1], *[1] * bool(shape)), shape[1:]]
    for turn, layout in list(enumerate(layouts(SHAPE, size)))[len(name) % 3 :: 3]:
        whole = np.arange(np.prod(value_shapes[turn % 3])).reshape(value_shapes[turn % 3])
        source = set_by_numpy(np.full(SHAPE, -1), key, whole)
        weights = 1.0 + WHOLE
        wanted = np.bincount(source[source >= 0], weights[source >= 0], whole.size).reshape(whole.shape)
        places: list[ms.Layout | None] = [None, *layouts(whole.shape, size)]
        place = places[(turn + len(name)) % len(places)]
        # A tensor of the program, or an array on any layout.
        value: Any = torch.tensor(whole * 1.0) if place is None else cut_array(whole * 1.0, place, comm)
        x = cut_array(WHOLE * 1.0, layout, comm).requires_grad_()
        result = x.clone()
        result[with_split_arrays(key, turn, comm) if turn % 2 else key] = value.requires_grad_()
        (result * cut_array(weights, layout, comm)).sum().backward()
        found = value.grad if place is None else value.grad.torch()
        rest = x.grad.torch()
        with agreement(comm, "checking"):
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(rest, np.where(source < 0, weights, 0))


@pytest.mark.several
def test_V29_what_autograd_has_saved_is_set_on_one_rank(comm: Comm) -> None:
    """The version of a shard counts what is set: on all ranks, so that none goes on alone."""
    x = ms.ones(4, split=0).requires_grad_() * 2
    y = (x * x).sum()
    x[0] = 5
    with agreement(comm, "checking"), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.several
def test_A8_debug_mode_sees_values_that_differ(rank: int, raises_alike: Any) -> None:
    x = ms.zeros(4, split=0)
    with ms.debug(), raises_alike(ms.CollectiveError, match="__setitem__"):
        x[1:] = rank
    with ms.debug(), raises_alike(ValueError, match="the assigned value must be the same on every rank"):
        x[1:] = torch.tensor(float(rank))


def test_a_mask_with_an_extent_of_0_selects_nothing(comm: ms.Communication) -> None:
    for layout in layouts((5, 4), comm.size):
        x = cut_array(np.ones((5, 4)), layout, comm)
        for mask in (torch.ones(0, dtype=torch.bool), torch.ones(5, 0, dtype=torch.bool)):
            x[mask] = 7.0
            x[ms.array(mask, split=0)] = 7.0
        assert_equal(x, torch.ones(5, 4, dtype=torch.float64))
