"""Training: torch's optimisers over the shards of split leaves, modules, and ensembles of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layouts import dealt, layouts
from torch import nn, optim
from torch.func import functional_call, stack_module_state

import minisplit as ms
from minisplit.testing import assert_close

Comm = ms.Communication
Parameters = list[torch.Tensor]
# Those that compute each element of a step from the gradients of that element alone, each in two of its forms.
ELEMENTWISE: dict[str, list[Callable[[Parameters], optim.Optimizer]]] = {
    "Adadelta": [optim.Adadelta, lambda p: optim.Adadelta(p, lr=0.5, weight_decay=0.1, foreach=True)],
    "Adagrad": [optim.Adagrad, lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, weight_decay=0.1, fused=True)],
    "Adam": [optim.Adam, lambda p: optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1, foreach=True)],
    "AdamW": [optim.AdamW, lambda p: optim.AdamW(p, lr=0.1, fused=True)],
    "Adamax": [optim.Adamax, lambda p: optim.Adamax(p, lr=0.1, weight_decay=0.1)],
    "ASGD": [optim.ASGD, lambda p: optim.ASGD(p, lr=0.1, t0=2, weight_decay=0.1)],
    "NAdam": [optim.NAdam, lambda p: optim.NAdam(p, lr=0.1, decoupled_weight_decay=True)],
    "RAdam": [optim.RAdam, lambda p: optim.RAdam(p, lr=0.1, weight_decay=0.1)],
    "RMSprop": [optim.RMSprop, lambda p: optim.RMSprop(p, lr=0.1, centered=True, momentum=0.9)],
    "Rprop": [optim.Rprop, lambda p: optim.Rprop(p, lr=0.1)],
    "SGD": [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=True),
    ],
}
# Those that use norms, products or means of whole parameters; and one for sparse gradients, which arrays have not.
OF_WHOLE_PARAMETERS = {"LBFGS", "Adafactor", "Muon"}
SPARSE = {"SparseAdam"}
START = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
DATA = torch.arange(21, dtype=torch.float64).reshape(7, 3).sin()
STEPS = 6


@pytest.mark.serial
def test_every_optimiser_of_torch_is_of_one_kind() -> None:
    names = {
        name
        for name, each in vars(optim).items()
        if isinstance(each, type) and issubclass(each, optim.Optimizer) and each is not optim.Optimizer
    }
    assert names - {"Muon"} == (set(ELEMENTWISE) | OF_WHOLE_PARAMETERS | SPARSE) - {"Muon"}


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_optimisers_of_shards_make_the_steps_of_whole_parameters(size: int, name: str, form: int) -> None:
    """On every layout, also of ranks that have nothing, with a replicated parameter and clipping beside it."""
    make = ELEMENTWISE[name][form]
    t, u = START.clone().requires_grad_(), torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimiser = make([t, u])
    for _ in range(STEPS):
        optimiser.zero_grad()
        ((t.sin() * u).sum(1) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_([t, u], 0.2)
        optimiser.step()
    for layout in layouts((4, 3), size):
        x, w = dealt(START, layout).requires_grad_(), ms.ones(3, dtype=torch.float64).requires_grad_()
        optimiser = make([x.larray, w.larray])
        for _ in range(STEPS):
            optimiser.zero_grad()
            ((ms.sin(x) * w).sum(axis=1) ** 2).mean().backward()
            ms.nn.utils.clip_grad_norm_([x, w], 0.2)
            optimiser.step()
        assert_close(x.detach(), t.detach())
        assert_close(w.detach(), u.detach())


def test_torch_takes_shards_and_not_arrays(raises_alike: Any) -> None:
    x = ms.ones(3, split=0).requires_grad_()
    with raises_alike(TypeError, match=r"can only optimize Tensors, but one of the params is .*DNDarray"):
        optim.SGD([x])  # type: ignore[list-item]


def test_lbfgs_of_what_is_replicated(size: int) -> None:
    """Every rank has all gradients and the loss, and so makes the same steps, also in its line search."""
    target = (DATA**2).sum(1)

    def fitted(weights: torch.Tensor, loss: Callable[[], Any]) -> torch.Tensor:
        optimiser = optim.LBFGS([weights], max_iter=30, line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimiser.zero_grad()
            value = loss()
            value.backward()
            return value

        optimiser.step(closure)
        return weights.detach()

    t = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    wanted = fitted(t, lambda: ((DATA @ t.tanh() - target) ** 2).mean() + ((t - 1) ** 4).sum())
    for layout in layouts((7, 3), size):
        x, y = dealt(DATA, layout), ms.array(target, split=0)
        w = ms.zeros(3, dtype=torch.float64).requires_grad_()
        found = fitted(
            w.larray,
            lambda: ((x @ ms.tanh(w) - y) ** 2).mean() + ((w.resplit(0) - 1) ** 4).sum(),  # noqa: B023
        )
        torch.testing.assert_close(found, wanted)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 1)).double()


def trained(net: nn.Module, loss: Callable[[], Any]) -> list[torch.Tensor]:
    optimiser = optim.AdamW(net.parameters(), lr=0.05)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss().backward()
        ms.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimiser.step()
    return [x.detach() for x in net.parameters()]


def test_a_module_is_trained_as_on_one_rank(size: int) -> None:
    target = DATA.sum(1, keepdim=True)
    alone = network()
    wanted = trained(alone, lambda: nn.functional.mse_loss(alone(DATA), target))
    for layout in layouts((7, 3), size):
        x, y, net = dealt(DATA, layout), ms.array(target, split=0), network()
        found = trained(net, lambda: nn.functional.mse_loss(ms.vmap(net, in_dims=0)(x)[0], y))  # noqa: B023
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_modules_as_functions_of_parameters(size: int) -> None:
    """`functional_call` of a network without data, with parameters that are replicated."""
    net, target = network().to("meta"), network(1)
    x = ms.array(DATA, split=0)
    shared = {name: ms.array(p).requires_grad_() for name, p in target.named_parameters() if p.detach_() is p}
    (y,) = ms.vmap(lambda parameters, x: functional_call(net, parameters, x), in_dims=(None, 0))(shared, x)
    with torch.no_grad():
        wanted = target(DATA)
    assert_close(y.detach(), wanted)
    y.sum().backward()
    whole = network(1)
    whole(DATA).sum().backward()
    for name, p in whole.named_parameters():
        gradient = shared[name].grad
        assert gradient is not None
        assert p.grad is not None
        assert_close(gradient, p.grad)


def test_a_network_without_data_may_be_captured_by_a_function_that_needs_no_more(size: int) -> None:
    """It is followed as a function's only tensors are, and has no values to be compared in debug mode."""
    weight = nn.Linear(3, 5).to("meta").weight
    with ms.debug():
        (y,) = ms.vmap(lambda x: x.new_ones(weight.shape))(ms.array(DATA, split=0))
    assert y.shape == (7, 5, 3)


