"""What compiling a mapped function gains: bare `torch.vmap`, `ms.vmap`, the same compiled, and peers, in one run.

    python3 dev.py run -n 1 benchmarks/vmap_compiled.py [SAMPLES [PART OF A ROW'S NAME ...]]

Prints a table: microseconds of `torch.vmap` on the shard, and how many times that the others take: the least of
many calls, in rounds in which all take turns, on the slowest rank. "first" is the first call of the compiled map,
in seconds: with an empty cache (`TORCHINDUCTOR_CACHE_DIR`) in a first run, and from the cache in a second one. JAX
is a dash where it is not installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from peers import Jax, jax
from timing import longest, seconds

import minisplit as ms

SAMPLES, ROUNDS, ROUND = 2_000, 12, 0.02

SEED = torch.Generator().manual_seed(0)
W1, W2 = torch.randn(16, 16, generator=SEED) / 4, torch.randn(16, 16, generator=SEED) / 4


def polynomial(x: Any) -> Any:
    for _ in range(8):
        x = (x * 0.5 + 1.0) * x - 0.25
    return x.sum()


def cheap_polynomial(x: Any) -> Any:
    return (x * 0.5 + 1.0) * x - 0.25


def distances(x: Any) -> Any:
    points = x.reshape(16, 4)
    return (((points[:, None] - points[None]) ** 2).sum(-1) + 1e-9) ** 0.5


def attention(x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(8, 8)
    return torch.softmax(q @ q.T / 8**0.5, -1) @ q


def matmuls(x: torch.Tensor) -> torch.Tensor:
    y = x.reshape(4, 16)
    for _ in range(4):
        y = torch.tanh(y @ W1) @ W2
    return y


def gradients(x: torch.Tensor) -> Any:
    def loss(w: torch.Tensor) -> torch.Tensor:
        return ((torch.tanh(w @ x[:16]) - x[16:32]) ** 2).sum()

    return torch.func.grad(loss)(W1)


def rk4(x: Any) -> Any:
    def slope(a: Any, b: Any, c: Any) -> Any:
        return 10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c

    def moved(y: Any, k: Any, h: float) -> Any:
        return [p + h * q for p, q in zip(y, k, strict=True)]

    y, h = [x[0], x[1], x[2]], 0.01
    for _ in range(5):
        k1 = slope(*y)
        k2 = slope(*moved(y, k1, h / 2))
        k3 = slope(*moved(y, k2, h / 2))
        k4 = slope(*moved(y, k3, h))
        y = [p + h / 6 * (a + 2 * b + 2 * c + d) for p, a, b, c, d in zip(y, k1, k2, k3, k4, strict=True)]
    return y[0] + y[1] + y[2]


def solve(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(x.reshape(8, 8) + 8 * torch.eye(8), x[:8])


def in_jax(lib: Jax) -> dict[str, Callable[..., Any]]:
    """The functions that torch writes in another way than JAX."""
    np_, w1, w2 = lib.numpy, lib.numpy.asarray(W1.numpy()), lib.numpy.asarray(W2.numpy())

    def attention_(x: Any) -> Any:
        q = x.reshape(8, 8)
        return lib.jax.nn.softmax(q @ q.T / 8**0.5, -1) @ q

    def matmuls_(x: Any) -> Any:
        y = x.reshape(4, 16)
        for _ in range(4):
            y = np_.tanh(y @ w1) @ w2
        return y

    def gradients_(x: Any) -> Any:
        return lib.jax.grad(lambda w: ((np_.tanh(w @ x[:16]) - x[16:32]) ** 2).sum())(w1)

    def solve_(x: Any) -> Any:
        return np_.linalg.solve(x.reshape(8, 8) + 8 * np_.eye(8), x[:8])

    return {"attention": attention_, "matmuls": matmuls_, "gradients": gradients_, "solve": solve_}


class Case(NamedTuple):
    title: str
    func: Callable[..., Any]
    part: int = 1  # of the samples


CASES = [
    Case("polynomial of degree 256", polynomial),
    Case("cheap polynomial", cheap_polynomial),
    Case("distances of 16 points", distances),
    Case("softmax attention, 8 x 8", attention),
    Case("chain of matmuls, 16 x 16", matmuls),
    Case("gradients of a layer", gradients, 2),
    Case("RK4, 5 steps of Lorenz", rk4),
    Case("solve, 8 x 8", solve),
]


def measure(case: Case, samples: int, lib: Jax | None, comm: ms.Communication) -> str:
    func = case.func
    n = max(2, samples // case.part)
    x = ms.array(torch.randn(n, 64, generator=torch.Generator().manual_seed(comm.rank)), is_split=0)
    shard = x.larray
    bare, compiled = torch.vmap(func), ms.vmap(func, compile=True)
    first = longest(seconds(lambda: compiled(x), 1), comm)
    expected, (got,) = bare(shard), compiled(x)
    assert torch.allclose(got.larray, expected, rtol=1e-3, atol=1e-3), case.title
    fused = torch.compile(torch.vmap(func))
    plain = ms.vmap(func)
    calls: dict[str, Callable[[], Any]] = {
        "torch.vmap": lambda: bare(shard),
        "ms.vmap": lambda: plain(x),
        "compiled": lambda: compiled(x),
        "torch.compile": lambda: fused(shard),
    }
    if lib is not None:
        calls["JAX"] = lib.mapped(in_jax(lib).get(func.__name__, func), shard)
    repeats = {}
    for name, call in calls.items():
        call()
        call()
        repeats[name] = max(5, min(200, int(ROUND / max(longest(seconds(call, 1), comm), 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            comm.agree(np.zeros(1, dtype=np.int64))
            times[name].append(longest(min(seconds(call, 1) for _ in range(repeats[name])), comm))
    least = {name: min(each) for name, each in times.items()}
    cells = [f"{least['torch.vmap'] * 1e6:.0f} us"]
    for name in ("ms.vmap", "compiled", "torch.compile", "JAX"):
        cells.append(f"{least[name] / least['torch.vmap']:.3f}" if name in least else "-")
    return f"| {case.title} | {n} | {' | '.join(cells)} | {first:.1f} s |"


def main() -> None:
    torch.set_num_threads(1)
    comm = ms.get_comm()
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    lib = jax()
    if comm.rank == 0:
        print(f"{comm.size} ranks, {samples} samples on each", time.strftime("%H:%M"))
        print("| function | samples | torch.vmap | ms.vmap | compiled | torch.compile | JAX | first |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in [case for case in CASES if all(part in case.title for part in sys.argv[2:])]:
        line = measure(case, samples, lib, comm)
        if comm.rank == 0:
            print(line, flush=True)


if __name__ == "__main__":
    main()
