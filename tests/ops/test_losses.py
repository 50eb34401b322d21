"""Losses of `torch.nn.functional` of DNDarrays, against those of the whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layouts import dealt, layouts
from torch.nn import functional

import minisplit as ms
from minisplit.ops.losses import LOSSES
from minisplit.testing import assert_close, traffic

INPUT = torch.linspace(0.05, 0.95, 12, dtype=torch.float64).reshape(4, 3)
TARGET = INPUT.flip(0) ** 2
CALLS: dict[str, Callable[..., Any]] = {
    "mse_loss": functional.mse_loss,
    "l1_loss": functional.l1_loss,
    "smooth_l1_loss": lambda x, y, **options: functional.smooth_l1_loss(x, y, beta=0.3, **options),
    "huber_loss": lambda x, y, **options: functional.huber_loss(x, target=y, delta=0.2, **options),
    "binary_cross_entropy": functional.binary_cross_entropy,
    "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
    "kl_div": lambda x, y, **options: functional.kl_div(x, y, log_target=True, **options),
    "poisson_nll_loss": lambda x, y, **options: functional.poisson_nll_loss(x, y, False, True, **options),
    "soft_margin_loss": functional.soft_margin_loss,
    "hinge_embedding_loss": lambda x, y, **options: functional.hinge_embedding_loss(
        x, 2 * (y > 0.3) - 1, **options
    ),
}


@pytest.mark.serial
def test_every_loss_is_tested() -> None:
    assert {function.__name__ for function in LOSSES} == set(CALLS)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", CALLS)
def test_losses_and_their_gradients(size: int, name: str, reduction: str) -> None:
    t = INPUT.clone().requires_grad_()
    wanted = CALLS[name](t, TARGET, reduction=reduction)
    wanted.sum().backward()
    assert t.grad is not None
    for layout in layouts((4, 3), size):
        for other in layouts((4, 3), size)[:3]:
            x = dealt(INPUT, layout).requires_grad_()
            found = CALLS[name](x, dealt(TARGET, other), reduction=reduction)
            assert_close(found, wanted.detach())
            found.sum().backward()
            assert x.grad is not None
            assert_close(x.grad, t.grad)


def test_defaults_and_messages(size: int) -> None:
    x, y = ms.array(INPUT, split=0), ms.array(TARGET, split=0)
    with ms.debug(False), traffic() as sent:
        functional.mse_loss(x, y, reduction="none")
    assert sent.collectives == 0
    with ms.debug(False), traffic() as sent:
        mean = functional.mse_loss(x, y)
    assert sent.collectives == (size > 1)
    assert_close(mean, functional.mse_loss(INPUT, TARGET))
    assert_close(torch.nn.MSELoss(reduction="sum")(x, y), torch.nn.MSELoss(reduction="sum")(INPUT, TARGET))
    batch = functional.kl_div(x, y, reduction="batchmean")
    assert_close(batch, functional.kl_div(INPUT, TARGET, reduction="batchmean"))


def test_what_is_refused(size: int, raises_alike: Any) -> None:
    x, y = ms.array(INPUT, split=0), ms.array(TARGET, split=1)
    with raises_alike(ValueError, match=r"of mse_loss must have one shape, got \(4, 3\) and \(3,\)"):
        functional.mse_loss(x, y[0])
    with raises_alike(TypeError, match="target must be a DNDarray, got Tensor"):
        functional.mse_loss(x, TARGET)  # type: ignore[arg-type]
    with raises_alike(TypeError, match="takes no pos_weight: reduction='none' gives the loss of each element"):
        functional.binary_cross_entropy_with_logits(x, y, pos_weight=torch.ones(3))
    with raises_alike(ValueError, match="must be 'none', 'mean' or 'sum', got 'batchmean'"):
        functional.mse_loss(x, y, reduction="batchmean")


def test_values_that_torch_refuses_on_one_rank_are_refused_on_all(size: int, raises_alike: Any) -> None:
    x = ms.array([0.5, 0.2, 0.4, 2.0], split=0)
    with raises_alike(RuntimeError, match="all elements of input should be between 0 and 1"):
        functional.binary_cross_entropy(x, x / 2)


def test_functions_that_need_whole_samples_say_how_to_map_them(size: int, raises_alike: Any) -> None:
    x, y = ms.ones((4, 3), split=0), ms.zeros(4, dtype=torch.int64, split=0)
    with raises_alike(TypeError, match=r"torch's cross_entropy takes .* minisplit\.vmap\(cross_entropy\)"):
        functional.cross_entropy(x, y)
    (losses,) = ms.vmap(functional.cross_entropy)(x, y)
    assert_close(losses.mean(), functional.cross_entropy(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64)))
    with raises_alike(TypeError, match=r"torch's linear takes .* maps it over samples, as it does a module"):
        torch.nn.Linear(3, 2)(x)
