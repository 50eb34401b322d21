"""Process groups that carry tensors on devices as they are, from and to where they lie: NCCL's, for GPUs.

Tested in tests/core/communication/torch_distributed/test_communication.py, with a stand-in for NCCL.
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from minisplit.core.communication.debug import checksum
from minisplit.core.communication.protocol import Record
from minisplit.core.communication.torch_distributed.library import Store, dist

# A slow rank must not end a job: what ends jobs is the watchdog. Process groups must be given some limit.
TIMEOUT = datetime.timedelta(days=365)
Maker = Callable[[Store, int, int], Any]


def make_group(
    device: torch.device, store: Store, rank: int, size: int, gather: Callable[[Record], Record]
) -> Any:
    """Return the process group of the ranks for tensors of a kind of device, or None where all have to do without.

    That is where torch has none on one rank, and where two ranks use one device, which NCCL refuses. Collective:
    one allgather, by `gather`.
    """
    maker = MAKERS.get(device.type)
    rows = gather(np.array([maker is not None, checksum(name_of(device))]))
    if maker is None or not rows[:, 0].all() or len(set(rows[:, 1].tolist())) < size:
        return None
    return maker(store, rank, size)


def name_of(device: torch.device) -> str:
    """A name that no other device has on any machine."""
    return f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"


def _nccl(store: Store, rank: int, size: int) -> Any:
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = TIMEOUT
    return dist.ProcessGroupNCCL(store, rank, size, options)


# By the type of a device, what makes the group of its tensors.
MAKERS: dict[str, Maker] = {"cuda": _nccl} if dist.is_nccl_available() else {}
