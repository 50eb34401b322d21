"""`minisplit.vmap` of tensors inside of a mapped function."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import assert_close, assert_equal

Comm = ms.Communication


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def func(a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    return a * b.sum() * scale, a.sum() + b


@pytest.mark.parametrize(
    ("in_dims", "out_dims", "chunk_size"),
    [(0, 0, None), ((0, 1), (1, -1), 2), ((None, 0), 1, "auto"), ((1, None), (0, 0), 1)],
)
@pytest.mark.parametrize("loop", [False, True])
def test_it_is_torch_vmap(comm: Comm, in_dims: Any, out_dims: Any, chunk_size: Any, loop: bool) -> None:
    whole, shared = values(5, 3, 3), values(3, 3)
    x = ms.array(whole, split=0)
    options = {} if in_dims == 0 else {"in_dims": in_dims}
    inner = ms.vmap(func, out_dims, chunk_size=chunk_size, **options)
    found = ms.vmap(lambda v: inner(v, shared, scale=2.0), loop=loop)(x)
    torchs = torch.vmap(func, in_dims, out_dims)
    wanted = torch.vmap(lambda v: torchs(v, shared, scale=2.0))(whole)
    for got, want in zip(found, wanted, strict=True):
        assert_close(got, want)


def test_a_bare_tensor_comes_back_as_one_as_by_torch(comm: Comm) -> None:
    @ms.vmap
    def double(v: torch.Tensor) -> torch.Tensor:
        return v * 2

    whole = values(4, 3)
    x = ms.array(whole, split=0)
    assert_equal(ms.vmap(lambda v: double(v).sum())(x)[0], torch.vmap(lambda v: (2 * v).sum())(whole))
    assert_equal(double(x)[0], whole * 2)


def test_reductions_structures_and_deeper_nesting(comm: Comm) -> None:
    whole = values(4, 3, 2)
    x = ms.array(whole, split=0)

    def rows(v: torch.Tensor) -> Any:
        return {"total": v.sum(), "each": [v, v, v * 2]}

    inner = ms.vmap(rows, {"total": "mean", "each": ["max", 1, "sum"]})
    found = ms.vmap(inner, "min")(x)
    assert_close(found["total"], whole.sum(2).mean(1).min())
    assert_close(found["each"][0], whole.amax(1).amin(0))
    assert_close(found["each"][1], whole.transpose(1, 2).amin(0))
    assert_close(found["each"][2], 2 * whole.sum(1).amin(0))
    deeper = ms.vmap(ms.vmap(ms.vmap(lambda s: s * 3, "sum")))
    assert_close(deeper(x)[0], 3 * whole.sum(2))


def test_gradients_of_what_the_inner_function_captured_are_whole(comm: Comm) -> None:
    whole = values(5, 3)
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    (y,) = ms.vmap(ms.vmap(lambda s: torch.sin(s * w), "sum"))(ms.array(whole, split=0))
    y.larray.sum().backward()
    assert w.grad is not None
    torch.testing.assert_close(w.grad, (whole.cos() * whole).sum())


def test_draws_are_those_of_a_nested_torch_vmap(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((5, 4), split=0)

    def drawing(vmap: Any, randomness: str) -> Any:
        with ms.random.fork(seed=2):
            inner = vmap(lambda s: s + torch.rand(2), randomness=randomness, chunk_size=3)
            return ms.vmap(inner, randomness="different")(x)[0]

    for randomness in ("different", "same"):
        assert_equal(drawing(ms.vmap, randomness), drawing(torch.vmap, randomness).numpy())
    with raises_alike(RuntimeError, 'hint: give that one randomness="different"'):
        drawing(ms.vmap, "error")


def test_functions_that_mix_samples_are_right_in_it(comm: Comm, raises_alike: Any) -> None:
    x = ms.array(values(4, 3), split=0)
    assert_equal(ms.vmap(ms.vmap(lambda s: torch.roll(s, 1)))(x)[0], values(4, 3))


def test_what_it_does_not_do(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((4, 3), split=0)
    for options, name in (({"loop": True}, "loop"), ({"out": "y.npy"}, "out")):
        with raises_alike(ValueError, f"{name}= is not for tensors: inside of a mapped function it is torch.vmap"):
            ms.vmap(lambda v, options=options: ms.vmap(torch.sin, **options)(v))(x)
    with raises_alike(TypeError, "positional argument 0 must be a DNDarray, got Tensor"):
        ms.vmap(torch.sin)(torch.ones(3))
    with raises_alike(ValueError, "vmap"):
        ms.vmap(lambda v: ms.vmap(torch.add)(v, torch.ones(2)))(x)
    with raises_alike(Exception, "collective call|split"):
        ms.vmap(lambda v: ms.vmap(torch.sin)(x)[0])(x.redistribute([4, *[0] * (comm.size - 1)]))
