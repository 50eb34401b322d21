"""minisplit: arrays cut over MPI ranks, and plain torch functions mapped over them."""

from minisplit import testing
from minisplit.core.communication import Communication, get_comm, use_comm
from minisplit.core.conversion import array, asarray, from_numpy
from minisplit.core.debugging import CollectiveError, debug
from minisplit.core.devices import cpu
from minisplit.core.dndarray import DNDarray
from minisplit.core.errors import RankError
from minisplit.core.factories import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from minisplit.core.layout import Layout
from minisplit.core.mpi import MPI_SELF, MPI_WORLD, MPICommunication
from minisplit.core.redistribution import balance, redistribute, resplit
from minisplit.vmap import vmap

__version__ = "0.1.0"

__all__ = [
    "MPI_SELF",
    "MPI_WORLD",
    "CollectiveError",
    "Communication",
    "DNDarray",
    "Layout",
    "MPICommunication",
    "RankError",
    "arange",
    "array",
    "asarray",
    "balance",
    "cpu",
    "debug",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "get_comm",
    "linspace",
    "ones",
    "ones_like",
    "redistribute",
    "resplit",
    "testing",
    "use_comm",
    "vmap",
    "zeros",
    "zeros_like",
]
