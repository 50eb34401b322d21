"""Functions of torch with batching rules that mix samples, and rules that give what a loop over the samples gives.

The rules look at the number of dimensions of the whole batch: `torch.vmap(torch.triu)` of vectors sets the lower
triangle of samples times elements to zero, where `triu` of one vector is an error, and `torch.vmap(torch.roll)` of
numbers shifts them from sample to sample (pytorch/pytorch#91403; found by comparing all functions of one tensor
in torch 2.13 with a loop). The results would depend on ranks and chunks.

And `torch.cond`, whose rule takes only functions of one output, that draw no random numbers and of which no
gradient is taken within the mapped function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from minisplit.core.pytorch.pytree import pytree
from minisplit.vmap.functorch import internals
from minisplit.vmap.inputs.references import find_captured

_TRIANGLES = frozenset(
    {torch.triu, torch.tril, torch.Tensor.triu, torch.Tensor.tril, torch.Tensor.triu_, torch.Tensor.tril_}
)
_ROLLS = frozenset({torch.roll, torch.Tensor.roll})
# What `torch.cond` calls, once it has compiled it. It must not, as it would compile the mode.
_COND = torch.ops.higher_order.cond
# By these names a function calls them. A mode takes a microsecond per operation, so it is only on where one of
# them is in reach.
MIXING = frozenset({"triu", "tril", "triu_", "tril_", "roll", "cond"})


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
        if func is _COND:
            return self._choose(*args)
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

    def _choose(self, pred: torch.Tensor, true_fn: Any, false_fn: Any, operands: Sequence[Any]) -> Any:
        """What one of two functions returns for each sample: where samples differ in `pred`, both are called."""
        if not internals.mapped_levels(pred):
            with self:
                return (true_fn if pred else false_fn)(*operands)
        tensors = pytree.tree_leaves((operands, find_captured(true_fn), find_captured(false_fn)))
        watched = [x for x in map(internals.unwrap, tensors) if not x.is_inference()]
        versions = [x._version for x in watched]
        with self:
            results = [pytree.tree_flatten(func(*operands)) for func in (true_fn, false_fn)]
        if [x._version for x in watched] != versions:
            raise RuntimeError(
                "a function that torch.cond calls changed a tensor in place, and the other function would "
                "read the new values; use an operation that returns a new tensor"
            )
        kinds = [(spec, [(x.dtype, tuple(x.shape)) for x in leaves]) for leaves, spec in results]
        if kinds[0] != kinds[1]:
            raise RuntimeError(
                "both functions that torch.cond calls must return the same structure, dtypes and shapes, but "
                f"one gave {kinds[0][1]} and the other {kinds[1][1]}"
            )
        where = pred.reshape(()) != 0
        leaves = [torch.where(where, x, y) for x, y in zip(results[0][0], results[1][0], strict=True)]
        return pytree.tree_unflatten(leaves, results[0][1])
