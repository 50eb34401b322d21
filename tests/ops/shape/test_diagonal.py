"""Diagonals and triangles: NumPy's values for every layout, and no element moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from layouts import dealt, layout_of, layouts
from shape_cases import check_row, functions_of, is_right

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

# (function, shape, arguments), and whether no call of it needs a message, whatever the layout.
TRIANGLES: list[tuple[str, tuple[int, ...], tuple[Any, ...], bool]] = [
    ("tril", (5, 4), (), True),
    ("tril", (2, 5, 4), (-2,), True),
    ("triu", (5, 4), (1,), True),
    ("triu", (4, 5), (-1,), True),
]  # fmt: skip
OFFSETS = hs.integers(-6, 6)


@given(whole=st.dndarrays(st.shapes(min_dims=2, max_dims=4, max_side=4)), offset=OFFSETS)
@spmd
def test_diagonals_and_traces_as_torch_has_them(whole: Whole, offset: int) -> None:
    check_diagonals(whole, offset, -2, -1, ms.linalg)


@given(whole=st.dndarrays(st.shapes(min_dims=2, max_dims=4, max_side=4)), offset=OFFSETS)
@spmd
def test_trace_of_3d(whole: Whole, offset: int) -> None:
    """NumPy's axes are the first two, those of the standard's `linalg` the last two."""
    check_diagonals(whole, offset, 0, 1, ms)


@given(
    whole=st.dndarrays(st.shapes(min_dims=3, max_dims=4, max_side=4)),
    offset=OFFSETS,
    axes=hs.permutations([0, 1, 2]),
)
@spmd
def test_trace_along_any_two_axes(whole: Whole, offset: int, axes: list[int]) -> None:
    check_diagonals(
        whole, offset, axes[0], axes[1] - whole.tensor.ndim, ms, axis1=axes[0], axis2=axes[1] - whole.tensor.ndim
    )


def check_diagonals(whole: Whole, offset: int, rows: int, columns: int, space: Any, **axes: int) -> None:
    x = whole.cut()
    expected = whole.tensor.diagonal(offset, rows, columns)
    with traffic() as seen:
        found = space.diagonal(x, offset=offset, **axes)
    assert seen.collectives == 0
    assert_equal(found, expected)
    with traffic() as seen:
        found = space.trace(x, offset=offset, **axes)
    is_cut = x.split in {rows % x.ndim, columns % x.ndim}
    assert seen.collectives == (is_cut and x.comm.size > 1)
    halves = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
    assert_equal(found, expected.to(halves.get(x.dtype, x.dtype)).sum(-1).to(found.dtype))
    assert_equal(x, whole.tensor)


@given(whole=st.dndarrays(st.shapes(min_dims=1, max_dims=2)), k=OFFSETS)
@spmd
def test_diag_as_torch_has_it(whole: Whole, k: int) -> None:
    with traffic() as seen:
        found = ms.diag(whole.cut(), k)
    assert seen.collectives == 0
    assert_equal(found, torch.diag(whole.tensor, k))


@given(whole=st.dndarrays(st.shapes(min_dims=2, max_side=4), torch.float64), offset=hs.integers(-3, 3))
@spmd
def test_gradients_of_traces(whole: Whole, offset: int) -> None:
    x, tensor = whole.cut(), whole.tensor.clone().requires_grad_()
    x.larray.requires_grad_()
    z, expected = ms.trace(x, offset=offset), tensor.diagonal(offset).sum(-1)
    z.larray.square().sum().backward()
    expected.square().sum().backward()
    assert x.larray.grad is not None
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, x.comm), tensor.grad)


def test_diagonals_are_copies_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((4, 4), split=0, comm=part)
    for call in (ms.diagonal, ms.diag, ms.trace):
        found = call(x)
        assert found.comm is part
        found.larray.zero_()
    assert_equal(x, np.ones((4, 4), np.float32))
    part.free()


@pytest.mark.parametrize(("name", "shape", "args", "local"), TRIANGLES)
def test_triangles(size: int, name: str, shape: tuple[int, ...], args: tuple[Any, ...], local: bool) -> None:
    check_row(size, name, shape, args, local)


def test_every_function_has_a_test() -> None:
    assert {row[0] for row in TRIANGLES} | {"diag", "diagonal", "fill_diagonal", "trace", "tri"} == functions_of(
        "diagonal"
    )


def test_triangles_keep_the_layout(size: int) -> None:
    ragged = Whole(torch.ones(6, 4), layout_of((6, 4), 0, "ragged", size)).cut()
    assert ms.tril(ragged).layout == ms.triu(ragged).layout == ragged.layout


def test_triangles_of_ones(size: int) -> None:
    for split in (None, 0, 1):
        for args in ((4,), (3, 5), (3, 5, -1), (3, 5, 2)):
            assert is_right(ms.tri(*args, split=split), torch.from_numpy(np.tri(*args, dtype=np.float32)))
    assert ms.tri(3, dtype=torch.int8).dtype is torch.int8


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (ms.diagonal, ValueError, r"at least 2 dimensions, got shape \(3,\)"),
        (lambda x: ms.tril(x[0]), ValueError, r"at least 2 dimensions, got shape \(\)"),
        (ms.trace, ValueError, r"at least 2 dimensions, got shape \(3,\)"),
        (lambda x: ms.diag(x[None, None]), ValueError, r"1-d array or a matrix, got shape \(1, 1, 3\)"),
        (lambda x: ms.diag(x, 1.0), TypeError, r"k must be an int, got 1\.0"),
        (lambda x: ms.trace(x[None], axis1=1), ValueError, r"two axes, got 1 and 1 of shape \(1, 3\)"),
        (lambda x: ms.diagonal(x[None], 0, 0, 2), IndexError, "axis2"),
        (lambda x: ms.trace(x[None], offset="a"), TypeError, "offset must be an int, got 'a'"),
    ],
)  # fmt: skip
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones(3, split=0))


@pytest.mark.parametrize(
    "shape", [(3, 3), (3, 5), (7, 3), (8, 3), (9, 2), (3, 7), (3, 3, 3), (0, 3), (3, 0), (5, 1), (1, 1)], ids=str
)
@pytest.mark.parametrize("value", [5, [1, 2], [[1, 2], [3, 4]]], ids=str)
def test_diagonals_are_filled(size: int, shape: tuple[int, ...], value: Any) -> None:
    for wrap in (False, True):
        wanted = np.zeros(shape)
        np.fill_diagonal(wanted, value, wrap=wrap)
        for layout in layouts(shape, size):
            x, arrays = dealt(torch.zeros(shape), layout), [value]
            if isinstance(value, list):
                arrays += [np.array(value), ms.array(value, split=0), ms.array(value)]
            for each in arrays:
                x.larray.zero_()
                with traffic() as seen:
                    assert ms.fill_diagonal(x, each, wrap) is None
                assert_equal(x, wanted.astype(np.float32))
                assert x.layout is layout
                assert seen.collectives <= isinstance(each, ms.DNDarray)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.fill_diagonal(x[0], 1), ValueError, r"needs a matrix, or axes .*, got shape \(3,\)"),
        (lambda x: ms.fill_diagonal(x[None], 1), ValueError, r"equally long, got shape \(1, 3, 3\)"),
        (lambda x: ms.fill_diagonal(x, []), ValueError, "needs an element to set, got none"),
        (lambda x: ms.fill_diagonal(x, ["a"]), TypeError, r"val must be a number, or .* got \['a'\]"),
        (lambda x: ms.fill_diagonal(x, 1j), TypeError, "val must be real for torch.uint8, got 1j"),
        (lambda x: ms.fill_diagonal(x, ms.array([1j])), TypeError, "torch.complex64 does not become torch.uint8"),
        (lambda x: ms.fill_diagonal(x, 300), OverflowError, "val must be in torch.uint8, from 0 to 255, got 300"),
    ],
)
def test_errors_of_filling(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.zeros((3, 3), dtype=torch.uint8, split=0)
    with raises_alike(kind, match=words):
        call(x)
    assert not x.any()
