"""That nothing of the program's is kept alive after a call, without waiting for the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import minisplit as ms

Call = Callable[[ms.DNDarray], Any]


def failing(v: torch.Tensor) -> torch.Tensor:
    raise ValueError("as it is")


def backward(x: ms.DNDarray) -> None:
    x.larray.requires_grad_()
    ms.vmap(lambda v: (v**2).sum())(x)[0].sum().larray.backward()


CALLS: dict[str, Call] = {
    "call": ms.vmap(torch.sin),
    "backward pass": backward,
    "reduction": ms.vmap(torch.sin, ("sum",), chunk_size=2),
    "loop": ms.vmap(torch.sin, loop=True),
    "loop that fails": ms.vmap(failing, loop=True),
    "reduction that fails": ms.vmap(lambda v: v.long(), "mean", chunk_size=2),
    "plan": lambda x: ms.vmap(torch.sin).plan(x),
    "plan with draws": lambda x: ms.vmap(lambda v: v + torch.rand(()), randomness="different").plan(x),
    "function that fails": ms.vmap(failing),
    "function that fails in a chunk": ms.vmap(failing, chunk_size=1),
    "function that fails by keyword": lambda x: ms.vmap(lambda v, w: failing(v))(x, w=x.resplit(None)),
    "outputs that differ": lambda x: ms.vmap(lambda v: torch.ones(1 + x.comm.rank))(x),
    "decomposition that fails": lambda x: ms.linalg.cholesky(ms.zeros((4, 2, 2), split=0) + x.sum() * 0),
    "wrong axis": lambda x: x.sum(axis=9),
    "wrong key": lambda x: x[99],
    "wrong shape": lambda x: x.reshape(5, 5),
    "resplit": lambda x: x.resplit(1).resplit(None),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("case", CALLS)
def test_an_array_is_freed_after(case: str) -> None:
    x = ms.ones((12, 2), split=0)
    freed = weakref.ref(x.larray)
    with contextlib.suppress(ValueError, IndexError, RuntimeError, torch.linalg.LinAlgError):
        CALLS[case](x)
    del x
    if case == "backward pass":
        # torch keeps the last graph of a thread that had to hand over to another one within a backward pass.
        backward(ms.ones((12, 2), split=0))
    assert freed() is None
