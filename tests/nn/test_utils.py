"""Clipping by the norm of all gradients, of which ranks have parts, against torch's of the whole ones."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close, traffic

Comm = ms.Communication
WHOLE = torch.arange(1.0, 13.0, dtype=torch.float64).reshape(4, 3) / 7
OTHER = torch.tensor([0.5, -3.0], dtype=torch.float64)


def leaf(whole: torch.Tensor) -> torch.Tensor:
    """A leaf whose gradient is itself."""
    tensor = whole.clone().requires_grad_()
    tensor.grad = whole.clone()
    return tensor


def array(whole: torch.Tensor, layout: ms.Layout) -> ms.DNDarray:
    x = dealt(whole, layout).requires_grad_()
    x.grad = dealt(whole, layout)
    return x


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
@pytest.mark.parametrize("order", [2.0, 1, 3.5, inf, "inf"])
def test_the_norm_is_that_of_all_gradients(size: int, order: Any, max_norm: float) -> None:
    """A split one counts over all ranks, a replicated one and a tensor count once."""
    whole, other, plain = leaf(WHOLE), leaf(OTHER), leaf(OTHER / 3)
    wanted = torch.nn.utils.clip_grad_norm_([whole, other, plain], max_norm, order)
    for layout in layouts((4, 3), size):
        x, w, tensor = array(WHOLE, layout), array(OTHER, ms.Layout((2,), None, size)), leaf(OTHER / 3)
        empty = ms.ones(3, split=0).requires_grad_()  # has no gradient
        norm = ms.nn.utils.clip_grad_norm_([x, w, tensor, empty], max_norm, order)
        assert type(norm) is torch.Tensor
        torch.testing.assert_close(norm, wanted)
        assert whole.grad is not None
        assert x.grad is not None
        assert w.grad is not None
        assert x.grad.layout == layout
        assert_close(x.grad, whole.grad)
        assert other.grad is not None
        assert_close(w.grad, other.grad)
        torch.testing.assert_close(tensor.grad, plain.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.complex64])
def test_the_dtype_is_the_same_on_all_ranks(size: int, dtype: torch.dtype) -> None:
    """Also where this rank's shard is empty, and the first."""
    whole = torch.tensor([3.0, 4.0]).to(dtype)
    for layout in layouts((2,), size):
        x = array(whole, layout)
        norm = ms.nn.utils.clip_grad_norm_(x, 1.0)
        assert norm.dtype is dtype.to_real()
        assert norm.item() == 5.0
        assert x.grad is not None
        assert_close(x.grad, whole / 5)


def test_one_message(size: int) -> None:
    parameters = [array(WHOLE, layout) for layout in layouts((4, 3), size)]
    with ms.debug(False), traffic() as sent:
        ms.nn.utils.clip_grad_norm_(iter([*parameters, *torch.nn.Linear(2, 3).parameters()]), 1.0)
    assert sent.collectives == (size > 1)


def test_nothing_to_clip(size: int) -> None:
    assert ms.nn.utils.clip_grad_norm_([], 1.0).item() == 0
    assert ms.nn.utils.clip_grad_norm_([ms.ones(3, split=0).requires_grad_()], 1.0).item() == 0
    zeros = array(torch.zeros(3), ms.Layout((3,), 0, size))
    assert ms.nn.utils.clip_grad_norm_(zeros, 1.0).item() == 0
    assert zeros.grad is not None
    assert zeros.grad.tolist() == [0.0] * 3


def test_norms_that_are_not_finite(size: int, raises_alike: Any) -> None:
    for value, text in ((inf, "is inf"), (float("nan"), "is nan")):
        for order in (2.0, inf):
            x = array(torch.tensor([1.0, 1.0, value]), ms.Layout((3,), 0, size))
            w = array(torch.tensor([value]), ms.Layout((1,), None, size))
            with raises_alike(RuntimeError, match=f"gradients {text}, so they cannot be clipped"):
                ms.nn.utils.clip_grad_norm_([x, w], 1.0, order, error_if_nonfinite=True)
            assert not ms.nn.utils.clip_grad_norm_([x, w], 1.0, order).isfinite()


@pytest.mark.several
@pytest.mark.parametrize("order", [2.0, inf])
def test_a_shard_in_place_of_its_array_is_seen(comm: Comm, size: int, raises_alike: Any, order: float) -> None:
    """Each rank would scale by the norm of its own part."""
    x = array(WHOLE, ms.Layout((4, 3), 0, size))
    before = x.larray.grad.clone()
    with ms.debug(False), raises_alike(RuntimeError, match="their norms differ: of a split array give clip_grad"):
        ms.nn.utils.clip_grad_norm_([x.larray], 1.0, order)
    assert torch.equal(x.larray.grad, before)
    same = array(torch.full((2 * size,), comm.rank % 2 - 0.5), ms.Layout((2 * size,), 0, size))
    same.larray.grad.fill_(comm.rank % 2 - 0.5)
    with ms.debug(), raises_alike(ValueError, match=r"gradient 0 of what is replicated.*of a split array give"):
        ms.nn.utils.clip_grad_norm_([same.larray], 1.0, order)


def test_what_is_refused(comm: Comm, size: int, raises_alike: Any) -> None:
    x = array(WHOLE, ms.Layout((4, 3), 0, size))
    with raises_alike(ValueError, match=r"norm_type must be positive, got 0"):
        ms.nn.utils.clip_grad_norm_(x, 1.0, 0)
    with raises_alike(TypeError, match="a parameter must be a DNDarray or a tensor, got str"):
        ms.nn.utils.clip_grad_norm_(["x"], 1.0)  # type: ignore[list-item]
    other = comm.split(0)
    assert other is not None
    with raises_alike(ValueError, match="parameters must be on one communicator, got communicators of"):
        ms.nn.utils.clip_grad_norm_([x, ms.ones(3, comm=other)], 1.0)
