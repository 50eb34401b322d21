"""`x[key]` and `x[key] = value`, against NumPy on the whole array."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd
from minisplit.testing import strategies as drawn

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


def set_by_numpy(whole: Any, key: Any, value: Any) -> Any:
    """The array with a selection set. With an Ellipsis NumPy takes more shapes of values for an item or mask."""
    items = for_numpy(key)
    wanted = whole.copy()
    wanted[items if any(item is ... for item in items) else (*items, ...)] = value
    return wanted


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
    for value in (fresh, row, first, first[None] if fresh.ndim else fresh):
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
        check_put(dealt(WHOLE, layout, comm), key, value, set_by_numpy(WHOLE, key, plain))


@pytest.mark.parametrize("name", ARRAYS)
def test_A8_get_and_set_with_split_arrays_in_the_key(comm: Comm, name: str) -> None:
    selected = WHOLE[for_numpy(ARRAYS[name])]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        for kind in (1 + turn % 3, 4 + turn):
            key = with_split_arrays(ARRAYS[name], kind, comm)
            check_get(dealt(WHOLE, layout, comm), key, selected)
            value, plain = nth_value(turn + kind, selected, comm)
            check_put(dealt(WHOLE, layout, comm), key, value, set_by_numpy(WHOLE, ARRAYS[name], plain))


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


@given(case=random_cases())
@spmd
def test_A8_any_key_on_any_layout(case: tuple[Whole, tuple[Any, ...], Any]) -> None:
    x, key, value = case
    array, ours, theirs = x.tensor.numpy(), tuple(map(cut, key)), tuple(map(plain, key))
    if value is None:
        with pytest.raises(IndexError):
            x.cut()[ours]
        with pytest.raises(IndexError):
            x.cut()[ours] = 0
        return
    check_get(x.cut(), ours, np.asarray(array[theirs]))
    check_put(x.cut(), ours, cut(value), set_by_numpy(array, theirs, plain(value)))


@pytest.mark.parametrize(
    ("key", "messages"),
    [
        (slice(1, -1), {}),
        ((slice(None), slice(None, None, -1)), {}),
        ((slice(None), [3, 0]), {}),
        ((..., 2), {}),
        (rng.random(12) < 0.5, {}),
        (rng.random((12, 4)) < 0.5, {}),
        (5, {"Bcast": 1}),
        ((5, [0, 3]), {"Bcast": 1}),
    ],
    ids=str,
)
def test_A8_messages(comm: Comm, size: int, calls: Counter[str], key: Any, messages: dict[str, int]) -> None:
    x = ms.zeros((12, 4), split=0)
    calls.clear()
    got = x[key]
    assert calls == (messages if size > 1 else {})
    calls.clear()
    x[key] = 3
    x[key] = np.zeros(got.shape)
    if not messages:
        x[key] = got
    assert not calls


def test_A8_an_array_fetches_each_row_once_and_asks_nobody(comm: Comm, size: int, calls: Counter[str]) -> None:
    x = ms.arange(10 * size, split=0)
    calls.clear()
    got = x[[0, 0, 10 * size - 1, 0] * size]
    assert set(calls) <= {"Isend", "Irecv"}
    assert calls["Irecv"] <= 2
    assert got.counts == ms.Layout((4 * size,), 0, size).counts
    calls.clear()
    index = ms.array([0, 0, 10 * size - 1, 0] * size, split=0)
    assert x[index].layout == got.layout
    assert (calls["Allreduce"], calls["Allgather"]) == ((1, 1) if size > 1 else (0, 0))


def test_A8_layouts_of_results(comm: Comm, size: int) -> None:
    x = ms.zeros((2 * size, 3), split=0)
    assert x[1:].counts == (1, *[2] * (size - 1))
    assert x[:0:-1].counts == (*[2] * (size - 1), 1)
    assert x[np.arange(2 * size) % 2 == 0].counts == (1,) * size
    assert x[:, 0].split == 0
    assert x[None, :, 0].split == 1
    assert x[0].split is None
    assert x[[0, 1]].split == 0
    assert x[:, [0, 1]].split == 0
    one = ms.array([3, 1, 0], split=0)
    whole = ms.zeros((4, 5))
    assert whole[:, one].split == 1
    assert whole[one].layout == ms.Layout((3, 5), 0, size)
    assert whole[[1, 2]].split is None


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (5, IndexError, "index 5 is out of range for axis 0 of length 5"),
    ((0, -5), IndexError, "index -5 is out of range for axis 1 of length 4"),
    ([0, 7], IndexError, "index 7 is out of range for axis 0 of length 5"),
    ((..., [0, -8]), IndexError, "index -8 is out of range for axis 2 of length 6"),
    ((0, 0, 0, 0), IndexError, r"the key indexes 4 axes, but the array of shape \(5, 4, 6\) has 3"),
    ((..., ...), IndexError, r"one Ellipsis \(\.\.\.\), got 2"),
    (1.0, IndexError, "a key must be ints, .* got 1.0 of type float"),
    ("a", IndexError, "got 'a' of type str"),
    (object(), IndexError, "got <object object> of type object"),
    ([0.5], IndexError, "of integers or bools, got float64"),
    (torch.tensor(0.5), IndexError, "of integers or bools, got torch.float32"),
    ([slice(1)], IndexError, "of integers or bools, got object"),
    (np.ones(4, dtype=bool), IndexError, r"a mask of shape \(4,\) does not fit axes 0 to 0 of an array of shape"),
    (([0, 1], [0, 1, 2]), IndexError, r"must broadcast to one shape, got \(2,\), \(3,\)"),
    (slice(None, None, 0), ValueError, "slice step cannot be zero"),
    (slice(0.5), TypeError, "'float' object cannot be interpreted as an integer"),
]


@pytest.mark.parametrize(("key", "kind", "text"), ERRORS, ids=[text for _, _, text in ERRORS])
@pytest.mark.parametrize("split", [None, 0, 1])
def test_A8_keys_that_do_not_fit(
    split: int | None, key: Any, kind: type[Exception], text: str, raises_alike: Any, calls: Counter[str]
) -> None:
    x = ms.zeros(SHAPE, split=split)
    before = calls.copy()
    for _ in range(2):
        with raises_alike(kind, match=text):
            x[key]
        with raises_alike(kind, match=text):
            x[key] = 1
    assert calls["Isend"] + calls["Bcast"] == before["Isend"] + before["Bcast"]
    assert not x.numpy().any()


@pytest.mark.parametrize("split", [None, 0, 1])
def test_A8_a_split_array_out_of_range_on_one_rank(size: int, split: int | None, raises_alike: Any) -> None:
    x = ms.zeros((size, 3), split=split)
    for last in (-size - 1, -(2**63), 2**63 - 1):
        index = ms.array([0] * (2 * size - 1) + [last], split=0)
        with raises_alike(IndexError, match=f"index {last} is out of range for axis 0 of length {size}"):
            x[index]
        with raises_alike(IndexError, match=f"index {last} is out of range for axis 0 of length {size}"):
            x[index] = 1
    with raises_alike(IndexError, match="of integers or bools, got torch.float64"):
        x[ms.zeros(3, dtype=torch.float64, split=0)]
    assert not x.numpy().any()


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
def test_A8_dtypes(comm: Comm, size: int, dtype: torch.dtype) -> None:
    whole = torch.arange(3 * size).to(dtype)
    x = ms.array(whole, split=0)
    for key in (
        slice(None, None, -1),
        1,
        [2, 0, 0],
        whole.numpy() == 1 if dtype is torch.uint8 else [True] * 3 * size,
    ):
        got, wanted = x[key], torch.from_numpy(np.arange(3 * size)[key].reshape(-1).copy()).to(dtype)
        assert got.dtype is dtype
        assert got.tolist() == (wanted[0].item() if isinstance(key, int) else wanted.tolist())
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


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize(
    "name", ["int", "slices", "backwards by steps", "array", "arrays", "mask of two axes", "grid"]
)
@pytest.mark.parametrize("kind", [None, 1])
def test_A8_gradients_flow_to_the_owners(comm: Comm, split: int | None, name: str, kind: int | None) -> None:
    key = {**BASIC, **ARRAYS}[name]
    whole = torch.tensor(WHOLE, dtype=torch.float64)
    layout = layouts(SHAPE, comm.size)[0 if split is None else 2 + 3 * split]
    shard = whole[layout.box(comm.rank)].clone().requires_grad_()
    got = ms.DNDarray(shard, layout, comm)[key if kind is None else with_split_arrays(key, kind, comm)]
    weights = torch.arange(1.0, got.size + 1, dtype=torch.float64).reshape(got.shape)
    (got.larray * weights[got.layout.box(comm.rank)]).sum().backward()
    wanted = np.zeros(SHAPE)
    np.add.at(wanted, for_numpy(key), weights.numpy())
    assert shard.grad is not None
    assert torch.equal(shard.grad, torch.tensor(wanted)[layout.box(comm.rank)])


@pytest.mark.parametrize("key", [1, slice(1, -1), slice(None, None, -1), [0, 5, 5], [True, False] * 3], ids=str)
def test_second_derivatives(comm: Comm, size: int, key: Any) -> None:
    """Of the sum of the squares of the gradient of sum(x[key]^3)."""
    whole = torch.arange(1.0, 7.0, dtype=torch.float64, requires_grad=True)
    layout = ms.Layout((6,), 0, size)
    mine = whole.detach()[layout.box(comm.rank)].clone().requires_grad_()
    x = ms.DNDarray(mine, layout, comm)
    found = []
    for leaf, selected in (
        (whole, whole.flip(0) if key == slice(None, None, -1) else whole[key]),
        (mine, x[key].larray),
    ):
        (first,) = torch.autograd.grad((selected**3).sum(), leaf, create_graph=True)
        found += torch.autograd.grad((first**2).sum(), leaf)
    assert torch.equal(found[0][layout.box(comm.rank)], found[1])


@given(case=random_cases())
@spmd
def test_A8_gradients_of_any_key(case: tuple[Whole, tuple[Any, ...], Any]) -> None:
    whole, key, value = case
    if value is None:
        return
    x = Whole(whole.tensor.double(), whole.layout).cut()
    x.larray.requires_grad_()
    got = x[tuple(map(cut, key))]
    weights = torch.arange(1.0, got.size + 1, dtype=torch.float64).reshape(got.shape)
    (found,) = torch.autograd.grad(got.larray, x.larray, weights[got.layout.box(x.comm.rank)])
    wanted = np.zeros(x.shape)
    np.add.at(wanted, tuple(map(plain, key)), weights.numpy())
    assert_equal(ms.DNDarray(found, x.layout, x.comm), wanted)


def test_setting_refuses_gradients(comm: Comm, size: int, raises_alike: Any) -> None:
    leaf = ms.DNDarray(torch.zeros(1, requires_grad=True), ms.Layout((size,), 0, size), comm)
    with raises_alike(RuntimeError, match="an x that is no leaf requiring a gradient"):
        leaf[0] = 1
    with raises_alike(RuntimeError, match="and a value that requires none"):
        ms.zeros(size, split=0)[:] = leaf
    with torch.no_grad():
        leaf[-1] = 1
    assert leaf.tolist() == [0.0] * (size - 1) + [1.0]


@pytest.mark.parametrize("split", [None, 0, 1])
def test_iteration_is_over_axis_0(comm: Comm, split: int | None) -> None:
    x = dealt(WHOLE[0], ms.Layout(SHAPE[1:], split, comm.size), comm)
    assert [row.tolist() for row in x] == WHOLE[0].tolist()
    with pytest.raises(TypeError, match="a 0-d array has no length"):
        iter(ms.zeros(()))


def test_A8_debug_mode_sees_keys_and_values_that_differ(
    comm: Comm, size: int, rank: int, raises_alike: Any
) -> None:
    if size == 1:
        pytest.skip("one rank agrees with itself")
    x = ms.zeros(4, split=0)
    with ms.debug():
        for key in (
            rank % 2,
            slice(rank % 2, None),
            [rank % 2],
            torch.tensor([rank % 2]),
            [True] * 3 + [rank > 0],
        ):
            with raises_alike(ValueError, match="key must be the same on every rank"):
                x[key]
        with raises_alike(ValueError, match="the assigned value must be the same on every rank"):
            x[1:] = rank
        assert x[[0, 1]].tolist() == x[ms.arange(2, split=0)].tolist() == x[::-2].tolist() == [0.0, 0.0]


def test_a_mask_with_an_extent_of_0_selects_nothing(comm: ms.Communication) -> None:
    """The standard has it so; NumPy raises IndexError."""
    for layout in layouts((5, 4), comm.size):
        x = dealt(np.ones((5, 4)), layout, comm)
        for mask, shape in ((torch.ones(0, dtype=torch.bool), (0, 4)), (torch.ones(5, 0, dtype=torch.bool), (0,))):
            assert x[mask].shape == x[ms.array(mask, split=0)].shape == shape
            x[mask] = 7.0
        assert_equal(x, torch.ones(5, 4, dtype=torch.float64))
    with pytest.raises(IndexError, match=r"a mask of shape \(0, 3\) does not fit"):
        ms.ones((5, 4), split=0)[torch.ones(0, 3, dtype=torch.bool)]
