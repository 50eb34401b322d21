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

import numpy as np
import torch

from minisplit.core.communication.debug import checksum
from minisplit.core.communication.protocol import Communication, first_difference

# For each communicator the parameters that its ranks have compared, by their `id`: as keys tensors would be
# compared by ==. An entry goes as its parameter does, before another object may have that `id`.
_compared: weakref.WeakKeyDictionary[Communication, dict[int, weakref.ref[torch.Tensor]]]
_compared = weakref.WeakKeyDictionary()


def not_compared(comm: Communication, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Those among some tensors that are parameters which the ranks have not compared yet. Local."""
    known = _compared.get(comm, {})
    return [x for x in tensors if type(x) is torch.nn.Parameter and id(x) not in known]


def remember(comm: Communication, parameters: Iterable[torch.Tensor]) -> None:
    """Say that the ranks have compared these. Local."""
    known = _compared.setdefault(comm, {})
    for x in parameters:
        known[id(x)] = weakref.ref(x, functools.partial(_forget, known, id(x)))


def _forget(known: dict[int, weakref.ref[torch.Tensor]], key: int, _: object) -> None:
    known.pop(key, None)


def fingerprint_of(parameters: Iterable[torch.Tensor]) -> int:
    """A number below 2**56 for the values of these parameters. Local."""
    sums = np.array([checksum(x) for x in parameters], dtype=np.int64)
    return int.from_bytes(blake2b(sums.tobytes(), digest_size=7).digest())


def check_same(
    comm: Communication, parameters: Sequence[torch.Tensor], name_of: Callable[[torch.Tensor], str]
) -> None:
    """ValueError, the same on all ranks, unless all have these parameters with the same values.

    Collective: an allgather of their number, and one of their checksums.
    """
    numbers = comm.allgather_record(np.array([len(parameters)], dtype=np.int64))
    other = first_difference(numbers)
    if other is not None:
        raise ValueError(
            f"func must be the same on all ranks, but it has {numbers[0, 0]} parameters of modules on rank 0, and "
            f"{numbers[other, 0]} on rank {other}"
        )
    sums = comm.allgather_record(np.array([checksum(x) for x in parameters], dtype=np.int64))
    other = first_difference(sums)
    if other is None:
        return
    place = int(np.flatnonzero(sums[other] != sums[0])[0])
    name = comm.broadcast_bytes(name_of(parameters[place]).encode(errors="backslashreplace"), 0).decode()
    raise ValueError(
        f"func must be the same on all ranks, but the values of its parameter {name} on rank {other} are not "
        "those on rank 0: call minisplit.random.seed(0) on all ranks before a module is made, or after it "
        "minisplit.replicate(module)"
    )
