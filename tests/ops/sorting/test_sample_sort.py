"""Sample sort: how even the ranks' parts are, and which of equal elements is kept. `test_sort` has the values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.sorting.sample_sort import choose_splitters, partial_sort, sample_sort

Comm = ms.Communication


def test_no_rank_gets_much_more_than_its_share(comm: Comm, size: int) -> None:
    n = 4096 * size
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(1))
    for whole in (torch.zeros(n), drawn, torch.arange(n) % 3, torch.arange(n).flip(0), drawn**50):
        for layout in layouts((n,), size)[1:]:
            rows = dealt(whole, layout).larray[None]
            rows_layout = ms.Layout((1, n), 1, size, layout.counts)
            counts = sample_sort(rows, rows_layout, comm).layout.counts if size > 1 else (n,)
            assert max(counts or ()) <= n / size + n / 64 + size


@pytest.mark.serial
def test_splitters_weigh_samples_by_what_they_stand_for() -> None:
    keys = np.array([[[0, 1, 0], [0, 2, 0]], [[0, 10, 0], [0, 20, 0]]]).reshape(2, -1)
    assert choose_splitters(np.array([100, 2]), keys).tolist() == [[0, 2, 0]]
    assert choose_splitters(np.array([2, 100]), keys).tolist() == [[0, 10, 0]]
    assert choose_splitters(np.array([0, 0]), keys).shape == (1, 3)


@pytest.mark.serial
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
