"""`ms.random`: random arrays that are the same for every number of ranks, split and counts."""

from minisplit.core.random.distributions import (
    bernoulli, choice, exponential, normal, permutation, poisson, rand, rand_like, randint, randint_like, randn,
    randn_like, randperm, uniform,
)
from minisplit.core.random.families import beta, binomial, chisquare, gamma, geometric, laplace, lognormal
from minisplit.core.random.generator import Generator, State, fork, get_state, seed, set_state

__all__ = [
    "Generator", "State", "bernoulli", "beta", "binomial", "chisquare", "choice", "exponential", "fork", "gamma",
    "geometric", "get_state", "laplace", "lognormal", "normal", "permutation", "poisson", "rand", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "randperm", "seed", "set_state", "uniform",
]
