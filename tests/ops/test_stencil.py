"""Differences and convolutions: NumPy's values for every layout, for which neighbours' rows alone travel."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.core import collectives
from minisplit.core.collectives import halo_exchange
from minisplit.testing import Whole, assert_close, assert_equal, run, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    index = torch.arange(math.prod(shape), dtype=torch.int64)
    return ((index * index * 5 + index) % 17).reshape(shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_differences(size: int, dtype: torch.dtype) -> None:
    for shape, axis in (((9,), 0), ((5, 3), 0), ((5, 3), -1), ((2, 4, 1), 2), ((0, 3), 0)):
        whole = values(shape, dtype)
        for layout in layouts(shape, size):
            x = dealt(whole, layout)
            for n in (0, 1, 2, 4, 7):
                with traffic() as seen:
                    result = ms.diff(x, axis=axis, n=n)
                wanted = torch.diff(whole, n, axis)
                assert_equal(result, wanted)
                assert seen.collectives <= (layout.split == axis % len(shape) and n > 0)
                if layout.split is not None:
                    stops = layout.offsets()[1:].clip(max=wanted.shape[layout.split])
                    assert result.counts == tuple(np.diff(stops, prepend=0).tolist())
                result.larray.zero_()
            assert_equal(x, whole)


@hyp.composite
def calls(draw: hyp.DrawFn) -> tuple[Whole, list[Whole | None], int, int]:
    whole = draw(st.dndarrays(st.shapes(1, 3, 0, 6)))
    shape = list(whole.layout.shape)
    axis = draw(hyp.integers(-len(shape), len(shape) - 1))
    ends: list[Whole | None] = []
    for _ in range(2):
        shape[axis] = draw(hyp.integers(0, 3))
        ends.append(draw(hyp.none() | st.dndarrays(tuple(shape), whole.tensor.dtype)))
    return whole, ends, axis, draw(hyp.integers(0, 4))


@given(call=calls())
@spmd
def test_any_arguments(call: tuple[Whole, list[Whole | None], int, int]) -> None:
    whole, (before, after), axis, n = call
    joined = torch.cat([part.tensor for part in (before, whole, after) if part is not None], axis)
    prepend, append = (None if part is None else part.cut() for part in (before, after))
    result = ms.diff(whole.cut(), axis=axis, n=n, prepend=prepend, append=append)
    assert_equal(result, torch.diff(joined, n, axis))


@hyp.composite
def windows(draw: hyp.DrawFn) -> tuple[Whole, tuple[tuple[int, int], ...]]:
    whole = draw(st.dndarrays(st.shapes(1, 2, 1, 9), torch.float64, split=0))
    inside = hyp.integers(0, whole.layout.extent)
    spans = hyp.lists(hyp.tuples(inside, inside), min_size=whole.layout.ranks, max_size=whole.layout.ranks)
    return whole, tuple((min(span), max(span)) for span in draw(spans))


@given(case=windows())
@spmd
def test_windows(case: tuple[Whole, tuple[tuple[int, int], ...]]) -> None:
    """Values, gradients, and the bytes of what a rank has not."""
    whole, spans = case
    x = whole.cut()
    x.larray.requires_grad_()
    rank = x.comm.rank
    with traffic() as seen:
        rows = halo_exchange(x.larray, x.layout, spans, x.comm)
    assert torch.equal(rows, whole.tensor[slice(*spans[rank])])
    held = [range(*x.layout.span(peer)) for peer in range(x.comm.size)]
    asked = [sum(i in held[rank] for i in range(*span)) for peer, span in enumerate(spans) if peer != rank]
    assert seen.bytes_sent == 8 * sum(asked) * math.prod(x.shape[1:])
    (mine,) = torch.autograd.grad(rows.sum() * (rank + 1), x.larray)
    wanted = torch.zeros_like(whole.tensor)
    for peer, span in enumerate(spans):
        wanted[slice(*span)] += peer + 1
    assert_equal(ms.DNDarray(mine, x.layout, x.comm), wanted)


def test_what_is_sent(size: int) -> None:
    x = ms.ones((10 * size, 3), split=0)
    for n in (1, 3):
        with traffic() as seen:
            ms.diff(x, axis=0, n=n)
        assert seen.bytes_sent == (n * 3 * 4 if x.comm.rank else 0)


def test_gradients(size: int) -> None:
    for axis, n in ((0, 1), (0, 3), (1, 2)):
        plain = values((5, 4)).requires_grad_()
        wanted = torch.diff(plain, n, axis)
        (gradient,) = torch.autograd.grad(wanted.square().sum(), plain)
        for layout in layouts((5, 4), size):
            x = dealt(plain.detach(), layout)
            x.larray.requires_grad_()
            (mine,) = torch.autograd.grad(ms.diff(x, axis=axis, n=n).larray.square().sum(), x.larray)
            assert_equal(ms.DNDarray(mine, layout, x.comm), gradient)


def test_trapezoids(size: int) -> None:
    for shape in ((7,), (5, 3), (1, 4), (0, 2)):
        for dtype in (torch.float64, torch.int64):
            whole = values(shape, dtype)
            for layout in layouts(shape, size):
                y = dealt(whole, layout)
                for axis in range(-1, len(shape)):
                    wanted = np.trapezoid(whole.numpy(), dx=0.5, axis=axis)
                    result = ms.trapezoid(y, dx=0.5, axis=axis)
                    assert_close(result, torch.as_tensor(wanted, dtype=result.dtype))
                    points = values((shape[axis],))
                    for split in (None, 0):
                        result = ms.trapezoid(y, ms.array(points, split=split), axis=axis)
                        wanted = np.trapezoid(whole.numpy(), points.numpy(), axis=axis)
                        assert_close(result, np.asarray(wanted))
                    far = values(shape) * 1.5
                    result = ms.trapezoid(y, ms.array(far, split=0), axis=axis)
                    assert_close(result, np.asarray(np.trapezoid(whole.numpy(), far.numpy(), axis=axis)))


MODES: list[Literal["full", "same", "valid"]] = ["full", "same", "valid"]


@pytest.mark.parametrize("mode", MODES)
def test_convolutions(size: int, mode: Literal["full", "same", "valid"]) -> None:
    """Of many lengths, for kernels that reach over several ranks; gradients of both."""
    for long, short in ((9, 1), (9, 2), (8, 5), (6, 6), (3, 7), (1, 1)):
        plain, kernel = values((long,)).requires_grad_(), (values((short,)) + 1).requires_grad_()
        wanted = torch.from_numpy(np.convolve(plain.detach(), kernel.detach(), mode))
        weights = values(tuple(wanted.shape)) + 2
        padded = torch.nn.functional.pad(plain, (short - 1, short - 1))
        full = torch.nn.functional.conv1d(padded[None, None], kernel.flip(0)[None, None])[0, 0]
        first = (full.shape[0] - wanted.shape[0]) // 2
        gradients = torch.autograd.grad(full[first : first + len(wanted)], (plain, kernel), weights)
        for layout in layouts((long,), size):
            for other in layouts((short,), size):
                a, v = dealt(plain.detach(), layout), dealt(kernel.detach(), other)
                a.larray.requires_grad_()
                v.larray.requires_grad_()
                with traffic() as seen:
                    result = ms.convolve(a, v, mode)
                assert_close(result, wanted)
                assert seen.collectives <= (layout.split is not None) + (other.split is not None)
                mine = torch.autograd.grad(
                    result.larray, (a.larray, v.larray), weights[result.layout.box(a.comm.rank)]
                )
                assert_close(ms.DNDarray(mine[0], layout, a.comm), gradients[0])
                assert_close(ms.DNDarray(mine[1], other, a.comm), gradients[1])


def check_long_convolutions(size: int) -> None:
    for place, ((long, short), mode) in enumerate(zip(((9, 7), (5, 8), (6, 6)), MODES, strict=True)):
        a, v = values((long,)).to((torch.complex128, torch.float64)[place % 2]), values((short,)) + 1
        wanted = np.convolve(a, v, mode)

        def theirs(a: torch.Tensor, v: torch.Tensor, like: Any = wanted) -> torch.Tensor:
            n = len(a) + len(v) - 1
            first = (n - len(like)) // 2
            full = torch.fft.ifft(torch.fft.fft(a, n) * torch.fft.fft(v, n))
            return (full if a.is_complex() else full.real)[first : first + len(like)]

        for layout, other in product(layouts((long,), size)[1:], layouts((short,), size)[1:]):
            x, y = dealt(a, layout), dealt(v, other)
            with traffic() as seen:
                found = ms.convolve(x, y, mode)
            assert seen.calls.get("exchange", 0) > 2 or size == 1
            assert_close(found, wanted, rtol=1e-9, atol=1e-9)
            if mode == "full":
                assert found.layout == ms.Layout((long + short - 1,), 0, size)
            elif long != short:
                directly = ms.convolve(*((x, y.resplit(None)) if long > short else (x.resplit(None), y)), mode)
                assert found.layout == directly.layout
        assert_gradients(lambda a, v: ms.convolve(a, v, mode), theirs, [a, v], size)  # noqa: B023


@pytest.mark.serial
def test_long_arrays_are_convolved_by_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", -1)
    run(check_long_convolutions, 3, ranks=3)


def test_convolutions_of_several_dtypes(size: int) -> None:
    kinds = [torch.uint8, torch.int64, torch.float16, torch.float32, torch.complex64]
    for dtype, other in product(kinds, kinds):
        a, v = ms.arange(2 * size, dtype=dtype, split=0), ms.arange(3, dtype=other, split=0)
        wanted = np.convolve(np.arange(2 * size), np.arange(3))
        assert_close(ms.convolve(a, v), torch.from_numpy(wanted).to(torch.promote_types(dtype, other)))
    plain, short = np.arange(3 * size) % 3 == 0, np.array([False, True])
    for mode in ("full", "same", "valid"):
        found = ms.convolve(ms.array(plain, split=0), ms.array(short), mode)
        assert_equal(found, torch.from_numpy(np.convolve(plain, short, mode)))
    with traffic() as seen:
        ms.convolve(ms.ones(10 * size, split=0), ms.ones(3))
    rank = ms.get_comm().rank
    assert seen.bytes_sent == (2 * 4 if rank < size - 1 else 0)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.diff(x, axis=2), IndexError, "axis 2 is out of range for 2 dimensions"),
        (lambda x: ms.diff(x, n=-1), ValueError, "n must not be negative, got -1"),
        (lambda x: ms.diff(x, n=0.5), TypeError, "n must be an int, got 0.5"),
        (lambda x: ms.diff(x, append=x[:, 0]), ValueError, "joined arrays may differ along axis 1 alone"),
        (lambda x: ms.diff(x.larray), TypeError, "x must be a DNDarray, got Tensor"),
        (lambda x: ms.convolve(x, x[:2]), ValueError, r"the same axes or none, got shapes \(6, 2\) and \(2, 2\)"),
        (lambda x: ms.convolve(x[:, 0], x[:0, 0]), ValueError, r"as many, and elements in them, .* \(0,\)"),
        (lambda x: ms.convolve(x[:, 0], x[:, 0], "half"), ValueError, "mode must be 'full', .* got 'half'"),
        (
            lambda x: ms.trapezoid(x, x[0, :1]),
            ValueError,
            r"x must have shape \(6, 2\), as y, or \(2,\), got shape \(1,\)",
        ),
    ],
)
def test_errors(call: Callable[[Any], Any], kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((6, 2), split=0)
    with raises_alike(kind, match=words):
        call(x)


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 6), split=1, comm=part)
    assert ms.diff(x).comm is ms.diff(x, axis=0).comm is ms.trapezoid(x).comm is part
    part.free()


def test_median_of_integers_in_trapezoid(size: int) -> None:
    for dtype, plain in ((torch.uint8, [200, 200, 100]), (torch.int64, [2**53 - 1, 1, 16777217])):
        for split in (None, 0):
            x = ms.array(plain, dtype=dtype, split=split)
            assert_equal(ms.trapezoid(x), np.trapezoid(np.array(plain, float)))


COORDINATES = np.array([0.0, 0.5, 2.0, 2.25, 4.0, 5.0, 7.5])


@pytest.mark.parametrize("edge_order", [1, 2])
@pytest.mark.parametrize("extent", [2, 3, 4, 7])
def test_gradient(size: int, extent: int, edge_order: int) -> None:
    if extent <= edge_order:
        return
    whole = values((extent, 3))
    spacings = [(), (2.5,), (COORDINATES[:extent],)]
    for layout in layouts((extent, 3), size):
        x = dealt(whole, layout)
        for spacing in spacings:
            with traffic() as seen:
                found = ms.gradient(x, *spacing, axis=0, edge_order=edge_order)
            assert_close(found, np.gradient(whole.numpy(), *spacing, axis=0, edge_order=edge_order))
            assert found.layout == layout
            assert seen.collectives <= (layout.split == 0)
        places = ms.array(COORDINATES[:extent], split=0)
        found = ms.gradient(x, places, axis=-2, edge_order=edge_order)
        assert_close(found, np.gradient(whole.numpy(), COORDINATES[:extent], axis=0, edge_order=edge_order))
        for ours, theirs in zip(ms.gradient(x, 2.0, 3.0), np.gradient(whole.numpy(), 2.0, 3.0), strict=True):
            assert_close(ours, theirs)
    assert_gradients(
        lambda x: ms.gradient(x, axis=0, edge_order=edge_order),
        lambda x: torch.gradient(x, dim=0, edge_order=edge_order)[0],
        [whole],
        size,
    )


def test_gradient_of_several_dtypes() -> None:
    for dtype in (torch.int32, torch.float32, torch.complex64, torch.uint8):
        found = ms.gradient(ms.array([3, 1, 7, 200], split=0).astype(dtype))
        assert_close(found, np.gradient(np.array([3, 1, 7, 200])) if dtype is torch.uint8 else found)
        assert found.dtype is (dtype if dtype.is_floating_point or dtype.is_complex else torch.float64)
    assert ms.gradient(ms.zeros((3, 0), split=0), axis=0).shape == (3, 0)


@pytest.mark.parametrize("period", [2 * math.pi, 4, 5, 3.0])
@pytest.mark.parametrize("discont", [None, 1, 4])
def test_unwrap(size: int, period: float, discont: float | None) -> None:
    whole = torch.tensor(
        [[0.0, 3.1, -3.1, 2.0], [math.pi, 9.0, math.nan, -2.0], [0, -7, 6, 2], [-math.pi, 2, 1, 2]]
    )
    for dtype, axis in ((torch.float64, 0), (torch.float64, 1), (torch.int64, 0)):
        plain = whole.nan_to_num(5.0).to(dtype) if dtype is torch.int64 else whole.to(dtype)
        wanted = np.unwrap(plain.numpy(), discont=discont, axis=axis, period=period)
        for layout in layouts((4, 4), size):
            found = ms.unwrap(dealt(plain, layout), discont, axis, period=period)
            assert_close(found, wanted)
            assert found.layout == layout
    assert ms.unwrap(ms.zeros(0, split=0)).shape == (0,)


def test_differences_of_all_elements(size: int) -> None:
    whole = values((3, 4), torch.int64)
    for layout in layouts((3, 4), size):
        x = dealt(whole, layout)
        assert_equal(ms.ediff1d(x), np.ediff1d(whole.numpy()))
        wanted = np.ediff1d(whole.numpy(), to_begin=-99, to_end=[88, 99])
        assert_equal(ms.ediff1d(x, to_begin=-99, to_end=ms.array([88, 99], split=0)), wanted)
    assert ms.ediff1d(ms.ones(1, split=0)).shape == (0,)


def test_gradients_of_differences(size: int) -> None:
    angles = torch.tensor([0.0, 3.1, -3.1, 9.0, -7.0]).double()
    corrections = torch.from_numpy(np.unwrap(angles.numpy())) - angles
    assert_gradients(ms.unwrap, lambda x: x + corrections, [angles], size)
    assert_gradients(ms.ediff1d, lambda x: x.flatten().diff(), [values((2, 3))], size)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.gradient(x, "a"), TypeError, "a spacing of gradient must be a number, or .* got 'a'"),
        (lambda x: ms.unwrap(x, period="a"), TypeError, "period must be a number, got 'a'"),
        (lambda x: ms.gradient(x, edge_order=3), ValueError, "edge_order must be 1 or 2, got 3"),
        (lambda x: ms.gradient(x, edge_order=2), ValueError, r"3 indices or more .* but axis 1 of \(6, 2\) has 2"),
        (lambda x: ms.gradient(x, 1.0, 2.0, 3.0), TypeError, "one spacing, or one for each of 2 axes, got 3"),
        (lambda x: ms.gradient(x, [1.0, 2.0], axis=0), ValueError, r"must have shape \(6,\), got \(2,\)"),
        (lambda x: ms.gradient(x, axis=2), IndexError, "axis 2 is out of range for 2 dimensions"),
        (lambda x: ms.unwrap(x * 1j), TypeError, "unwrap needs real numbers, got torch.complex64"),
        (lambda x: ms.ediff1d(x.larray), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)
def test_errors_of_differences(call: Callable[[Any], Any], kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones((6, 2), split=0))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolutions_of_batches_in_one_axis_and_two(size: int, mode: Any) -> None:
    """Against torch's own, values and gradients, for every split of the array and of one kernel or several."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((3, 4, 5), dtype=torch.float64, generator=generator)
    for shape in ((2,), (3, 4, 2), (2, 2), (3, 3, 2)):
        ndim = 1 if shape in {(2,), (3, 4, 2)} else 2
        kernels = torch.rand(shape, dtype=torch.float64, generator=generator)
        a, v = images.clone().requires_grad_(), kernels.clone().requires_grad_()
        reach, number = [n - 1 for n in shape[-ndim:]], images.shape[:-ndim].numel()
        edges = [n for each in reversed(reach) for n in (each, each)]
        rows = torch.nn.functional.pad(a, edges)
        rows = rows.reshape(1, number, *rows.shape[-ndim:])
        weights = v.flip(tuple(range(-ndim, 0))).expand(*images.shape[:-ndim], *shape[-ndim:])
        function: Any = torch.nn.functional.conv1d if ndim == 1 else torch.nn.functional.conv2d
        wanted = function(rows, weights.reshape(number, 1, *shape[-ndim:]), groups=number)[0]
        wanted = wanted.reshape(*images.shape[:-ndim], *wanted.shape[1:])
        for axis, m in zip(range(-ndim, 0), reach, strict=True):
            n = images.shape[axis]
            first, length = {"full": (0, n + m), "same": (m // 2, n), "valid": (m, n - m)}[mode]
            wanted = wanted.narrow(axis, first, length)
        wanted.square().sum().backward()
        assert a.grad is not None
        assert v.grad is not None
        for place, layout in enumerate(layouts(images.shape, size)):
            every = list(layouts(shape, size))
            x, w = (
                dealt(images, layout).requires_grad_(),
                dealt(kernels, every[place % len(every)]).requires_grad_(),
            )
            found = (ms.convolve if ndim == 1 else ms.convolve2d)(x, w, mode)
            assert_close(found.detach(), wanted.detach())
            assert found.split == layout.split
            (found * found).sum().backward()
            assert_close(x.grad, a.grad)
            assert_close(w.grad, v.grad)
