"""Gradients through a mapped call. That they are those of torch, in any layout: `test_properties.py`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import assert_close, assert_equal, traffic

Comm = ms.Communication


def all_on(rank: int, extent: int, comm: Comm) -> list[int]:
    return [extent if r == rank % comm.size else 0 for r in range(comm.size)]


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def loss(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(w @ x).sum() * y


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("owner", [None, 0, -1])
def test_V23_gradcheck(comm: Comm, owner: int | None, chunk_size: int | None) -> None:
    """Numerical against analytical gradients, of first and second order, of tensors that all ranks have."""

    def whole_call(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        a = ms.asarray(x, split=1)
        b = ms.asarray(y, split=0)
        if owner is not None:
            b = b.redistribute(all_on(owner, 4, comm))
        (out,) = ms.vmap(loss, in_dims=(1, 0), chunk_size=chunk_size)(a, b, w=ms.asarray(w))
        return out.resplit(None).larray

    given = [values(*shape).requires_grad_() for shape in ((2, 4), (4,), (2, 2))]
    assert torch.autograd.gradcheck(whole_call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(whole_call, given, fast_mode=True)


@pytest.mark.parametrize("grow", [lambda x, w: x * w, lambda x, w: w.expand(2)], ids=["from both", "from one"])
def test_V23_outputs_that_depend_on_some_inputs_only(comm: Comm, grow: Any) -> None:
    """A backward pass makes the same collective calls on all ranks, also on those without samples."""
    x = ms.array(values(3), split=0).redistribute(all_on(0, 3, comm))
    y = ms.array(values(3, 2), split=0)
    w = ms.array(values(1))
    for array in (x, y, w):
        array.larray.requires_grad_()
    first, second, third = ms.vmap(lambda a, b, v: (grow(a, v), b.sum(), torch.ones(2)), max_imbalance=9.0)(
        x, y, w
    )
    assert not third.larray.requires_grad
    first.larray.sum().backward()
    assert_equal(ms.DNDarray(w.larray.grad, w.layout, comm), _wanted(grow, w.numpy(), values(3)))
    second.larray.sum().backward()
    assert_equal(ms.DNDarray(y.larray.grad, y.layout, comm), torch.ones(3, 2, dtype=torch.float64))


def _wanted(grow: Any, w: Any, x: torch.Tensor) -> torch.Tensor:
    weight = torch.from_numpy(w).requires_grad_()
    torch.vmap(grow, (0, None))(x, weight).sum().backward()
    assert weight.grad is not None
    return weight.grad


def test_V23_a_training_step(comm: Comm) -> None:
    """A parameter dict, replicated, through vmap and an optimizer: the same on all ranks as in one process."""
    x, y = values(7, 3), values(7)
    params = {"w": torch.ones(3, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}

    def squared(a: torch.Tensor, t: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
        return (p["w"] @ a + p["b"] - t) ** 2

    arrays = {name: ms.array(value) for name, value in params.items()}
    for array in arrays.values():
        array.larray.requires_grad_()
    optimizer = torch.optim.SGD([array.larray for array in arrays.values()], lr=0.1)
    a, t = ms.array(x, split=0), ms.array(y, split=0).redistribute(all_on(-1, 7, comm))
    for _ in range(3):
        optimizer.zero_grad()
        (losses,) = ms.vmap(squared)(a, t, p=arrays)
        (losses.larray.sum() / len(y)).backward()
        optimizer.step()
        gradient = torch.func.grad(lambda p: torch.vmap(squared, (0, 0, None))(x, y, p).mean())(params)
        params = {name: params[name] - 0.1 * gradient[name] for name in params}
    for name, array in arrays.items():
        assert_close(ms.DNDarray(array.larray.detach(), array.layout, comm), params[name])


def test_V23_parameters_of_a_module_as_keywords_get_the_whole_gradient(comm: Comm) -> None:
    net = torch.nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        net.weight[:] = values(2, 3)
        net.bias[:] = 0.0
    x = ms.array(values(5, 3), split=0).redistribute(all_on(-1, 5, comm))

    def far(x: torch.Tensor, parameters: dict[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return (torch.func.functional_call(net, parameters, (x,)) ** 2).sum() * scale

    (out,) = ms.vmap(far)(x, parameters=dict(net.named_parameters()), scale=torch.tensor(2.0))
    out.sum().larray.backward()
    expected = torch.autograd.grad(2 * (net(values(5, 3)) ** 2).sum(), list(net.parameters()))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_outputs_may_be_changed_in_place(comm: Comm) -> None:
    x = ms.ones((4, 2), split=0)
    x.larray.requires_grad_()
    (y,) = ms.vmap(lambda a: a * 3)(x)
    y += 1
    y.larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, comm), torch.full((4, 2), 3.0))


def test_no_graph_is_made_without_gradients(comm: Comm) -> None:
    x = ms.ones((4, 2), split=0)
    x.larray.requires_grad_()
    with torch.no_grad():
        (y,) = ms.vmap(lambda a: a * 3)(x)
    assert not y.larray.requires_grad
    (z,) = ms.vmap(lambda a: a.detach() * 3)(x)
    assert not z.larray.requires_grad


def test_integers_beside_what_requires_a_gradient(comm: Comm) -> None:
    x, i = ms.ones(5, split=0), ms.arange(5, split=0).redistribute(all_on(0, 5, comm))
    x.larray.requires_grad_()
    y, j = ms.vmap(lambda a, k: (a * k, k + 1))(x, i)
    y.larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, comm), torch.arange(5.0))
    assert j.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("chunk_size", [None, 1])
@pytest.mark.parametrize("owner", [None, 0, -1])
def test_V28_replicated_outputs_count_once(comm: Comm, owner: int | None, chunk_size: int | None) -> None:
    """Of first and second order, with a replicated output beside a mapped one, by keyword and captured."""

    def penalised(x: torch.Tensor, w: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (x @ w) ** 2, (w**3).sum() * (u**2).sum()

    whole = values(4, 3)
    w, u = values(3).requires_grad_(), (values(3) + 1).requires_grad_()

    def loss_of(outputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return outputs[0].sum() * 2 + outputs[1] ** 2

    x = ms.array(whole, split=0)
    if owner is not None:
        x = x.redistribute(all_on(owner, 4, comm))
    y, penalty = ms.vmap(lambda x, w: penalised(x, w, u), (0, None), chunk_size=chunk_size)(x, w=w)
    assert penalty.split is None
    got = _first_and_second(loss_of((y.sum().larray, penalty.larray)), w, u)
    plain = torch.vmap(lambda x: penalised(x, w, u), out_dims=(0, None))(whole)
    for one, other in zip(got, _first_and_second(loss_of(plain), w, u), strict=True):
        torch.testing.assert_close(one, other)


def _first_and_second(loss: torch.Tensor, *parameters: torch.Tensor) -> list[torch.Tensor]:
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    second = torch.autograd.grad(sum((x**2).sum() for x in first), parameters)  # type: ignore[arg-type]
    return [*first, *second]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("captured", [False, True])
def test_V23_third_derivatives_with_empty_ranks(comm: Comm, captured: bool, count: int) -> None:
    """Every rank comes to every collective of every order, also where it has no samples."""
    x = ms.arange(count, dtype=torch.float64, split=0).redistribute(all_on(0, count, comm))
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    if captured:
        (y,) = ms.vmap(lambda x: torch.sin(x * w))(x)
    else:
        (y,) = ms.vmap(lambda x, w: torch.sin(x * w))(x, w=w)
    plain = torch.sin(torch.arange(count, dtype=torch.float64) * w)
    got, expected = [], []
    for value, found in ((y.sum().larray, got), (plain.sum(), expected)):
        for _ in range(4):
            (gradient,) = torch.autograd.grad(value, w, create_graph=True)
            found.append(gradient.item())
            value = gradient**2  # noqa: PLW2901
    assert got == pytest.approx(expected)


def test_V27_modules_mapped_captured_and_by_keyword(comm: Comm) -> None:
    """One allreduce for all parameters of a dtype, in the backward pass."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    whole = values(5, 3)
    x = ms.array(whole, split=0).redistribute(all_on(-1, 5, comm))
    expected = torch.autograd.grad((net(whole) ** 2).sum(), list(net.parameters()))
    calls = [
        lambda: ms.vmap(net)(x),
        lambda: ms.vmap(lambda v: net(v) * 1)(x),
        lambda: ms.vmap(lambda v, net: net(v))(x, net=net),
        lambda: ms.vmap(lambda v, nets: nets["a"](v))(x, nets={"a": net}),
        lambda: ms.vmap(lambda v: torch.func.functional_call(net, dict(net.named_parameters()), (v,)))(x),
    ]
    for call in calls:
        net.zero_grad()
        loss = (call()[0] ** 2).sum().larray
        with traffic(comm) as seen:
            loss.backward()
        assert comm.size == 1 or seen.calls["allreduce"] == 1
        for parameter, gradient in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_V27_what_cannot_be_followed(comm: Comm, raises_alike: Any) -> None:
    """A tensor behind a generator, which only a call would give."""
    w = torch.ones(3, requires_grad=True)
    endless = itertools.repeat(w)
    with raises_alike(RuntimeError, "in a way that minisplit cannot follow"):
        ms.vmap(lambda v: v * next(endless))(ms.ones((4, 3), split=0))
    with torch.no_grad():
        (y,) = ms.vmap(lambda v: v * next(endless))(ms.ones((4, 3), split=0))
    assert y.tolist() == [[1.0] * 3] * 4


