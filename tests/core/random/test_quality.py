"""Statistical tests of the numbers. Seeds are fixed, so each holds always or never, at a level of one in 10^4."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms

stats = pytest.importorskip("scipy.stats")
pytestmark = pytest.mark.serial

LEVEL = 1e-4
N = 200_000


@pytest.fixture(autouse=True)
def _seeded():
    with ms.random.fork(seed=20261130):
        yield


def fits(numbers, distribution):
    assert stats.kstest(np.asarray(numbers, dtype=np.float64).ravel(), distribution).pvalue > LEVEL


def as_likely(counts, expected=None):
    expected = np.full(len(counts), np.sum(counts) / len(counts)) if expected is None else expected
    assert stats.chisquare(counts, expected * (np.sum(counts) / np.sum(expected))).pvalue > LEVEL


def uncorrelated(x, y):
    """Pearson's correlation of independent numbers is normal with variance 1 / n."""
    x, y = (np.asarray(z, dtype=np.float64).ravel() for z in (x, y))
    assert abs(np.corrcoef(x, y)[0, 1]) * np.sqrt(len(x)) < stats.norm.isf(LEVEL / 2)


def discrete(numbers, distribution):
    """Chi-square of counts against a discrete distribution, rare values taken together."""
    values = np.asarray(numbers, dtype=np.int64)
    low, high = int(distribution.ppf(1e-4)), int(distribution.ppf(1 - 1e-4))
    seen = np.bincount(np.clip(values, low, high) - low, minlength=high - low + 1)
    masses = distribution.pmf(np.arange(low, high + 1))
    masses[0], masses[-1] = distribution.cdf(low), distribution.sf(high - 1)
    as_likely(seen, masses)


def test_every_bit_and_byte_of_the_words():
    words = ms.random.randint(0, 2**32, N).numpy().astype(np.uint32)
    for shift in (0, 8, 16, 24):
        as_likely(np.bincount((words >> shift) & 255, minlength=256))
    for bit in range(32):
        as_likely(np.bincount((words >> bit) & 1, minlength=2))
    # Pairs of the nibbles of neighbours, also beyond one counter's four words.
    for distance in (1, 2, 3, 4):
        pairs = (words[:-distance] & 15) * 16 + (words[distance:] & 15)
        as_likely(np.bincount(pairs[:: distance + 1], minlength=256))


def test_birthdays_are_spaced_as_by_chance():
    """Marsaglia's birthday spacings: of 2^9 birthdays in a year of 2^24 days 2 spacings come twice on average."""
    days = np.sort((ms.random.randint(0, 2**32, (2000, 2**9)).numpy() >> 8), axis=1)
    spacings = np.sort(np.diff(days, axis=1), axis=1)
    repeated = (np.diff(spacings, axis=1) == 0).sum(1)
    discrete(repeated, stats.poisson(2**27 / 2**26))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_normal_and_exponential(dtype):
    fits(ms.random.rand(N, dtype=dtype).numpy(), "uniform")
    fits(ms.random.randn(N, dtype=dtype).numpy(), "norm")
    fits(ms.random.exponential(2, N, dtype=dtype).numpy() / 2, "expon")
    fits(ms.random.uniform(-1, 3, N, dtype=dtype).numpy() / 4 + 0.25, "uniform")
    fits((ms.random.normal(5, 0.1, N, dtype=dtype).numpy() - 5) * 10, "norm")


def test_the_tails_of_normal_numbers():
    for dtype in (torch.float32, torch.float64):
        x = np.abs(ms.random.randn(2_000_000, dtype=dtype).numpy())
        for far in (2, 3, 4, 4.5):
            discrete_count = stats.binomtest(int((x > far).sum()), x.size, 2 * stats.norm.sf(far))
            assert discrete_count.pvalue > LEVEL
        assert x.max() < 7


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 11), (torch.bfloat16, 8), (torch.float32, 24)])
def test_uniform_numbers_have_all_bits_of_their_dtype_and_are_never_1(dtype, bits):
    x = ms.random.rand(N, dtype=dtype).larray.double() * 2**bits
    assert torch.equal(x, x.floor())
    assert int(x.min()) >= 0
    assert int(x.max()) < 2**bits
    as_likely(np.bincount(x.long().numpy() & 1, minlength=2))
    if bits <= 11:
        as_likely(np.bincount(x.long().numpy(), minlength=2**bits))


