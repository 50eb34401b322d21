"""What linear algebra of one large matrix that is cut takes beside torch in one process, in time and memory.

    python3 dev.py run -n 4 benchmarks/linear_algebra.py [--rows ROWS] [--rounds ROUNDS] [NAME ...]

Prints one table for a float64 matrix that is split along its columns, with a row for each operation; by default
those are `USUAL`. Others are named: a Fourier transform of a prime number of points, and a random order, too, of
as many numbers. The columns:

- the least time of some rounds on all ranks, or of one call that takes longer than `LONG` seconds; that of torch
  in one process with as many threads as the ranks have cores, while the other ranks sleep; and their ratio,
- the backward error, which is the norm of the product of what was found minus the matrix, over the norms of the
  factors, from some random vectors; that of LAPACK; and the ratio. Where vectors should be orthonormal, it is the
  greatest of this ratio and of that of how far they are from it,
- the most memory that a rank takes beyond what it had, results included, in shards of the matrix.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from memory import status
from timing import longest

import minisplit as ms

LONG = 5.0
T, L = torch.linalg, ms.linalg
Errors = Sequence[float]
Array = Any  # of minisplit or torch


def norm(x: Array) -> float:
    return float((x * x).sum()) ** 0.5


def vectors_like(x: Array) -> Array:
    """Random vectors, the same in all calls, on all ranks: a residual is estimated by its products with them."""
    some = torch.randn(x.shape[1], 64, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    return ms.array(some) if isinstance(x, ms.DNDarray) else some


def of_product(left: Array, right: Array, wanted: Array) -> float:
    """The norm of `left @ right - wanted` over those of the factors."""
    some = vectors_like(right)
    return norm(left @ (right @ some) - wanted @ some) / norm(some[0]) / (norm(left) * norm(right))


def of_columns(q: Array) -> float:
    """How far columns are from orthonormal ones."""
    some = vectors_like(q)
    return norm(q.T @ (q @ some) - some) / norm(some)


def of_identity(a: Array, inverse: Array) -> float:
    some = vectors_like(a)
    return norm(a @ (inverse @ some) - some) / norm(some[0]) / (norm(a) * norm(inverse))


def of_exponential(a: Array, found: Array) -> float:
    whole = found.resplit(None).larray if isinstance(found, ms.DNDarray) else found
    a = a.resplit(None).larray if isinstance(a, ms.DNDarray) else a
    return norm(whole - T.matrix_exp(a)) / norm(whole)


# The function of arrays or tensors, which takes `linalg`; and the errors of its result, given the matrix and the
# right-hand sides.
Case = tuple[Callable[[Any, Array, Array], Any], Callable[[Array, Array, Any], Errors]]
CASES: dict[str, Case] = {
    "cholesky": (lambda la, a, b: la.cholesky(a), lambda a, b, x: [of_product(x, x.T, a)]),
    "solve": (lambda la, a, b: la.solve(a, b), lambda a, b, x: [of_product(a, x, b)]),
    "inv": (lambda la, a, b: la.inv(a), lambda a, b, x: [of_identity(a, x)]),
    "qr": (lambda la, a, b: la.qr(a), lambda a, b, x: [of_product(*x, a), of_columns(x[0])]),
    "eigh": (
        lambda la, a, b: la.eigh(a), lambda a, b, x: [of_product(x[1] * x[0], x[1].T, a), of_columns(x[1])],
    ),
    "svd": (
        lambda la, a, b: la.svd(a),
        lambda a, b, x: [of_product(x[0] * x[1], x[2], a), of_columns(x[0]), of_columns(x[2].T)],
    ),
    "eigvalsh": (lambda la, a, b: la.eigvalsh(a), lambda a, b, x: []),
    "svdvals": (lambda la, a, b: la.svdvals(a), lambda a, b, x: []),
    "slogdet": (lambda la, a, b: la.slogdet(a), lambda a, b, x: []),
    "pinv": (lambda la, a, b: la.pinv(a), lambda a, b, x: [of_identity(a, x)]),
    "matrix_exp": (lambda la, a, b: la.matrix_exp(a), lambda a, b, x: [of_exponential(a, x)]),
    "fft": (lambda la, a, b: (ms if la is L else torch).fft.fft(a), lambda a, b, x: []),
    "randperm": (
        lambda la, a, b: ms.random.randperm(a.size, split=0) if la is L else torch.randperm(len(a)),
        lambda a, b, x: [],
    ),
}  # fmt: skip
USUAL = ("cholesky", "solve", "inv", "qr", "eigh", "svd")


def keep_no_memory(limit: int) -> None:
    """Let malloc give memory of so many bytes back when it is freed, so that it does not count for the peak."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, limit)  # M_MMAP_THRESHOLD
        libc.malloc_trim(0)


