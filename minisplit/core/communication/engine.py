"""Which library carries the messages of this process's job: MPI, torch.distributed, or none for one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal

from minisplit.core.communication.job import Job
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.pytorch.devices import rank_environment

Engine = Literal["mpi", "torch", "single"]
ENGINES: tuple[Engine, ...] = ("mpi", "torch", "single")
# What torch.distributed's `env://` needs. torchrun sets them.
_TORCH_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Launchers of MPI that do not say how many processes they have started, or say it under other names: PMIx, HPE's
# PALS and ALPS, MVAPICH, IBM's jsrun, Flux.
_MPI_VARIABLES = (
    "PMIX_RANK", "PALS_RANKID", "ALPS_APP_PE", "MV2_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK", "FLUX_TASK_RANK",
)  # fmt: skip


def choose_engine(environ: Mapping[str, str] = os.environ) -> Engine:
    """Return the engine that the environment asks for.

    It is the first that fits of: one process, for one that `multiprocessing` starts by spawn or forkserver;
    MINISPLIT_ENGINE; torch.distributed under torchrun; MPI under a launcher of MPI, and where the program has
    imported mpi4py's MPI; torch.distributed where `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` are set;
    else one process. SLURM's srun starts jobs of MPI, unless a script that it runs sets these four.

    Raises ValueError where MINISPLIT_ENGINE names none.
    """
    # A process that `multiprocessing` starts in a rank, by spawn or a fork server, imports the program again. It
    # is no rank: MPI would end it, and a pool start others for ever. All else that tells is set after the import.
    if any(argument.startswith("from multiprocessing.") for argument in sys.orig_argv):
        return "single"
    named = environ.get("MINISPLIT_ENGINE", "")
    if named:
        if named not in ENGINES:
            raise ValueError(f"MINISPLIT_ENGINE must be 'mpi', 'torch' or 'single', got {short_repr(named)}")
        return named
    has_torch = all(environ.get(name) for name in _TORCH_VARIABLES)
    launched = rank_environment(environ)
    # torchrun is the inner launcher where a job of MPI or SLURM runs it on each node. Of srun's processes those
    # that set what torch needs mean torch; mpiexec's may have it from the environment of who started mpiexec.
    if "TORCHELASTIC_RUN_ID" in environ or (has_torch and (launched is None or launched.by_slurm)):
        return "torch"
    # A program that has imported MPI itself has started it.
    is_mpi = launched is not None or any(name in environ for name in _MPI_VARIABLES) or "mpi4py.MPI" in sys.modules
    return "mpi" if is_mpi else "single"


def make_job() -> Job:
    """Return the job of the engine that the environment asks for. Imports no other engine's library."""
    engine = choose_engine()
    if engine == "single":
        from minisplit.core.communication.single import SingleJob  # noqa: PLC0415 - one engine

        return SingleJob()
    if engine == "torch":
        from minisplit.core.communication.torch_distributed.job import TorchJob  # noqa: PLC0415 - one engine

        return TorchJob()
    from minisplit.core.communication.mpi.job import MPIJob  # noqa: PLC0415 - needs an MPI library

    return MPIJob()


def of_process_group(group: Any = None) -> Communication:
    """Return a communicator of a process group, on any engine."""
    from minisplit.core.communication.torch_distributed.communication import (  # noqa: PLC0415 - takes 0.1 s
        TorchCommunication,
    )

    return TorchCommunication(group)
