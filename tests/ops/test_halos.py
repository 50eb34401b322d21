"""Halos: the neighbours of each shard, and functions of them, as NumPy pads and slides over the whole array."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_gradients, dealt, layouts
from torch.nn.functional import conv1d, pad

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import assert_close, assert_equal, traffic

Comm = ms.Communication
MODES = ["valid", "constant", "edge", "reflect", "symmetric", "wrap"]
WIDTHS = [0, 1, (2, 0), (0, 3), (9, 8)]


def values(*shape: int) -> torch.Tensor:
    return torch.arange(float(np.prod(shape)), dtype=torch.float64).reshape(shape) ** 2


def padded(whole: torch.Tensor, pairs: list[tuple[int, int]], mode: str) -> torch.Tensor:
    if mode == "valid":
        return whole
    constants = {"constant_values": 7} if mode == "constant" else {}
    return torch.from_numpy(np.pad(whole.numpy(), pairs, mode, **constants))  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", MODES)
def test_halos_of_any_width_are_those_of_the_padded_array(comm: Comm, rank: int, size: int, mode: Any) -> None:
    whole = values(6, 3)
    with agreement(comm, "comparing halos"):
        for layout, width, axis in product(layouts((6, 3), size), WIDTHS, (None, 0, (1,))):
            pair = (width, width) if isinstance(width, int) else width
            axes = range(2) if axis is None else np.atleast_1d(axis)
            pairs = [pair if each in axes else (0, 0) for each in range(2)]
            with traffic() as seen:
                found = ms.halo(dealt(whole, layout), width, axis, mode=mode, constant_values=7)
            starts = [0 if mode == "valid" else before for before, _ in pairs]
            box = tuple(
                slice(max(s.start + start - before, 0), s.stop + start + after)
                for s, start, (before, after) in zip(layout.box(rank), starts, pairs, strict=True)
            )
            assert torch.equal(found, padded(whole, pairs, mode)[box])
            assert seen.collectives <= (layout.split in axes)
            found.zero_()
            assert torch.equal(dealt(whole, layout).larray, whole[layout.box(rank)])


def laplacian(u: torch.Tensor) -> torch.Tensor:
    middle = u[1:-1, 1:-1]
    return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * middle


@pytest.mark.parametrize("mode", MODES)
def test_a_stencil_and_its_gradient(size: int, mode: Any) -> None:
    pairs = [(1, 1), (1, 1)]
    for shape in ((5, 4), (2, 2), (9, 2)):
        whole = values(*shape)
        wanted = laplacian(padded(whole, pairs, mode))
        for layout in layouts(shape, size):
            found = ms.map_halo(laplacian, dealt(whole, layout), 1, mode=mode, constant_values=7)
            assert_equal(found, wanted)
            assert mode == "valid" or found.layout == layout
    if mode in ("valid", "wrap"):

        def whole_laplacian(x: torch.Tensor) -> torch.Tensor:
            return laplacian(x if mode == "valid" else pad(x[None, None], (1, 1, 1, 1), "circular")[0, 0])

        assert_gradients(lambda x: ms.map_halo(laplacian, x, 1, mode=mode), whole_laplacian, [values(4, 3)], size)


def test_a_stencil_along_one_axis_wider_than_shards_of_neighbours(size: int) -> None:
    whole = values(7)
    for layout in layouts((7,), size):
        x = dealt(whole, layout)
        ones = torch.ones(1, 1, 12, dtype=torch.float64)
        found = ms.map_halo(lambda u, ones=ones: conv1d(u[None], ones)[0], x, (5, 6), mode="wrap")
        assert_close(found, torch.stack([whole.roll(5 - i).repeat(2)[:12].sum() for i in range(7)]))
        assert found.layout == layout


def test_windows_are_numpys_and_their_gradient(size: int) -> None:
    slide = np.lib.stride_tricks.sliding_window_view
    cases: list[tuple[Any, Any]] = [((2, 3), None), (4, 0), (1, 1), ((3, 5), (1, 0))]
    for shape in ((5, 4), (9, 3)):
        whole = values(*shape)
        for layout, (window, axis) in product(layouts(shape, size), cases):
            with traffic() as seen:
                found = ms.sliding_window_view(dealt(whole, layout), window, axis)
            assert_equal(found, torch.from_numpy(slide(whole.numpy(), window, axis).copy()))
            assert seen.collectives <= (layout.split is not None)
            assert found.larray.is_contiguous()
    assert_gradients(lambda x: ms.sliding_window_view(x, 3, 0), lambda x: x.unfold(0, 3, 1), [values(5, 2)], size)


def test_each_sample_of_a_mapped_call_has_its_neighbours(size: int) -> None:
    whole = values(9)
    for layout in layouts((9,), size):
        smooth = ms.vmap(torch.mean, in_dims=0)(ms.sliding_window_view(dealt(whole, layout), 3))[0]
        assert_close(smooth, whole.unfold(0, 3, 1).mean(-1))


def test_what_is_wrong_is_the_same_error_on_all_ranks(comm: Comm, size: int, raises_alike: Any) -> None:
    x = ms.ones((5, 3), split=0)
    with raises_alike(ValueError, r"width must be an int, \(before, after\), or 2 such pairs, none negative"):
        ms.halo(x, -1)
    with raises_alike(TypeError, "width must be ints, got 1.5"):
        ms.map_halo(torch.sin, x, 1.5)
    with raises_alike(ValueError, "mode must be one of valid, constant, edge, .*, got 'periodic'"):
        ms.halo(x, 1, mode="periodic")  # type: ignore[arg-type]
    with raises_alike(ValueError, r"axis 0 of shape \(0, 3\) has no elements for mode 'wrap'"):
        ms.halo(ms.ones((0, 3), split=0), 1, mode="wrap")
    with raises_alike(ValueError, r"an axis needs 2 \+ 2 indices or more, but axis 1 of \(5, 3\) has 3"):
        ms.map_halo(torch.sin, x, 2)
    with raises_alike(ValueError, r"f must return \[2, 0\] indices less along each axis"):
        ms.map_halo(torch.sin, x, 1, axis=0, mode="wrap")
    with raises_alike(TypeError, "f must return a tensor, got int"):
        ms.map_halo(lambda u: 1, x, 1)  # type: ignore[arg-type, return-value]
    with raises_alike(ValueError, r"windows of shape 6 are empty, or do not fit into axes \(0,\) of \(5, 3\)"):
        ms.sliding_window_view(x, 6, 0)
    with raises_alike(ValueError, "window_shape must have an extent for each of 2 axes, got 2"):
        ms.sliding_window_view(x, 2)

    def fails_on_the_last(u: torch.Tensor) -> torch.Tensor:
        raise KeyError("last") if comm.rank == size - 1 else KeyError("others")

    with raises_alike(KeyError, "others" if size > 1 else "last"):
        ms.map_halo(fails_on_the_last, x, 1, mode="wrap")
