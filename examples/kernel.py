"""How sure is a network between its data? A neural tangent kernel, and Laplace's approximation, over all ranks.

Fits a small network to 240 noisy points of a curve, and says how sure it is at 400 others, with a gap in the data
among them. All follows from one kernel, that of the network's gradients, between the points, and between them and
the others (Jacot et al., "Neural tangent kernel", NeurIPS 2018; Immer et al., "Improving predictions of Bayesian
neural nets via local linearization", AISTATS 2021). Both sets are split: each rank has the gradients of its
points, and its rows of the kernel. The picture goes to examples/out/kernel.png. Run it on any number of ranks:

    mpiexec -n 4 python examples/kernel.py
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, grad_and_value
from torch.nn.utils import parameters_to_vector

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "kernel.png"
POINTS, STEPS, NOISE, PRIOR = 240, 50, 0.1, 1.0  # standard deviations of a point, and of a weight before all data
SIDES = (-3.0, -0.7), (0.9, 3.0)  # where the points are
LEAST, MOST, WIDER, TOLERANCE = 0.9, 0.99, 5.0, 1e-6  # what must be reached

torch.manual_seed(0)
LAYERS = nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1)
NETWORK = nn.Sequential(*LAYERS).double().requires_grad_(False)
SHAPES = {name: x.shape for name, x in NETWORK.named_parameters()}


def network(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The network with these weights, at one point."""
    pieces = weights.split([shape.numel() for shape in SHAPES.values()])
    parameters = {name: piece.view(shape) for (name, shape), piece in zip(SHAPES.items(), pieces, strict=True)}
    return functional_call(NETWORK, parameters, x[None])[0]


linearise = ms.vmap(grad_and_value(network))  # at each point the gradient by the weights, and the value


def loss(weights: ms.DNDarray, x: ms.DNDarray, y: ms.DNDarray) -> float:
    values = ms.vmap(network).one(weights, x)
    return float(((y - values) ** 2).sum() / NOISE**2 + (weights**2).sum() / PRIOR**2)


def fit(weights: ms.DNDarray, x: ms.DNDarray, y: ms.DNDarray) -> ms.DNDarray:
    """Gauss and Newton's steps, made in the space of the points, shorter where they would not help (Levenberg)."""
    damping, least = 1.0, loss(weights, x, y)
    for _ in range(STEPS):
        slopes, values = linearise(weights, x)
        downhill, stiff = slopes.T @ (y - values) / NOISE**2 - weights / PRIOR**2, PRIOR**-2 + damping
        told = ms.linalg.solve(slopes @ slopes.T + stiff * NOISE**2 * ms.eye(len(x)), slopes @ downhill)
        tried = weights + (downhill - slopes.T @ told) / stiff
        found = loss(tried, x, y)
        weights, least, damping = (tried, found, damping / 3) if found < least else (weights, least, 4 * damping)
    return weights


def draw(x: torch.Tensor, y: torch.Tensor, grid: torch.Tensor, values: torch.Tensor, spread: torch.Tensor) -> None:
    """Save the points, the network, and how sure it is."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    label = "two standard deviations"
    axis.fill_between(grid, values - 2 * spread, values + 2 * spread, color="tab:orange", alpha=0.3, label=label)
    axis.plot(grid, values, color="tab:red", label="network")
    axis.plot(x, y, ".", color="black", markersize=3, label=f"{POINTS} points")
    axis.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    ms.random.seed(0)
    x = ms.concat([ms.random.uniform(*side, POINTS // 2, dtype=torch.float64, split=0) for side in SIDES])
    grid = ms.linspace(-3, 3, 400, dtype=torch.float64, split=0)
    y, new = (ms.sin(2 * each) + 0.3 * each + NOISE * ms.random.randn_like(each) for each in (x, grid))
    weights = fit(ms.array(parameters_to_vector(NETWORK.parameters())), x, y)

    (slopes, _), (others, values) = linearise(weights, x), linearise(weights, grid)
    between = others @ slopes.T  # the kernel between two sets of points, of which each rank has rows
    told = ms.linalg.solve(slopes @ slopes.T + (NOISE / PRIOR) ** 2 * ms.eye(POINTS), between.T)
    variance = PRIOR**2 * ((others**2).sum(axis=1) - (between * told.T).sum(axis=1))
    # The same by the precision of the weights, a matrix of another size.
    precision = slopes.T @ slopes / NOISE**2 + ms.eye(len(weights)) / PRIOR**2
    again = (others @ ms.linalg.inv(precision) * others).sum(axis=1)
    difference = float(abs(again / variance - 1).max())
    covered = float((abs(new - values) <= 2 * ms.sqrt(variance + NOISE**2)).astype(torch.float64).mean())
    is_gap = (grid > SIDES[0][1]) & (grid < SIDES[1][0])
    wider = float(ms.median(ms.sqrt(variance[is_gap])) / ms.median(ms.sqrt(variance[~is_gap])))
    checks = {
        f"{LEAST:.0%} to {MOST:.0%}, and at least {WIDER:g}-fold": LEAST <= covered <= MOST and wider >= WIDER,
        f"the same by the precision of the weights, within {TOLERANCE:.0e}": difference <= TOLERANCE,
    }
    drawn = [each.torch() for each in (x, y, grid, values, ms.sqrt(variance))]
    if x.comm.rank == 0:
        draw(*drawn)
        print(f"points on each rank: {x.counts}, and others: {grid.counts}")
        print(f"two standard deviations hold {covered:.1%} of the others, and grow {wider:.1f}-fold in the gap")
        print(f"picture: {PICTURE.relative_to(Path(__file__).parent.parent)}\n")
        print("\n".join(f"{check}: {'yes' if is_met else 'NO'}" for check, is_met in checks.items()))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
