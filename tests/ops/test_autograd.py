"""Backward passes that begin at DNDarrays, against torch's of the whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close, assert_equal, traffic

Comm = ms.Communication
WHOLE = torch.arange(1.0, 13.0, dtype=torch.float64).reshape(4, 3) / 7
WEIGHT = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)


def leaf(whole: torch.Tensor) -> torch.Tensor:
    return whole.clone().requires_grad_()


def checked(x: ms.DNDarray, wanted: torch.Tensor | None) -> None:
    assert x.grad is not None
    assert wanted is not None
    assert x.grad.layout == x.layout
    assert_close(x.grad, wanted)


def test_a_loss_counts_once_on_however_many_ranks_it_is(size: int) -> None:
    """The loss is replicated, of one element on one rank, or of one element in any shape."""
    t, u = leaf(WHOLE), leaf(WEIGHT)
    ((t @ u) ** 2).sum().backward()
    for layout in layouts((4, 3), size):
        for loss in (
            lambda each: each.sum(),
            lambda each: each.sum(axis=0, keepdims=True),
            lambda each: each.sum(axis=0, keepdims=True).reshape(1, 1).resplit(1),
            lambda each: each.resplit(None).sum(),
        ):
            x, w = dealt(WHOLE, layout).requires_grad_(), ms.array(WEIGHT).requires_grad_()
            loss((x @ w) ** 2).backward()
            checked(x, t.grad)
            checked(w, u.grad)


def test_a_loss_of_one_element_is_on_any_rank(comm: Comm, size: int) -> None:
    t = leaf(WHOLE)
    (t**2).sum(1)[2].backward()
    for owner in range(size):
        x = ms.array(WHOLE, split=0).redistribute([4 * (rank == owner) for rank in range(size)]).requires_grad_()
        loss = (x**2).sum(axis=1)[2:3]
        assert (loss.split, loss.shape) == (0, (1,))
        loss.backward()
        checked(x, t.grad)


def test_the_gradient_given_may_have_any_layout(size: int) -> None:
    t, given = leaf(WHOLE), WHOLE.cos()
    (t**3).backward(given)
    for layout in layouts((4, 3), size):
        for of_gradient in layouts((4, 3), size):
            x = dealt(WHOLE, layout).requires_grad_()
            (x**3).backward(dealt(given, of_gradient))
            checked(x, t.grad)


def test_a_backward_pass_sends_one_agreement(size: int) -> None:
    """Where all that it goes through was local. An allreduce in it is an allreduce more."""
    x, w = ms.array(WHOLE, split=0).requires_grad_(), ms.array(WEIGHT).requires_grad_()
    y = (x**2).sum()
    with ms.debug(False), traffic() as sent:
        y.backward()
    assert sent.collectives == (size > 1)
    y = (x.detach() * w).sum()
    with ms.debug(False), traffic() as sent:
        y.backward()
    assert sent.collectives == 2 * (size > 1)


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_graphs_that_are_kept_and_gradients_of_gradients(size: int) -> None:
    t, u = leaf(WHOLE), leaf(WEIGHT)
    first = (t.sin() @ u).square().sum()
    first.backward(create_graph=True)
    assert t.grad is not None
    (t.grad**2).sum().backward()
    for layout in layouts((4, 3), size):
        x, w = dealt(WHOLE, layout).requires_grad_(), ms.array(WEIGHT).requires_grad_()
        loss = ((ms.sin(x) @ w) ** 2).sum()
        loss.backward(create_graph=True)
        assert x.grad is not None
        (x.grad**2).sum().backward()
        checked(x, t.grad)
        checked(w, u.grad)
        x.grad = w.grad = None  # or the graph keeps itself alive


def test_only_the_inputs_asked_for(size: int) -> None:
    x, w = ms.array(WHOLE, split=0).requires_grad_(), torch.ones(3, dtype=torch.float64, requires_grad=True)
    b = ms.ones(4, dtype=torch.float64, split=0).requires_grad_()
    loss = (x @ ms.asarray(w) * b).sum()
    loss.backward(inputs=b, retain_graph=True)
    assert (x.grad, w.grad) == (None, None)
    checked(b, WHOLE.sum(1))
    loss.backward(inputs=[x, w])
    checked(x, torch.ones_like(WHOLE))
    assert w.grad is not None
    torch.testing.assert_close(w.grad, WHOLE.sum(0))
    checked(b, WHOLE.sum(1))


def test_gradients_without_leaves_of_any_layout(size: int) -> None:
    """`torch.autograd.grad` gives DNDarrays, of which gradients can be taken in turn."""
    t, u = leaf(WHOLE), leaf(WEIGHT)
    slope, _ = torch.autograd.grad((t.sin() @ u).square().sum(), (t, u), create_graph=True)
    (curved,) = torch.autograd.grad((slope**2).sum(), [u])
    for layout in layouts((4, 3), size):
        x, w = dealt(WHOLE, layout).requires_grad_(), ms.array(WEIGHT).requires_grad_()
        loss = ((ms.sin(x) @ w) ** 2).sum()
        found, _ = torch.autograd.grad(loss, [x, w], create_graph=True)
        assert found.layout == layout
        assert_close(found.detach(), slope.detach())
        (second,) = torch.autograd.grad((found**2).sum(), [w])
        assert second.layout == w.layout
        assert_close(second, curved)
        assert (x.grad, w.grad) == (None, None)


def test_outputs_and_inputs_that_are_tensors(size: int) -> None:
    x = ms.array(WHOLE, split=0).requires_grad_()
    (of_x,) = torch.autograd.grad(x.torch().square().sum(), x)
    assert of_x.layout == x.layout
    assert_close(of_x, 2 * WHOLE)
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (of_w,) = torch.autograd.grad((x @ ms.asarray(w)).sum(), w)
    assert type(of_w) is torch.Tensor
    torch.testing.assert_close(of_w, WHOLE.sum(0))
    unused = ms.ones(3, split=0).requires_grad_()
    assert torch.autograd.grad(x.sum(), [unused], allow_unused=True) == (None,)
    (zeros,) = torch.autograd.grad(x.sum(), [unused], materialize_grads=True)
    assert_equal(zeros, torch.zeros(3))


# torch hands its `backward` over in its later versions only.
HANDED_OVER = "handle_torch_function" in torch.autograd.backward.__code__.co_names
backward = torch.autograd.backward if HANDED_OVER else ms.ops.autograd.backward


def test_backward_of_several(size: int) -> None:
    x = ms.array(WHOLE, split=0).requires_grad_()
    backward([x.sum(), x**2], [None, ms.ones((4, 3), split=1)])
    checked(x, 1 + 2 * WHOLE)
    x.grad = None
    backward((x**2).sum())
    checked(x, 2 * WHOLE)


def test_what_is_refused(size: int, raises_alike: Any) -> None:
    x = ms.array(WHOLE, split=0).requires_grad_()
    with raises_alike(RuntimeError, match=r"begins at a real array of one element, .* and shape \(4, 3\)"):
        x.backward()
    with raises_alike(RuntimeError, match=r"but the array is of torch\.complex128 and shape \(\)"):
        (x * 1j).sum().backward()
    with raises_alike(TypeError, match="gradient must be a DNDarray, got Tensor"):
        x.backward(torch.ones(4, 3))  # type: ignore[arg-type]
    with raises_alike(ValueError, match=r"the array's shape \(4, 3\) .* got shape \(4,\) on the same"):
        x.backward(ms.ones(4))
    with raises_alike(ValueError, match="a gradient for each of 2 outputs, got 1"):
        backward([x.sum(), x.sum()], [None])
    with raises_alike(TypeError, match="is_grads_batched is for tensors"):
        torch.autograd.grad(x, x, ms.ones((2, 4, 3)), is_grads_batched=True)
    with raises_alike(RuntimeError, match="appears to not have been used in the graph"):
        torch.autograd.grad(x.sum(), [ms.ones(3).requires_grad_()])


def test_the_ranks_begin_together_or_not_at_all(comm: Comm, rank: int, size: int, raises_alike: Any) -> None:
    """Of a rank whose loss requires no gradient the others would wait for its messages."""
    with raises_alike(RuntimeError, match="the array requires no gradient, on one rank at least"):
        ms.ones(4, split=0).sum().backward()
    w = ms.ones(3)
    if rank < size - 1 or size == 1:
        w.requires_grad_()
    if size > 1:
        loss = (ms.DNDarray(torch.ones(4, 3)[rank:4:size], ms.ones((4, 3), split=0).layout, comm) * w).sum()
        with raises_alike(RuntimeError, match="output 1 requires no gradient, on one rank at least"):
            backward([ms.ones(1).requires_grad_().sum(), loss])


# Operations that take tensors of the program beside an array, and the same with torch alone.
WITH_TENSORS: dict[str, tuple[Callable[..., ms.DNDarray], Callable[..., torch.Tensor]]] = {
    "interp, values": (
        lambda x, t: ms.interp(x, torch.arange(-3.0, 4, dtype=x.dtype), t),
        lambda x, t: table(x, t),
    ),
    "interp, places": (
        lambda x, t: ms.interp(x, t.cumsum(0) - 3, torch.arange(7, dtype=x.dtype)),
        lambda x, t: ms.interp(ms.array(x, comm=ms.SELF), t.cumsum(0) - 3, torch.arange(7, dtype=x.dtype)).larray,
    ),
    "gradient, coordinates": (
        lambda x, t: ms.gradient(x, t.cumsum(0), axis=0),
        lambda x, t: torch.gradient(x, spacing=(t.cumsum(0),), dim=0)[0],
    ),
    "gradient, step": (
        lambda x, t: ms.gradient(x, t[0], axis=1),
        lambda x, t: torch.gradient(x, dim=1)[0] / t[0],
    ),
    "quantile": (
        lambda x, t: ms.quantile(x, t[:2] / 2, axis=0),
        lambda x, t: torch.quantile(x, t[:2] / 2, dim=0),
    ),
    "polyval": (
        lambda x, t: ms.polyval(t[:3], x),
        lambda x, t: t[0] * x**2 + t[1] * x + t[2],
    ),
}


def table(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values between those at -3, -2, ..., 3."""
    place = (x + 3).clamp(0, 6)
    low = place.floor().clamp(max=5).long()
    return values[low] + (place - low) * (values[low + 1] - values[low])


@pytest.mark.parametrize("name", WITH_TENSORS)
def test_tensors_beside_an_array_get_their_whole_gradient_on_every_rank(size: int, name: str) -> None:
    """Each rank uses all of them for its part of the result. They got what came of that part."""
    ours, theirs = WITH_TENSORS[name]
    draw = torch.Generator().manual_seed(3)
    whole = torch.randn(7, 3, dtype=torch.float64, generator=draw)
    values = torch.rand(7, dtype=torch.float64, generator=draw) + 0.5
    plain = values.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(theirs(whole, plain).sum(), plain)
    for layout in layouts((7, 3), size):
        given = values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ours(dealt(whole, layout), given).torch().sum(), given)
        torch.testing.assert_close(gradient, wanted)
