"""What tells a mapped function from others."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.vmap.capture import fingerprint


def chosen(v: int) -> bool:
    return v in {0, 8}


@pytest.mark.serial
def test_a_function_is_the_same_in_every_process() -> None:
    """Each orders its sets in its own way, those of texts by a seed of its own."""
    one, other = frozenset((0, 8)), frozenset((8, 0))
    assert repr(one) != repr(other)
    consts = [tuple(x if c == one else c for c in chosen.__code__.co_consts) for x in (one, other)]
    here, there = (types.FunctionType(chosen.__code__.replace(co_consts=c), {}, "chosen") for c in consts)
    assert fingerprint(here, {}) == fingerprint(there, {})


@pytest.mark.parametrize("how", ["mapped", "captured", "keyword", "partial"])
def test_V31_modules_that_differ_between_ranks(how: str, rank: int, size: int, raises_alike: Any) -> None:
    net = torch.nn.Linear(3, 1)
    with torch.no_grad():
        net.bias.fill_(float(rank == size - 1))
    calls: dict[str, Callable[[], Any]] = {
        "mapped": lambda: ms.vmap(net)(ms.ones((6, 3), split=0)),
        "captured": lambda: ms.vmap(lambda v: net(v) * 1)(ms.ones((6, 3), split=0)),
        "keyword": lambda: ms.vmap(lambda v, net: net(v))(ms.ones((6, 3), split=0), net=net),
        "partial": lambda: ms.vmap(
            functools.partial(torch.nn.functional.linear, weight=net.weight, bias=net.bias)
        )(ms.ones((6, 3), split=0)),
    }
    with torch.no_grad():
        net.weight.fill_(1)
    if size > 1:
        with ms.debug(), raises_alike(ValueError, "every rank must map the same function"):
            calls[how]()
    with torch.no_grad():
        net.bias.fill_(0)
    with ms.debug():
        calls[how]()