def test_V27_ranks_that_differ_in_what_requires_a_gradient(comm: Comm, raises_alike: Any) -> None:
    w = torch.ones(3, requires_grad=comm.rank == 0)
    if comm.size > 1:
        with raises_alike(ValueError, "gradients flow back to the same tensors"):
            ms.vmap(lambda v: v * w)(ms.ones((4, 3), split=0))


def test_V33_torch_func_around_a_call(comm: Comm) -> None:
    whole = values(5, 3)
    x = ms.array(whole, split=0).redistribute(all_on(0, 5, comm))

    def loss_of(w: torch.Tensor) -> torch.Tensor:
        return ms.vmap(lambda v, w: torch.tanh(v @ w))(x, w=w)[0].mean().larray

    def plain(w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(whole @ w).mean()

    w = values(3)
    torch.testing.assert_close(torch.func.grad(loss_of)(w), torch.func.grad(plain)(w))
    torch.testing.assert_close(torch.func.vjp(loss_of, w)[0], plain(w))
    gradient_norm = [torch.func.grad(lambda w, f=f: torch.func.grad(f)(w).norm())(w) for f in (loss_of, plain)]
    torch.testing.assert_close(*gradient_norm)


def test_outputs_require_a_gradient_only_if_they_depend_on_what_does(comm: Comm) -> None:
    net = torch.nn.Linear(3, 1)
    torch.nn.init.ones_(net.weight)  # the same on all ranks
    torch.nn.init.zeros_(net.bias)
    x = ms.ones((4, 3), split=0).redistribute(all_on(0, 4, comm))
    given = {name: parameter.detach() for name, parameter in net.named_parameters()}
    y, z = ms.vmap(lambda v: (torch.func.functional_call(net, given, (v,)), net(v)))(x)
    assert not y.larray.requires_grad
    assert z.larray.requires_grad


def fails_on(rank: int, when: str, comm: Comm) -> Any:
    """A function of torch like the sine, whose backward pass, or that of it, fails on one rank."""

    def fail_if(now: bool) -> None:
        if now and comm.rank == rank:
            raise ZeroDivisionError("the gradient of a sample")

    class Cosine(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            return x.cos() * gradient

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            fail_if(when == "second")
            x, before = ctx.saved_tensors
            return -x.sin() * before * gradient, x.cos() * gradient

    class Sine(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return x.sin()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            fail_if(when == "first")
            return Cosine.apply(*ctx.saved_tensors, gradient)

    return Sine.apply


@pytest.mark.parametrize("kind", ["split", "moved", "replicated", "by keyword", "captured", "replicated output"])
def test_V29_a_backward_pass_that_fails_on_one_rank(comm: Comm, raises_alike: Any, kind: str) -> None:
    last = comm.size - 1
    sine = fails_on(last, "first", comm)
    x, w = ms.array(values(4, 4), split=0), values(4).requires_grad_()
    x.larray.requires_grad_(kind in {"split", "moved"})
    if kind == "moved":
        (y,) = ms.vmap(lambda v: sine(v).sum(), in_dims=1)(x)
    elif kind == "split":
        (y,) = ms.vmap(lambda v: sine(v).sum())(x)
    elif kind == "replicated":
        (y,) = ms.vmap(lambda v, w: v * sine(w))(x, ms.asarray(w))
    elif kind == "by keyword":
        (y,) = ms.vmap(lambda v, w: v * sine(w), chunk_size=1)(x, w=w)
    elif kind == "captured":
        (y,) = ms.vmap(lambda v: v * sine(w))(x.redistribute(all_on(-1, 4, comm)))
    else:
        last = 0  # the rank from which a replicated output's gradient flows back
        sine = fails_on(last, "first", comm)
        (y,) = ms.vmap(lambda v, w: sine(w), out_dims=None)(x, w=w)
    with raises_alike(
        ZeroDivisionError, f"rank {last} of {comm.size} failed while computing the gradients"
    ) as caught:
        y.larray.sum().backward()
    assert caught.value.rank == last


def test_V29_second_derivatives_that_fail_on_one_rank(comm: Comm, raises_alike: Any) -> None:
    sine = fails_on(comm.size - 1, "second", comm)
    w = values(3).requires_grad_()
    (y,) = ms.vmap(lambda v, w: v * sine(w))(ms.array(values(4, 3), split=0), w=w)
    (gradient,) = torch.autograd.grad(y.sum().larray, w, create_graph=True)
    with raises_alike(ZeroDivisionError, "failed while computing the gradients of a mapped function"):
        (gradient**2).sum().backward()


def test_V29_after_a_failure_another_pass_succeeds(comm: Comm, raises_alike: Any) -> None:
    w = values(3).requires_grad_()
    sine = fails_on(0, "first", comm)
    y, z = ms.vmap(lambda v, w: (v * sine(w), v * w))(ms.array(values(4, 3), split=0), w=w)
    with raises_alike(ZeroDivisionError, "the gradient of a sample"):
        y.sum().larray.backward()
    z.sum().larray.backward()
    torch.testing.assert_close(w.grad, values(4, 3).sum(0))


def test_V29_what_the_agreement_costs(comm: Comm) -> None:
    """One small message in each backward pass, and none without gradients beyond that of the call."""
    x = ms.array(values(4, 3), split=0)
    with traffic(comm) as seen:
        ms.vmap(torch.sin)(x)
    assert seen.calls.total() == (comm.size > 1 and comm.size <= 4)
    x.larray.requires_grad_()
    (y,) = ms.vmap(torch.sin)(x)
    with traffic(comm) as seen:
        y.larray.sum().backward()
    assert dict(seen.calls) == ({"agree": 1} if comm.size > 1 else {})


def test_V29_saved_tensors_are_freed_and_kept_as_by_torch(comm: Comm, raises_alike: Any) -> None:
    w = values(3).requires_grad_()
    x = ms.array(values(8, 3), split=0)
    (y,) = ms.vmap(lambda v, w: torch.exp(v * w))(x, w=w)
    loss = y.sum().larray
    loss.backward(retain_graph=True)
    loss.backward()
    with raises_alike(RuntimeError, "backward through the graph a second time"):
        loss.backward()
    plain = torch.exp(values(8, 3) * w).sum()
    torch.testing.assert_close(w.grad, 2 * torch.autograd.grad(plain, w)[0])


def test_V29_outputs_that_autograd_needs_may_not_be_changed(comm: Comm, raises_alike: Any) -> None:
    """As in torch: the result of `exp` is what its gradient is made of."""
    x = ms.ones((2 * comm.size, 2), split=0)
    x.larray.requires_grad_()
    (y,) = ms.vmap(torch.exp)(x)
    y += 1
    with raises_alike(RuntimeError, "modified by an inplace operation"):
        y.larray.sum().backward()


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("owner", [None, 0])
def test_gradients_of_chunks_that_are_computed_again(
    comm: Comm, owner: int | None, chunk_size: int | None
) -> None:
    """Of first and second order, of inputs, captured tensors and keyword arguments; drawn numbers are the same."""
    w, scale = values(3, 3).requires_grad_(), torch.tensor(0.7, dtype=torch.float64).requires_grad_()

    def func(x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return torch.tanh(w @ x * torch.rand(3, dtype=x.dtype)).prod() * scale

    found = []
    for checkpoint in (False, True):
        ms.random.seed(0)
        x = ms.array(values(5, 3), split=0)
        if owner is not None:
            x = x.redistribute(all_on(owner, 5, comm))
        x.requires_grad_()
        mapped = ms.vmap(func, 0, "different", chunk_size=chunk_size, checkpoint=checkpoint)
        total = mapped(x, scale=scale)[0].torch().sum()
        leaves = [w, scale, x.larray]
        first = torch.autograd.grad(total, leaves, create_graph=True)
        second = torch.autograd.grad((first[0] ** 2).sum() + first[1], leaves)
        found.append([total, *first, *second])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept)


def test_V29_chunks_that_fail_when_they_are_computed_again(comm: Comm, raises_alike: Any) -> None:
    is_forward = [True]

    def func(x: torch.Tensor) -> torch.Tensor:
        if not is_forward[0] and comm.rank == comm.size - 1:
            raise ZeroDivisionError("spilled")
        return x.exp()

    x = ms.arange(2.0 * comm.size, split=0).requires_grad_()
    (y,) = ms.vmap(func, chunk_size=1, checkpoint=True)(x)
    is_forward[0] = False
    with raises_alike(ZeroDivisionError, "failed while computing the gradients of a mapped function"):
        y.sum().backward()


def test_derivatives_in_a_function_cannot_be_computed_again(raises_alike: Any) -> None:
    slope = torch.func.grad(lambda x: (x**3).sum())
    x = ms.arange(4.0, split=0).requires_grad_()
    with raises_alike(RuntimeError, match="leave out checkpoint=True"):
        ms.vmap(slope, checkpoint=True)(x)
    assert_close(ms.vmap(slope)(x)[0].detach(), 3 * torch.arange(4.0) ** 2)


@pytest.mark.parametrize("place", ["around", "within"])
def test_autocast(size: int, place: str) -> None:
    w = values(3, 3).float().requires_grad_()

    def func(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(w @ x)

    def within(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return func(x)

    whole = values(2, 3).float()  # on some ranks there are no samples
    inner = within if place == "within" else func
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=place == "around"):
        wanted = torch.vmap(inner)(whole)
        (y,) = ms.vmap(inner)(ms.array(whole, split=0))
    assert y.dtype is wanted.dtype is torch.bfloat16
    assert_close(y.detach(), wanted.detach())
    (expected,) = torch.autograd.grad(wanted.float().sum(), w)
    (gradient,) = torch.autograd.grad(y.torch().float().sum(), w)
    torch.testing.assert_close(gradient, expected, rtol=2e-2, atol=2e-2)
