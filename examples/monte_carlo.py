"""How sure is a correlation, and what is an option worth? Random numbers that no number of ranks changes.

First Efron's classic bootstrap: law schools drawn anew with replacement, 20,000 times, give an interval
for the correlation of two scores. Then the price of a European call by 4 million paths, beside the formula of
Black and Scholes. Plain torch for one resample and one batch of paths; seeds as in one process. Run it on any
number of ranks: the digits are the same.

    mpiexec -n 4 python examples/monte_carlo.py

Data: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979: average LSAT and
GPA of the entering classes of 15 schools.
"""

import math
import sys

import torch

import minisplit as ms

LSAT = [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]
GPA = [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
RESAMPLES, BATCHES, PATHS = 20_000, 4_000, 1_000
SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.02, 0.25, 1.0


def correlation(scores: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of the two columns."""
    centred = scores - scores.mean(0)
    x, y = centred.unbind(1)
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def resampled(number: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The correlation of as many schools, drawn with replacement."""
    chosen = torch.randint(len(scores), (len(scores),))
    return correlation(scores[chosen])


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


def main() -> int:
    ms.random.seed(1979)
    scores = torch.tensor([LSAT, GPA], dtype=torch.float64).T
    (correlations,) = ms.vmap(resampled, randomness="different")(ms.arange(RESAMPLES, split=0), scores=scores)
    (payments,) = ms.vmap(paid, randomness="different", chunk_size="auto")(ms.arange(BATCHES, split=0))

    # Gathered, and so added up in one order.
    resamples, batches = (torch.from_numpy(x.numpy()) for x in (correlations, payments))
    low, high = resamples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    price, error = float(batches.mean()), float(batches.std()) / math.sqrt(BATCHES)
    exact = black_scholes()
    if correlations.comm.rank == 0:
        print(f"correlation of LSAT and GPA of {len(scores)} schools: {correlation(scores):.6f}")
        print(f"bootstrap of {RESAMPLES} resamples: standard error {resamples.std():.6f}")
        print(f"95% of the resamples lie from {low:.6f} to {high:.6f}")
        print(f"call by {BATCHES * PATHS} paths: {price:.6f} +- {error:.6f}; Black and Scholes: {exact:.6f}")
    return 0 if abs(price - exact) < 4 * error else 1


if __name__ == "__main__":
    sys.exit(main())
