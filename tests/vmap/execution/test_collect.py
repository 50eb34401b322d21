"""The outputs of a run, made of those of its chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from alive import Alive

from minisplit.vmap.execution.collect import Collected, Mapped

pytestmark = pytest.mark.serial


def collected(
    whole: list[torch.Tensor], dims: tuple[Any, ...], size: int, traced: bool = False
) -> list[torch.Tensor]:
    """What is collected of chunks of that many samples, which lie along axis 0."""
    count = len(whole[0])
    found = Collected(count, traced, "chunk")
    for start in range(0, count, size):
        stop = min(start + size, count)
        parts = [
            x if dim is None else x[start:stop].movedim(0, dim if isinstance(dim, int) else 0)
            for x, dim in zip(whole, dims, strict=True)
        ]
        found.add(Mapped(parts, dims, len(whole)), whole, start, stop)
    return found.result().outputs


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("traced", [False, True])
def test_chunks_are_put_together(size: int, traced: bool) -> None:
    x = torch.arange(21.0).reshape(7, 3).requires_grad_(traced)
    a, b, c, d, e, f = collected([x, x, x, x[0] * 1, x, x], (0, 1, "sum", None, "mean", "min"), size, traced)
    assert torch.equal(a, x)
    assert torch.equal(b, x.T)
    assert torch.equal(c, x.sum(0))
    assert torch.equal(d, x[0])
    assert torch.equal(e, x.sum(0)), "divided by the samples of all ranks at the end"
    # Where a gradient is to flow to those that have the extreme, all are kept.
    assert torch.equal(f, x if traced else x[:1])
    for y in (a, b, d):
        assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_the_gradient_of_many_chunks_takes_memory_of_two() -> None:
    """Written into place, each chunk had a node of autograd that copied the whole gradient."""
    x = torch.ones(1000, 16, requires_grad=True)
    (y,) = collected([x * 2], (0,), 1, traced=True)
    with Alive() as seen:
        (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 2))
    assert seen.peak <= 4 * x.nbytes


def test_what_differs_from_the_first_chunk() -> None:
    x, same = torch.ones(4, 3), torch.full((2,), float("nan"))
    for dims in ((0, None), ("sum", None)):
        found = Collected(4, False, "sample")
        found.add(Mapped([x[:2], same], dims, 2), [x], 0, 2)
        for other, structure in ((x[2:].double(), 2), (x[2:, :2], 2), (x[2:], None)):
            with pytest.raises(ValueError, match="func must return the same for every sample, but gave"):
                found.add(Mapped([other, same], dims, structure), [x], 2, 4)
        with pytest.raises(
            ValueError, match="out_dims is None for output 1, but it is not the same for every sample"
        ):
            found.add(Mapped([x[2:], torch.zeros(2)], dims, 2), [x], 2, 4)
        found.add(Mapped([x[2:], same.clone()], dims, 2), [x], 2, 4)
