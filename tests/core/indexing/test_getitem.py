"""`x[key]`, against NumPy on the whole array."""

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
rng = np.random.default_rng(0)


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


@pytest.mark.parametrize("name", [*BASIC, *ARRAYS])
def test_A8_get(comm: Comm, name: str) -> None:
    key = {**BASIC, **ARRAYS}[name]
    for layout in layouts(SHAPE, comm.size):
        check_get(cut_array(WHOLE, layout, comm), key, WHOLE[for_numpy(key)])


@pytest.mark.parametrize("name", ARRAYS)
def test_A8_get_with_split_arrays_in_the_key(comm: Comm, name: str) -> None:
    selected = WHOLE[for_numpy(ARRAYS[name])]
    for turn, layout in enumerate(layouts(SHAPE, comm.size)):
        for kind in (1 + turn % 3, 4 + turn):
            key = with_split_arrays(ARRAYS[name], kind, comm)
            check_get(cut_array(WHOLE, layout, comm), key, selected)


@given(case=random_cases())
@spmd
def test_A8_any_key_on_any_layout(case: tuple[Whole, tuple[Any, ...], Any]) -> None:
    x, key, value = case
    array, ours = x.tensor.numpy(), tuple(map(cut, key))
    if value is None:
        with pytest.raises(IndexError):
            x.cut()[ours]
        return
    check_get(x.cut(), ours, np.asarray(array[tuple(map(plain, key))]))


@pytest.mark.parametrize(
    ("key", "messages"),
    [
        (slice(1, -1), {}),
        ((slice(None), slice(None, None, -1)), {}),
        ((slice(None), [3, 0]), {}),
        ((..., 2), {}),
        (rng.random(12) < 0.5, {}),
        (rng.random((12, 4)) < 0.5, {}),
        (5, {"broadcast": 1}),
        ((5, [0, 3]), {"broadcast": 1}),
    ],
    ids=str,
)
def test_A8_messages(size: int, key: Any, messages: dict[str, int]) -> None:
    x = ms.zeros((12, 4), split=0)
    with ms.debug(False), ms.testing.traffic() as seen:
        x[key]
    assert seen.calls == (messages if size > 1 else {})


@pytest.mark.mpi
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


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.uint16, torch.uint64, torch.bfloat16, torch.float8_e5m2, torch.complex64],
)
def test_dtypes(comm: Comm, size: int, dtype: torch.dtype) -> None:
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
def test_V23_second_derivatives(comm: Comm, size: int, key: Any) -> None:
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


@pytest.mark.parametrize("split", [None, 0, 1])
def test_iteration_is_over_axis_0(comm: Comm, split: int | None) -> None:
    x = cut_array(WHOLE[0], ms.Layout(SHAPE[1:], split, comm.size), comm)
    assert [row.tolist() for row in x] == WHOLE[0].tolist()
    with pytest.raises(TypeError, match="a 0-d array has no length"):
        iter(ms.zeros(()))


def test_a_mask_with_an_extent_of_0_selects_nothing(comm: ms.Communication) -> None:
    """The standard has it so; NumPy raises IndexError."""
    for layout in layouts((5, 4), comm.size):
        x = cut_array(np.ones((5, 4)), layout, comm)
        for mask, shape in ((torch.ones(0, dtype=torch.bool), (0, 4)), (torch.ones(5, 0, dtype=torch.bool), (0,))):
            assert x[mask].shape == x[ms.array(mask, split=0)].shape == shape


def test_one_key_on_several_layouts_and_several_keys_on_one(comm: Comm) -> None:
    """Keys are read once for each layout, and what was read is kept."""
    keys = [(slice(1, None), 0), (slice(2, None), 0), (slice(1, None), [0]), ([1, 0], 0), (0, slice(1, None))]
    for _ in range(2):
        for layout in layouts(SHAPE, comm.size):
            for key in keys:
                check_get(cut_array(WHOLE, layout, comm), key, WHOLE[key])
