"""Optimisers that need whole parameters, where ranks have parts of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import optim

import minisplit as ms
from minisplit.nn.optimisers import parts_of
from minisplit.testing import assert_close


@pytest.mark.several
@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "Muon"])
@pytest.mark.parametrize("by", ["method", "attribute", "copy"])
def test_an_optimiser_of_whole_parameters_refuses_parts(size: int, raises_alike: Any, name: str, by: str) -> None:
    if not hasattr(optim, name):
        pytest.skip("this torch has no such optimiser")
    x = ms.ones((4, 3), split=0)
    if by == "attribute":
        x.requires_grad = True
    else:
        x = copy.copy(x.requires_grad_())
    optimiser = getattr(optim, name)([torch.ones(2, 2, requires_grad=True), x.larray])
    (x**2).sum().backward()
    with raises_alike(RuntimeError, match=rf"{name} computes a step from whole parameters, but parameter 1 is"):
        optimiser.step(lambda: 0.0)
    assert x.tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "SGD"])
def test_what_is_whole_is_not_refused(comm: ms.Communication, size: int, name: str) -> None:
    """Replicated arrays, those on a communicator of one rank, and parts for an elementwise optimiser."""
    alone = comm.split(comm.rank)
    assert alone is not None
    arrays = [ms.ones(3), ms.ones(3, split=0, comm=alone)]
    if name == "SGD" or size == 1:
        arrays.append(ms.ones(3, split=0))
    for x in arrays:
        x.requires_grad_()
        optimiser = getattr(optim, name)([x.larray], lr=0.1)
        (x**2).sum().backward()
        optimiser.step(lambda: 1.0)
        assert x.tolist() != [1.0] * 3


def test_the_state_of_split_parameters_is_saved_and_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As of whole parameters: `state_dict()` had the part of one rank, which a checkpoint took for all."""
    comm = ms.get_comm()
    folder = str(tmp_path_factory.mktemp("state")) if comm.rank == 0 else ""
    path = comm.broadcast_bytes(folder.encode()).decode() + "/state.safetensors"
    whole, bias = torch.arange(10.0).reshape(5, 2), torch.ones(2)

    def steps(w: Any, b: torch.Tensor, optimiser: torch.optim.Optimizer, number: int) -> None:
        for _ in range(number):
            optimiser.zero_grad()
            ((w - 3) ** 2).sum().backward()
            ((b - 3) ** 2).sum().backward()
            optimiser.step()

    w, b = ms.array(whole, split=0).requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.Adam([w.larray, b], lr=0.1)
    steps(w, b, optimiser, 2)
    ms.save_checkpoint({"w": w, "b": b, "optimiser": optimiser}, path)
    state = ms.load_checkpoint(path)
    # Also into parameters that lie otherwise.
    again, b_again = state["w"].resplit(1).requires_grad_(), state["b"].requires_grad_()
    other = torch.optim.Adam([again.larray, b_again], lr=0.1)
    ms.nn.utils.load_optimizer(other, state["optimiser"])
    steps(w, b, optimiser, 2)
    steps(again, b_again, other, 2)
    alone, b_alone = whole.clone().requires_grad_(), bias.clone().requires_grad_()
    steps(alone, b_alone, torch.optim.Adam([alone, b_alone], lr=0.1), 4)
    for x in (w, again):
        assert_close(x.detach(), alone.detach())
    torch.testing.assert_close(b_again, b_alone)
    # What one rank has saved has whole tensors.
    plain = {"state": {0: {"exp_avg": whole * 2}}}
    assert_close(ms.DNDarray(parts_of(other, plain)["state"][0]["exp_avg"], again.layout, comm), whole * 2)
