"""How fast does a plate cool? The heat equation on one grid whose rows are cut over the ranks, beside NumPy.

The edges of a square plate are kept at 0 degrees; inside it begins at 100. Explicit steps take a stencil of each
rank's rows and those next to them (`map_halo`), and must give what the same lines of NumPy give on the whole grid.
Implicit steps, which may be far longer, solve a linear system each, by conjugate gradients with the same
stencil (`linalg.cg`): no matrix is ever made. Both must come near the exact solution, a sum of sines. Run it on
any number of ranks:

    mpiexec -n 4 python examples/heat.py
"""

import math
import sys

import numpy as np
import torch

import minisplit as ms

CELLS = 31  # inside of the edges, along each side of 1 m
WIDTH = 1 / (CELLS + 1)
DIFFUSIVITY = 1e-4  # m^2/s, of copper
SHORT = WIDTH**2 / DIFFUSIVITY / 5  # s: explicit steps of a quarter or more grow without bound
EXPLICIT, IMPLICIT = 200, 8  # steps to the same time
END = EXPLICIT * SHORT
TOLERANCE = 1.0  # degrees


def neighbours(u: torch.Tensor) -> torch.Tensor:
    """The sum of the four neighbours less four times the cell, of cells that have them all."""
    return u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * u[1:-1, 1:-1]


def laplacian(u: ms.DNDarray) -> ms.DNDarray:
    """The same on the cut grid, with 0 beyond the edges. Each rank gets a row from both of its neighbours."""
    return ms.map_halo(neighbours, u, 1, mode="constant") / WIDTH**2


def explicit(u: ms.DNDarray) -> ms.DNDarray:
    for _ in range(EXPLICIT):
        u = u + SHORT * DIFFUSIVITY * laplacian(u)
    return u


def explicit_of_numpy(u: np.ndarray) -> np.ndarray:
    for _ in range(EXPLICIT):
        edged = np.pad(u, 1)
        around = edged[:-2, 1:-1] + edged[2:, 1:-1] + edged[1:-1, :-2] + edged[1:-1, 2:] - 4 * u
        u = u + SHORT * DIFFUSIVITY * around / WIDTH**2
    return u


def implicit(u: ms.DNDarray) -> ms.DNDarray:
    """Steps of Crank and Nicolson: half of the change is that of the state before, half that of the one after."""
    half = END / IMPLICIT / 2 * DIFFUSIVITY
    # Two steps of a quarter first, wholly implicit, which the jump at the edges needs.
    for _ in range(4):
        u = solved(lambda v: v - half / 2 * laplacian(v), u)
    for _ in range(IMPLICIT - 1):
        u = solved(lambda v: v - half * laplacian(v), u + half * laplacian(u))
    return u


def solved(operator, u: ms.DNDarray) -> ms.DNDarray:
    found, missed = ms.linalg.cg(operator, u, u, rtol=1e-8)
    assert not missed
    return found


def exact() -> np.ndarray:
    """The solution of the differential equation in the middles of cells."""
    x, k = WIDTH * np.arange(1, CELLS + 1), np.arange(1, 2 * CELLS, 2)
    fade = np.exp(-((math.pi * k) ** 2) * DIFFUSIVITY * END)
    wave = 4 / math.pi * (np.sin(math.pi * x[:, None] * k) * fade / k).sum(1)
    return 100 * wave[:, None] * wave


def main() -> int:
    start = np.full((CELLS, CELLS), 100.0)
    u = ms.array(start, split=0)
    stepped, solution = explicit(u).numpy(), implicit(u).numpy()
    if u.comm.rank > 0:
        return 0  # the check is rank 0's
    errors = {
        "explicit steps are those of NumPy, within 1e-10": stepped - explicit_of_numpy(start),
        f"explicit steps are exact within {TOLERANCE} degrees": stepped - exact(),
        f"implicit steps are exact within {TOLERANCE} degrees": solution - exact(),
    }
    largest = {name: abs(error).max() for name, error in errors.items()}
    print(f"rows of the grid on each rank: {u.counts}")
    steps = f"{EXPLICIT} explicit steps, {IMPLICIT + 3} implicit ones"
    print(f"after {END:.0f} s the middle is at {stepped[CELLS // 2, CELLS // 2]:.1f} degrees: {steps}")
    passed = [error <= (1e-10 if "NumPy" in name else TOLERANCE) for name, error in largest.items()]
    for (name, error), is_right in zip(largest.items(), passed, strict=True):
        print(f"{name}: {'yes' if is_right else f'NO, {error:.1e}'}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
