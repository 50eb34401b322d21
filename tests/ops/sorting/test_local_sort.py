"""One rank's sorts: as torch's stable ones, whichever library makes them."""

from __future__ import annotations

import pytest
import torch

from minisplit.ops.sorting import local_sort
from minisplit.ops.sorting.local_sort import partial_sort, sort_runs, sort_stable, sort_values

pytestmark = pytest.mark.serial
DTYPES = [
    torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
]  # fmt: skip


def bits(x: torch.Tensor) -> list[str]:
    return [str(value) for value in x.flatten().tolist()]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_are_those_of_a_stable_sort(dtype: torch.dtype, descending: bool) -> None:
    """Zeros of both signs in their order too, which NumPy's sort, not being stable, mixes."""
    drawn = torch.randint(-3, 4, (40, 30), generator=torch.Generator().manual_seed(1)).to(dtype)
    if dtype.is_floating_point:
        drawn[::3] = -drawn[::3]
        drawn[:, ::7] = torch.nan
    for x in (drawn, drawn.T, drawn[0], drawn[:0], drawn[:, :0], drawn[::2, ::3]):
        for dim in range(x.ndim):
            found = sort_values(x, dim, descending)
            assert bits(found) == bits(torch.sort(x, dim=dim, descending=descending, stable=True).values)
    runs = torch.cat([sort_values(drawn[row], 0, descending) for row in range(5)])
    values, order = sort_runs(runs, descending)
    wanted = torch.sort(runs, descending=descending, stable=True)
    assert bits(values) == bits(wanted.values)
    assert torch.equal(order, wanted.indices)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_places_are_those_of_a_stable_sort(
    dtype: torch.dtype, descending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_sort, "_PACKED", 0)
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(1)).mul(2).to(dtype)
    if dtype.is_floating_point:
        x[0, :8] = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-7, -1e-7])
    for given, dim in ((x, 0), (x, 1), (x.T, -1), (x[0], 0), (x[:0], 0), (x[:, :0], 0), (x[:0], 1)):
        values, places = sort_stable(given, dim, descending)
        wanted = torch.sort(given, dim=dim, descending=descending, stable=True)
        assert bits(values) == bits(wanted.values)
        assert torch.equal(places, wanted.indices)


def test_values_have_the_gradient_of_a_sort_and_memory_of_their_own() -> None:
    x = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    (sort_values(x, 0) * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [100, 1, 10]
    negated = torch.complex(torch.zeros(3), x.detach()).conj().imag
    assert sort_values(negated, 0).tolist() == [-3, -2, -1]
    assert x.tolist() == [3, 1, 2]
    long = torch.randn(5000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = torch.arange(5000.0)
    found, wanted = (
        torch.autograd.grad((values * weights).sum(), long)[0]
        for values in (sort_values(long, 0), torch.sort(long).values)
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("descending", [False, True])
def test_a_partial_sort_keeps_the_first_of_equal_elements(descending: bool) -> None:
    ties, special = torch.arange(40.0).reshape(2, 20) % 3, torch.arange(20.0)[None]
    special[0, 3::5] = torch.nan
    for rows in (ties, special, ties.to(torch.int64), ties > 1):
        wanted = torch.sort(rows, descending=descending, stable=True)
        for keep in (0, 1, 3, 5, 20):
            values, places = partial_sort(rows, keep, descending)
            torch.testing.assert_close(values, wanted.values[:, :keep], rtol=0, atol=0, equal_nan=True)
            assert torch.equal(places, wanted.indices[:, :keep])
