"""Functions that cannot be mapped, run on one sample after the other: as a map, and as a loop in one process."""

from __future__ import annotations

import functools
import importlib
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from draws import Program, batches, programs
from hypothesis import given
from hypothesis import strategies as hs
from layouts import KINDS, dealt, layout_of
from scipy.optimize import brentq

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, run, spmd, traffic

Comm = ms.Communication


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def all_on(rank: int, extent: int, comm: Comm) -> list[int]:
    return [extent if r == rank % comm.size else 0 for r in range(comm.size)]


def collatz(v: torch.Tensor) -> Any:
    """As many steps as it takes, which no map can do."""
    number, steps = int(v.sum()), 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return torch.tensor(steps), {"double": v * 2 if steps > 10 else v + v}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_size", [None, 2, "auto"])
def test_every_layout(comm: Comm, kind: str, chunk_size: Any) -> None:
    whole = torch.arange(1, 22).reshape(7, 3)
    for split, axis in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x = dealt(whole, layout_of((7, 3), split, kind, comm.size), comm)
        mapped = ms.vmap(collatz, (0, {"double": -1}), in_dims=axis, chunk_size=chunk_size, loop=True)
        steps, found = mapped(x)
        rows = whole if axis == 0 else whole.T
        assert_equal(steps, torch.stack([collatz(row)[0] for row in rows]))
        assert_equal(found["double"], 2 * rows.T)
        assert (steps.split, found["double"].split) == (0, 1)


def test_V41_what_needs_values(comm: Comm) -> None:
    whole = values(6, 3)
    x = ms.array(whole, split=0)

    def root(v: torch.Tensor) -> torch.Tensor:
        a, b, c = v.tolist()
        return torch.tensor(brentq(lambda t: a + b * t + (1 + c * c) * t**3 - b * t, -9, 9), dtype=v.dtype)

    def numpy(v: torch.Tensor) -> torch.Tensor:
        array = v.numpy()
        array *= 2  # which no tensor tells of
        return torch.from_numpy(array)

    calls: list[Any] = [root, numpy, lambda v: v if (v > 0).all() else -v, lambda v: v[v > -9].sort().values]
    for func in calls:
        (y,) = ms.vmap(func, loop=True)(x)
        assert_close(y, torch.stack([func(row.clone()) for row in whole]))
    assert_equal(x, whole)


