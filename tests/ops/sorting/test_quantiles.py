"""Medians and quantiles: NumPy's values for every layout, by a few messages."""

from __future__ import annotations

import math
import warnings
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
METHODS = ("linear", "lower", "higher", "nearest", "midpoint")
KINDS = st.dtypes((torch.float64, torch.int64, torch.float32, torch.bfloat16, torch.float16, torch.uint8))
MOSTLY = hyp.sampled_from((1.0, 0.0, -2.5, 3.0, 7.0, 8.5, math.nan))


@hyp.composite
def cases(draw: hyp.DrawFn, dtypes: Any = KINDS, elements: Any = None) -> tuple[Whole, Any, bool]:
    """An array, axes of it along which there is something, and whether they stay."""
    whole = draw(st.dndarrays(st.shapes(min_side=1, max_side=6), dtypes, elements=elements))
    ndim = whole.tensor.ndim
    axes = hyp.integers(-ndim, ndim - 1) if ndim else hyp.nothing()
    several = hyp.lists(axes, min_size=min(ndim, 1), max_size=ndim, unique_by=lambda axis: axis % ndim).map(tuple)
    return whole, draw(hyp.none() | axes | several), draw(hyp.booleans())


def either() -> Any:
    return cases() | cases(st.dtypes((torch.float64, torch.float16)), MOSTLY)


def expected(name: str, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):
        found = getattr(np, name)(x.double().numpy(), *args, **kwargs)
    return torch.as_tensor(np.asarray(found)).to(x.dtype if x.is_floating_point() else torch.float64)


@pytest.mark.parametrize("name", ["median", "nanmedian"])
@given(case=either())
@spmd
def test_medians(name: str, case: tuple[Whole, Any, bool]) -> None:
    whole, axis, keepdims = case
    x = whole.cut()
    found = getattr(ms, name)(x, axis=axis, keepdims=keepdims)
    assert_close(found, expected(name, whole.tensor, axis=axis, keepdims=keepdims))
    assert_equal(x, whole.tensor)
    with agreement(x.comm, "comparing"):
        assert found.layout == ms.count_nonzero(x, axis=axis, keepdims=keepdims).layout


@pytest.mark.parametrize("name", ["quantile", "nanquantile", "percentile"])
@given(
    case=either(),
    q=hyp.floats(0, 1) | hyp.lists(hyp.sampled_from((0.0, 0.25, 0.5, 0.9, 1.0)), max_size=3),
    method=hyp.sampled_from(METHODS),
)
@spmd
def test_quantiles(name: str, case: tuple[Whole, Any, bool], q: Any, method: Any) -> None:
    whole, axis, keepdims = case
    x = whole.cut()
    fractions = np.array(q)
    wanted = fractions * 100 if name == "percentile" else fractions
    found = getattr(ms, name)(x, wanted, axis=axis, method=method, keepdims=keepdims)
    plain = "nanquantile" if name == "nanquantile" else "quantile"
    reference = expected(plain, whole.tensor, fractions, axis=axis, method=method, keepdims=keepdims)
    if method == "linear" or name != "percentile":  # a percentage may round to another element
        assert_close(found, reference)
    kept = ms.count_nonzero(x, axis=axis, keepdims=keepdims)
    with agreement(x.comm, "comparing"):
        assert found.split == (None if kept.split is None else kept.split + fractions.ndim)
        assert found.counts == kept.counts


@given(case=cases(torch.float64, hyp.integers(-99, 99)))
@spmd
def test_gradients(case: tuple[Whole, Any, bool]) -> None:
    whole, axis, _ = case
    tensor = (whole.tensor + torch.linspace(0, 0.5, whole.tensor.numel()).reshape(whole.tensor.shape)).double()
    tensor.requires_grad_()
    one = axis if isinstance(axis, int) else None
    wanted = torch.quantile(tensor, 0.4, dim=one)
    weights = torch.arange(1.0, wanted.numel() + 1, dtype=torch.float64).reshape(wanted.shape)
    (slope,) = torch.autograd.grad((weights * wanted).sum(), tensor)
    x = Whole(tensor, whole.layout).cut()
    found = ms.quantile(x, 0.4, axis=one)
    (gradient,) = torch.autograd.grad((weights[found.layout.box(x.comm.rank)] * found.larray).sum(), x.larray)
    assert_close(ms.DNDarray(gradient, x.layout, x.comm), slope)


def test_infinities(comm: Comm) -> None:
    inf = math.inf
    for whole, median in (([inf, inf], inf), ([1.0, inf], inf), ([-inf, 1.0], -inf), ([-inf, inf], math.nan)):
        for layout in layouts((2,), comm.size):
            x = dealt(torch.tensor(whole), layout)
            assert_equal(ms.median(x), torch.tensor(median))
            assert_equal(ms.quantile(x, [0.0, 1.0]), torch.tensor(whole))


