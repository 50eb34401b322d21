"""Tensors that a mapped function makes and writes into: with an axis for the samples, which torch.vmap leaves out.

To torch what `torch.zeros(3)` makes in a mapped function is the same for all samples, and there is no room in it
for what differs between them. Where a function is known to write into such a tensor, it gets one with room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from minisplit.core.error_text import said_by
from minisplit.vmap.functorch import internals

# Parts of the texts of torch's errors, and of ours, where a function writes what differs between the samples into
# a tensor that does not.
_REFUSED = (
    "is not possible because there exists a Tensor",
    "doesn't match the broadcast shape",
    "change in place a tensor that is the same for all samples",
)
# What makes new memory, to write into. Not `arange` and `eye`, which are read: as indices, and where torch checks
# by their values, which must be the same for all samples then.
_FACTORIES = frozenset(
    {
        torch.clone, torch.empty, torch.empty_like, torch.empty_strided, torch.full, torch.full_like,
        torch.ones, torch.ones_like, torch.tensor, torch.zeros, torch.zeros_like, torch.Tensor.clone,
        torch.Tensor.new, torch.Tensor.new_empty, torch.Tensor.new_full, torch.Tensor.new_ones,
        torch.Tensor.new_zeros,
    }
)  # fmt: skip


def is_refused_write(error: BaseException) -> bool:
    """Whether an error says that a mapped function writes into a tensor that has no axis for the samples."""
    text = said_by(error)
    return any(sign in text for sign in _REFUSED)


def with_room_for_samples(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a mapped function for which the tensors that it makes have an axis for the samples."""

    def with_room(*args: Any) -> Any:
        with _Factories():
            return func(*args)

    return with_room


class _Factories(TorchFunctionMode):
    """Gives what factories return an axis for the samples, of the vmap that is innermost when it is made.

    And of those that are within it when the factory is called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.level = internals.levels()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        return self.with_room(made) if func in _FACTORIES else made

    def with_room(self, x: torch.Tensor) -> torch.Tensor:
        """The same elements, as often as there are samples."""
        levels = []
        for interpreter in internals.get_interpreter_stack() or ():
            if interpreter.level() >= self.level and interpreter.key() == internals.TransformType.Vmap:
                levels.append((interpreter.level(), internals.CVmapInterpreterPtr(interpreter).batchSize()))
        if {level for level, _ in levels} <= internals.mapped_levels(x):
            return x
        with internals.temporarily_clear_interpreter_stack():
            mapped = torch.zeros([size for _, size in levels], dtype=torch.bool, device=x.device)
        for level, _ in levels:
            mapped = internals.add_batch_dim(mapped, 0, level)
        # By an operation, so that the transforms around the factory have their part in it.
        return torch.where(mapped, x, x)
