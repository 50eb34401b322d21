"""Random functions with parameters that differ between samples: gamma, Dirichlet, Poisson, binomial.

They are drawn by rejection, as often as it takes, which no function of batched tensors can do. So the parameters
are taken out of the transforms that the mapped function runs in, and the numbers are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from minisplit.core.random import rejection, sampling
from minisplit.core.random.grids import Grid, SampleGrid
from minisplit.core.random.philox import DrawKey
from minisplit.vmap.functorch import internals

# Makes tensors of the places of a grid, and of parameters of as many elements.
Draw = Callable[..., Sequence[torch.Tensor]]


class Mode(Protocol):
    """What these functions need of the mode of random functions."""

    @property
    def samples_alike(self) -> bool:
        """Whether all samples get the same numbers."""

    level: int
    is_mapped: bool
    first: int

    def next_key(self) -> DrawKey | None:
        """The key of the next draw; None for tensors without data."""


def draw(mode: Mode, func: Draw, parameters: Sequence[torch.Tensor], outputs: int = 1) -> list[torch.Tensor]:
    """The tensors that `func` makes of these parameters, which are broadcast, for each sample."""
    parameters = torch.broadcast_tensors(*parameters)  # type: ignore[no-untyped-call]
    shape, dtype = parameters[0].shape, parameters[0].dtype
    key, levels = mode.next_key(), []
    stack = list(internals.get_interpreter_stack() or ())
    for interpreter in stack:
        if interpreter.level() >= mode.level and interpreter.key() == internals.TransformType.Vmap:
            vmap = internals.CVmapInterpreterPtr(interpreter)
            is_own = interpreter.level() == mode.level
            if not is_own and vmap.randomness() == internals.RandomnessType.Same:
                raise RuntimeError(
                    'torch.vmap(randomness="same") within func cannot draw numbers of a distribution that has '
                    'parameters, as gamma and Poisson: give it randomness="different"'
                )
            levels.append((interpreter.level(), vmap.batchSize()))
    sizes = [size for _, size in levels]
    with internals.temporarily_clear_interpreter_stack(), internals.DisableTorchFunction():
        values = [_value(x, mode.level, stack) for x in parameters]
        if key is None:
            made: Sequence[torch.Tensor] = [torch.zeros_like(values[0])] * outputs
        else:
            rows = sizes[0] if mode.is_mapped else 1
            each = values[0].numel() // max(rows, 1)
            # Of samples that are to draw the same all have the place of the first.
            step = 0 if mode.samples_alike else 1
            grid = SampleGrid(key, rows, each, mode.first, step)
            made = [x.to(dtype).view(values[0].shape) for x in func(grid, *values)]
        results = []
        for x in made:
            result = x.reshape([*sizes, *shape])
            for level, _ in levels:
                result = internals.add_batch_dim(result, 0, level)
            results.append(result)
    return results


def _value(x: torch.Tensor, level: int, stack: Sequence[Any]) -> torch.Tensor:
    """A tensor as it is outside of the transforms from `level` on, with an axis in front for each vmap of them."""
    for interpreter in reversed(stack):
        own = interpreter.level()
        if own < level:
            break
        if interpreter.key() == internals.TransformType.Vmap:
            size = internals.CVmapInterpreterPtr(interpreter).batchSize()
            x = internals.remove_batch_dim(x, own, size, 0)
        elif internals.maybe_get_level(x) == own:
            x = internals.get_unwrapped(x)
    return x.detach()


def _is_tracked(x: torch.Tensor) -> bool:
    """Whether a gradient is to flow back to a tensor, within any transform."""
    while internals.is_functorch_wrapped_tensor(x):
        if x.requires_grad:
            return True
        x = internals.get_unwrapped(x)
    return x.requires_grad


def standard_gamma(mode: Mode, concentration: torch.Tensor) -> torch.Tensor:
    """The rule of `torch._standard_gamma`, with its gradient."""
    if not _is_tracked(concentration):
        return draw(mode, lambda grid, a: [rejection.gamma(grid, a)], [concentration])[0]

    def with_slope(grid: Grid, a: torch.Tensor) -> Sequence[torch.Tensor]:
        numbers = rejection.gamma(grid, a)
        return numbers, torch._standard_gamma_grad(a.to(torch.float64), numbers.view(a.shape))

    numbers, slope = draw(mode, with_slope, [concentration], outputs=2)
    return numbers + slope * (concentration - concentration.detach())


# By these names a function draws Dirichlet numbers, also by way of distributions that it has from elsewhere.
DRAWING = frozenset({"Beta", "Dirichlet", "LKJCholesky", "rsample", "sample"})


class Dirichlet:
    """What stands for torch's function of that kind, which draws from torch's generator and cannot be mapped."""

    @staticmethod
    def apply(concentration: torch.Tensor) -> torch.Tensor:
        """Gamma numbers, each as its share of their sum."""
        # Of small concentrations all numbers may be too small for float32.
        numbers = torch._standard_gamma(concentration.double()).clamp(min=torch.finfo(torch.float64).tiny)
        return (numbers / numbers.sum(-1, keepdim=True)).to(concentration.dtype)


def mapped_dirichlet() -> AbstractContextManager[None]:
    """Draw Dirichlet numbers by the mode, within a `with` block."""
    return internals.with_dirichlet(Dirichlet)


def poisson(mode: Mode, input: torch.Tensor) -> torch.Tensor:
    """The rule of `torch.poisson`."""
    return draw(mode, lambda grid, rate: [sampling.poisson(grid, rate, rate.device)], [input])[0]


def binomial(mode: Mode, count: torch.Tensor, prob: torch.Tensor) -> torch.Tensor:
    """The rule of `torch.binomial`."""
    return draw(mode, lambda grid, n, p: [rejection.binomial(grid, n, p)], [count, prob])[0]
