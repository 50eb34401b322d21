"""Which device, and how many cores, a rank uses."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple

import torch

from minisplit.core.error_text import short_repr

# The device of the host's memory, as `minisplit.cpu`.
cpu = torch.device("cpu")
Device = str | torch.device | None

# The variables for rank, size and rank within the node, as launchers set them for the processes that they start.
# torchrun comes first, since others may start it on each node. SLURM comes last: a launcher that SLURM has started
# passes SLURM's numbers on beside its own. The size is that of the step, since SLURM_NTASKS is also set in a batch
# script, where nothing was launched yet.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


class Launched(NamedTuple):
    """What a launcher has told a process. `by_slurm`: it may be one of SLURM's own, or of MPI's below SLURM."""

    rank: int
    size: int
    local_rank: int
    by_slurm: bool


def rank_environment(environ: Mapping[str, str] = os.environ) -> Launched | None:
    """Return rank, size and rank within the node, as the launcher's environment has them, or None without one."""
    for names in (_TORCHRUN,) * ("TORCHELASTIC_RUN_ID" in environ) + _LAUNCHERS:
        rank, size, local = (environ.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal():
            by_slurm = environ.get("SLURM_PROCID") == rank
            # srun sets the variables of MPICH's launcher, but for the rank within the node.
            if not local and by_slurm:
                local = environ.get("SLURM_LOCALID", "")
            return Launched(int(rank), int(size), int(local) if local.isdecimal() else int(rank), by_slurm)
    return None


def cores() -> tuple[int, int]:
    """Return a number for the set of cores that this process may use, and how many they are.

    Processes have the same number if they may use the same cores of one machine.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    text = f"{socket.gethostname()} {list(allowed)}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest()), len(allowed)


def threads_of_rank(rank: int, core_sets: list[int], number: int) -> int:
    """Return how many threads a rank may have for each thread to have a core.

    `core_sets` has a number for each rank's set of cores, as `cores` returns it, and `number` says how many cores
    are in that of this rank.

    >>> threads_of_rank(0, [7, 7, 9], 16)
    8
    """
    return max(1, number // core_sets.count(core_sets[rank]))


def chosen_threads() -> bool:
    """Whether the user has said how many threads a process is to have."""
    return any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))


def sanitize_device(device: Device) -> torch.device:
    """Return the torch device that `device` means on this rank; ValueError for what is none.

    None is the CPU. "gpu" or "cuda" is this rank's GPU: the ranks of a node take turns on the GPUs there.

    >>> sanitize_device("cpu")
    device(type='cpu')
    """
    if device is None:
        return cpu
    try:
        chosen = torch.device("cuda" if device == "gpu" else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'cpu', 'gpu' or a torch.device, got {short_repr(device)}") from error
    if chosen.type == "cuda" and chosen.index is None:
        if not torch.cuda.is_available():
            raise ValueError(f"device {short_repr(device)} was asked for, but torch sees no GPU on this machine")
        launched = rank_environment()
        local = launched.local_rank if launched else int(os.environ.get("LOCAL_RANK") or 0)
        return torch.device("cuda", local % torch.cuda.device_count())
    return chosen
