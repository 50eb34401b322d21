"""Which device, and how many cores, a rank uses."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence

import torch

from minisplit.core.error_text import short_repr

cpu = torch.device("cpu")
Device = str | torch.device | None

# (rank, size, rank within the node) as launchers announce them to the processes they start. SLURM comes last: a
# launcher that it has started passes its own numbers on. SLURM_NTASKS is set where nothing was launched as well.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def rank_environment() -> tuple[int, int, int] | None:
    """Rank, size and rank within the node as the launcher's environment has them; None without a launcher."""
    for names in _LAUNCHERS:
        rank, size, local = (os.environ.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal():
            # srun speaks to MPICH as its own launcher does, but for this.
            if not local and os.environ.get("SLURM_PROCID") == rank:
                local = os.environ.get("SLURM_LOCALID", "")
            return int(rank), int(size), int(local) if local.isdecimal() else int(rank)
    return None


def cores() -> tuple[int, int]:
    """Which cores this process may use, as a number that only processes with the same ones have; and how many."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    named = f"{socket.gethostname()} {list(allowed)}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=7).digest()), len(allowed)


def threads_of_rank(rank: int, sets: Sequence[int], number: int) -> int:
    """How many threads a rank may have for each thread to have a core.

    sets: for each rank which cores it may use, as `cores` has it. number: how many those of this rank are.

    >>> threads_of_rank(0, [7, 7, 9], 16)
    8
    """
    return max(1, number // list(sets).count(sets[rank]))


def chosen_threads() -> bool:
    """Whether the user has said how many threads a process is to have."""
    return any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))


def sanitize_device(device: Device) -> torch.device:
    """Return the torch device that `device` means on this rank. Local.

    None is the CPU. "gpu" or "cuda" is this rank's GPU: its rank within the node, modulo the GPUs there.

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
            raise ValueError(f"device {device!r} was asked for, but torch sees no GPU on this machine")
        local = (rank_environment() or (0, 1, 0))[2]
        return torch.device("cuda", local % torch.cuda.device_count())
    return chosen
