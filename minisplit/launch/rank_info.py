"""What each rank of a job reports of itself for `python -m minisplit info`.

Tested in tests/launch/test_info.py.
"""

from __future__ import annotations

import socket

import torch

import minisplit as ms
from minisplit.core.pytorch.devices import cores
from minisplit.launch.probe import report

if __name__ == "__main__":
    gpus = range(torch.cuda.device_count())
    report(
        {
            "rank": ms.WORLD.rank,
            "size": ms.WORLD.size,
            "host": socket.gethostname(),
            "cores": cores()[1],
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
            "cuda": torch.version.cuda,
            "cuda_aware": getattr(ms.WORLD, "cuda_aware", False),
        }
    )
