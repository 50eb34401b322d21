"""Histograms: NumPy's counts for every layout, by a few messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
KINDS = st.dtypes((torch.float64, torch.int64, torch.float32, torch.bfloat16, torch.float16, torch.uint8))


@hyp.composite
def weighed(draw: hyp.DrawFn, shape: Any, dtypes: Any, elements: Any = None) -> tuple[Whole, Whole | None]:
    whole = draw(st.dndarrays(shape, dtypes, elements=elements))
    kinds = st.dtypes((torch.float64, torch.int64, torch.complex128, torch.bfloat16))
    return whole, draw(hyp.none() | st.dndarrays(tuple(whole.tensor.shape), kinds))


def total_of(weights: torch.Tensor) -> Any:
    return weights.to(torch.float64 if weights.dtype is torch.bfloat16 else weights.dtype).numpy()


@given(
    case=weighed(st.shapes(max_side=5), KINDS),
    bins=hyp.integers(1, 7) | hyp.sampled_from(([-3.0, 0.0, 0.5, 4.0], [0, 0, 1], [-9, 9])),
    ends=hyp.none() | hyp.sampled_from(((-2.0, 3.0), (1.0, 1.0), (100.0, 101.0))),
)
@spmd
def test_histograms(case: tuple[Whole, Whole | None], bins: Any, ends: Any) -> None:
    whole, weights = case
    x, w = whole.cut(), None if weights is None else weights.cut()
    plain, heavy = whole.tensor.double().numpy(), None if weights is None else total_of(weights.tensor)
    ends = ends if isinstance(bins, int) else None
    _, edges = np.histogram(plain, bins, ends)
    found, ours = ms.histogram(x, bins, ends, w)
    # The same edges for both, as rounded ones of float16 count otherwise.
    reference, _ = np.histogram(
        plain, ours.numpy() if x.dtype not in (torch.bfloat16,) else ours.larray.double().numpy(), weights=heavy
    )
    reference = torch.as_tensor(reference)
    assert_close(found, reference.to(torch.bfloat16) if w is not None and w.dtype is torch.bfloat16 else reference)
    assert_close(ms.astype(ours, torch.float64), torch.from_numpy(edges * 1.0), rtol=0.01, atol=1e-2)
    assert found.split is None
    if weights is None and reference.sum():
        dense, _ = ms.histogram(x, [-9.0, 0.0, 9.0], density=True)
        assert_close(ms.astype(dense, torch.float64), np.histogram(plain, [-9.0, 0, 9], density=True)[0])


@given(
    case=weighed(
        st.shapes(min_dims=1, max_dims=1), st.dtypes((torch.int64, torch.uint8, torch.bool)), hyp.integers(0, 9)
    ),
    least=hyp.integers(0, 12),
)
@spmd
def test_bincounts(case: tuple[Whole, Whole | None], least: int) -> None:
    whole, weights = case
    x, w = whole.cut(), None if weights is None else weights.cut()
    found = ms.bincount(x, w, least)
    length = max(int(whole.tensor.max()) + 1 if whole.tensor.numel() else 0, least)
    heavy = torch.ones(len(whole.tensor), dtype=torch.int64) if weights is None else weights.tensor
    wide = heavy.float() if heavy.dtype is torch.bfloat16 else heavy
    wanted = torch.zeros(length, dtype=wide.dtype).index_add(0, whole.tensor.long(), wide)
    assert_equal(found, wanted.to(heavy.dtype))


@given(
    whole=st.dndarrays(dtype=st.dtypes((torch.float64, torch.int64))),
    edges=hyp.lists(hyp.integers(-8, 8), max_size=4).map(sorted),
    right=hyp.booleans(),
)
@spmd
def test_bins(whole: Whole, edges: list[int], right: bool) -> None:
    x, plain = whole.cut(), whole.tensor.numpy()
    assert_equal(ms.digitize(x, edges, right), np.digitize(plain, np.array(edges, dtype=int), right))
    falling = np.array(edges[::-1], dtype=int)
    assert_equal(ms.digitize(x, ms.array(falling, split=0), right), np.digitize(plain, falling, right))
    boundaries = torch.tensor(edges, dtype=torch.int64)
    found = ms.bucketize(x, ms.array(boundaries, split=0), right=right)
    assert_equal(found, torch.bucketize(whole.tensor, boundaries, right=right))
    with agreement(x.comm, "comparing"):
        assert found.layout == x.layout


def test_weights_have_gradients(comm: Comm) -> None:
    place, whole = torch.tensor([0, 2, 2, 1, 0]), torch.arange(5.0)
    for layout in layouts((5,), comm.size):
        w = dealt(whole.clone().requires_grad_(), layout)
        found = ms.bincount(ms.array(place, split=0), w)
        (found.larray * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
        assert w.larray.grad is not None
        assert_equal(ms.DNDarray(w.larray.grad, w.layout, comm), [1.0, 100.0, 100.0, 10.0, 1.0])


def test_what_is_sent(size: int) -> None:
    line = ms.arange(90 * size, dtype=torch.float32, split=0)
    number = ms.arange(9 * size, split=0)
    calls: list[tuple[Any, dict[str, int]]] = [
        (lambda: ms.histogram(line), {"allreduce": 2}),
        (lambda: ms.histogram(line, range=(0, 1)), {"allreduce": 1}),
        (lambda: ms.bincount(number), {"allreduce": 2}),
        (lambda: ms.digitize(line, [1.0, 2.0]), {}),
    ]
    for number_of, (call, wanted) in enumerate(calls):
        with traffic() as seen:
            call()
        assert dict(seen.calls) == (wanted if size > 1 else {}), number_of


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.histogram(x, 0), ValueError, "bins must be at least 1, got 0"),
        (
            lambda x: ms.histogram(x, [1.0, 0.0]),
            ValueError,
            r"bins must be edges that ascend, got 1\.0 before 0\.0",
        ),
        (
            lambda x: ms.histogram(x, range=(1, 0)),
            ValueError,
            r"must be finite and ascend, got 1 to 0; give range",
        ),
        (lambda x: ms.histogram(x / 0), ValueError, "range must be finite .* got inf to inf"),
        (
            lambda x: ms.histogram(x, weights=x[0]),
            ValueError,
            r"weights of histogram must .* \(5, 3\), got \(3,\)",
        ),
        (lambda x: ms.histogram(x * 1j), TypeError, "histogram needs numbers that have an order"),
        (ms.bincount, ValueError, r"counts in a 1-d array, got shape \(5, 3\); use ravel"),
        (lambda x: ms.bincount(x[:, 0]), TypeError, r"counts bools and integers, got torch\.float32; histogram"),
        (lambda x: ms.bincount(ms.array([1, -2], split=0)), ValueError, "counts integers from 0 on, got -2"),
        (lambda x: ms.bincount(ms.arange(3), minlength=-1), ValueError, "minlength must not be negative, got -1"),
        (lambda x: ms.digitize(x, [1, 3, 2]), ValueError, "bins must ascend or descend"),
        (lambda x: ms.bucketize(x, [[1]]), ValueError, r"edges must be 1-d, got shape \(1, 1\)"),
    ],
)
def test_errors_are_alike(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    for split in (0, 1, None):
        with raises_alike(kind, match=words):
            call(ms.ones((5, 3), split=split))


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x, number = ms.arange(9.0, split=0, comm=part), ms.arange(9, split=0, comm=part)
    with ms.debug():
        for result in (*ms.histogram(x), ms.bincount(number), ms.digitize(x, [1.0])):
            assert result.comm is part
    part.free()


POINTS = np.random.default_rng(3).standard_normal((2, 30))


@pytest.mark.parametrize(
    "bins", [5, [3, 4], [[-1.0, 0, 2], [0.0, 1]], [-2.0, -1, 0, 1, 3], [np.array([-1.0, 1]), 3]]
)
@pytest.mark.parametrize(
    "options", [{}, {"density": True}, {"range": [(-1, 1), (-2, 0.5)]}, {"range": [None, (0, 1)]}]
)
def test_histograms_of_points(size: int, bins: Any, options: Any) -> None:
    wanted = np.histogram2d(*POINTS, bins=bins, **options)
    weighed = np.histogram2d(*POINTS, bins=bins, weights=POINTS[1], **options)
    places = layouts((30,), size)
    for layout, other in zip(places, places[::-1], strict=True):
        x, y = dealt(torch.from_numpy(POINTS[0]), layout), dealt(torch.from_numpy(POINTS[1]), other)
        for ours, theirs in zip(ms.histogram2d(x, y, bins, **options), wanted, strict=True):
            assert_close(ours, theirs)
            assert ours.split is None
        for ours, theirs in zip(ms.histogram2d(x, y, bins, weights=y, **options), weighed, strict=True):
            assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.histogram2d(x, x[:2]), ValueError, r"1-d and of one length, got \(4,\) and \(2,\)"),
        (lambda x: ms.histogram2d(x, x * 1j), TypeError, "numbers that have an order, got torch.float32 and"),
        (lambda x: ms.histogram2d(x, x, 0), ValueError, "bins must be at least 1, got 0"),
        (
            lambda x: ms.histogram(x, ["a"]),
            TypeError,
            r"edges must be a number, or an array of numbers, got \['a'\]",
        ),
        (
            lambda x: ms.histogram(x, range=(1, "a")),
            TypeError,
            "an end of range must be a number, got 'a'",
        ),
        (lambda x: ms.digitize(x, "a"), TypeError, "edges must be a number, or an array of numbers, got 'a'"),
        (lambda x: ms.histogram2d(x, x, weights=x[:2]), ValueError, "weights of histogram2d must have the shape"),
    ],
)
def test_errors_of_points(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.arange(4.0, split=0))
