"""Transforms of `torch.func`, and their relatives in `torch.autograd`, around functions that communicate.

Each transform of each operation gives what it gives for plain tensors, on any number of ranks: the right numbers,
or torch's own refusal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import minisplit as ms
from minisplit.core import collectives

Comm = ms.Communication
Function = Callable[[torch.Tensor], torch.Tensor]
SIZE = 5


def values(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


W, V, ROWS, MATRIX = values(SIZE), values(SIZE, seed=4), values(7, SIZE), values(SIZE, 4, seed=5)
UPPER, LOWER = values(SIZE, 3, seed=7), values(4, 3, seed=8)
MASK = torch.tensor([True, False, True, True, False])


@pytest.fixture(autouse=True)
def one_level_of_forward_mode(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch has one level of forward mode for all threads. Ranks that are threads share one that stays open."""
    if not pytestconfig.option.on_threads:
        yield
        return
    with forward_ad.dual_level():
        level = forward_ad._current_level
        with monkeypatch.context() as patch:
            patch.setattr(forward_ad, "enter_dual_level", lambda: level)
            patch.setattr(forward_ad, "exit_dual_level", lambda *, level=None: None)
            yield


@pytest.fixture(autouse=True)
def products_in_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small operands go around the ranks as well."""
    monkeypatch.setattr(collectives, "RING_BYTES", -1)


def on_last(x: ms.DNDarray) -> ms.DNDarray:
    """All on the last rank, so that others are empty."""
    extent = x.shape[x.split or 0]
    return x.redistribute([extent if rank == x.comm.size - 1 else 0 for rank in range(x.comm.size)])


def whole(x: ms.DNDarray) -> torch.Tensor:
    return x.resplit(None).larray


def layer(v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(v @ w) * w


def cut(w: torch.Tensor) -> ms.DNDarray:
    return ms.array(w, split=0)


def columns(w: torch.Tensor) -> ms.DNDarray:
    return ms.array(w.reshape(-1, 1) * MATRIX, split=0)


def plain_columns(w: torch.Tensor) -> torch.Tensor:
    return w.reshape(-1, 1) * MATRIX


def mapped(f: Any, *inputs: ms.DNDarray, **options: Any) -> torch.Tensor:
    return whole(ms.vmap(f, **options)(*inputs)[0])


# Name: the function with arrays, and the same with tensors.
OPERATIONS: dict[str, tuple[Function, Function]] = {
    "vmap by keyword": (
        lambda w: ms.vmap(layer)(ms.array(ROWS, split=0), w=w)[0].mean(0).larray,
        lambda w: torch.vmap(layer, (0, None))(ROWS, w).mean(0),
    ),
    "vmap captured": (
        lambda w: ms.vmap(lambda v: layer(v, w))(ms.array(ROWS, split=0))[0].mean(0).larray,
        lambda w: torch.vmap(layer, (0, None))(ROWS, w).mean(0),
    ),
    "vmap of a replicated input, chunked": (
        lambda w: ms.vmap(layer, chunk_size=2)(ms.array(ROWS, split=0), ms.asarray(w))[0].mean(0).larray,
        lambda w: torch.vmap(layer, (0, None))(ROWS, w).mean(0),
    ),
    "vmap of a split input": (
        lambda w: whole(ms.vmap(lambda a: torch.sin(a) * a)(cut(w))[0]),
        lambda w: torch.sin(w) * w,
    ),
    "vmap of inputs that move": (
        lambda w: mapped(lambda a, b: torch.sin(a) * b, on_last(cut(w)), cut(W), max_imbalance=9.0).sum(),
        lambda w: (torch.sin(w) * W).sum(),
    ),
    "vmap on one rank": (
        lambda w: whole(ms.vmap(layer, out_dims=1)(on_last(ms.array(ROWS, split=0)), w=w)[0]),
        lambda w: torch.vmap(layer, (0, None), out_dims=1)(ROWS, w),
    ),
    "vmap of fewer samples than ranks": (
        lambda w: whole(ms.vmap(layer)(ms.array(ROWS[:2], split=0), w=w)[0]),
        lambda w: torch.vmap(layer, (0, None))(ROWS[:2], w),
    ),
    "vmap with a replicated output": (
        lambda w: sum_of(ms.vmap(lambda v, w: (v @ w, (w**3).sum()), (0, None))(ms.array(ROWS, split=0), w=w)),
        lambda w: (ROWS @ w).sum() + 2 * (w**3).sum(),
    ),
    "vmap with transforms inside": (
        lambda w: mapped(torch.func.grad(lambda v, w: layer(v, w).sum()), ms.array(ROWS, split=0), ms.asarray(w)),
        lambda w: torch.vmap(torch.func.grad(lambda v, w: layer(v, w).sum()), (0, None))(ROWS, w),
    ),
    "sum": (lambda w: (cut(w) ** 3).sum().larray, lambda w: (w**3).sum()),
    "sum of rows": (lambda w: (columns(w) ** 3).sum(0).larray, lambda w: (plain_columns(w) ** 3).sum(0)),
    "mean": (lambda w: (cut(w) ** 3).mean().larray, lambda w: (w**3).mean()),
    "max": (lambda w: (columns(w) ** 3).max(0).larray, lambda w: (plain_columns(w) ** 3).amax(0)),
    "var": (lambda w: columns(w).var(0).larray, lambda w: plain_columns(w).var(0, correction=0)),
    "prod": (lambda w: cut(w).prod().larray, lambda w: w.prod()),
    "cumsum": (lambda w: whole(ms.cumulative_sum(cut(w) ** 2)), lambda w: (w**2).cumsum(0)),
    "cumprod": (lambda w: whole(ms.cumulative_prod(cut(w))), lambda w: w.cumprod(0)),
    "matmul": (
        lambda w: whole(ms.array(ROWS, split=0) @ ms.asarray(w) ** 2),
        lambda w: ROWS @ w**2,
    ),
    "matmul in a ring": (
        lambda w: whole(ms.einsum("ij,kj->ik", columns(w), columns(w**2))),
        lambda w: plain_columns(w) @ plain_columns(w**2).mT,
    ),
    "matmul summed over": (
        lambda w: whole(ms.array(ROWS, split=1) @ (cut(w) ** 2)),
        lambda w: ROWS @ w**2,
    ),
    "resplit": (
        lambda w: whole(columns(w).resplit(1) ** 2),
        lambda w: plain_columns(w) ** 2,
    ),
    "balance": (lambda w: whole(on_last(cut(w)).balance() ** 2), lambda w: w**2),
    "slice": (lambda w: whole(cut(w)[1:4] ** 2), lambda w: w[1:4] ** 2),
    "item": (lambda w: cut(w)[1].larray ** 2, lambda w: w[1] ** 2),
    "x[mask]": (lambda w: whole(cut(w)[ms.array(MASK, split=0)] ** 2), lambda w: w[MASK] ** 2),
    "x[x > 0]": (lambda w: whole(cut(w)[cut(w) > 0] ** 2), lambda w: w[w > 0] ** 2),
    "x[indices]": (
        lambda w: whole(cut(w)[ms.array([3, 0, 3])] ** 2),
        lambda w: w[torch.tensor([3, 0, 3])] ** 2,
    ),
    "sort": (lambda w: whole(ms.sort(cut(w)) ** 2), lambda w: w.sort().values ** 2),
    "sort of rows": (
        lambda w: whole(ms.sort(columns(w), axis=0) ** 2),
        lambda w: plain_columns(w).sort(0).values ** 2,
    ),
    "reshape": (
        lambda w: whole(ms.reshape(columns(w), (2, 10)) ** 2),
        lambda w: plain_columns(w).reshape(2, 10) ** 2,
    ),
    "roll": (lambda w: whole(ms.roll(cut(w), 2) ** 2), lambda w: w.roll(2) ** 2),
    "concat": (lambda w: whole(ms.concat([cut(w), cut(w**2)]) ** 2), lambda w: torch.cat([w, w**2]) ** 2),
    "where": (
        lambda w: whole(ms.where(ms.array(MASK, split=0), cut(w), ms.asarray(w**2))),
        lambda w: torch.where(MASK, w, w**2),
    ),
    "norm": (lambda w: ms.linalg.vector_norm(cut(w)).larray, torch.linalg.vector_norm),
    "qr": (
        lambda w: ms.linalg.qr(ms.array(square(w), split=0))[1].larray,
        lambda w: positive_r(square(w)),
    ),
    "fft": (
        lambda w: whole(ms.abs(ms.fft.fft(cut(w)))),
        lambda w: torch.fft.fft(w).abs(),
    ),
}  # fmt: skip


def square(w: torch.Tensor) -> torch.Tensor:
    return torch.cat([w.reshape(-1, 1) * UPPER, LOWER])


def positive_r(x: torch.Tensor) -> torch.Tensor:
    r = torch.linalg.qr(x)[1]
    return r * r.diagonal().sgn().unsqueeze(-1)


def sum_of(outputs: tuple[ms.DNDarray, ms.DNDarray]) -> torch.Tensor:
    return outputs[0].sum().larray + 2 * outputs[1].larray


def scalar(f: Function) -> Function:
    return lambda w: (f(w) ** 2).sum()


def with_dual_numbers(f: Function) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(W, V)))


def backwards(f: Function) -> Any:
    """Without transforms: first, second and third derivatives."""
    w = W.clone().requires_grad_()
    found = [scalar(f)(w)]
    for _ in range(3):
        found.append((torch.autograd.grad(found[-1], w, create_graph=True)[0] * V).sum())
    return found


def gradients_batched(f: Function) -> Any:
    w = W.clone().requires_grad_()
    y = f(w)
    basis = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
    return torch.autograd.grad(y, w, basis, is_grads_batched=True)[0]


def vjp_of_ones(f: Function) -> Any:
    y, back = torch.func.vjp(f, W)
    return back(torch.ones_like(y))


func, functional = torch.func, torch.autograd.functional
BATCH = torch.stack([W, V, W * V])
TRANSFORMS: dict[str, Callable[[Function], Any]] = {
    "backward": backwards,
    "grad": lambda f: func.grad(scalar(f))(W),
    "value_and_grad": lambda f: func.grad_and_value(scalar(f))(W),
    "vjp": vjp_of_ones,
    "jvp": lambda f: func.jvp(f, (W,), (V,)),
    "jacrev": lambda f: func.jacrev(f)(W),
    "jacfwd": lambda f: func.jacfwd(f)(W),
    "hessian": lambda f: func.hessian(scalar(f))(W),
    "vmap": lambda f: torch.vmap(f)(BATCH),
    "vmap over the last axis": lambda f: torch.vmap(f, in_dims=1, out_dims=-1)(BATCH.mT),
    "vmap of vmap": lambda f: torch.vmap(torch.vmap(f))(torch.stack([BATCH, 2 * BATCH])),
    "grad of grad": lambda f: func.grad(lambda w: (func.grad(scalar(f))(w) * V).sum())(W),
    "vmap of grad": lambda f: torch.vmap(func.grad(scalar(f)))(BATCH),
    "grad of vmap": lambda f: func.grad(lambda w: torch.vmap(scalar(f))(BATCH * w).sum())(W),
    "vmap of jvp": lambda f: torch.vmap(lambda w: func.jvp(f, (w,), (V,)))(BATCH),
    "vmap of hessian": lambda f: torch.vmap(func.hessian(scalar(f)))(BATCH),
    "jacrev of jacrev": lambda f: func.jacrev(func.jacrev(scalar(f)))(W),
    "jacfwd of jacfwd": lambda f: func.jacfwd(func.jacfwd(scalar(f)))(W),
    "jacrev of jacfwd": lambda f: func.jacrev(func.jacfwd(scalar(f)))(W),
    "jvp of grad": lambda f: func.jvp(func.grad(scalar(f)), (W,), (V,)),
    "grad of jvp": lambda f: func.grad(lambda w: func.jvp(scalar(f), (w,), (V,))[1])(W),
    "is_grads_batched": gradients_batched,
    "functional.jacobian": lambda f: functional.jacobian(f, W),
    "functional.jacobian, vectorized": lambda f: functional.jacobian(f, W, vectorize=True),
    "functional.jacobian, forward": lambda f: functional.jacobian(
        f, W, vectorize=True, strategy="forward-mode"
    ),
    "functional.hessian": lambda f: functional.hessian(scalar(f), W),
    "functional.hessian, vectorized": lambda f: functional.hessian(scalar(f), W, vectorize=True),
    "functional.hessian, forward": lambda f: functional.hessian(
        scalar(f), W, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "functional.jvp": lambda f: functional.jvp(f, W, V),
    "functional.vjp": lambda f: functional.vjp(scalar(f), W),
    "functional.hvp": lambda f: functional.hvp(scalar(f), W, V),
    "functional.vhp": lambda f: functional.vhp(scalar(f), W, V),
    "dual_level": with_dual_numbers,
}  # fmt: skip


# The operations that are tried with every transform; the others with those that find most.
MAIN = (
    "vmap by keyword", "vmap of inputs that move", "vmap on one rank", "vmap with a replicated output", "sum",
    "mean", "matmul", "matmul in a ring", "resplit", "x[mask]", "sort",
)  # fmt: skip
THOROUGH = {
    "backward",
    "grad of jvp",
    "jacrev of jacfwd",
    "vmap of hessian",
    "jacfwd of jacfwd",
    "functional.hessian, forward",
}


@pytest.mark.derivatives
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_around_operations(comm: Comm, transform: str) -> None:
    """The same numbers as for plain tensors, or an error of the same type."""
    transformed = TRANSFORMS[transform]
    for operation in OPERATIONS if transform in THOROUGH else MAIN:
        distributed, plain = OPERATIONS[operation]
        try:
            wanted = transformed(plain)
        except Exception as error:
            with pytest.raises(type(error)):
                transformed(distributed)
        else:
            torch.testing.assert_close(transformed(distributed), wanted, msg=partial("{}: {}".format, operation))


def test_V29_checkpoints_around_mapped_calls(comm: Comm) -> None:
    """They compute again at the first look at what was saved: all ranks, also those without samples."""

    def loss(w: torch.Tensor) -> torch.Tensor:
        x = on_last(ms.array(ROWS, split=0))
        return ms.vmap(lambda v, w: torch.exp(v * w))(x, w=w)[0].sum().larray

    for use_reentrant in (False, True):
        w = W.clone().requires_grad_()
        checkpoint(loss, w, use_reentrant=use_reentrant).backward()
        torch.testing.assert_close(w.grad, (ROWS * torch.exp(ROWS * W)).sum(0))


def test_batched_arguments_of_an_array_that_is_split(comm: Comm) -> None:
    """The split axis is not that of the batch, whichever axes of a tensor these are."""
    batch = torch.stack([MATRIX, 2 * MATRIX, -MATRIX], dim=1)
    got = torch.vmap(lambda x: whole(ms.array(x, split=1).resplit(0).sum(1) * 2), in_dims=1)(batch)
    torch.testing.assert_close(got, batch.sum(2).T * 2)


@pytest.mark.parametrize(
    "transform", [lambda f: torch.vmap(f)(BATCH), lambda f: func.grad(f)(W), lambda f: func.jvp(f, (W,), (V,))]
)
def test_V33_what_cannot_be_followed(comm: Comm, raises_alike: Any, transform: Any) -> None:
    """Ranks without samples would know nothing of the batch or the tangent."""

    def function(w: torch.Tensor) -> torch.Tensor:
        endless = itertools.repeat(w)
        return ms.vmap(lambda v: v * next(endless))(on_last(ms.array(ROWS, split=0)))[0].sum().larray

    with raises_alike(RuntimeError, "in a way that minisplit cannot follow"):
        transform(function)


def test_V33_no_samples_at_all(comm: Comm) -> None:
    def function(w: torch.Tensor) -> torch.Tensor:
        return ms.vmap(layer)(ms.array(ROWS[:0], split=0), w=w)[0].sum().larray

    assert torch.equal(torch.vmap(func.grad(function))(BATCH), torch.zeros_like(BATCH))