def test_V41_the_samples_of_recurrent_networks_and_their_gradients(comm: Comm) -> None:
    torch.manual_seed(0)
    net = torch.nn.LSTM(3, 2, dtype=torch.float64)
    whole = values(5, 4, 3)
    x = ms.array(whole, split=0).redistribute(all_on(-1, 5, comm))
    x.larray.requires_grad_()
    (y,) = ms.vmap(lambda v: net(v)[0][-1], loop=True)(x)
    tensor = whole.clone().requires_grad_()
    want = torch.stack([net(v)[0][-1] for v in tensor])
    assert_close(ms.DNDarray(y.larray.detach(), y.layout, comm), want.detach())
    expected = torch.autograd.grad((want**2).sum(), [tensor, *net.parameters()])
    (y.larray**2).sum().backward()
    assert_close(ms.DNDarray(x.larray.grad, x.layout, comm), expected[0])
    for parameter, gradient in zip(net.parameters(), expected[1:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def branches(v: torch.Tensor, w: torch.Tensor) -> Any:
    """Samples that depend on `w`, and one that does not, so that ranks differ in it."""
    return (v * w if v.sum() > 0 else v), v * 2, torch.tensor(int(v[0] > 0)), (w**2).sum()


@pytest.mark.parametrize("owner", [None, 0])
def test_V42_gradients_where_only_some_samples_depend_on_a_tensor(comm: Comm, owner: int | None) -> None:
    whole = torch.tensor([[-1.0, 0.5], [-2.0, 1.0], [3.0, 1.0]])
    x = ms.array(whole, split=0)
    if owner is not None:
        x = x.redistribute(all_on(owner, 3, comm))
    w = torch.tensor([2.0, 5.0], requires_grad=True)
    mapped = ms.vmap(lambda v: branches(v, w), (0, 0, 0, None), loop=True)
    a, b, c, d = mapped(x)
    assert [y.larray.requires_grad for y in (a, b, c, d)] == [True, False, False, True]
    assert c.tolist() == [0, 0, 1]
    (a.larray.sum() + d.larray).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [3.0 + 2 * 2, 1.0 + 2 * 5]


def test_outputs_that_depend_on_nothing_require_no_gradient(comm: Comm) -> None:
    """As through SciPy: a backward pass is torch's error on all ranks, not a gradient of zeros."""
    w = torch.ones(3, requires_grad=True)
    (y,) = ms.vmap(lambda v: v * float(w.sum().detach()), loop=True)(ms.ones((4, 3), split=0))
    assert not y.larray.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        y.larray.sum().backward()


@given(
    batch=batches(),
    program=programs(),
    randomness=hs.sampled_from(("different", "same")),
    chunk_size=hs.sampled_from((None, 2)),
    seed=hs.integers(0, 2**64 - 1),
)
@spmd
def test_V41_draws_are_those_of_a_map(
    batch: Whole, program: Program, randomness: str, chunk_size: Any, seed: int
) -> None:
    x = batch.cut()
    ms.random.seed(seed)
    torchs = torch.get_rng_state()
    looped = ms.vmap(program, randomness=randomness, chunk_size=chunk_size, loop=True)(x)
    ms.random.seed(seed)
    mapped = ms.vmap(program, randomness=randomness)(x)
    for got, want in zip(looped, mapped, strict=True):
        assert got.counts == want.counts
        torch.testing.assert_close(got.larray, want.larray)  # a logarithm of one number may round otherwise
    assert torch.equal(torch.get_rng_state(), torchs)


def test_V41_functions_without_a_rule_draw_the_same_on_all_ranks_and_chunks(comm: Comm) -> None:
    def func(v: torch.Tensor) -> Any:
        drawn = torch.distributions.Dirichlet(v.abs() + 1).sample()
        more = torch._standard_gamma(v.abs() + 1) + torch.poisson(v.abs() * 9) + torch.rand(3)
        return drawn, more, torch.nn.functional.gumbel_softmax(v, hard=True)

    whole, torchs = values(6, 3), torch.get_rng_state()
    for randomness in ("different", "same"):
        with ms.random.fork(seed=4):
            alone = ms.vmap(func, randomness=randomness, loop=True)(ms.array(whole, split=0, comm=ms.MPI_SELF))
        x = ms.array(whole, split=0)
        for dealt_out in (x, x.redistribute(all_on(0, 6, comm))):
            with ms.random.fork(seed=4):
                found = ms.vmap(func, randomness=randomness, loop=True)(dealt_out)
            for got, want in zip(found, alone, strict=True):
                assert_equal(got, want.larray)
    assert torch.equal(torch.get_rng_state(), torchs)

    def drawn(randomness: str, seed: int = 4) -> Any:
        with ms.random.fork(seed=seed):
            mapped = ms.vmap(lambda v: torch.poisson(torch.full((20,), 1e6)), randomness=randomness, loop=True)
            return mapped(ms.ones(8, split=0))[0].numpy()

    assert len({row.tobytes() for row in drawn("different")}) == 8
    assert len({row.tobytes() for row in drawn("same")}) == 1
    assert (drawn("same")[0] == drawn("different")[0]).all()
    assert (drawn("different", seed=5) != drawn("different")).any()


GENERATOR = torch.Generator()


@pytest.mark.parametrize(
    "func",
    [
        lambda v: v + torch.rand(()),
        torch.nn.functional.dropout,
        lambda v: torch.distributions.Dirichlet(v.exp()).sample(),
        lambda v: v + torch.rand((), generator=GENERATOR),
        functools.partial(lambda v, g: v + torch.rand((), generator=g), g=GENERATOR),
        torch.vmap(lambda w: w + torch.rand(()), randomness="different"),
    ],
)
def test_random_functions_raise_unless_they_are_allowed(comm: Comm, raises_alike: Any, func: Any) -> None:
    before = torch.get_rng_state()
    with raises_alike(RuntimeError, '(?s)mapping sample 0 of 4.*hint: .*randomness="different"'):
        ms.vmap(func, loop=True)(ms.ones((4, 3), split=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("randomness", ["error", "different"])
def test_an_error_after_a_draw_leaves_torchs_generator_as_it_was(
    comm: Comm, raises_alike: Any, randomness: str
) -> None:
    def fails(v: torch.Tensor) -> torch.Tensor:
        torch.poisson(v)
        raise ValueError("after the draw")

    before = torch.get_rng_state()
    with raises_alike(ValueError, "after the draw"):
        ms.vmap(fails, randomness=randomness, loop=True)(ms.ones((4, 3), split=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_func_is_given_or_makes(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((4, 3), split=0)
    with raises_alike(RuntimeError, 'hint: .*randomness="different"'):
        ms.vmap(lambda v, g: v + torch.rand((), generator=g), loop=True)(x, g=torch.Generator())
    with raises_alike(RuntimeError, "torch's rand with generator= inside"):
        ms.vmap(lambda v: v + torch.rand((), generator=GENERATOR), randomness="different", loop=True)(x)
    # One that each sample makes anew gives all the same.
    (y,) = ms.vmap(lambda v: torch.rand(3, generator=torch.Generator().manual_seed(1)), loop=True)(x)
    assert_equal(y, torch.rand(3, generator=torch.Generator().manual_seed(1)).expand(4, 3))


def test_an_error_names_its_sample_and_func_runs_no_further(comm: Comm, raises_alike: Any) -> None:
    def picky(v: torch.Tensor) -> torch.Tensor:
        ran.append(int(v[0]))
        if v[0] == 5:
            raise ValueError("not this one")
        return v

    for chunk_size in (None, 3):
        ran: list[int] = []
        x = ms.arange(16, split=0).reshape((8, 2))
        with ms.debug(False), raises_alike(ValueError, "(?s)not this one.*failed while mapping sample") as caught:
            ms.vmap(lambda v: picky(v - 5), loop=True, chunk_size=chunk_size)(x.resplit(0) + 0 * x)
        assert list(caught.value.samples) == [5]
        assert len(ran) == len(set(ran)), "no sample ran twice"


def test_what_func_must_not_do(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((8, 3), split=0)
    total = torch.zeros(3)
    with raises_alike(RuntimeError, "func changed input 0 in place"):
        ms.vmap(lambda v: v.mul_(2), loop=True)(x)
    with raises_alike(RuntimeError, "func changed input 1 in place"):
        ms.vmap(lambda v, w: v + w.mul_(2), loop=True)(x, ms.ones(3))
    with raises_alike(RuntimeError, "func changed in place a tensor that it captured"):
        ms.vmap(lambda v: total.add_(v).clone(), loop=True)(x)
    with raises_alike(TypeError, "func must return a tensor, .* but it returned 3.0"):
        ms.vmap(lambda v: float(v.sum()), loop=True)(x)
    with raises_alike(ValueError, r"the same for every sample, but gave \[\(torch.float32, \(3,\)\)\] first"):
        y = ms.array(torch.eye(3).repeat(comm.size, 1), split=0)
        ms.vmap(lambda v: v if v[0] else v[1:], loop=True)(y)
    with raises_alike(ValueError, "out_dims is None for output 0, but it is not the same for every sample"):
        ms.vmap(lambda v: v, None, loop=True)(ms.arange(2 * comm.size, split=0))
    with raises_alike(TypeError, "loop must be True or False, got 1"):
        ms.vmap(lambda v: v, loop=1)
    if comm.size > 1:
        with raises_alike(ms.CollectiveError, "the mapped function made a collective call, allreduce"):
            ms.vmap(comm.allreduce, loop=True)(x)
        with raises_alike(ValueError, "where out_dims is None the same values"):
            ms.vmap(lambda v: v * comm.rank, None, loop=True)(x)


def test_V11_outputs_that_are_the_same_for_all(comm: Comm) -> None:
    x = ms.ones((5, 3), split=0).redistribute(all_on(0, 5, comm))
    y, z = ms.vmap(lambda v: (v.sum(), torch.tensor([float("nan"), v[0].item()])), (0, None), loop=True)(x)
    assert (y.tolist(), z.split, z.shape, z.larray[1].item()) == ([3.0] * 5, None, (2,), 1.0)


def test_a_counter_is_found_in_debug_mode(comm: Comm, raises_alike: Any) -> None:
    calls: list[int] = []

    def counts(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return v * len(calls)

    with ms.debug(), raises_alike(RuntimeError, "another value or shape for output"):
        ms.vmap(counts, loop=True)(ms.ones((2 * comm.size, 3), split=0))


@pytest.mark.parametrize("name", ["item", "if", "mask", "lstm", "random", "numpy"])
def test_V41_the_hints_of_a_map_name_it(comm: Comm, raises_alike: Any, name: str) -> None:
    torch.manual_seed(0)  # the same on all ranks
    lstm = torch.nn.LSTM(3, 2).requires_grad_(False)
    func: Any = {
        "item": lambda v: v * v.sum().item(),
        "if": lambda v: v if v.sum() > 0 else -v,
        "mask": lambda v: v[v > 0],
        "lstm": lambda v: lstm(v[None])[0],
        "random": torch._sample_dirichlet,
        "numpy": lambda v: torch.from_numpy(np.sin(v.numpy())),
    }[name]
    x = ms.ones((5, 3), split=0)
    with raises_alike(RuntimeError, "(?s)hint: .*loop=True"):
        ms.vmap(func, randomness="different")(x)
    assert len(ms.vmap(func, randomness="different", loop=True)(x)[0]) == 5


def test_a_batch_without_samples(comm: Comm, raises_alike: Any) -> None:
    x = ms.zeros((0, 3), split=0)
    (y,) = ms.vmap(lambda v: v.sum(), loop=True)(x)
    assert (y.shape, y.split) == ((0,), 0)
    with raises_alike(Exception, "inferring the outputs of a batch without samples"):
        ms.vmap(lambda v: v if v.sum() > 0 else -v, loop=True)(x)


@pytest.mark.serial
def test_it_costs_one_agreement_and_plans_say_one_sample_at_a_time() -> None:
    def body() -> dict[str, int]:
        x = ms.arange(12, split=0)
        mapped = ms.vmap(lambda v: v if v > 3 else -v, loop=True, chunk_size=5)
        with traffic() as seen:
            mapped(x)
        plan = mapped.plan(x)
        assert plan.chunk_size == 1
        assert "; one sample at a time" in str(plan)
        assert "outputs: unknown before the call" in str(plan)
        w = torch.ones(3, requires_grad=True)
        traced = ms.vmap(lambda v: (v * w).double(), loop=True)
        with traffic() as agreeing:
            traced(x)
        plan = traced.plan(x)
        assert [output.dtype for output in plan.outputs or ()] == ["float64"]
        # On the outputs, and on which of them require a gradient.
        assert agreeing.collectives == plan.collectives == 2
        return dict(seen.calls)

    assert run(body, ranks=3) == [{"agree": 1}] * 3
    assert repr(ms.vmap(torch.sin, loop=True)) == "<minisplit.vmap of sin, out_dims=0, loop=True>"


@pytest.mark.serial
def test_progress_comes_after_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = importlib.import_module("minisplit.vmap.transform")
    steps: list[int] = []
    monkeypatch.setattr(transform, "is_on_terminal", lambda: True)
    monkeypatch.setattr(transform, "draw_bar", lambda samples, name: nullcontext(steps.append))
    ms.vmap(lambda v: v, loop=True, progress=True)(ms.ones((4, 3), split=0))
    assert steps == [1, 1, 1, 1]
