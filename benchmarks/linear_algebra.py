"""What linear algebra of one large matrix that is cut takes over torch in one process, and how exact it is.

Beside it a Fourier transform of a prime number of points, and a random order, which no rank may have whole either.

    python3 dev.py run -n 2 benchmarks/linear_algebra.py [ROWS]

Prints for each operation, of a float64 matrix of 2000 rows that is split along its columns, or of as many
numbers, the best time of a few rounds on all ranks, and the most memory that a rank took beyond what it had, in
shares of the argument; that time of torch in one process with as many threads as there are ranks while the
others sleep; and the errors of both, for matrices of the product of what was found over the norms of its
factors.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import highest, peak

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
    "matrix_exp": (
        lambda a, b: ms.linalg.matrix_exp(a), lambda a, b: T.matrix_exp(a),
        lambda a, b, x: float((x[0] - T.matrix_exp(a)).norm() / x[0].norm()),
    ),
    "fft, prime length": (
        lambda a, b: ms.fft.fft(a), lambda a, b: torch.fft.fft(a),
        lambda a, b, x: float((torch.fft.ifft(x[0]) - a).norm() / a.norm()),
    ),
    "randperm": (
        lambda a, b: ms.random.randperm(a.size, split=0), lambda a, b: torch.randperm(a.numel()),
        lambda a, b, x: float(x[0].sort().values.ne(torch.arange(len(x[0]))).sum()),
    ),
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


def prime_from(n: int) -> int:
    """The least prime number from `n` on."""
    while any(n % divisor == 0 for divisor in range(2, math.isqrt(n) + 1)):
        n += 1
    return n


def tensors(result: Any) -> Tensors:
    parts = result if isinstance(result, tuple) else (result,)
    return [x.resplit(None).larray if isinstance(x, ms.DNDarray) else x for x in parts]


def main() -> None:
    comm, rows = ms.MPI_WORLD, int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    generator = torch.Generator().manual_seed(0)
    general, right = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (rows, rows // 2))
    definite = general @ general.mT / rows + torch.eye(rows, dtype=torch.float64)
    line = torch.randn(prime_from(rows * rows), dtype=torch.float64, generator=generator)
    wholes = {"cholesky": definite, "matrix_exp": general / rows**0.5, "fft, prime length": line, "randperm": line}
    for name, (ours, theirs, error) in CASES.items():
        whole = wholes.get(name, general)
        a, b = ms.array(whole, split=whole.ndim - 1), ms.array(right, split=1)
        share = whole.nbytes / comm.size
        beyond = highest(peak(lambda: ours(a, b)) / share, comm)  # noqa: B023 - called at once
        taken, found = best(lambda: ours(a, b))  # noqa: B023
        parts = tensors(found)
        alone = on_first_alone(comm, lambda: best(lambda: theirs(whole, right)))  # noqa: B023
        taken = max(seconds[0].item() for seconds in comm.allgather(torch.tensor([taken], dtype=torch.float64)))
        if comm.rank == 0:
            print(
                f"{name:>20}  {taken:7.3f} s  torch {alone[0]:7.3f} s  {taken / alone[0]:5.2f}x"
                f"  peak {beyond:4.1f} shares"
                f"  error {error(whole, right, parts):.1e}  torch {error(whole, right, tensors(alone[1])):.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
