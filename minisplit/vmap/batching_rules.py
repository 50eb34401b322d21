"""Functions of torch whose own batching rules mix samples, and what a loop over the samples gives instead.

The rules look at the number of dimensions of the whole batch: `torch.vmap(torch.triu)` of vectors sets the lower
triangle of samples times elements to zero, where `triu` of one vector is an error, and `torch.vmap(torch.roll)` of
numbers shifts them from sample to sample (pytorch/pytorch#91403; found by comparing all functions of one tensor
in torch 2.13 with a loop). The results would depend on ranks and chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_TRIANGLES = frozenset(
    {torch.triu, torch.tril, torch.Tensor.triu, torch.Tensor.tril, torch.Tensor.triu_, torch.Tensor.tril_}
)
_ROLLS = frozenset({torch.roll, torch.Tensor.roll})
# By these names a function calls them. A mode takes a microsecond per operation, so it is only on where one of
# them is in reach.
MIXING = frozenset({"triu", "tril", "triu_", "tril_", "roll"})


def inside(context: Callable[[], AbstractContextManager[Any]], func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function like `func`, which runs in a new one of these contexts each time."""

    def func_inside(*args: Any, **kwargs: Any) -> Any:
        with context():
            return func(*args, **kwargs)

    return func_inside


class right_rules(TorchFunctionMode):  # noqa: N801 - used like a function
    """Do for each sample what these functions do for one, within a `with` block."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _TRIANGLES or func in _ROLLS:
            x = args[0] if args else kwargs["input"]
            if func in _ROLLS and x.ndim == 0:
                return x.clone()
            if func in _TRIANGLES and x.ndim < 2:
                raise RuntimeError(
                    f"{func.__name__}: input tensor must have at least 2 dimensions, but a sample has shape "
                    f"{tuple(x.shape)}"
                )
        return func(*args, **kwargs)
