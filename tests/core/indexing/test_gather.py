"""Rows by their numbers: who owns them, and which way they go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.indexing import gather
from minisplit.core.indexing.gather import find_route, local_rows, row_numbers, rows_of_rank
from minisplit.core.indexing.index_arrays import IndexArrays
from minisplit.testing import assert_close

Comm = ms.Communication
X = (6, 4)


@pytest.mark.serial
@pytest.mark.parametrize("axes", [[0], [1], [0, 1], [1, 0]])
def test_numbers_of_rows_lead_back_to_their_indices(axes: list[int]) -> None:
    grids = np.meshgrid(*(np.arange(X[axis]) for axis in axes), indexing="ij")
    indices = {axis: torch.from_numpy(grid) for axis, grid in zip(axes, grids, strict=True)}
    numbers = row_numbers(indices, axes, X, grids[0].shape)
    assert numbers.tolist() == list(range(len(numbers)))  # in row-major order over the axes
    for split in (None, 0, 1):
        x = ms.Layout(X, split, 2)
        for rank in range(2):
            found = local_rows(numbers, axes, x, rank)
            start = x.span(rank)[0] if axes[0] == split else 0
            wanted = [
                grid.ravel() - (start if axis == axes[0] else 0) for axis, grid in zip(axes, grids, strict=True)
            ]
            assert [index.tolist() for index in found] == [index.tolist() for index in wanted]


def arrays_of(indices: list[Any], layout: ms.Layout, rank: int, known: bool) -> IndexArrays:
    """Index arrays into axes 0 and 1, as `rank` has them."""
    whole = {
        axis: torch.from_numpy(index.reshape((1,) * (layout.ndim - index.ndim) + index.shape))
        for axis, index in enumerate(indices)
    }
    box = layout.box(rank)
    local = {
        axis: index[tuple(slice(None) if n == 1 else part for n, part in zip(index.shape, box, strict=True))]
        for axis, index in whole.items()
    }
    return IndexArrays(layout, local, whole if known else None)


SHAPES = [[(5,)], [(0,)], [(3, 2)], [(5,), (5,)], [(3, 1), (2,)], [(2, 3), (2, 3)]]


@st.composite
def index_cases(draw: Any) -> tuple[ms.Layout, ms.Layout, list[Any]]:
    """A layout of an array, and index arrays that broadcast, with the layout of their shape."""
    ranks = draw(st.integers(1, 4))
    x = draw(st.sampled_from([layout for layout in layouts(X, ranks) if layout.split in {None, 0}]))
    indices = []
    for axis, shape in enumerate(draw(st.sampled_from(SHAPES))):
        count = int(np.prod(shape))
        numbers = draw(st.lists(st.integers(0, X[axis] - 1), min_size=count, max_size=count))
        indices.append(np.array(numbers, dtype=np.int64).reshape(shape))
    shape = np.broadcast_shapes(*(index.shape for index in indices))
    return x, draw(st.sampled_from(layouts(shape, ranks)[1:])), indices


@pytest.mark.serial
@given(case=index_cases())
def test_the_ranks_own_all_selected_rows_once(case: tuple[ms.Layout, ms.Layout, list[Any]]) -> None:
    x, layout, indices = case
    axes = list(range(len(indices)))
    wanted = np.ravel_multi_index(np.broadcast_arrays(*indices), X[: len(axes)])
    seen = np.zeros(layout.shape, dtype=int)
    for rank in range(x.ranks):
        numbers, places = rows_of_rank(arrays_of(indices, layout, rank, True), x, axes, rank)
        at = tuple(place.numpy() for place in places)
        assert wanted[at].tolist() == numbers.tolist()
        assert (np.diff(np.ravel_multi_index(at, layout.shape)) > 0).all()  # in row-major order
        np.add.at(seen, at, 1)
        start, stop = x.span(rank) if x.split == 0 else (0, X[0])
        rows_of_an_index = X[1] if len(axes) == 2 else 1
        assert all(start <= number // rows_of_an_index < stop for number in numbers.tolist())
    assert (seen == (x.ranks if x.split is None else 1)).all()


@pytest.mark.parametrize("known", [True, False])
def test_routes_bring_every_rank_its_rows(comm: Comm, rank: int, size: int, known: bool) -> None:
    """What a rank takes of another is what that one gives, each row once, whether found alone or by messages."""
    rng = np.random.default_rng(3)
    for x in layouts(X, size)[1:4]:
        for axes, shape in (([0], (7,)), ([0], (2, 5)), ([0, 1], (9,)), ([0, 1], (0,))):
            indices = [rng.integers(0, X[axis], shape) for axis in axes]
            layout = ms.Layout(shape, 0, size)
            route = find_route(arrays_of(indices, layout, rank, known), x, axes, 8, comm)
            numbers = np.ravel_multi_index(indices, X[: len(axes)])
            needed = [np.unique(numbers[layout.box(each)]) for each in range(size)]
            bounds = x.offsets() * (X[1] if len(axes) == 2 else 1)
            owners = np.searchsorted(bounds[1:], needed[rank], side="right")
            asked = [part[(bounds[rank] <= part) & (part < bounds[rank + 1])] for part in needed]
            with agreement(comm, "checking a route"):
                assert route.take == np.bincount(owners, minlength=size).tolist()
                assert route.give == [len(part) for part in asked]
                assert route.asked.tolist() == np.concatenate(asked).tolist()
                mine = numbers[layout.box(rank)].ravel()
                assert needed[rank][route.inverse.numpy()].tolist() == mine.tolist()


def test_on_many_ranks_no_table_of_all_counts(comm: Comm, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows by index sent the counts of all ranks to all: 2 GiB on 16,384 ranks."""
    monkeypatch.setattr(gather, "FEW", 0)
    whole, index = torch.arange(40).reshape(20, 2), torch.tensor([3, 19, 3, 0, 7])
    x, places = ms.array(whole, split=0), ms.array(index, split=0)
    with ms.testing.traffic() as seen:
        rows = x[places]
    assert_close(rows, whole[index])
    assert dict(seen.calls) == ({"agree": 1, "alltoall": 1, "allreduce": 1, "exchange": 2} if size > 1 else {})
    x[places] = 0
    whole[index] = 0
    assert_close(x, whole)
