"""The tuple of one output: a tuple, and no array."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.pytorch.pytree import pytree
from minisplit.vmap.single import SingleOutput

pytestmark = pytest.mark.serial

MISTAKES: dict[str, Callable[[Any, Any], Any]] = {
    "attribute": lambda y, x: y.shape,
    "method": lambda y, x: y.numpy(),
    "method of a tensor": lambda y, x: y.detach(),
    "sum": lambda y, x: y.sum(),
    "number": lambda y, x: y + 1,
    "number before": lambda y, x: 2 * y,
    "repetition": lambda y, x: y * 2,
    "array": lambda y, x: y - x,
    "array before": lambda y, x: x @ y,
    "tensor before": lambda y, x: torch.ones(2) * y,
    "NumPy before": lambda y, x: np.ones(2) * y,
    "negation": lambda y, x: -y,
    "comparison": lambda y, x: y > 0.5,
    "comparison before": lambda y, x: x == y,
    "np.asarray": lambda y, x: np.asarray(y),
    "np.exp": lambda y, x: np.exp(y),
    "np.sum": lambda y, x: np.sum(y),
    "torch.as_tensor": lambda y, x: torch.as_tensor(y),
    "torch.sum": lambda y, x: torch.sum(y),
    "array of it": lambda y, x: ms.array(y, split=0),
    "ms.sum": lambda y, x: ms.sum(y),
    "float": lambda y, x: float(y),
    "row": lambda y, x: y[1],
    "column": lambda y, x: y[:, 0],
    "assignment": lambda y, x: y.__setitem__(0, 1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_used_as_an_array_it_says_what_to_write(mistake: str) -> None:
    x = ms.ones((2, 2), split=0)
    with pytest.raises((TypeError, IndexError), match=r"one output in a tuple: write \(y,\) = "):
        MISTAKES[mistake](SingleOutput((x,)), x)


def test_it_is_a_tuple() -> None:
    x = ms.ones(2, split=0)
    y = SingleOutput((x,))
    assert isinstance(y, tuple)
    (first,) = y
    assert all(each is x for each in (first, y[0], y[-1], *y, copy.copy(y)[0]))
    assert (len(y), bool(y), y[:1]) == (1, True, (x,))  # by identity, as a tuple's elements
    assert [each is x for each in operator.add((0,), y)] == [False, True]
    assert [each is x for each in operator.add(y, (0,))] == [True, False]
    assert y == (x,)
    assert y != (None, 0)
    assert y not in ("x", None)
    assert hash(y) == hash((x,))
    assert not hasattr(y, "shape")
    assert pickle.loads(pickle.dumps(SingleOutput((1,)))) == (1,)
    assert pytree.tree_map(lambda each: each.shape, y) == ((2,),)
    assert [each is x for each in pytree.tree_leaves([y, {"a": y}])] == [True, True]
    assert pytree.keystr(pytree.tree_flatten_with_path(y)[0][0][0]) == "[0]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = y.nothing  # type: ignore[attr-defined]
