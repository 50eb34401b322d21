"""How likely was an O-ring to fail at 31 °F? A Bayesian posterior by 2,000 Markov chains over all ranks.

Before the Challenger was launched at 31 °F, hot gas had damaged O-rings of its boosters in 7 of 23 flights, all of
them warmer than 52 °F. The model is a logistic regression of damage on temperature. Each chain is plain torch for
one chain: Hamiltonian Monte Carlo (Neal, "MCMC using Hamiltonian dynamics", 2011) from its own start with its own
random numbers. The chains must have mixed (R-hat, Gelman and Rubin 1992) and agree with the integral over a fine
grid within 4 standard errors. The picture goes to examples/out/posterior.png. Run it on any number of ranks: the
digits are the same.

    mpiexec -n 4 python examples/posterior.py

Data: S. Dalal, E. Fowlkes, B. Hoadley, "Risk analysis of the space shuttle: pre-Challenger prediction of failure",
Journal of the American Statistical Association 84, 1989: temperature in °F, and whether an O-ring was damaged.
"""

import sys
from pathlib import Path

import torch
from torch.func import grad
from torch.nn.functional import logsigmoid

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "posterior.png"
# °F at the flights without and with a damaged O-ring
WHOLE = [66, 69, 68, 67, 72, 73, 70, 78, 67, 67, 75, 70, 81, 76, 79, 76]
DAMAGED = [70, 57, 63, 70, 53, 75, 58]
COLD, MIDDLE = 31.0, 70.0  # °F: at the launch; at which the intercept is
CHAINS, WARMING, DRAWS = 2_000, 60, 100
LEAPS, STEP = 5, 0.4
WIDTH = 5.0  # standard deviation of the prior of both parameters
MIXED = 1.01  # R-hat below which chains count as mixed


def logit(temperature: torch.Tensor | float, parameters: torch.Tensor) -> torch.Tensor:
    """Logarithm of the odds of damage: the intercept is at 70 °F, the slope per 10 °F."""
    return parameters[0] + parameters[1] * (temperature - MIDDLE) / 10


def log_density(parameters: torch.Tensor) -> torch.Tensor:
    """Logarithm of the posterior density, but for a constant."""
    damaged = logsigmoid(logit(torch.tensor(DAMAGED), parameters)).sum()
    whole = logsigmoid(-logit(torch.tensor(WHOLE), parameters)).sum()
    return damaged + whole - (parameters**2).sum() / (2 * WIDTH**2)


def chain(start: torch.Tensor) -> torch.Tensor:
    """The draws x 2 parameters of one chain from that start."""
    # All random numbers of the chain at once.
    kicks = torch.randn(WARMING + DRAWS, 2, dtype=start.dtype)
    limits = torch.rand(WARMING + DRAWS, dtype=start.dtype).log()
    slope = grad(log_density)
    here, kept = start, []
    for kick, limit in zip(kicks, limits, strict=True):
        there, momentum = here, kick + STEP / 2 * slope(here)
        for _ in range(LEAPS):
            there = there + STEP * momentum
            momentum = momentum + STEP * slope(there)
        momentum = momentum - STEP / 2 * slope(there)  # the last one was half a step too long
        energy = log_density(there) - log_density(here) + ((kick**2).sum() - (momentum**2).sum()) / 2
        here = torch.where(limit < energy, there, here)
        kept.append(here)
    return torch.stack(kept[WARMING:])


def r_hat(draws: ms.DNDarray) -> ms.DNDarray:
    """How much wider all chains lie than one: 1 where they have mixed. `draws` are chains x draws x parameters."""
    number = draws.shape[1]
    within = ms.var(draws, axis=1, correction=1).mean(axis=0)
    between = ms.var(draws.mean(axis=1), axis=0, correction=1)
    return ms.sqrt((number - 1) / number + between / within)


def quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    """Parameters on a grid, 2 x 400 x 400, and the posterior probability of each cell."""
    axes = torch.linspace(-6, 3, 400, dtype=torch.float64), torch.linspace(-10, 3, 400, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    density = torch.vmap(torch.vmap(log_density, 1), 1)(grid).exp()
    return grid, density / density.sum()


def draw(draws: torch.Tensor, grid: torch.Tensor, density: torch.Tensor) -> None:
    """Save the posterior with the chains' draws in it, and the probability of damage by temperature."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    left.plot(*draws[:, -1].T, ".", markersize=3, alpha=0.4, label="last draw of each chain")
    left.plot(*draws[0, :25].T, "-o", markersize=3, linewidth=1, color="C3", label="25 draws of one chain")
    left.contour(*grid, density / density.max(), levels=[0.01, 0.1, 0.5, 0.9], colors="black", linewidths=1)
    left.set(title="Posterior: chains, and contours by quadrature", xlim=(-4, 1.5), ylim=(-7, 1))
    left.set(xlabel="log odds of damage at 70 °F", ylabel="change per 10 °F")
    left.legend(frameon=False)

    temperature = torch.linspace(28, 84, 113)
    curves = torch.sigmoid(logit(temperature, draws[:, -1].T[..., None]))
    for low, high, alpha in ((0.05, 0.95, 0.2), (0.25, 0.75, 0.3)):
        band = curves.quantile(torch.tensor([low, high], dtype=curves.dtype), dim=0)
        right.fill_between(temperature, *band, color="C0", alpha=alpha, label=f"{high - low:.0%}")
    right.plot(temperature, curves.mean(0), color="C0", label="mean")
    right.plot(DAMAGED, torch.ones(len(DAMAGED)), "o", color="C3", alpha=0.6, clip_on=False, label="damaged")
    right.plot(WHOLE, torch.zeros(len(WHOLE)), "o", color="black", alpha=0.4, clip_on=False, label="not damaged")
    right.axvline(COLD, color="black", linewidth=1, linestyle="--")
    right.text(COLD + 0.6, 0.5, "Challenger's launch")
    right.set(title="Probability that an O-ring is damaged", xlabel="temperature (°F)", ylim=(0, 1))
    right.legend(frameon=False, loc=(0.73, 0.48))
    figure.suptitle(f"{len(draws):,} chains of Hamiltonian Monte Carlo, 23 flights")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    ms.random.seed(1986)
    starts = ms.random.normal(0, 3, (CHAINS, 2), dtype=torch.float64, split=0)
    draws = ms.vmap(chain, randomness="different").one(starts)

    ratios = r_hat(draws).tolist()
    gathered = draws.torch()
    if draws.comm.rank > 0:
        return 0  # the check is rank 0's
    grid, density = quadrature()
    names = "log odds at 70 °F", "change per 10 °F", "damage at 31 °F"
    quantities = [*gathered.unbind(2), torch.sigmoid(logit(COLD, gathered.movedim(2, 0)))]
    exact = [*grid, torch.sigmoid(logit(COLD, grid))]
    rows, fine = [], max(ratios) < MIXED
    for name, values, cells in zip(names, quantities, exact, strict=True):
        means = values.mean(1)  # those of the chains are independent
        mean, error = float(means.mean()), float(means.std()) / CHAINS**0.5
        integral = float((cells * density).sum())
        fine = fine and abs(mean - integral) < 4 * error
        rows.append(f"{name:18} {mean:8.5f} +- {error:.5f} {integral:12.5f}")
    draw(gathered, grid, density)
    print(f"chains on each rank: {draws.counts}")
    print(f"{CHAINS} chains of {DRAWS} draws; R-hat: {ratios[0]:.4f} and {ratios[1]:.4f} (below {MIXED:g})\n")
    print("                       mean +-   error   quadrature", *rows, sep="\n")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"mixed, and within 4 standard errors of the quadrature: {'yes' if fine else 'NO'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
