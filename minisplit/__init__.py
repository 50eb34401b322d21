"""minisplit: arrays cut over MPI ranks, and plain torch functions mapped over them."""

import gc
import sys

from minisplit.launch.commands import is_main_program, main

# `python -m minisplit` imports this package before it runs it. It must work without an MPI library, and must not
# start one, so it ends here, before anything else is imported.
if is_main_program():
    sys.exit(main(sys.argv[1:]))
del is_main_program, main

# Before all other imports: whatever fails from here on, on one rank alone, ends the job.
from minisplit.core.communication.startup import SELF, WORLD, start

start()
del start

# What follows makes no garbage. To look for it among all that torch has made takes half as long again as the rest.
_collects = gc.isenabled()
gc.disable()

from math import e, inf, nan, pi

from torch import (
    bfloat16, bool, complex64, complex128, float16, float32, float64, int8, int16, int32, int64, uint8,
)

from minisplit import nn, ops, testing
from minisplit.core import random
from minisplit.core.array import DNDarray
from minisplit.core.array_methods import Casts as _Casts, DNDarrayMethods as _DNDarrayMethods
from minisplit.core.call_comparison import compare_calls
from minisplit.core.communication.agreement import RankError
from minisplit.core.communication.debug import CollectiveError, debug
from minisplit.core.communication.protocol import Communication, get_comm, use_comm
from minisplit.core.conversion import array, asarray, from_dlpack, from_numpy
from minisplit.core.pytorch.devices import cpu
from minisplit.ops.dtensor import from_dtensor
from minisplit.core.factories import (
    arange, empty, empty_like, eye, full, full_like, geomspace, linspace, logspace, ones, ones_like, zeros,
    zeros_like,
)
from minisplit.core.pytorch.graph_breaks import break_graphs
from minisplit.core.pytorch.pytree import tree_map
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import PerformanceWarning, warn_above
from minisplit.core.redistribution import balance, redistribute, resplit
from minisplit.core.replication import replicate
from minisplit.core.storage import StoredArray
from minisplit.io.api import datasets, load, open, save
from minisplit.io.checkpoint import load_checkpoint, save_checkpoint
from minisplit.ops import *  # noqa: F403 - every operation is public here too
from minisplit.viz.plot import plot_layout
from minisplit.viz.profile import Profile, profile
from minisplit.vmap import apply_along_axis, vmap
from minisplit.vmap.transform import MappedFunction as _MappedFunction

if _collects:
    gc.enable()
del gc, _collects

__version__ = "0.1.0"
__array_api_version__ = "2025.12"
newaxis = None
# The names that they have in Heat.
MPI_WORLD, MPI_SELF = WORLD, SELF

__all__ = [
    "MPI_SELF", "MPI_WORLD", "SELF", "WORLD", "CollectiveError", "Communication", "DNDarray", "Layout",
    "PerformanceWarning", "Profile", "RankError", "StoredArray", "__array_api_version__", "apply_along_axis",
    "arange", "array", "asarray", "balance", "bfloat16", "bool", "complex64", "complex128", "cpu", "datasets",
    "debug", "e", "empty", "empty_like", "eye", "float16", "float32", "float64", "from_dlpack", "from_dtensor",
    "from_numpy", "full", "full_like", "geomspace", "get_comm", "inf", "int8", "int16", "int32", "int64",
    "linspace", "load", "load_checkpoint", "logspace", "nan", "newaxis", "nn", "ones", "ones_like", "open", "pi",
    "plot_layout", "profile", "random", "redistribute", "replicate", "resplit", "save", "save_checkpoint",
    "testing", "tree_map", "uint8", "use_comm", "vmap", "warn_above", "zeros", "zeros_like",
]
__all__ += ops.__all__

_public = (
    sys.modules[__name__], ops, ops.interop, ops.linalg, ops.fft, nn.utils, random, DNDarray, _DNDarrayMethods,
    _Casts, _MappedFunction,
)  # fmt: skip
break_graphs(_public)
compare_calls(_public)
del _Casts, _DNDarrayMethods, _MappedFunction, _public, break_graphs, compare_calls, sys


def __getattr__(name: str) -> object:
    """Import a form of the communicator when it is asked for, since that imports a library."""
    if name == "MPICommunication":
        from minisplit.core.communication.mpi.communication import MPICommunication  # noqa: PLC0415 - needs MPI

        return MPICommunication
    if name == "TorchCommunication":
        from minisplit.core.communication.torch_distributed.communication import (  # noqa: PLC0415 - takes 0.1 s
            TorchCommunication,
        )

        return TorchCommunication
    raise AttributeError(f"module 'minisplit' has no attribute {name!r}")
