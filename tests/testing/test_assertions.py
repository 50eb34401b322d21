"""`assert_equal` and `assert_close`: one verdict for all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd
from minisplit.testing import strategies as st

NAN = float("nan")


@given(x=st.dndarrays())
@spmd
def test_what_is_equal(x: Whole) -> None:
    mine = x.cut()
    assert_equal(mine, x.tensor)
    assert_equal(mine, mine)
    assert_close(mine, x.tensor)
    if x.tensor.dtype is not torch.bfloat16:
        assert_equal(mine, x.tensor.numpy())


@given(x=st.dndarrays(st.shapes(min_side=1), st.dtypes((torch.float32, torch.int64))))
@spmd
def test_one_wrong_element_is_seen_on_all_ranks(x: Whole) -> None:
    mine = x.cut()
    wrong = x.tensor.clone()
    wrong.view(-1)[-1] += 1
    with pytest.raises(AssertionError, match=r"of what rank \d of \d holds in Layout") as caught:
        assert_equal(mine, wrong)
    assert ms.get_comm().broadcast_bytes(str(caught.value).encode()).decode() == str(caught.value)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (torch.zeros(4), r"the shape is \(5,\), expected \(4,\)"),
        (torch.zeros(5, dtype=torch.float64), "the dtype is torch.float32, expected torch.float64"),
        (np.zeros(5, dtype=np.int64), "the dtype is torch.float32, expected torch.int64"),
        ([0, 0, 0, 0, 2], "not equal"),
    ],
    ids=["shape", "dtype", "NumPy's dtype", "values"],
)
def test_what_differs(expected: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(AssertionError, match=words):
        assert_equal(ms.zeros(5, split=0), expected)


def test_nan_equals_nan_and_lists_have_no_dtype() -> None:
    assert_equal(ms.full(3, NAN, split=0), [NAN, NAN, NAN])
    assert_equal(ms.zeros((2, 2), split=1, dtype=torch.int8), np.zeros((2, 2)).tolist())
    assert_equal(ms.array(2.0), 2)


def test_close_is_not_equal(raises_alike: Any) -> None:
    x = ms.full(7, 1.0, split=0)
    assert_close(x, torch.full((7,), 1.0 + 1e-7))
    assert_close(x, torch.full((7,), 1.1), rtol=0.2, atol=0.0)
    with raises_alike(AssertionError, match="not equal"):
        assert_equal(x, torch.full((7,), 1.0 + 1e-6))
    with raises_alike(AssertionError, match="not close"):
        assert_close(x, torch.full((7,), 1.1))


@pytest.mark.several
def test_layouts_that_differ_between_ranks(rank: int, size: int, raises_alike: Any) -> None:
    layout = ms.Layout((0, 3), int(rank == size - 1), size)
    x = ms.DNDarray(torch.zeros(layout.lshape(rank)), layout, ms.get_comm())
    with raises_alike(AssertionError, match=f"rank {size - 1} has Layout.*which is not what rank 0 has"):
        assert_equal(x, torch.zeros(0, 3))


@pytest.mark.several
@pytest.mark.parametrize("wrong", [torch.zeros(6), torch.zeros(5, dtype=torch.float64)], ids=["shape", "dtype"])
def test_what_is_expected_differs_between_ranks(wrong: Any, rank: int, size: int, raises_alike: Any) -> None:
    with raises_alike(AssertionError, match=r"is .*, expected"):
        assert_equal(ms.zeros(5, split=0), wrong if rank == size - 1 else torch.zeros(5))


def test_what_is_no_array(raises_alike: Any) -> None:
    with raises_alike(TypeError, match="x must be a DNDarray, got Tensor"):
        assert_equal(torch.zeros(3), torch.zeros(3))  # type: ignore[arg-type]
