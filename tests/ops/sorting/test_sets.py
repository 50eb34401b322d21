"""Sets: NumPy's distinct elements, places and counts for every layout and dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
FLOATS = hyp.sampled_from((1.0, 0.0, -0.0, -2.5, math.inf, -math.inf, math.nan))
KINDS = hyp.one_of(
    st.dndarrays(st.shapes(max_side=7)),
    st.dndarrays(st.shapes(max_side=7), st.dtypes((torch.float64, torch.float16)), elements=FLOATS),
)


def numpy_of(x: torch.Tensor) -> np.ndarray[Any, Any]:
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy()


@given(whole=KINDS)
@spmd
def test_all_about_distinct_elements(whole: Whole) -> None:
    x = whole.cut()
    wanted = np.unique(numpy_of(whole.tensor), True, True, True, equal_nan=False)
    values, indices, inverse, counts = map(torch.from_numpy, wanted)
    values = values.to(x.dtype)
    found = ms.unique_all(x)
    assert_equal(found.values, values)
    assert_equal(found.indices, indices)
    assert_equal(found.inverse_indices, inverse.reshape(x.shape))
    assert_equal(found.counts, counts)
    assert_equal(ms.unique_values(x), values)
    assert_equal(ms.unique_counts(x).values, values)
    assert_equal(ms.unique_counts(x).counts, counts)
    assert_equal(ms.unique_inverse(x).values, values)
    assert_equal(ms.unique_inverse(x).inverse_indices, inverse.reshape(x.shape))
    with agreement(x.comm, "comparing"):
        split = None if x.split is None else 0
        assert {found.values.split, found.indices.split, found.counts.split} == {split}
        assert found.inverse_indices.layout == x.layout
    assert_equal(x, whole.tensor)


@given(whole=st.dndarrays(st.shapes(max_side=6), torch.complex64, elements=hyp.builds(complex, FLOATS, FLOATS)))
@spmd
def test_complex_numbers_with_nan_are_each_their_own(whole: Whole) -> None:
    x = whole.cut()
    values, indices, inverse, counts = ms.unique_all(x)
    flat = whole.tensor.flatten()
    places = torch.tensor(indices.tolist(), dtype=torch.int64)
    assert_equal(values, flat[places] if len(places) else flat)
    gaps = int(flat.isnan().sum())
    rest = {complex(z.real + 0.0, z.imag + 0.0) for z in flat[~flat.isnan()].tolist()}
    assert values.size == gaps + len(rest)
    assert counts.sum().item() == whole.tensor.numel()
    again = torch.tensor(values.tolist(), dtype=torch.complex64)[torch.tensor(inverse.tolist(), dtype=torch.int64)]
    same = (again.reshape(x.shape) == whole.tensor) | (again.reshape(x.shape).isnan() & whole.tensor.isnan())
    assert same.all()


@given(
    whole=st.dndarrays(st.shapes(max_side=6), st.dtypes((torch.float64, torch.int64, torch.bool))),
    index=hyp.booleans(),
    inverse=hyp.booleans(),
    counts=hyp.booleans(),
)
@spmd
def test_unique_as_numpy_has_it(whole: Whole, index: bool, inverse: bool, counts: bool) -> None:
    found = ms.unique(whole.cut(), index, inverse, counts)
    wanted = np.unique(whole.tensor.numpy(), index, inverse, counts)
    if not (index or inverse or counts):
        found, wanted = (found,), (wanted,)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_equal(ours, torch.from_numpy(theirs))


@hyp.composite
def pairs(draw: hyp.DrawFn) -> tuple[Whole, Whole]:
    kinds = st.dtypes((torch.int64, torch.float64, torch.bool, torch.uint8, torch.float32, torch.complex64))
    special = st.dndarrays(st.shapes(max_side=6), st.dtypes((torch.float64, torch.float32)), elements=FLOATS)
    either = st.dndarrays(st.shapes(max_side=6), kinds) | special
    return draw(either), draw(either)


@given(pair=pairs(), invert=hyp.booleans())
@spmd
def test_membership(pair: tuple[Whole, Whole], invert: bool) -> None:
    x, y = (whole.cut() for whole in pair)
    a, b = (whole.tensor.numpy() for whole in pair)
    wanted = (a.reshape(*a.shape, 1) == b.reshape(-1)).any(-1) ^ invert
    found = ms.isin(x, y, invert=invert)
    assert_equal(found, torch.tensor(wanted))
    with agreement(x.comm, "comparing"):
        assert found.layout == x.layout


def test_membership_of_numbers(comm: Comm) -> None:
    whole = torch.tensor([1, 2, 255], dtype=torch.uint8)
    for layout in layouts((3,), comm.size):
        x = dealt(whole, layout)
        assert ms.isin(x, 2).tolist() == [False, True, False]
        assert ms.isin(x, -1, invert=True).tolist() == [True, True, True]
        assert ms.isin(x, 2.5).tolist() == [False, False, False]
        assert ms.isin(ms.astype(x, torch.float32) / 10, np.float64(0.2)).tolist() == [False, True, False]
        found = ms.isin(257, x)
        assert (found.item(), found.shape, found.split) == (False, (), None)
        assert ms.isin(True, x).item()


def test_distinct_elements_are_shared_out(size: int) -> None:
    n = 1000 * size
    for whole in (torch.arange(n) % (n // 2), torch.full((n,), torch.nan)):
        counts = ms.unique_values(ms.array(whole, split=0)).counts or ()
        assert max(counts) <= sum(counts) * (1 / size + 1 / 20) + size


def test_what_is_sent(size: int) -> None:
    x = ms.array(torch.arange(60 * size) % 7, split=0)
    calls: list[tuple[Any, dict[str, int]]] = [
        (lambda: ms.unique_values(x), {"allgather": 3, "exchange": 1}),
        (lambda: ms.unique_counts(x), {"allgather": 3, "exchange": 2}),
        (lambda: ms.unique_inverse(x), {"allgather": 3, "exchange": 3}),
        (lambda: ms.unique_all(x), {"allgather": 3, "exchange": 4}),
        (lambda: ms.isin(x, x), {"allgather": 2, "exchange": 3}),
        (lambda: ms.isin(x, 3), {}),
        (lambda: ms.isin(3, x), {"allreduce": 1}),
        (lambda: ms.unique_all(ms.ones(4)), {}),
    ]
    for call, wanted in calls:
        with traffic() as seen:
            call()
        assert dict(seen.calls) == (wanted if size > 1 else {})
    with traffic() as seen:
        ms.unique_values(x)
    assert seen.bytes_sent <= 7 * 8  # what is distinct on a rank, not what it has


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.unique_values(x.larray), TypeError, "x must be a DNDarray, got Tensor"),
        (lambda x: ms.unique(x, axis=4), IndexError, "axis 4 is out of range"),
        (lambda x: ms.isin(1, 2), TypeError, "isin needs a DNDarray, got 1 and 2; use == for two numbers"),
        (lambda x: ms.isin(x, [1, 2]), TypeError, "x2 must be a DNDarray, got list"),
        (lambda x: ms.isin(x, ms.ones(2, comm=ms.MPI_SELF)), ValueError, "operands must be on one communicator"),
    ],
)
def test_errors_are_alike(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    for split in (0, 1, None):
        with raises_alike(kind, match=words):
            call(ms.ones((5, 3), split=split))


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.arange(9, split=0, comm=part) % 4
    with ms.debug():
        for result in (*ms.unique_all(x), ms.isin(x, x), ms.isin(2, x), ms.isin(x, 2)):
            assert result.comm is part
    assert ms.unique_values(x).tolist() == [0, 1, 2, 3]
    part.free()


@given(
    x=st.dndarrays(st.shapes(max_side=4), st.dtypes((torch.int64, torch.float64, torch.uint8))),
    y=st.dndarrays(st.shapes(max_side=4), st.dtypes((torch.int64, torch.float64, torch.uint8))),
)
@spmd
def test_two_sets(x: Whole, y: Whole) -> None:
    # NaNs are as many elements here as there are, as in the standard.
    plain = [whole.tensor.nan_to_num(7.0) for whole in (x, y)]
    arrays = [Whole(tensor, whole.layout).cut() for tensor, whole in zip(plain, (x, y), strict=True)]
    first, second = (tensor.numpy() for tensor in plain)
    is_split = any(array.split is not None for array in arrays)
    for name in ("intersect1d", "union1d", "setdiff1d", "setxor1d"):
        found, wanted = getattr(ms, name)(*arrays), getattr(np, name)(first, second)
        assert_equal(found, wanted)
        assert found.dtype is getattr(torch, str(wanted.dtype))
        assert is_split or found.split is None
    found, places, others = ms.intersect1d(*arrays, return_indices=True)
    wanted, theirs, theirs_too = np.intersect1d(first, second, return_indices=True)
    assert_equal(found, wanted)
    assert_equal(places, theirs)
    assert_equal(others, theirs_too)
    assert places.layout == others.layout == found.layout
    assert_equal(
        ms.setdiff1d(*arrays, assume_unique=True), np.setdiff1d(first.ravel(), second, assume_unique=True)
    )


def test_errors_of_two_sets(raises_alike: Any) -> None:
    x = ms.ones(3, split=0)
    for name in ("intersect1d", "union1d", "setdiff1d", "setxor1d"):
        with raises_alike(TypeError, match=f"x2 of {name} must be a DNDarray, got list"):
            getattr(ms, name)(x, [1.0])