def test_many_elements(comm: Comm) -> None:
    whole = torch.rand(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layout in layouts((300, 3), comm.size):
        for axis in (None, 0, 1):
            found = ms.quantile(dealt(whole, layout), [0.1, 0.77], axis=axis)
            assert_close(found, np.quantile(whole.numpy(), [0.1, 0.77], axis))


def test_what_is_sent(size: int) -> None:
    line, wide = ms.arange(90 * size, dtype=torch.float32, split=0), ms.ones((6, 90), split=0)
    number = ms.arange(9 * size, split=0)
    calls: list[tuple[Any, dict[str, int]]] = [
        (lambda: ms.median(line), {"allgather": 2, "exchange": 1, "allreduce": 2}),
        (lambda: ms.median(number), {"allgather": 2, "exchange": 1, "allreduce": 1}),
        (lambda: ms.median(wide.reshape(1, 6, 90)), {"allgather": 2, "exchange": 1, "allreduce": 2}),
        (lambda: ms.median(wide, axis=0), {"exchange": 2, "allreduce": 1}),
        (lambda: ms.median(wide, axis=1), {}),
    ]
    for number_of, (call, wanted) in enumerate(calls):
        with traffic() as seen:
            call()
        assert dict(seen.calls) == (wanted if size > 1 else {}), number_of


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.median(x * 1j), TypeError, r"median needs numbers that have an order, got torch\.complex64"),
        (lambda x: ms.quantile(x, 1.5), ValueError, r"q must be from 0 to 1, got 1\.5"),
        (lambda x: ms.percentile(x, ["a"]), TypeError, r"q must be a number, or an array of numbers, got \['a'\]"),
        (lambda x: ms.quantile(x, 1j), TypeError, "q must be a number, or an array of numbers, got 1j"),
        (lambda x: ms.percentile(x, [1, math.nan]), ValueError, r"q must be from 0 to 100, got nan"),
        (
            lambda x: ms.quantile(x, 0.5, method="best"),
            ValueError,
            "method must be one of linear, lower, .*'best'",
        ),
        (lambda x: ms.median(x, axis=2), IndexError, "axis 2 is out of range"),
        (lambda x: ms.median(ms.ones((0, 3))), ValueError, r"median needs at least one .* shape \(0, 3\)"),
    ],
)
def test_errors_are_alike(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    for split in (0, 1, None):
        with raises_alike(kind, match=words):
            call(ms.ones((5, 3), split=split))


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.arange(9.0, split=0, comm=part)
    with ms.debug():
        assert ms.median(x).comm is ms.nanquantile(x, [0.5]).comm is part
    assert ms.median(x).item() == 4
    part.free()


def test_median_of_integers(size: int) -> None:
    for split in (None, 0):
        x = ms.array([16777217, 16777217, 16777219], split=split)
        for found in (ms.median(x), ms.nanmedian(x), ms.quantile(x, 0.25), ms.percentile(x, 25)):
            assert_equal(found, np.array(16777217.0))


METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen",
    "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extent", [1, 2, 3, 4, 10])
def test_methods(size: int, method: Any, extent: int) -> None:
    rng = np.random.default_rng(extent)
    plain, q = rng.standard_normal((extent, 2)), np.r_[np.linspace(0, 1, 11), rng.random(4), 1 / 3]
    gone = np.concatenate([plain, np.full((2, 2), np.nan)])
    for layout in layouts((extent, 2), size):
        found = ms.quantile(dealt(torch.from_numpy(plain), layout), q, 0, method=method)
        assert_close(found, np.quantile(plain, q, 0, method=method), rtol=1e-12, atol=1e-13)
    for layout in layouts(gone.shape, size):
        x = dealt(torch.from_numpy(gone), layout)
        wanted = np.nanquantile(gone, q, 0, method=method)
        assert_close(ms.nanquantile(x, q, 0, method=method), wanted, rtol=1e-12, atol=1e-13)
        wanted = np.nanpercentile(gone, 100 * q, 0, method=method)
        assert_close(ms.nanpercentile(x, 100 * q, 0, method=method), wanted, rtol=1e-12, atol=1e-13)


def test_methods_next_to_infinities() -> None:
    x = ms.array([-math.inf, 1.0, 2.0, math.inf], split=0)
    for q, wanted in ((0.1, -math.inf), (0.3, 1.0), (0.6, 2.0), (0.9, math.inf), (1.0, math.inf)):
        assert ms.quantile(x, q, method="averaged_inverted_cdf").item() == wanted