def measured(call: Callable[[], Any], rounds: int, comm: ms.Communication) -> tuple[float, int, Any]:
    """The least time, the peak of the first call, and the result. Collective."""
    keep_no_memory(2**20)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    least, result = timed(call, comm)
    peak = status("VmHWM") - before
    keep_no_memory(2**25)
    for _ in range(rounds if least < LONG else 0):
        result = None
        seconds, result = timed(call, comm)
        least = min(least, seconds)
    return least, peak, result


def timed(call: Callable[[], Any], comm: ms.Communication) -> tuple[float, Any]:
    comm.allreduce(torch.zeros(1))
    started = time.perf_counter()
    result = call()
    return longest(time.perf_counter() - started, comm), result


def on_first_alone(comm: ms.Communication, call: Callable[[], Any]) -> Any:
    """Rank 0's result there. The others sleep meanwhile: a rank that waits in MPI keeps a core busy."""
    folder = comm.broadcast_bytes(tempfile.mkdtemp().encode() if comm.rank == 0 else b"", 0).decode()
    ended, threads = Path(folder, "ended"), torch.get_num_threads()
    if comm.rank:
        while not ended.exists():
            time.sleep(0.01)
        return None
    torch.set_num_threads(cores(comm))
    try:
        return call()
    finally:
        torch.set_num_threads(threads)
        ended.touch()


def cores(comm: ms.Communication) -> int:
    """How many cores the ranks have."""
    return min(comm.size * torch.get_num_threads(), len(os.sched_getaffinity(0)))


def of_torch(call: Callable[[], Any], errors: Callable[[Any], Errors], rounds: int) -> tuple[float, Errors]:
    comm, least = ms.SELF, math.inf
    result = None
    for _ in range(1 + rounds):
        result = None
        seconds, result = timed(call, comm)
        least = min(least, seconds)
        if seconds > LONG:
            break
    return least, errors(result)


def prime_from(n: int) -> int:
    """The least prime number from `n` on."""
    while any(n % divisor == 0 for divisor in range(2, math.isqrt(n) + 1)):
        n += 1
    return n


def operands(name: str, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name in ("fft", "randperm"):
        return torch.randn(prime_from(rows * rows), dtype=torch.float64, generator=generator), torch.zeros(1)
    a, b = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (rows, rows // 2))
    if name == "cholesky":
        a = a @ a.mT / rows + torch.eye(rows, dtype=torch.float64)
    if name in ("eigh", "eigvalsh"):
        a = (a + a.mT) / 2
    return a / rows**0.5 if name == "matrix_exp" else a, b


def row(name: str, rows: int, rounds: int, comm: ms.Communication) -> str:
    function, errors = CASES[name]
    whole, right = operands(name, rows)
    a, b = ms.array(whole, split=whole.ndim - 1), ms.array(right, split=right.ndim - 1)
    taken, peak, found = measured(lambda: function(L, a, b), rounds, comm)
    shards = longest(peak / (whole.nbytes / comm.size), comm)
    ours = errors(a, b, found)
    del found
    alone = on_first_alone(
        comm, lambda: of_torch(lambda: function(T, whole, right), lambda x: errors(whole, right, x), rounds)
    )
    if alone is None:
        return ""
    seconds, theirs = alone
    ratio = max((one / (other or math.nan) for one, other in zip(ours, theirs, strict=True)), default=math.nan)
    shown = [f"{each[0]:.1e}" if each else "-" for each in (ours, theirs)]
    return (
        f"| {name:10} | {taken:7.2f} | {seconds:7.2f} | {taken / seconds:5.2f} | {shown[0]:>7} | {shown[1]:>7} "
        f"| {ratio:5.1f} | {shards:5.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of calls that are not long")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    chosen = parser.parse_args()
    comm = ms.MPI_WORLD
    for name in chosen.names or USUAL:  # what is imported at the first call, and MPI's own memory
        row(name, 256, 0, comm)
    lines = [
        f"{chosen.rows} rows, {comm.size} ranks, {cores(comm)} cores; a panel is "
        f"{128 * comm.size / chosen.rows:.2f} shards",
        "",
        "|            | seconds |   torch | ratio |   error | LAPACK  | ratio | peak, shards |",
        "| ---------- | ------- | ------- | ----- | ------- | ------- | ----- | ----- |",
    ]
    if comm.rank == 0:
        print("\n".join(lines), flush=True)
    for name in chosen.names or USUAL:
        line = row(name, chosen.rows, chosen.rounds, comm)
        if comm.rank == 0:
            print(line, flush=True)


if __name__ == "__main__":
    main()