def test_doubles_have_53_bits():
    x = ms.random.rand(N, dtype=torch.float64).larray * 2.0**53
    assert torch.equal(x, x.floor())
    for shift in (0, 8, 24, 45):
        as_likely(np.bincount((x.long().numpy() >> shift) & 255, minlength=256))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bounds_are_kept(dtype):
    assert float(ms.random.exponential(size=N, dtype=dtype).larray.min()) > 0
    x = ms.random.uniform(1, 1 + 2 * torch.finfo(dtype).eps, N, dtype=dtype).larray
    assert float(x.max()) < 1 + 2 * torch.finfo(dtype).eps
    assert float(x.min()) == 1
    assert bool(ms.random.randn(N, dtype=dtype).larray.isfinite().all())


@pytest.mark.parametrize("span", [1, 2, 3, 7, 10, 100, 255])
def test_integers_are_as_likely(span):
    x = ms.random.randint(-5, span - 5, N).numpy() + 5
    if span > 1:
        as_likely(np.bincount(x, minlength=span))
    assert x.min() == 0
    assert x.max() == span - 1


@pytest.mark.parametrize("span", [3 * 2**30, 2**32 - 1, 2**32 + 1, 3 * 2**40, 3 * 2**61, 2**64 - 1])
def test_integers_of_many_values_are_unbiased(span):
    """Without rejection a third of 3 * 2^30 values would come twice as often as the others."""
    low = -(span // 2)
    x = ms.random.randint(low, low + span, N).numpy()
    assert x.min() >= low
    assert x.max() < low + span
    shares = (x.astype(np.float64) - low) / span
    as_likely(np.bincount((shares * 48).astype(np.int64), minlength=48))
    fits(shares, "uniform")


@pytest.mark.parametrize("rate", [0.01, 0.7, 3, 9.99, 10, 30, 1000])
def test_poisson(rate):
    discrete(ms.random.poisson(rate, N).numpy(), stats.poisson(rate))


def test_poisson_of_an_array():
    rates = ms.array(np.repeat([0.5, 12.0, 0.0, -1.0, np.nan], N // 5), split=0)
    x = ms.random.poisson(rates).numpy().reshape(5, -1)
    discrete(x[0], stats.poisson(0.5))
    discrete(x[1], stats.poisson(12))
    assert not x[2:].any()


@pytest.mark.parametrize("p", [0.0, 1e-3, 0.3, 1.0])
def test_bernoulli(p):
    for x in (ms.random.bernoulli(p, N), ms.random.bernoulli(ms.full(N, p, dtype=torch.float64, split=0))):
        assert stats.binomtest(int(x.numpy().sum()), N, p).pvalue > LEVEL


def test_orders_and_choices():
    orders = np.array([ms.random.randperm(4).tolist() for _ in range(5000)])
    as_likely(np.unique(orders @ [64, 16, 4, 1], return_counts=True)[1])
    assert len(np.unique(orders @ [64, 16, 4, 1])) == 24
    p = np.array([1, 0, 2, 5])
    seen = np.bincount(ms.random.choice(4, N, p=p).numpy(), minlength=4)
    assert seen[1] == 0
    as_likely(seen[p > 0], p[p > 0])
    # Without replacing: the second of what is left, after the first.
    pairs = np.array([ms.random.choice(3, 2, replace=False, p=[1, 2, 5]).tolist() for _ in range(5000)])
    seen = np.bincount(pairs @ [3, 1], minlength=9).reshape(3, 3)
    q = np.array([1, 2, 5]) / 8
    expected = q[:, None] * q[None, :] / (1 - q[:, None])
    off = ~np.eye(3, dtype=bool)
    assert not seen[~off].any()
    as_likely(seen[off], expected[off])


def test_neighbours_ranks_calls_seeds_and_streams_are_uncorrelated():
    x = ms.random.randn(N).numpy()
    for distance in (1, 2, 3, 4, 7, 1000):
        uncorrelated(x[:-distance], x[distance:])
        uncorrelated(x[:-distance] ** 2, x[distance:] ** 2)

    def part():
        return ms.random.randn(N, split=0).larray.numpy()

    parts = ms.testing.run(part, ranks=4)
    for i in range(4):
        for j in range(i):
            uncorrelated(parts[i], parts[j])
    uncorrelated(x, ms.random.randn(N).numpy())
    for other in (ms.random.Generator(1), ms.random.Generator(2), ms.random.Generator(1, stream=1)):
        y = ms.random.randn(N, generator=other).numpy()
        uncorrelated(x, y)
        uncorrelated(x**2, y**2)
        x = y


def test_many_seeds_streams_and_calls_give_uniform_first_numbers():
    """Of neighbouring seeds, as they are given in practice."""
    for draw in (
        lambda i: ms.random.rand(generator=ms.random.Generator(i), dtype=torch.float64),
        lambda i: ms.random.rand(generator=ms.random.Generator(0, stream=i), dtype=torch.float64),
        lambda i: ms.random.rand(dtype=torch.float64),
    ):
        first = np.array([draw(i).item() for i in range(3000)])
        fits(first, "uniform")
        uncorrelated(first[:-1], first[1:])


def test_samples_draws_and_calls_of_mapped_functions_are_uncorrelated():
    def draws(v):
        return torch.randn(4), torch.randn(4), torch.rand(4), torch.randn(4).exp()

    x = ms.zeros(20_000, split=0)
    mapped = ms.vmap(draws, randomness="different")
    a, b, u, _ = (out.numpy() for out in mapped(x))
    again = mapped(x)[0].numpy()
    fits(a, "norm")
    fits(u, "uniform")
    uncorrelated(a, b)
    uncorrelated(a, again)
    uncorrelated(a, u)
    for distance in (1, 2, 100):
        uncorrelated(a[:-distance], a[distance:])
        uncorrelated(a[:-distance] ** 2, a[distance:] ** 2)
    uncorrelated(a[:, :-1], a[:, 1:])


def test_distributions_within_mapped_functions():
    def draws(v):
        empty = torch.empty_like(v)
        return (
            torch.randint(7, (4,)),
            empty.clone().exponential_(2) * 2,
            empty.clone().log_normal_(1, 0.5),
            empty.clone().cauchy_(1, 2),
            empty.clone().geometric_(0.3),
            empty.clone().uniform_(2, 3) - 2,
            torch.multinomial(torch.tensor([1.0, 0, 3]), 4, replacement=True),
            torch.randperm(3),
            torch.normal(v, 2.0),
        )

    outputs = ms.vmap(draws, randomness="different")(ms.ones((20_000, 4), split=0))
    integers, exponential, log_normal, cauchy, geometric, uniform, kinds, order, normal = (
        x.numpy() for x in outputs
    )
    as_likely(np.bincount(integers.ravel(), minlength=7))
    fits(exponential, "expon")
    fits((np.log(log_normal) - 1) / 0.5, "norm")
    fits((cauchy - 1) / 2, "cauchy")
    discrete(geometric.ravel(), stats.geom(0.3))
    fits(uniform, "uniform")
    seen = np.bincount(kinds.ravel(), minlength=3)
    assert seen[1] == 0
    as_likely(seen[[0, 2]], np.array([1, 3]))
    as_likely(np.unique(order @ [9, 3, 1], return_counts=True)[1])
    fits((normal - 1) / 2, "norm")
