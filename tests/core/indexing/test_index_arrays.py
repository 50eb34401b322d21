"""The arrays of a key: what is refused, and which part of them each rank gets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from key_cases import (
    SHAPE,
    cut_array,
)
from layouts import layouts

import minisplit as ms
from minisplit.core.indexing.index_arrays import (
    IndexArrays,
    Part,
    _no_arrays,
    distribute_arrays,
    gather_counts,
    nonzero,
    read_key,
)
from minisplit.testing import assert_equal

Comm = ms.Communication


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


@pytest.mark.several
def test_A8_debug_mode_sees_keys_that_differ(rank: int, raises_alike: Any) -> None:
    x = ms.zeros(4, split=0)
    odd = rank % 2
    with ms.debug():
        for key in (odd, slice(odd, None), [odd], [True] * 3 + [rank > 0]):
            with raises_alike(ms.CollectiveError, match="__getitem__"):
                x[key]
        with raises_alike(ValueError, match="key must be the same on every rank"):
            x[torch.tensor([odd])]
        assert x[[0, 1]].tolist() == x[ms.arange(2, split=0)].tolist() == x[::-2].tolist() == [0.0, 0.0]


def test_a_mask_with_another_extent_does_not_fit() -> None:
    with pytest.raises(IndexError, match=r"a mask of shape \(0, 3\) does not fit"):
        ms.ones((5, 4), split=0)[torch.ones(0, 3, dtype=torch.bool)]


def distributed(key: Any, layout: ms.Layout, comm: Comm, writing: bool = False) -> IndexArrays:
    x = cut_array(np.zeros(layout.shape), layout, comm)
    selection, arrays = read_key(x._parts(key), x._part, comm)
    return distribute_arrays(selection, arrays, writing, comm)


def test_a_mask_along_the_split_axis_selects_rows_of_its_own_rank(comm: Comm) -> None:
    """From replicated and from split masks, with the numbers that the ranks have of their own rows."""
    mask = np.arange(7) % 3 != 0
    for layout in layouts((7, 2), comm.size)[1:4]:
        for key in (mask, *(cut_array(mask, each, comm) for each in layouts((7,), comm.size))):
            arrays = distributed((key,), layout, comm)
            start, stop = layout.span(comm.rank)
            assert arrays.is_aligned
            assert arrays.local[0].tolist() == np.flatnonzero(mask[start:stop]).tolist()
            assert arrays.layout.counts == tuple(
                int(mask[box[0]].sum()) for box in map(layout.box, range(comm.size))
            )


def test_arrays_are_split_where_rows_may_be_of_other_ranks(comm: Comm, size: int) -> None:
    rows, columns = ms.Layout((6, 5), 0, size), ms.Layout((6, 5), 1, size)
    index = np.array([[5, 0, 0], [1, -1, 2]])
    split = distributed((index,), rows, comm)
    assert split.layout == ms.Layout((2, 3), 0, size)
    assert split.local[0].tolist() == (index % 6)[split.layout.box(comm.rank)].tolist()
    assert split.whole is not None
    assert split.whole[0].tolist() == (index % 6).tolist()
    # Along another axis than the split one every rank needs all of them.
    assert distributed((index,), columns, comm).layout.split is None
    along_1 = cut_array(index, ms.Layout((2, 3), 1, size), comm)
    assert distributed((along_1,), columns, comm).layout.split is None
    assert distributed((along_1,), rows, comm).layout == ms.Layout((2, 3), 1, size)
    # Of a row that is set twice the last value stays, so that parts must be in row-major order.
    assert distributed((along_1,), rows, comm, writing=True).layout == ms.Layout((2, 3), 0, size)
    # Which other ranks' indices are is not known where the array was split.
    assert (distributed((along_1,), rows, comm).whole is None) == (size > 1)


def test_nonzero_of_every_layout(comm: Comm) -> None:
    whole = np.random.default_rng(1).random((5, 4)) < 0.5
    for layout in layouts(whole.shape, comm.size):
        found = nonzero(cut_array(whole, layout, comm)._part, comm)
        assert len(found) == 2
        for (index, where), wanted in zip(found, np.nonzero(whole), strict=True):
            assert where.split == (None if layout.split is None else 0)
            assert_equal(ms.DNDarray(index.contiguous(), where, comm), wanted)


@pytest.mark.parametrize("truth", [True, False])
def test_nonzero_of_a_0d_mask(comm: Comm, size: int, truth: bool) -> None:
    ((index, layout),) = nonzero(Part(torch.tensor(truth), ms.Layout((), None, size)), comm)
    assert index.tolist() == [0] * truth
    assert layout == ms.Layout((int(truth),), None, size)


def test_gathered_counts(comm: Comm, rank: int, size: int) -> None:
    for factor in (1, 2):
        counts = tuple(factor * (each % 3) for each in range(size))
        assert gather_counts(counts[rank], comm) == ms.Layout((sum(counts),), 0, size, counts)


@pytest.mark.serial
def test_keys_without_arrays_on_several_numbers_of_ranks() -> None:
    for _ in range(2):
        assert [_no_arrays(ranks).layout.ranks for ranks in (1, 2, 3)] == [1, 2, 3]
