"""Gamma and binomial numbers: of the right distribution, and each a function of its place."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from minisplit.core.random.grids import ArrayGrid, SampleGrid
from minisplit.core.random.philox import CallKey
from minisplit.core.random.rejection import binomial, gamma

pytestmark = pytest.mark.serial
KEY = CallKey(3, 5)
N = 20_000


@pytest.mark.parametrize("concentration", [0.05, 0.4, 1.0, 2.5, 60.0])
def test_gamma(concentration: float) -> None:
    numbers = gamma(ArrayGrid(KEY, 1, N), torch.full((N,), concentration)).reshape(-1)
    # float32 has rounded the concentration.
    exact = float(torch.tensor(concentration))
    assert stats.kstest(numbers.numpy(), stats.gamma(exact).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("n", "p"), [(5, 0.3), (10, 0.9), (100, 0.2), (1000, 0.5), (1000, 0.97), (3, 0.0), (3, 1.0)]
)
def test_binomial(n: int, p: float) -> None:
    counts = binomial(ArrayGrid(KEY, 1, N), torch.full((N,), n), torch.full((N,), p, dtype=torch.float64))
    found = torch.bincount(counts.reshape(-1).long(), minlength=n + 1)
    assert len(found) == n + 1
    expected = torch.from_numpy(stats.binom(n, p).pmf(range(n + 1))) * N
    often = expected > 10
    if often.sum() == 1:
        assert int(found[often]) == N
    else:
        scaled = expected[often] * found[often].sum() / expected[often].sum()
        assert stats.chisquare(found[often], scaled).pvalue > 0.001


def test_a_number_depends_on_its_place_alone() -> None:
    alpha = torch.linspace(0.1, 5, 12, dtype=torch.float64)
    n, p = torch.full((12,), 40.0), torch.linspace(0, 1, 12, dtype=torch.float64)
    whole = (
        gamma(SampleGrid((3, 5), 4, 3), alpha),
        binomial(SampleGrid((3, 5), 4, 3), n, p),
    )
    last = SampleGrid((3, 5), 2, 3, sample=2)
    torch.testing.assert_close(gamma(last, alpha[6:]), whole[0][2:])
    torch.testing.assert_close(binomial(last, n[6:], p[6:]), whole[1][2:])
    alike = gamma(SampleGrid((3, 5), 3, 1, step=0), torch.ones(3))
    assert len(set(alike.reshape(-1).tolist())) == 1
    assert gamma(ArrayGrid(KEY, 1, 2), torch.tensor([0.0, -1.0])).isnan().all()
    assert gamma(ArrayGrid(KEY, 0, 3), torch.ones(0)).shape == (0, 3)
