"""Random functions that torch writes in Python: their numbers depend on the sample alone, as of what they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import distributions as dist
from torch import nn

import minisplit as ms
from minisplit.testing import assert_close

Comm = ms.Communication


def initialised(v: torch.Tensor) -> torch.Tensor:
    made = [torch.empty(2, 3) for _ in range(5)]
    init = nn.init
    fills = init.kaiming_uniform_, init.kaiming_normal_, init.uniform_, init.normal_, init.xavier_uniform_
    for fill, x in zip(fills, made, strict=True):
        fill(x)
    return torch.stack(made) @ v


def attention(v: torch.Tensor) -> torch.Tensor:
    q = v.expand(2, 4, 3) + torch.arange(4.0)[:, None]
    causal = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5, is_causal=True)
    return F.scaled_dot_product_attention(q, q[:1], q[:1], q.new_zeros(4, 4), 0.5, enable_gqa=True) + causal


def heads(v: torch.Tensor) -> torch.Tensor:
    q = v.new_ones(2, 4) * v[0]
    result: torch.Tensor = nn.MultiheadAttention(4, 2, dropout=0.5)(q, q, q)[0]
    return result


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gumbel_softmax": F.gumbel_softmax,
    "init": initialised,
    "layer": lambda v: nn.Linear(3, 2)(v) * 2,
    "convolution": lambda v: nn.Conv1d(1, 2, 2)(v[None]),
    "attention": attention,
    "heads": heads,
    "normal": lambda v: dist.Normal(v, 1.0).rsample((2,)),
    "exponential": lambda v: dist.Exponential(v.exp()).rsample(),
    "laplace": lambda v: dist.Laplace(v, 1.0).rsample(),
}


@pytest.mark.parametrize("randomness", ["different", "same"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_draw_for_each_sample(comm: Comm, name: str, randomness: Literal["different", "same"]) -> None:
    x = ms.array(torch.arange(12.0).reshape(4, 3) / 10, split=0)

    def draw(x: ms.DNDarray, **options: Any) -> torch.Tensor:
        with ms.random.fork(seed=5):
            drawn: torch.Tensor = ms.vmap(FUNCTIONS[name], randomness=randomness, **options).one(x).torch()
        assert not drawn.requires_grad
        return drawn

    whole = draw(x)
    torch.testing.assert_close(draw(x.redistribute([4, *[0] * (comm.size - 1)]), chunk_size=3), whole)
    torch.testing.assert_close(draw(x, loop=True), whole)
    # From equal samples come equal numbers only where they are to be the same.
    alike = draw(ms.ones((4, 3), split=0))
    assert torch.allclose(alike, alike[:1]) == (randomness == "same")


def test_attention_without_dropout_is_torchs(raises_alike: Any) -> None:
    x = ms.array(torch.arange(12.0).reshape(4, 3), split=0)
    func = lambda v: F.scaled_dot_product_attention(v[:, None], v[:, None], v[:, None])
    assert_close(ms.vmap(func, randomness="different").one(x), ms.vmap(func).one(x).torch())
    with raises_alike(RuntimeError, "random operation while in randomness error mode"):
        ms.vmap(F.gumbel_softmax)(x)
