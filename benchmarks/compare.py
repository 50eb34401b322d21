"""minisplit, the limit and the peers side by side on the ranks of one job; `dev.py bench` runs it on 1, 2 and 4.

python3 dev.py run -n 2 benchmarks/compare.py OUT.json [PART OF A ROW'S NAME]
"""

from __future__ import annotations

import json
import os
import platform
import sys
import warnings
from itertools import chain
from pathlib import Path

import torch
from memory import memory
from mpi4py import MPI
from peers import WORLD, dtensors, heat, jax
from rows import Peers, mapping, operations, redistribution, scaling
from timing import Row, measure

import minisplit as ms


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    out, *wanted = sys.argv[1:]
    comm, peers = ms.get_comm(), Peers(heat(), dtensors(), jax())
    results = []
    for row in chain(mapping(peers), redistribution(peers), operations(peers)):
        if all(part in f"{row.group} {row.name}" for part in wanted):
            results.append(measure(row, comm))
            if comm.rank == 0:
                print(f"{row.group}: {row.name}  {results[-1]['us']}", flush=True)
    grown = [
        measure(Row("scaling", name, call), comm)
        for name, call in scaling()
        if all(part in f"scaling {name}" for part in wanted)
    ]
    kept = list(memory(peers, wanted))
    if comm.rank == 0:
        about = {
            "ranks": WORLD.size,
            "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
            "cpus": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "mpi": MPI.Get_library_version().split("\n")[0].strip("\x00 "),
            "heat": getattr(peers.heat, "__version__", None),
            "jax": peers.jax and peers.jax.jax.__version__,
        }
        found = {"about": about, "rows": results, "scaling": grown, "memory": kept}
        Path(out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
