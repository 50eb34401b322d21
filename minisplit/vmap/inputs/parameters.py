"""Whether the parameters of modules are the same on all ranks: compared in the first call that gets them.

A network that each rank has made without a seed computes something else on each, and nothing fails. So a call puts
a fingerprint of the parameters that its ranks have not compared yet into the agreement that it makes anyway, where
it changes the digest of the outputs: no message is added. Parameters are known by identity, as an optimiser steps
on all ranks alike. Which ones are new is no reason for ranks to part: where the digests differ, they look.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from minisplit.core.communication.debug import checksum
from minisplit.core.communication.protocol import Communication, first_difference
from minisplit.core.pytorch.pytree import pytree

# For each communicator the parameters that its ranks have compared, by their `id`: as keys tensors would be
# compared by ==. An entry goes as its parameter does, before another object may have that `id`.
Known = dict[int, "weakref.ref[torch.Tensor]"]
_compared: weakref.WeakKeyDictionary[Communication, Known] = weakref.WeakKeyDictionary()
# What asks a tensor for its shape and the like.
_OF_SHAPES = frozenset({"__get__", "size", "dim", "numel", "__len__", "is_floating_point", "is_complex"})


def not_compared(comm: Communication, tensors: Iterable[torch.Tensor], unused: Known) -> list[torch.Tensor]:
    """Those among some tensors that are parameters which the ranks have not compared yet. Local.

    Without those that are known to be `unused`.
    """
    known = _compared.get(comm, {})
    parameters = [x for x in tensors if type(x) is torch.nn.Parameter]
    return [x for x in parameters if id(x) not in known and id(x) not in unused]


class Parameters(NamedTuple):
    """The parameters of modules that a call gets.

    `every` are all of them, `fresh` those that the ranks have not compared. `used` are the `id`s of tensors that
    the function has computed with.
    """

    every: Sequence[torch.Tensor]
    fresh: Sequence[torch.Tensor]
    used: set[int]

    def fingerprint(self) -> int:
        """A number below 2**56 for the values of those to compare, 0 if there is none. Local."""
        sums = np.array([checksum(x) for x in self.fresh if id(x) in self.used], dtype=np.int64)
        return int.from_bytes(blake2b(sums.tobytes(), digest_size=7).digest()) if len(sums) else 0

    def remember(self, comm: Communication, unused: Known) -> None:
        """Say that the ranks have compared the fresh ones, or add them to those that are `unused`. Local."""
        compared = _compared.setdefault(comm, {})
        for x in self.fresh:
            known = compared if id(x) in self.used else unused
            known[id(x)] = weakref.ref(x, functools.partial(_forget, known, id(x)))


NO_PARAMETERS = Parameters((), (), set())


def _forget(known: Known, key: int, _: object) -> None:
    known.pop(key, None)


def watched(func: Callable[..., Any], used: set[int]) -> Callable[..., Any]:
    """Return a function like `func`, which adds to `used` the `id` of all tensors that it computes with."""

    def watching(*args: Any) -> Any:
        with _Watch(used):
            return func(*args)

    return watching


class _Watch(TorchFunctionMode):
    """Notes what functions of torch are called with."""

    def __init__(self, used: set[int]) -> None:
        super().__init__()
        self.used = used

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in _OF_SHAPES:
            self.used.update(map(id, pytree.tree_leaves((args, kwargs))))
        return func(*args, **kwargs)


def check_same(
    comm: Communication,
    parameters: Sequence[torch.Tensor],
    counts: Callable[[torch.Tensor], bool],
    name_of: Callable[[torch.Tensor], str],
) -> None:
    """ValueError, the same on all ranks, unless all have these parameters with the same values.

    `counts` says whether this rank computes with one. Collective: an allgather of their number, and one of their
    checksums.
    """
    numbers = comm.allgather_record(np.array([len(parameters)], dtype=np.int64))
    other = first_difference(numbers)
    if other is not None:
        raise ValueError(
            f"func must be the same on all ranks, but it has {numbers[0, 0]} parameters of modules on rank 0, and "
            f"{numbers[other, 0]} on rank {other}"
        )
    sums = comm.allgather_record(np.array([checksum(x) if counts(x) else -1 for x in parameters], dtype=np.int64))
    for place, column in enumerate(sums.T):
        ranks = np.flatnonzero(column >= 0)
        others = [rank for rank in ranks if column[rank] != column[ranks[0]]]
        if not others:
            continue
        root = int(ranks[0])
        name = comm.broadcast_bytes(name_of(parameters[place]).encode(errors="backslashreplace"), root).decode()
        raise ValueError(
            f"func must be the same on all ranks, but the values of its parameter {name} on rank {others[0]} are "
            f"not those on rank {root}: call minisplit.random.seed(0) on all ranks before a module is made, or "
            "after it minisplit.replicate(module)"
        )
