"""What linear algebra of one large matrix that is cut takes over torch in one process, and how exact it is.

    python3 dev.py run -n 2 benchmarks/linear_algebra.py [ROWS]

Prints for each operation, of a float64 matrix of 2000 rows that is split along its columns, the best time of a few
rounds on all ranks, that of torch in one process with as many threads as there are ranks while the others sleep,
and the backward errors of both: of the product of what was found over the norms of its factors.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import minisplit as ms

ROUNDS = 3
T = torch.linalg
Tensors = list[torch.Tensor]


def of_product(left: torch.Tensor, right: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((left @ right - wanted).norm() / (left.norm() * right.norm()))


# Ours and torch's function, and the backward error of results, given the matrix and the right-hand sides.
Case = tuple[Callable[..., Any], Callable[..., Any], Callable[[torch.Tensor, torch.Tensor, Tensors], float]]
CASES: dict[str, Case] = {
    "cholesky": (
        lambda a, b: ms.linalg.cholesky(a), lambda a, b: T.cholesky(a),
        lambda a, b, x: of_product(x[0], x[0].mT, a),
    ),
    "solve, 1000 columns": (ms.linalg.solve, T.solve, lambda a, b, x: of_product(a, x[0], b)),
    "inv": (
        lambda a, b: ms.linalg.inv(a), lambda a, b: T.inv(a),
        lambda a, b, x: of_product(a, x[0], torch.eye(len(a), dtype=a.dtype)),
    ),
    "slogdet": (
        lambda a, b: ms.linalg.slogdet(a), lambda a, b: T.slogdet(a),
        lambda a, b, x: float(abs(1 - x[1] / T.slogdet(a)[1])),
    ),
    "qr": (lambda a, b: ms.linalg.qr(a), lambda a, b: T.qr(a), lambda a, b, x: of_product(x[0], x[1], a)),
}  # fmt: skip


def best(call: Callable[[], Any]) -> tuple[float, Any]:
    found, result = float("inf"), None
    for _ in range(ROUNDS):
        started = time.perf_counter()
        result = call()
        found = min(found, time.perf_counter() - started)
    return found, result


def on_first_alone(comm: ms.Communication, call: Callable[[], Any]) -> Any:
    """Rank 0's result there. The others sleep meanwhile: a rank that waits in MPI keeps a core busy."""
    folder = comm.broadcast_bytes(tempfile.mkdtemp().encode() if comm.rank == 0 else b"", 0).decode()
    ended, threads = Path(folder, "ended"), torch.get_num_threads()
    if comm.rank:
        while not ended.exists():
            time.sleep(0.01)
        return None
    torch.set_num_threads(comm.size)
    try:
        return call()
    finally:
        torch.set_num_threads(threads)
        ended.touch()


def tensors(result: Any) -> Tensors:
    parts = result if isinstance(result, tuple) else (result,)
    return [x.resplit(None).larray if isinstance(x, ms.DNDarray) else x for x in parts]


def main() -> None:
    comm, rows = ms.MPI_WORLD, int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    generator = torch.Generator().manual_seed(0)
    general, right = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (rows, rows // 2))
    definite = general @ general.mT / rows + torch.eye(rows, dtype=torch.float64)
    for name, (ours, theirs, error) in CASES.items():
        whole = definite if name == "cholesky" else general
        a, b = ms.array(whole, split=1), ms.array(right, split=1)
        taken, found = best(lambda: ours(a, b))  # noqa: B023 - called at once
        parts = tensors(found)
        alone = on_first_alone(comm, lambda: best(lambda: theirs(whole, right)))  # noqa: B023
        taken = max(seconds[0].item() for seconds in comm.allgather(torch.tensor([taken], dtype=torch.float64)))
        if comm.rank == 0:
            print(
                f"{name:>20}  {taken:7.3f} s  torch {alone[0]:7.3f} s  {taken / alone[0]:5.2f}x"
                f"  error {error(whole, right, parts):.1e}  torch {error(whole, right, tensors(alone[1])):.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
