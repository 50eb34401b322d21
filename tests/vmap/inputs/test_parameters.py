"""Parameters that ranks have made without a seed: the first call that gets them notices, without a message."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import traffic
from minisplit.vmap.inputs import parameters

Comm = ms.Communication
pytestmark = pytest.mark.several


def network(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))


def test_parameters_that_differ_are_an_error_on_all_ranks(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((2 * comm.size, 3), split=0)
    last = comm.size - 1
    net = network(int(comm.rank == last))
    with ms.debug(False):
        for mapped, kwargs, name in (
            (ms.vmap(net), {}, r"`Sequential\._modules\['0'\]|`Sequential\.0\.weight`"),
            (ms.vmap(lambda v: net(v) * 2), {}, r"`<lambda>\.net\.0\.weight`"),
            (ms.vmap(lambda v, f: f(v)), {"f": net}, r"`\['f'\]\.0\.weight`"),
            (ms.vmap(lambda v, w: w @ v), {"w": net[0].weight}, "as an argument"),
        ):
            text = f"the values of its parameter ({name}) on rank {last} are not those on rank 0: call minisplit"
            for _ in range(2):  # nothing is remembered of a call that fails
                with raises_alike(ValueError, match=text):
                    mapped(x, **kwargs)
        with traffic() as seen:
            ms.vmap(ms.replicate(net))(x)
        assert dict(seen.calls) == {"allgather": 1, "broadcast": 1, "agree": 1}


def test_they_are_compared_once_without_a_message(comm: Comm, monkeypatch: pytest.MonkeyPatch) -> None:
    x, net = ms.ones((2 * comm.size, 3), split=0), network(0)
    checked = []
    monkeypatch.setattr(parameters, "checksum", lambda x: checked.append(x) or 3)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with ms.debug(False), traffic() as seen:
        for _ in range(3):
            optimiser.zero_grad()
            mapped = ms.vmap(net)
            with torch.no_grad():
                mapped(x)
            optimiser.step()
    assert dict(seen.calls) == {"agree": 3}
    known = parameters._compared[comm]
    mine = [id(p) for p in net.parameters()]
    assert all(key in known for key in mine)
    assert sum(any(p is each for p in net.parameters()) for each in checked) == 4
    checked.clear()
    gc.collect()  # what other tests have left
    before = len(known)
    del net, optimiser, mapped
    gc.collect()
    assert len(known) == before - 4


def test_ranks_that_do_not_remember_alike_compare_and_go_on(comm: Comm, raises_alike: Any) -> None:
    """A parameter that one rank has anew, with the values of the others, is no difference."""
    x, net = ms.ones((2 * comm.size, 3), split=0), network(0)
    with ms.debug(False):
        first = ms.vmap(net).one(x).tolist()
        own = copy.deepcopy(net) if comm.rank == 1 else net
        assert ms.vmap(own).one(x).tolist() == first
        fewer = torch.nn.Linear(3, 2, bias=comm.rank != 1)
        torch.nn.init.ones_(fewer.weight)
        with (
            torch.no_grad(),
            raises_alike(ValueError, match="it has 2 parameters of modules on rank 0, and 1 on rank 1"),
        ):
            ms.vmap(fewer)(x)


def test_a_rank_without_samples_takes_part_once_it_has_some(comm: Comm, raises_alike: Any) -> None:
    net = network(int(comm.rank == comm.size - 1))
    few = ms.ones((comm.size, 3), split=0).redistribute([2] + [1] * (comm.size - 2) + [0])
    with ms.debug(False):
        ms.vmap(net)(few)
        with raises_alike(ValueError, match="the values of its parameter"):
            ms.vmap(net)(few.balance())


def test_a_module_that_is_called_with_the_parameters_of_others(comm: Comm, raises_alike: Any) -> None:
    """Its own are not used, so they may differ: `functional_call` is how torch maps over networks."""
    skeleton, x = network(comm.rank), ms.ones((2 * comm.size, 3), split=0)
    params = {name: p.detach() for name, p in network(0).named_parameters()}
    mapped = ms.vmap(lambda p, v: torch.func.functional_call(skeleton, p, v), in_dims=(None, 0))
    with ms.debug(False):
        for _ in range(2):
            assert mapped.one(params, x).shape == (2 * comm.size, 1)
        assert len(mapped._unused) == 4
        with raises_alike(ValueError, match="the values of its parameter"):
            ms.vmap(skeleton)(x)
