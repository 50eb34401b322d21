"""Peak memory of calls, as the operating system counts it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import WORLD
from rows import Peers, moving

import minisplit as ms

N = 8192  # 256 MiB of float32: shards are too large for what malloc keeps
SAMPLES, CHUNK = 100_000, 256  # of the gradients that are summed


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    [found] = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) * 1024


def peak(call: Callable[[], Any]) -> int:
    """Bytes that a call takes at its highest, beyond what the process had."""
    call()
    with suppress(OSError, AttributeError):  # what malloc keeps would not be counted when it is used again
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = call()
    highest = status("VmHWM") - before
    del result
    return highest


def highest(value: float, comm: ms.Communication) -> float:
    return float(comm.agree(np.array([int(value * 1000)]))[0]) / 1000


def memory(peers: Peers, wanted: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of minisplit and its peers, of the rank with the most. Collective."""
    comm = ms.get_comm()
    for have, want in ((0, 1), (1, 0), (0, None), (1, None)):
        name = f"resplit {have} to {want}, beyond the result, over a shard"
        if not all(part in f"memory {name}" for part in wanted):
            continue
        x = ms.zeros((N, N), split=have)
        shard, result = x.larray.nbytes, x.larray.nbytes * (WORLD.size if want is None else 1)
        calls = {"minisplit": lambda x=x, want=want: x.resplit(want), **moving(peers, x, want)}
        found = {who: highest(max(0, peak(call) - result) / shard, comm) for who, call in calls.items()}
        yield {"name": name, "target": 1.0, "times": found}
    name = "vmap in chunks, over its output"
    if all(part in f"memory {name}" for part in wanted):
        rows = 2**18  # for each rank: 256 MiB
        x, ramp = ms.zeros((rows * WORLD.size, 1), split=0), torch.arange(256.0)
        ours = ms.vmap(lambda v: v + ramp, chunk_size=4096)
        bare = torch.vmap(lambda v: v + ramp, chunk_size=4096)
        calls = {"minisplit": lambda: ours(x), "torch.vmap": lambda: bare(x.larray)}
        found = {who: highest(peak(call) / (rows * 1024), comm) for who, call in calls.items()}
        yield {"name": name, "target": 1.1, "times": found}
    name = f"vmap, gradients of {SAMPLES} samples summed in chunks of {CHUNK}, over those of a chunk"
    if all(part in f"memory {name}" for part in wanted):
        calls, chunk = summed_gradients()
        found = {who: highest(peak(call) / chunk, comm) for who, call in calls.items()}
        yield {"name": name, "target": 4.0, "times": found}


def summed_gradients() -> tuple[dict[str, Callable[[], Any]], int]:
    """The sum of the gradients of a network of 27,434 parameters by its samples; and bytes of those of a chunk."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 42))
    parameters = {name: x.detach() for name, x in net.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, parameters, (row,)).square().sum()

    def gradient(row: torch.Tensor, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return torch.func.grad(loss)(parameters, row)

    x = ms.random.randn(SAMPLES, 64, split=0)
    ours = ms.vmap(gradient, "sum", chunk_size=CHUNK)
    return {"minisplit": lambda: ours(x, parameters=parameters)}, CHUNK * 4 * sum(
        map(torch.numel, parameters.values())
    )