@pytest.mark.parametrize("count", [1, 5])
def test_an_ensemble_that_is_split_is_trained_as_its_networks_alone(size: int, count: int) -> None:
    target = DATA.sum(1, keepdim=True)
    nets = [network(seed) for seed in range(count)]
    stacked, _ = stack_module_state(nets)
    base = network().to("meta")
    params = {name: ms.array(x.detach(), split=0).requires_grad_() for name, x in stacked.items()}

    def loss(params: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(functional_call(base, params, x), y)

    optimiser = optim.AdamW([x.larray for x in params.values()], lr=0.05)
    for _ in range(STEPS):
        optimiser.zero_grad()
        ms.vmap(loss)(params, x=DATA, y=target)[0].sum().backward()
        optimiser.step()
    for i, net in enumerate(nets):
        own = optim.AdamW(net.parameters(), lr=0.05)
        for _ in range(STEPS):
            own.zero_grad()
            nn.functional.mse_loss(net(DATA), target).backward()
            own.step()
        for name, p in net.named_parameters():
            assert_close(params[name][i].detach(), p.detach())


def test_dropout_draws_the_same_on_all_ranks(size: int) -> None:
    x, drop = ms.ones((7, 3), split=0), nn.Dropout(0.5)
    with ms.random.fork(0):
        different = ms.vmap(drop, randomness="different")(x)[0].numpy()
    with ms.random.fork(0):
        again = ms.vmap(drop, randomness="different", chunk_size=2)(x.redistribute([0] * (size - 1) + [7]))[0]
        same = ms.vmap(drop, randomness="same")(x)[0].numpy()
    assert (different == again.numpy()).all()
    assert len({tuple(row) for row in different.tolist()}) > 1
    assert len({tuple(row) for row in same.tolist()}) == 1


def test_batch_norm_is_of_one_sample_or_of_running_statistics(size: int, raises_alike: Any) -> None:
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm(DATA.float())
    x = ms.array(DATA.float(), split=0)

    # In training a module counts its calls, and so each rank its own.
    alone = copy.deepcopy(norm)
    with raises_alike(ValueError, match="Expected more than 1 value per channel when training"):
        ms.vmap(lambda v: alone(v[None])[0])(x)
    norm.eval()
    (found,) = ms.vmap(lambda v: norm(v[None])[0])(x)
    assert_close(found.detach(), norm(DATA.float()).detach())
    with raises_alike(RuntimeError, match="running_mean or running_var, which will be updated in place"):
        ms.vmap(nn.BatchNorm1d(3), in_dims=0)(x.reshape(1, 7, 3))
    own = nn.BatchNorm1d(3, track_running_stats=False, affine=False)
    (each,) = ms.vmap(own, in_dims=0)(x.reshape(1, 7, 3))
    assert_close(each[0], nn.BatchNorm1d(3, affine=False)(DATA.float()))
    # Statistics of all samples are a reduction between two maps.
    scaled = (x - x.mean(axis=0)) / ms.sqrt(x.var(axis=0) + norm.eps)
    assert_close(scaled, nn.BatchNorm1d(3, affine=False)(DATA.float()))
