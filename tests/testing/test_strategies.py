"""What the strategies draw, and what it shrinks to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis.strategies import SearchStrategy, data, integers, just, tuples

from minisplit import Layout
from minisplit.testing import Whole
from minisplit.testing import strategies as st

pytestmark = pytest.mark.serial


def smallest(strategy: SearchStrategy[Any], condition: Any = lambda _: True) -> Any:
    return find(strategy, condition, settings=settings(database=None, max_examples=2000))


@given(st.layouts())
def test_layouts_are_valid(layout: Layout) -> None:
    assert 1 <= layout.ranks <= 4
    assert layout.split is None or layout.split < layout.ndim


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x.split is None and x.ndim > 1,
        lambda x: x.split == 1 and x.is_balanced,
        lambda x: x.ragged and 0 not in x.ragged,
        lambda x: x.ragged and x.ragged[0] == 0 and x.ragged[1] > 0,
        lambda x: x.ragged and x.ragged[-1] == 0,
        lambda x: x.ranks == 4 and sorted(x.counts or ())[:3] == [0, 0, 0] and x.extent > 4,
        lambda x: x.split is not None and x.extent == 0 and x.ranks > 1,
        lambda x: x.split is not None and 0 < x.extent < x.ranks,
        lambda x: 1 in x.shape and x.ndim == 3,
    ],
    ids=[
        "replicated",
        "balanced",
        "ragged",
        "empty first",
        "empty last",
        "one rank",
        "0",
        "fewer than ranks",
        "1",
    ],
)
def test_every_kind_of_layout_is_drawn(kind: Any) -> None:
    smallest(st.layouts(), kind)


def test_layouts_shrink_to_one_rank_and_balance() -> None:
    assert smallest(st.layouts()) == Layout((), None, 1)
    assert smallest(st.layouts(), lambda x: x.split is not None) == Layout((0,), 0, 1)
    assert smallest(st.layouts(), lambda x: x.ranks > 1 and x.split is not None) == Layout((0,), 0, 2)
    assert smallest(st.layouts(), lambda x: x.ragged) == Layout((1,), 0, 2, (0, 1))


def test_layouts_of_given_shape_ranks_and_split() -> None:
    assert smallest(st.layouts((3, 5), 3, 1)) == Layout((3, 5), 1, 3)
    assert smallest(st.layouts((3, 5), 3, None)) == Layout((3, 5), None, 3)
    assert smallest(st.layouts(just((7,)), integers(2, 3), integers(-1, -1))) == Layout((7,), 0, 2)


@given(data())
def test_one_number_of_ranks_per_example(draws: Any) -> None:
    size = draws.draw(st.ranks())
    assert draws.draw(st.layouts()).ranks == size
    assert draws.draw(st.dndarrays()).layout.ranks == size
    assert {x.layout.ranks for x in draws.draw(st.broadcastable_dndarrays(3))} == {size}


@given(st.broadcastable_dndarrays(3))
def test_they_broadcast(arrays: tuple[Whole, ...]) -> None:
    assert len(arrays) == 3
    np.broadcast_shapes(*(x.layout.shape for x in arrays))


@given(st.tensors())
def test_tensors_hold_small_integers(x: torch.Tensor) -> None:
    wide = x.to(torch.complex128)
    assert torch.equal(
        wide, wide.round() if not wide.is_complex() else torch.view_as_complex(torch.view_as_real(wide).round())
    )
    assert wide.abs().max().item() <= 8 if x.numel() else True


def test_tensors_of_given_elements() -> None:
    nan = smallest(st.tensors((2,), torch.float32, just(float("nan"))))
    assert nan.isnan().all()
    assert nan.dtype is torch.float32


@pytest.mark.parametrize("dtype", st.DTYPES, ids=str)
def test_every_dtype_is_drawn(dtype: torch.dtype) -> None:
    assert smallest(st.dndarrays(), lambda x: x.tensor.dtype is dtype and x.tensor.numel()).tensor.dtype is dtype


def test_strategies_that_are_kept_are_those_of_their_arguments() -> None:
    """They are made once for each shape, extent, number of ranks and dtype."""
    for extent, size in ((1, 2), (5, 2), (5, 3), (1, 2)):
        expected = Layout((extent,), 0, size, (0,) * (size - 1) + (extent,))
        assert smallest(st.layouts((extent,), size, 0), expected.__eq__) == expected
    for shape, elements in (((2,), just(3)), ((3,), just(3)), ((2,), just(4))):
        assert smallest(st.tensors(shape, torch.int64, elements)).tolist() == [elements.value] * shape[0]
    for dtype, number in ((torch.int8, -8), (torch.uint8, 8), (torch.bool, True), (torch.int16, -8)):
        assert smallest(st.tensors((), dtype), lambda x, number=number: x == number).dtype is dtype


def test_pairs_shrink() -> None:
    pair = tuples(st.dndarrays(), st.dndarrays())
    x, y = smallest(pair, lambda pair: pair[0].layout.split == 0 and pair[1].layout.split == 1)
    assert (x.layout.ranks, x.layout.shape, y.layout.shape) == (1, (0,), (0, 0))
