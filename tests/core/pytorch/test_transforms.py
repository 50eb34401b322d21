"""What tensors are within transforms of `torch.func`, in forward mode, and in a batch of gradients."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from minisplit.core.pytorch import transforms
from minisplit.core.pytorch.transforms import is_batched, is_followed, is_plain, is_tracked, unwrap

pytestmark = pytest.mark.serial


def test_plain_tensors_are_not_followed() -> None:
    x = torch.ones(3)
    assert not is_followed(x)
    assert not is_tracked(x)
    assert is_plain()
    assert unwrap(x) is x
    x.requires_grad_()
    assert is_followed(x)
    with torch.no_grad():
        assert not is_followed(x)
        assert is_tracked(x)


def test_tensors_of_transforms() -> None:
    other, seen = torch.ones(3), []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append((is_followed(x), is_followed(other), is_tracked(x), is_tracked(other), is_plain()))
        with transforms.outside_transforms():
            assert unwrap(x).untyped_storage().data_ptr()
        return (x * other).sum()

    torch.func.grad(look)(torch.ones(3))
    torch.func.jvp(look, (torch.ones(3),), (torch.ones(3),))
    torch.vmap(look)(torch.ones(2, 3))
    assert seen == [(True, True, True, False, False)] * 3


def test_only_a_vmap_makes_batches() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(is_batched(x))
        return x.sum()

    torch.func.grad(look)(torch.ones(3))
    torch.vmap(torch.func.grad(look))(torch.ones(2, 3))
    assert seen == [False, True]


def test_dual_tensors() -> None:
    with forward_ad.dual_level():
        x, y = forward_ad.make_dual(torch.ones(3), torch.ones(3)), torch.ones(3)
        assert [transforms.has_tangent(each) for each in (x, y)] == [True, False]
        assert [is_followed(each) for each in (x, y)] == [True, False]
        assert not is_plain()
    assert not is_followed(x)


def test_spread_gives_what_a_transform_gives() -> None:
    """The axis of a batch that a tensor lacks, and the tangent of an outer forward mode."""

    def of_batch(x: torch.Tensor) -> torch.Tensor:
        assert not is_batched(torch.ones(2))
        y = transforms.spread(torch.ones(2))
        assert is_batched(y)
        return y

    assert torch.equal(torch.vmap(of_batch)(torch.ones(3)), torch.ones(3, 2))

    def inner(x: torch.Tensor) -> torch.Tensor:
        y = transforms.spread(torch.ones(2))
        return y * x

    outer = torch.func.jvp(lambda x: torch.func.jvp(inner, (x,), (x,))[1], (torch.ones(2),), (torch.ones(2),))
    assert torch.equal(outer[1], torch.ones(2))


def test_a_batch_of_gradients() -> None:
    """By `is_grads_batched`, whose tensors are those of the first form of `torch.vmap`."""
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            whole, put_back = transforms.old_batch(gradient)
            (other,) = transforms.in_batch_of([gradient], [torch.zeros(3)])
            (double,) = transforms.map_old_batch(lambda x: [2 * x], [gradient])
            seen.append(
                (transforms.is_in_old_batch(gradient), transforms.is_in_old_batch(other), tuple(whole.shape))
            )
            return put_back(whole) + other + double

    x = torch.ones(3, requires_grad=True)
    (got,) = torch.autograd.grad(Look.apply(x), x, torch.eye(3), is_grads_batched=True)
    assert seen == [(True, True, (3, 3))]
    assert torch.equal(got, 3 * torch.eye(3))


def test_whether_a_graph_is_kept() -> None:
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            seen.append(transforms.keeps_graph())
            return gradient

    y = Look.apply(torch.ones((), requires_grad=True))
    y.backward(retain_graph=True)
    y.backward()
    assert seen == [True, False]
    assert not transforms.has_hooks()
    with torch.autograd.graph.save_on_cpu():
        assert transforms.has_hooks()
