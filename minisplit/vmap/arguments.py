"""The arguments of a mapped call: whether they go together, and how they become the tensors to map over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from minisplit.core.array import DNDarray
from minisplit.core.collectives import redistribute_all
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_moves
from minisplit.core.storage import StoredArray
from minisplit.vmap.autograd import Step, enter
from minisplit.vmap.batch import Batch


class Keywords:
    """Keyword arguments, as `func` gets them: of a replicated DNDarray its tensor. A split one is a TypeError.

    `places` are those to which gradients may flow back: DNDarrays, and tensors that require one.
    """

    def __init__(self, kwargs: dict[str, Any], comm: Communication) -> None:
        self.leaves, self.spec = pytree.tree_flatten(kwargs)
        self.places: list[int] = []
        for place, x in enumerate(self.leaves):
            if isinstance(x, torch.Tensor) and x.requires_grad:
                self.places.append(place)
            if not isinstance(x, DNDarray):
                continue
            if x.split is not None:
                path = pytree.tree_flatten_with_path(kwargs)[0][place][0]
                raise TypeError(
                    f"keyword argument {pytree.keystr(path)[1:].replace(']', '', 1)} is a DNDarray split along "
                    f"{x.split}, but keyword arguments are not mapped: pass it as a positional argument to map "
                    "over it, or replicated (minisplit.resplit(x, None))"
                )
            if x.comm is not comm:
                raise ValueError("a DNDarray as keyword argument must be on the communicator of the inputs")
            self.leaves[place] = x.larray
            self.places.append(place)

    def tensors(self) -> list[torch.Tensor]:
        return [x for x in self.leaves if isinstance(x, torch.Tensor)]

    def filled(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = pytree.tree_unflatten(self.leaves, self.spec)
        return kwargs


def move_inputs(
    arrays: Sequence[DNDarray], batch: Batch, keywords: Keywords | None, comm: Communication
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """Each input's shard under its target layout, and where gradients are to flow back a token for `leave`.

    Collective where a shard must move: one exchange for all of them.
    """
    shards = [x._larray for x in arrays]
    warn_of_arguments(arrays, batch, comm)
    places = () if keywords is None else keywords.places
    if torch.is_grad_enabled():
        given = [] if keywords is None else [keywords.leaves[place] for place in places]
        if any(x.requires_grad for x in (*shards, *given)):
            steps = [
                Step(x._layout, target, shared=target.split is None)
                for x, target in zip(arrays, batch.targets, strict=True)
            ]
            steps += [
                Step(layout, layout, shared=True) for layout in (Layout(x.shape, None, comm.size) for x in given)
            ]
            token, entered = enter([*shards, *given], steps, comm)
            for place, x in zip(places, entered[len(shards) :], strict=True):
                assert keywords is not None
                keywords.leaves[place] = x
            return token, entered[: len(shards)]
    if batch.aligned:
        return None, shards
    moving = [i for i, stays in enumerate(batch.stays) if not stays]
    cut = [i for i in moving if arrays[i].split is None]
    for i in cut:
        start, stop = batch.targets[i].span(comm.rank)
        shards[i] = shards[i].narrow(batch.in_dims[i] or 0, start, stop - start)
    rest = [i for i in moving if i not in cut]
    ways = [(arrays[i]._layout, batch.targets[i]) for i in rest]
    for i, moved in zip(rest, redistribute_all([shards[i] for i in rest], ways, comm), strict=True):
        shards[i] = moved
    return None, shards


def warn_of_arguments(arrays: Sequence[DNDarray], batch: Batch, comm: Communication) -> None:
    """Warn if bringing the inputs to their targets is a large move."""
    if batch.exchanges:
        targets = zip(arrays, batch.targets, strict=True)
        warn_of_moves([(x._larray.itemsize, x._layout, target) for x, target in targets], comm)


def check_together(arrays: Sequence[DNDarray | StoredArray]) -> Communication:
    """The communicator of the inputs; ValueError where there is no input, or they differ in it or in device."""
    if not arrays:
        raise ValueError("a mapped function needs at least one DNDarray as a positional argument, got none")
    first = arrays[0]
    comm, device = first.comm, first.device
    for i, x in enumerate(arrays):
        if x.comm is not comm:
            raise ValueError(
                f"all inputs must be on one communicator: input 0 is on one of {comm.size} ranks, "
                f"input {i} on another of {x.comm.size}; give both the same comm="
            )
        if x.device != device and x.device.type != device.type:
            raise ValueError(f"all inputs must be on one device: input 0 is on {device}, input {i} on {x.device}")
    return comm
