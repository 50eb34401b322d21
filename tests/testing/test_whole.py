"""A global array and its layout, from which each rank cuts its part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from layouts import layouts

import minisplit as ms
from minisplit.testing import Whole
from minisplit.testing import strategies as st
from minisplit.testing.whole import source


def test_each_rank_gets_its_part_in_memory_of_its_own(comm: ms.Communication, rank: int) -> None:
    tensor = torch.arange(15).reshape(5, 3)
    for layout in layouts((5, 3), comm.size):
        whole = Whole(tensor, layout)
        for _ in range(2):
            x = whole.cut()
            assert x.layout == layout
            assert torch.equal(x.larray, tensor[layout.box(rank)])
            x.larray.zero_()
    assert tensor.sum() == 105


def test_gradients_are_asked_for_as_by_the_tensor(comm: ms.Communication) -> None:
    for requires_grad in (True, False):
        tensor = torch.ones(4, requires_grad=requires_grad)
        x = Whole(tensor * 1, ms.Layout((4,), 0, comm.size)).cut()
        assert x.larray.requires_grad == requires_grad
        assert x.larray.is_leaf


def test_other_numbers_of_ranks_and_shapes(comm: ms.Communication, raises_alike: Any) -> None:
    with raises_alike(ValueError, match=rf"the layout is for {comm.size + 1} ranks, but there are {comm.size}"):
        Whole(torch.ones(3), ms.Layout((3,), 0, comm.size + 1)).cut()
    assert Whole(torch.ones(3), ms.Layout((3,), 0, 1)).cut(ms.MPI_SELF).comm is ms.MPI_SELF
    with raises_alike(ValueError, match=r"the tensor has shape \(3,\), but the layout is of \(4,\)"):
        Whole(torch.ones(3), ms.Layout((4,), 0, comm.size))


@pytest.mark.serial
@given(st.dndarrays())
def test_the_repr_of_a_whole_makes_it_again(x: Whole) -> None:
    again = eval(repr(x), {"torch": torch, "Layout": ms.Layout, "Whole": Whole})
    assert again.layout == x.layout
    assert again.tensor.dtype is x.tensor.dtype
    assert torch.equal(again.tensor, x.tensor)


@pytest.mark.serial
def test_the_source_of_unusual_numbers() -> None:
    names = {"torch": torch, "nan": float("nan"), "inf": float("inf")}
    for tensor in (
        torch.tensor([complex(-0.0, float("nan")), complex(float("inf"), -0.0)]),
        torch.empty((2, 0), dtype=torch.bfloat16),
        torch.tensor([1.5], requires_grad=True),
    ):
        again = eval(source(tensor), names)
        assert (again.shape, again.dtype, again.requires_grad) == (
            tensor.shape,
            tensor.dtype,
            tensor.requires_grad,
        )
        assert str(again.tolist()) == str(tensor.tolist())
