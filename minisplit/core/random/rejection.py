"""Numbers of distributions with parameters of their own for each, by rejection: gamma and binomial ones.

As in `sampling`, each is a function of its place. What is rejected is drawn again from other words of that place.
"""

from __future__ import annotations

import torch

from minisplit.core.random.grids import Grid
from minisplit.core.random.sampling import apply_exactly, between


def gamma(grid: Grid, concentration: torch.Tensor) -> torch.Tensor:
    """Draw float64 numbers of the gamma distribution of scale 1, one for each concentration of the grid's size.

    Marsaglia and Tsang, "A simple method for generating gamma variables", ACM Transactions on Mathematical
    Software 26, 2000. It accepts more than 95 of 100.
    """
    alpha = concentration.to(torch.float64).reshape(-1)
    # Below 1 it is one of alpha + 1, times a uniform number to the power of 1 / alpha.
    d = torch.where(alpha < 1, alpha + 1, alpha) - 1 / 3
    c = 1 / (9 * d).sqrt()
    numbers = torch.full_like(alpha, torch.nan)
    left = (alpha > 0).nonzero().squeeze(1)
    attempt = 1
    while left.numel():
        u, angle = _uniform(grid, left, attempt)
        # The numbers themselves, and not only which are accepted, depend on these functions.
        normal = (-2 * apply_exactly("log", u)).sqrt() * apply_exactly("cos", 2 * torch.pi * angle)
        root = 1 + c[left] * normal
        v = root * root * root
        w, _ = _uniform(grid, left, attempt + 1)
        log_v = torch.where(v > 0, v, 1).log()
        accepted = (v > 0) & (w.log() < normal**2 / 2 + d[left] * (1 - v + log_v))
        numbers[left[accepted]] = (d[left] * v)[accepted]
        left = left[~accepted]
        attempt += 2
    below = (alpha < 1).nonzero().squeeze(1)
    if below.numel():
        u, _ = _uniform(grid, below, 0)
        numbers[below] *= apply_exactly("exp", apply_exactly("log", u) / alpha[below])
    return numbers.view(grid.rows, grid.length)


def binomial(grid: Grid, count: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Draw float64 counts of successes, one for each number of trials and their probability, of the grid's size.

    Where few are expected by the sum of probabilities, else by BTRS: Hörmann, "The generation of binomial random
    variates", Journal of Statistical Computation and Simulation 46, 1993.
    """
    n, p = (x.to(torch.float64).reshape(-1) for x in (count, probability))
    q = torch.minimum(p, 1 - p)
    counts = torch.full_like(n, torch.nan)
    is_small = n * q < 10
    small, left = (x.nonzero().squeeze(1) for x in (is_small, n * q >= 10))
    counts[small] = _binomial_by_sums(_uniform(grid, small, 0)[0], n[small], q[small])
    attempt = 0
    while left.numel():
        attempt += 1
        proposed, accepted = _binomial_by_rejection(n[left], q[left], *_uniform(grid, left, attempt))
        counts[left[accepted]] = proposed[accepted]
        left = left[~accepted]
    return torch.where(p > q, n - counts, counts).view(grid.rows, grid.length)


def _uniform(grid: Grid, index: torch.Tensor, attempt: int) -> torch.Tensor:
    """Two numbers between 0 and 1 for each place, neither of which is an end."""
    return between(grid.again(index, attempt))


def _binomial_by_sums(u: torch.Tensor, n: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """How many probabilities, from that of 0 on, add up to a uniform number."""
    probability = torch.exp(n * torch.log1p(-p))
    odds, count, total = p / (1 - p), torch.zeros_like(n), probability.clone()
    while bool((going := (u >= total) & (count < n) & (probability > 2.0**-60)).any()):
        count += going
        probability *= torch.where(going, odds * (n - count + 1) / count.clamp(min=1), 1)
        total += torch.where(going, probability, 0)
    return count


def _binomial_by_rejection(
    n: torch.Tensor, p: torch.Tensor, u: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Propose a count for each, and say whether it is accepted. The names are those of Hörmann's paper."""
    spq = (n * p * (1 - p)).sqrt()
    b = 1.15 + 2.53 * spq
    a = -0.0873 + 0.0248 * b + 0.01 * p
    u = u - 0.5
    us = 0.5 - u.abs()
    k = ((2 * a / us + b) * u + n * p + 0.5).floor()
    m = ((n + 1) * p).floor()
    is_inside = (us >= 0.07) & (v <= 0.92 - 4.2 / b)
    in_range = (k >= 0) & (k <= n)
    k = torch.where(in_range, k, m)
    density = torch.log(v * (2.83 + 5.1 / b) * spq / (a / us**2 + b))
    ratio = torch.lgamma(m + 1) + torch.lgamma(n - m + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return k, in_range & (is_inside | (density <= ratio + (k - m) * torch.log(p / (1 - p))))
