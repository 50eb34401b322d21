"""torch's optimisers of split parameters: which are refused, and their states as arrays.

Most of torch's optimisers compute each element of a step from the gradients of that element alone. For them a
shard is as good as a whole. Others use norms, products or means of a parameter, and would make of each shard what
fits that shard alone, without a word.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from minisplit.core.array import DNDarray, split_leaves
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout

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
                    "the larray of a split array, which is this rank's part only: make the leaf a replicated "
                    "array w, and compute with w.resplit(0), or use an elementwise optimiser, such as AdamW"
                )


def state_of(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return `state_dict()`, in which what belongs to a part of a parameter is a part of an array. Local.

    torch has the parts, of which those of one rank would be taken for all.
    """
    state, parameters = optimiser.state_dict(), _parameters(optimiser)
    states = {}
    for place, values in state["state"].items():
        leaf = parameters[place]
        layout, comm = _place_of(leaf)
        states[place] = {
            name: DNDarray(x, layout, comm)
            if layout and comm and isinstance(x, torch.Tensor) and x.shape == leaf.shape
            else x
            for name, x in values.items()
        }
    return {**state, "state": states}


def parts_of(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with the parts of arrays that fit the optimiser's parameters. Collective."""
    parameters = _parameters(optimiser)
    states = {}
    for place, values in state["state"].items():
        layout, comm = _place_of(parameters[place])
        states[place] = {name: _part_of(x, layout, comm) for name, x in values.items()}
    return {**state, "state": states}


def _part_of(x: Any, layout: Layout | None, comm: Communication | None) -> Any:
    """What this rank has of a value for a parameter in a layout, None for one that is whole. Collective."""
    if isinstance(x, DNDarray):
        return x.to_layout(layout or x.layout.with_split(None)).larray
    if isinstance(x, torch.Tensor) and layout and comm and tuple(x.shape) == layout.shape:
        return x[layout.box(comm.rank)]  # saved by one rank, for which no parameter is split
    return x


def _place_of(leaf: torch.Tensor) -> tuple[Layout | None, Communication | None]:
    """The layout and communicator of the array of which a parameter is this rank's part; None for another one."""
    place: tuple[Layout | None, Communication | None] = (None, None)
    if leaf in split_leaves:
        place = split_leaves[leaf]
    return place


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The parameters, in the order of the numbers that they have in `state_dict()`."""
    return [x for group in optimiser.param_groups for x in group["params"]]


register_optimizer_step_pre_hook(refuse_parts)
