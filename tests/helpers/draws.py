"""Programs of random functions, for mapped functions that draw, and batches for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as hs

from minisplit.testing import Whole
from minisplit.testing import strategies as st

WIDTH = 4
# Of a sample of 4 numbers between 0 and 1, as many random numbers.
OPS: dict[str, Any] = {
    "rand": lambda v: torch.rand(WIDTH),
    "randn": lambda v: torch.randn((2, WIDTH), dtype=torch.float64)[1],
    "complex": lambda v: torch.randn(size=(WIDTH,), dtype=torch.complex64).imag,
    "randint": lambda v: torch.randint(3, 1000, (WIDTH,)),
    "randint high": lambda v: torch.randint(high=1000, size=(WIDTH,), dtype=torch.int32),
    "normal": lambda v: torch.normal(v, 2.0),
    "normal of tensors": lambda v: torch.normal(v, v),
    "normal std": lambda v: torch.normal(0.0, std=v),
    "normal size": lambda v: torch.normal(1.0, 2.0, (WIDTH,)),
    "bernoulli": lambda v: torch.bernoulli(v) + v.bernoulli(),
    "bernoulli p": lambda v: torch.bernoulli(v, 0.5),
    "rand_like": torch.rand_like,
    "randn_like": lambda v: torch.randn_like(v, dtype=torch.float32),
    "randint_like": lambda v: torch.randint_like(v, 1000) + torch.randint_like(v, 3, 9),
    "normal_": lambda v: torch.empty_like(v).normal_(3, std=2),
    "uniform_": lambda v: v.clone().uniform_(2, to=3),
    "bernoulli_": lambda v: v.clone().bernoulli_(0.5) + v.clone().bernoulli_(v),
    "random_": lambda v: v.clone().random_() + v.clone().random_(9) + v.clone().random_(5, 90),
    "exponential_": lambda v: v.clone().exponential_(lambd=2),
    "log_normal_": lambda v: v.clone().log_normal_(),
    "cauchy_": lambda v: v.clone().cauchy_(),
    "geometric_": lambda v: v.clone().geometric_(0.01),
    "dropout": lambda v: F.dropout(v + 1, 0.5) + torch.dropout(v, 0.3, True),
    "dropout in place": lambda v: F.dropout(v.clone(), inplace=True) + torch.dropout_(v.clone(), 0.5, True),
    "module": torch.nn.Dropout(0.25),
    "alpha_dropout": lambda v: F.alpha_dropout(v, 0.5, training=True),
    "feature_dropout": lambda v: F.dropout2d(v.view(2, 2, 1, 1).expand(2, 2, 3, 3))[..., 2, 1].reshape(-1),
    "feature_alpha_dropout": lambda v: F.feature_alpha_dropout(v.view(2, 2, 1), training=True).view(-1),
    "multinomial": lambda v: torch.multinomial(v + 0.1, WIDTH),
    "multinomial replaced": lambda v: (v + 0.1).multinomial(WIDTH, replacement=True),
    "randperm": lambda v: v + torch.randperm(WIDTH),
    "nested": torch.vmap(lambda w: w * torch.randn(()), randomness="different"),
    "nested same": torch.vmap(lambda w: w * torch.randn(()), randomness="same"),
    "nested in place": torch.vmap(lambda w: w.clone().normal_(), randomness="different"),
    "grad": torch.func.grad(lambda w: (w**2 * torch.rand(WIDTH)).sum()),
    "jvp": lambda v: torch.func.jvp(lambda w: w * torch.rand_like(w), (v,), (v,))[1],
    "distribution": lambda v: torch.distributions.Categorical(v + 0.1, validate_args=False).sample((WIDTH,)),
}


class Program(NamedTuple):
    """Ops one after the other on a sample, of which it returns everything."""

    names: tuple[str, ...]

    def __call__(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        drawn = [OPS[name](sample) for name in self.names]
        # Exact: others, as torch.sigmoid, may round differently in another chunk.
        shifted = torch.where(drawn[0].to(sample.dtype) > 0.5, sample, 1 - sample)
        return (*drawn, OPS[self.names[0]](shifted))


@hs.composite
def programs(draw: hs.DrawFn) -> Program:
    return Program(tuple(draw(hs.lists(hs.sampled_from(sorted(OPS)), min_size=1, max_size=4))))


def samples_of(samples: int) -> torch.Tensor:
    return torch.linspace(0.05, 0.95, samples * WIDTH, dtype=torch.float64).view(samples, WIDTH)


@hs.composite
def batches(draw: hs.DrawFn) -> Whole:
    samples = draw(hs.integers(1, 9))
    return Whole(samples_of(samples), draw(st.layouts((samples, WIDTH), split=0)))
