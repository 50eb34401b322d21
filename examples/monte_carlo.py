"""How sure is a correlation, and what is an option worth? Random numbers that no number of ranks changes.

First Efron's classic bootstrap: law schools drawn anew with replacement, 20,000 times, give an interval for the
correlation of two scores; for a mean, whose standard error is known, the same resamples must give that. Then the
price of a European call by 4 million paths, which must fit the formula of Black and Scholes. Plain torch for one
resample and one batch of paths; seeds as in one process. The picture goes to examples/out/monte-carlo.png. Run
it on any number of ranks: the digits are the same.

    mpiexec -n 4 python examples/monte_carlo.py

Data: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979: average LSAT and
GPA of the entering classes of 15 schools.
"""

import math
import sys
from pathlib import Path

import torch

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "monte-carlo.png"
LSAT = [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]
GPA = [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
RESAMPLES, BATCHES, PATHS = 20_000, 4_000, 1_000
SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.02, 0.25, 1.0


def correlation(scores: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of the two columns."""
    centred = scores - scores.mean(0)
    x, y = centred.unbind(1)
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def resampled(number: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The correlation and the mean LSAT of as many schools, drawn with replacement."""
    chosen = scores[torch.randint(len(scores), (len(scores),))]
    return correlation(chosen), chosen[:, 0].mean()


def paid(number: torch.Tensor) -> torch.Tensor:
    """What the option pays on average over some paths of the share, discounted."""
    shocks = torch.randn(PATHS, dtype=torch.float64)
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    prices = SPOT * torch.exp(drift + VOLATILITY * math.sqrt(YEARS) * shocks)
    return math.exp(-RATE * YEARS) * (prices - STRIKE).clamp(min=0).mean()


def black_scholes() -> float:
    """The price by Black and Scholes, "The pricing of options and corporate liabilities", JPE 81, 1973."""
    deviation = VOLATILITY * math.sqrt(YEARS)
    upper = (math.log(SPOT / STRIKE) + (RATE + VOLATILITY**2 / 2) * YEARS) / deviation
    below = [(1 + math.erf(d / math.sqrt(2))) / 2 for d in (upper, upper - deviation)]
    return SPOT * below[0] - STRIKE * math.exp(-RATE * YEARS) * below[1]


def draw(resamples: torch.Tensor, seen: float, interval: list[float], batches: torch.Tensor, exact: float) -> None:
    """Save the resampled correlations, and how the price settles as paths are added."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
    left.hist(resamples, bins=120, color="C0", alpha=0.7)
    left.axvspan(*interval, color="C1", alpha=0.2, zorder=0, label="95% of the resamples")
    left.axvline(seen, color="black", linewidth=1, label=f"correlation of the {len(LSAT)} schools")
    left.set(title=f"{len(resamples):,} resamples of the schools", xlabel="correlation of LSAT and GPA")
    left.set(ylabel="resamples", xlim=(0, 1))
    left.legend(frameon=False, loc="upper left")

    number = torch.arange(1, len(batches) + 1)
    price = batches.cumsum(0) / number
    error = 2 * batches.std() / number.sqrt()
    right.plot(number * PATHS, price, color="C0", linewidth=1.5, label="paths")
    right.fill_between(
        number * PATHS, price - error, price + error, color="C0", alpha=0.2, label="2 standard errors"
    )
    right.axhline(exact, color="black", linewidth=1, label="Black and Scholes")
    right.set(title="Price of the call", xlabel="paths", xscale="log", ylim=(exact - 0.6, exact + 0.6))
    right.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    ms.random.seed(1979)
    scores = torch.tensor([LSAT, GPA], dtype=torch.float64).T
    both = ms.vmap(resampled, randomness="different")(ms.arange(RESAMPLES, split=0), scores=scores)
    payments = ms.vmap(paid, randomness="different", chunk_size="auto").one(ms.arange(BATCHES, split=0))

    # Gathered, and so added up in one order.
    correlations, means, batches = (x.torch() for x in (*both, payments))
    if payments.comm.rank > 0:
        return 0  # the check is rank 0's
    seen = float(correlation(scores))
    interval = correlations.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    error, known = float(means.std()), float(scores[:, 0].std(correction=0)) / math.sqrt(len(scores))
    price, spread = float(batches.mean()), float(batches.std()) / math.sqrt(BATCHES)
    exact = black_scholes()
    draw(correlations, seen, interval, batches, exact)
    print(f"correlation of LSAT and GPA of {len(scores)} schools: {seen:.6f}")
    print(f"bootstrap of {RESAMPLES} resamples: standard error {correlations.std():.6f}")
    print("95% of the resamples lie from {:.6f} to {:.6f}".format(*interval))
    print(f"standard error of the mean LSAT: {error:.6f} by the same resamples; exactly: {known:.6f}")
    print(f"call by {BATCHES * PATHS} paths: {price:.6f} +- {spread:.6f}; Black and Scholes: {exact:.6f}")
    fine = abs(error / known - 1) < 4 / math.sqrt(2 * RESAMPLES) and abs(price - exact) < 4 * spread
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"both within 4 standard errors of what is exact: {'yes' if fine else 'NO'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
