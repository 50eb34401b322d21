"""What MPI and the watchdog have of a communicator: a handle, a name that its ranks share, and its parts."""

from __future__ import annotations

import gc
import secrets
import weakref
from collections import deque
from typing import Any, ClassVar

import numpy as np
from mpi4py import MPI

# By its name, each communicator of which a rank may still be asked what it has called on it.
HANDLES: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
# The name of `MPI_WORLD`; others are greater.
WORLD = 1
# After so many parts more those in cycles of references are looked for. MPICH has room for about 2,000 in all.
MANY = 256


class Handle:
    """A communicator of MPI, which may live longer than the `MPICommunication` that uses it.

    To free one is collective, but a program drops a communicator on each rank at a time of its own. So a handle
    stays with the one it was split off, whose ranks free at their next split what all of them have dropped.

    Parameters
    ----------
    recent : list
        The last calls of the communicator, as `Communication` keeps them.
    mpi : mpi4py.MPI.Intracomm, optional
        The communicator, where it is there already.

    Attributes
    ----------
    name : int
        The same on all ranks of the communicator and on no other one; 0 where they have not agreed on one yet.
    given_up : bool
        Whether no call can come on it from this rank any more.
    parts : dict
        What was split off it and is not freed, by the number of that call. The keys are the same on all ranks; a
        rank that got no communicator has None.
    """

    __slots__ = ("__weakref__", "given_up", "mpi", "name", "parts", "recent")

    # Those that were made of a communicator of mpi4py and given up. Nobody else would remember their calls. Not of
    # the module, which is empty when the interpreter ends.
    remembered: ClassVar[deque[Handle]] = deque(maxlen=MANY)

    def __init__(self, recent: list[Any], mpi: MPI.Intracomm | None = None) -> None:
        self.recent = recent
        self.mpi = mpi
        self.name = 0
        self.given_up = False
        self.parts: dict[int, Handle | None] = {}

    def set_name(self, name: int = 0) -> None:
        """Have a name, by default a new one of the communicator's first rank. Collective then."""
        if not name and self.mpi is not None and self.mpi.size > 1:
            chosen = np.array([secrets.randbits(62) + WORLD + 1])
            self.mpi.Bcast(chosen)
            name = int(chosen[0])
        if name:
            self.name = name
            HANDLES[name] = self

    def give_up(self, is_part: bool) -> None:
        """Say that this rank makes no more calls."""
        self.given_up = True
        if self.name and not is_part:
            self.remembered.append(self)

    def free(self) -> None:
        """Give the communicator back to MPI, unless parts of it are in use, on which it waits. Collective."""
        self.free_parts()
        if self.mpi is not None and not self.parts:
            self.mpi.Free()
            self.mpi = None

    def free_parts(self) -> None:
        """Free the parts that all ranks have given up. Collective."""
        if not self.parts or self.mpi is None:
            return
        if len(self.parts) % MANY == 0:
            gc.collect()
        mpi, parts = self.mpi, self.parts
        dropped = _all_ranks(mpi, [part is None or part.given_up for part in parts.values()])
        if not any(dropped):
            return
        for part, agreed in zip(parts.values(), dropped, strict=True):
            if part is not None and agreed:
                part.free()
        # Ranks have parts of other colors, of which some may have to wait for parts of their own.
        freed = _all_ranks(mpi, [part is None or part.mpi is None for part in parts.values()])
        for number, agreed in zip(list(parts), freed, strict=True):
            if agreed:
                del parts[number]


def remembers_all() -> bool:
    """Whether `HANDLES` has every communicator that this rank has given up without the others."""
    return len(Handle.remembered) < MANY


def _all_ranks(mpi: MPI.Intracomm, values: list[bool]) -> list[bool]:
    """Whether each value is true on all ranks. Collective."""
    table = np.array(values, dtype=np.int8)
    mpi.Allreduce(MPI.IN_PLACE, table, MPI.MIN)
    result: list[bool] = table.astype(bool).tolist()
    return result
