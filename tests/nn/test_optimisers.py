"""Optimisers that need whole parameters, where ranks have parts of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import optim

import minisplit as ms


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
