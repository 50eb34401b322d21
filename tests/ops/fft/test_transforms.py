"""Fourier transforms: NumPy's values for every layout, by two exchanges or three, and none off the split axis."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fourier import OF_REALS, values
from hypothesis import given
from hypothesis import strategies as hyp
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import Whole, assert_close, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
ONE_AXIS = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
SEVERAL_AXES = ["fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2"]


def of_numpy(name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(getattr(np.fft, name)(x.numpy(), **options)))


def layout_after(x: ms.Layout, shape: tuple[int, ...]) -> ms.Layout:
    same = x.split is not None and shape[x.split] == x.extent
    return ms.Layout(shape, x.split, x.ranks, x.ragged if same or x.split is None else None)


def assert_transformed(name: str, whole: torch.Tensor, layout: ms.Layout, **options: Any) -> int:
    """Assert values and layout; return how many messages it took."""
    x = dealt(whole, layout)
    with traffic() as seen:
        result = getattr(ms.fft, name)(x, **options)
    wanted = of_numpy(name, whole, **options)
    assert_close(result, wanted, rtol=1e-10, atol=1e-10 * max(whole.numel(), 1))
    layout = layout_after(layout, tuple(wanted.shape))
    same = layout.extent == x.layout.extent if layout.split is not None else True
    assert result.layout == (layout.with_counts(x.counts or ()) if same and layout.split is not None else layout)
    assert set(seen.calls) <= {"exchange"}
    return seen.collectives


@pytest.mark.parametrize("name", ONE_AXIS)
def test_along_an_axis(size: int, name: str) -> None:
    """Of 5 indices, which are no product, of 12 and 36, which are, and of as many cut or filled up."""
    for shape, axis in (
        ((36,), 0),
        ((7,), 0),
        ((6, 7), 0),
        ((6, 7), 1),
        ((12, 2), 0),
        ((3, 1, 16), -1),
        ((0, 3), 1),
    ):
        whole = values(shape, name)
        for layout in layouts(shape, size):
            for n in (None, 1, 5, 16, 40):
                messages = assert_transformed(name, whole, layout, n=n, axis=axis)
                off = layout.split != axis % len(shape) or size == 1
                assert messages <= (0 if off else 3)


@pytest.mark.parametrize("name", SEVERAL_AXES)
def test_over_several_axes(size: int, name: str) -> None:
    for shape in ((4, 6), (3, 5, 4), (16, 2), (2, 0, 3)):
        whole = values(shape, name)
        for layout in layouts(shape, size):
            for axes in ((0, 1), (1, 0), (-1,), (-2, -1)):
                if 0 in shape and name != "fftn":
                    continue
                for s in (None, tuple(range(4, 4 + len(axes)))):
                    if 0 not in shape or s is not None:
                        assert assert_transformed(name, whole, layout, s=s, axes=axes) <= 3
            if 0 not in shape:
                assert assert_transformed(name, whole, layout) <= (3 if shape == (16, 2) else 2)


@hyp.composite
def calls(draw: hyp.DrawFn) -> tuple[str, Whole, dict[str, Any]]:
    name = draw(hyp.sampled_from([*ONE_AXIS, *SEVERAL_AXES]))
    numbers = (
        hyp.integers(-4, 4) if name in OF_REALS else hyp.builds(complex, hyp.integers(-4, 4), hyp.integers(-4, 4))
    )
    kind = torch.float64 if name in OF_REALS else torch.complex128
    least = 2 if name.endswith("2") else 1
    whole = draw(st.dndarrays(st.shapes(least, 3, 2, 9), kind, elements=numbers))
    ndim = whole.tensor.ndim
    norm = draw(hyp.sampled_from(["backward", "ortho", "forward"]))
    if name in ONE_AXIS:
        n = draw(hyp.none() | hyp.integers(1, 20))
        return name, whole, {"n": n, "axis": draw(hyp.integers(-ndim, ndim - 1)), "norm": norm}
    axes = draw(hyp.lists(hyp.integers(0, ndim - 1), min_size=1, unique=True).map(tuple))
    s = draw(hyp.none() | hyp.lists(hyp.integers(1, 12), min_size=len(axes), max_size=len(axes)).map(tuple))
    return name, whole, {"s": s, "axes": axes, "norm": norm}


@given(call=calls())
@spmd
def test_any_arguments(call: tuple[str, Whole, dict[str, Any]]) -> None:
    name, whole, options = call
    assert_transformed(name, whole.tensor, whole.layout, **options)


def test_what_is_sent(size: int) -> None:
    if size == 1:
        return
    square = ms.zeros((8 * size, 8 * size), dtype=torch.complex64, split=0)
    columns = ms.zeros((8 * size, 8 * size), split=1)
    line, real = ms.zeros(64 * size, dtype=torch.complex64, split=0), ms.zeros(64 * size, split=0)
    prime = ms.zeros(61, dtype=torch.complex64, split=0)
    share = (size - 1) / size  # of what a rank has, that goes to others
    done: list[bool] = []
    for call, messages, most in (
        (lambda: ms.fft.fft(square, axis=1), 0, 0.0),
        (lambda: ms.fft.fft(square, axis=0), 2, 2 * share * square.nbytes / size),
        (lambda: ms.fft.fftn(square), 2, 2 * share * square.nbytes / size),
        (lambda: ms.fft.ifft2(square), 2, 2 * share * square.nbytes / size),
        (lambda: ms.fft.rfftn(columns), 2, 2.3 * share * columns.nbytes / size),
        (lambda: ms.fft.fft(line), 3, 3 * share * line.nbytes / size),
        # Of the half, with a row or a column more.
        (lambda: ms.fft.rfft(real), 3, 2.2 * share * line.nbytes / size),
        (lambda: ms.fft.irfft(ms.fft.rfft(real)), 6, 4.4 * share * line.nbytes / size),
        (lambda: ms.fft.fft(prime), 1, (size - 1) * prime.nbytes / size + 8 * size),
    ):
        with traffic() as seen:
            call()
        done.append(seen.calls["exchange"] == seen.collectives == messages and seen.bytes_sent <= most)
    assert all(done), done


GRADIENTS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("fft", (36,), {}),
    ("fft", (7,), {}),
    ("rfft", (36,), {"n": 30}),
    ("irfft", (19,), {}),
    ("hfft", (16,), {"n": 16}),
    ("fftn", (4, 5), {}),
    ("irfftn", (4, 5), {}),
    ("rfftn", (1, 6), {}),
]


@pytest.mark.parametrize(("name", "shape", "options"), GRADIENTS)
def test_gradients(size: int, name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    plain = values(shape, name).requires_grad_()
    wanted = getattr(torch.fft, name)(plain, **options)
    weights = torch.arange(wanted.numel(), dtype=torch.float64).reshape(wanted.shape).cos().to(wanted.dtype)
    (gradient,) = torch.autograd.grad(wanted, plain, weights)
    for layout in layouts(shape, size):
        x = dealt(values(shape, name), layout)
        x.larray.requires_grad_()
        result = getattr(ms.fft, name)(x, **options)
        (mine,) = torch.autograd.grad(result.larray, x.larray, weights[result.layout.box(x.comm.rank)])
        assert_close(ms.DNDarray(mine, x.layout, x.comm), gradient, rtol=1e-10, atol=1e-10)


def test_dtypes(size: int) -> None:
    kinds: dict[torch.dtype, torch.dtype] = {
        torch.bool: torch.complex64,
        torch.uint8: torch.complex64,
        torch.int64: torch.complex64,
        torch.float32: torch.complex64,
        torch.float64: torch.complex128,
        torch.complex64: torch.complex64,
        torch.complex128: torch.complex128,
    }
    for dtype, wanted in kinds.items():
        for shape in ((4 * size * size,), (2, 3)):
            x = ms.ones(shape, dtype=dtype, split=0)
            assert ms.fft.fft(x, axis=0).dtype is ms.fft.ifftn(x).dtype is wanted
            assert ms.fft.irfft(x, axis=0).dtype is ms.fft.hfft(x, axis=0).dtype is wanted.to_real()
            if not dtype.is_complex:
                assert ms.fft.rfft(x, axis=0).dtype is ms.fft.ihfft(x, axis=0).dtype is wanted


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.fft.fft(x, axis=2), IndexError, "axis 2 is out of range for 2 dimensions"),
        (lambda x: ms.fft.fft(x, n=0), ValueError, "must be at least 1, got 0 for an axis of extent 3"),
        (lambda x: ms.fft.fft(x, n=1.5), TypeError, "n must be an int, got 1.5"),
        (lambda x: ms.fft.irfft(x[:1], axis=0), ValueError, "must be at least 1, got 0 for an axis of extent 1"),
        (lambda x: ms.fft.fft(x[:0], axis=0), ValueError, "must be at least 1, got 0 for an axis of extent 0"),
        (lambda x: ms.fft.fft(x, norm="none"), ValueError, "norm must be 'backward', .* got 'none'"),
        (lambda x: ms.fft.fftn(x, axes=(0, 0)), ValueError, "names an axis of 2 dimensions more than once"),
        (lambda x: ms.fft.fftn(x, s=(3,), axes=(0, 1)), ValueError, r"for each, got axes=\(0, 1\), s=\(3,\)"),
        (lambda x: ms.fft.fftn(x, axes=()), ValueError, "fftn needs at least one axis"),
        (lambda x: ms.fft.rfft(x + 0j), RuntimeError, "real"),
        (lambda x: ms.fft.fft(x.larray), TypeError, "x must be a DNDarray, got Tensor"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[Any], Any], kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=0)
    with raises_alike(kind, match=words), traffic() as seen:
        call(x)
    assert seen.collectives == 0


@pytest.mark.serial
def test_functions_have_names_and_can_be_pickled() -> None:
    assert {*ONE_AXIS, *SEVERAL_AXES, "fftfreq", "rfftfreq", "fftshift", "ifftshift"} == set(ms.fft.__all__)
    for name in ms.fft.__all__:
        function = getattr(ms.fft, name)
        assert function.__name__ == function.__qualname__ == name
        assert pickle.loads(pickle.dumps(function)) is function


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    for shape in ((36,), (7,), (4, 5)):
        x = ms.ones(shape, split=0, comm=part)
        assert ms.fft.fft(x, axis=0).comm is ms.fft.irfftn(x).comm is part
    part.free()
