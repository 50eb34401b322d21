"""What MPI has of a communicator, and when it gets it back."""

from __future__ import annotations

import gc
import secrets
from typing import Any

import numpy as np

from minisplit.core.communication.handles import MANY, WORLD, Handle
from minisplit.core.communication.mpi.library import MPI


class MPIHandle(Handle):
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
    parts : dict
        What was split off it and is not freed, by the number of that call. The keys are the same on all ranks; a
        rank that got no communicator has None.
    """

    __slots__ = ("mpi", "parts")

    def __init__(self, recent: list[Any], mpi: MPI.Intracomm | None = None) -> None:
        super().__init__(recent)
        self.mpi = mpi
        self.parts: dict[int, MPIHandle | None] = {}

    def choose_name(self) -> None:
        """Have a name that the communicator's first rank chooses. Collective."""
        if self.mpi is not None and self.mpi.size > 1:
            chosen = np.array([secrets.randbits(62) + WORLD + 1])
            self.mpi.Bcast(chosen)
            self.set_name(int(chosen[0]))

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
        # After so many parts more those in cycles of references are looked for. MPICH has room for about 2,000.
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


def _all_ranks(mpi: MPI.Intracomm, values: list[bool]) -> list[bool]:
    """Whether each value is true on all ranks. Collective."""
    table = np.array(values, dtype=np.int8)
    mpi.Allreduce(MPI.IN_PLACE, table, MPI.MIN)
    result: list[bool] = table.astype(bool).tolist()
    return result
