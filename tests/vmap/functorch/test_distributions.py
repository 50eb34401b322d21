"""Numbers of distributions whose parameters differ between samples: as in a loop, for any ranks and chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import distributions as dist

import minisplit as ms

Comm = ms.Communication

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Gamma": lambda v: dist.Gamma(v + 0.5, 2.0).sample(),
    "Chi2": lambda v: dist.Chi2(v + 0.5).sample((2,)),
    "StudentT": lambda v: dist.StudentT(v + 2).rsample(),
    "Poisson": lambda v: dist.Poisson(v * 20).sample(),
    "Binomial": lambda v: dist.Binomial(30, torch.sigmoid(v)).sample(),
    "Beta": lambda v: dist.Beta(v + 0.5, 2.0).rsample(),
    "Dirichlet": lambda v: dist.Dirichlet(v + 0.5).sample((2,)),
    "inner": lambda v: torch.vmap(torch.poisson, randomness="different")(v * 9),
    "gradient": torch.func.grad(lambda v: dist.Gamma(v + 0.5, v + 1.0).rsample().sum()),
}


@pytest.mark.parametrize("randomness", ["different", "same"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_draw_for_each_sample(comm: Comm, name: str, randomness: Literal["different", "same"]) -> None:
    x = ms.array(torch.arange(12.0).reshape(4, 3) / 10, split=0)

    def draw(x: ms.DNDarray, **options: Any) -> torch.Tensor:
        with ms.random.fork(seed=5):
            drawn: torch.Tensor = ms.vmap(FUNCTIONS[name], randomness=randomness, **options).one(x).torch()
        assert drawn.isfinite().all()
        return drawn

    whole = draw(x)
    torch.testing.assert_close(draw(x.redistribute([4, *[0] * (comm.size - 1)]), chunk_size=3), whole)
    if name != "inner":  # there torch's own vmap draws
        torch.testing.assert_close(draw(x, loop=True), whole)
    alike = draw(ms.ones((4, 3), split=0))
    assert torch.allclose(alike, alike[:1]) == (randomness == "same")
    if name == "inner":  # the others have their arguments checked by their values, which a plan does not have
        assert ms.vmap(FUNCTIONS[name], randomness=randomness).plan(x).outputs is not None


def test_gradients_by_parameters_are_torchs() -> None:
    """Against the derivative of the quantile of the number's own probability, which torch computes as well."""
    alpha = torch.linspace(0.3, 4, 12, dtype=torch.float64).reshape(4, 3)
    x = ms.array(alpha, split=0).requires_grad_()
    drawn = ms.vmap(lambda a: dist.Gamma(a, 1.0).rsample(), randomness="different").one(x)
    drawn.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.torch(), torch._standard_gamma_grad(alpha, drawn.detach().torch()))


def test_torchs_own_function_is_back_after_a_call() -> None:
    before = dist.dirichlet._Dirichlet
    ms.vmap(FUNCTIONS["Dirichlet"], randomness="same")(ms.ones((4, 3), split=0))
    assert dist.dirichlet._Dirichlet is before
    assert dist.Dirichlet(torch.ones(3)).sample().sum().item() == pytest.approx(1)
