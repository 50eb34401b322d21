"""Refuses torch's optimisers that need whole parameters, where ranks have parts of them.

Most of torch's optimisers compute each element of a step from the gradients of that element alone. For them a
shard is as good as a whole. Others use norms, products or means of a parameter, and would make of each shard what
fits that shard alone, without a word.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from minisplit.core.array import split_leaves

# By name, as older versions of torch do not have all of them.
_OF_WHOLE_PARAMETERS = tuple(
    getattr(torch.optim, name) for name in ("LBFGS", "Adafactor", "Muon") if hasattr(torch.optim, name)
)


def refuse_parts(optimiser: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise RuntimeError if an optimiser needs whole parameters, but has a part of one. Run before each step."""
    if not isinstance(optimiser, _OF_WHOLE_PARAMETERS):
        return
    for group in optimiser.param_groups:
        for place, x in enumerate(group["params"]):
            if x in split_leaves:
                raise RuntimeError(
                    f"{type(optimiser).__name__} computes a step from whole parameters, but parameter {place} is "
                    "the larray of a split array, of which each rank has a part: let the leaf be a replicated "
                    "array w, and compute with w.resplit(0), or take an elementwise optimiser, such as AdamW"
                )


register_optimizer_step_pre_hook(refuse_parts)
