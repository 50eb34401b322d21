"""Sample sort: how even the ranks' parts are. `test_sort` has the values."""

from __future__ import annotations

import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.sorting import sample_sort as module
from minisplit.ops.sorting import splitters
from minisplit.ops.sorting.sample_sort import sample_sort
from minisplit.testing import assert_close

Comm = ms.Communication


@pytest.mark.parametrize("way", ["at once", "in rounds"])
def test_no_rank_gets_much_more_than_its_share(
    comm: Comm, size: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, bound = 4096 * size, 4096 + 64 * size + size
    if way == "in rounds":  # as on more than 64 ranks
        monkeypatch.setattr(module, "FEW", 0)
        monkeypatch.setattr(splitters, "OF_ALL", 0)
        bound = 2 * 4096
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(1))
    for whole in (torch.zeros(n), drawn, torch.arange(n) % 3, torch.arange(n).flip(0), drawn**50):
        for layout in layouts((n,), size)[1:]:
            rows = dealt(whole, layout).larray[None]
            rows_layout = ms.Layout((1, n), 1, size, layout.counts)
            counts = sample_sort(rows, rows_layout, comm).layout.counts if size > 1 else (n,)
            assert max(counts or ()) <= bound


def test_in_rounds_as_at_once(comm: Comm, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On many ranks splitters are found in rounds. Ties, NaNs and empty shards are no matter."""
    monkeypatch.setattr(module, "FEW", 0)
    monkeypatch.setattr(splitters, "OF_ALL", 0)
    drawn = torch.randn(50, generator=torch.Generator().manual_seed(2))
    for whole in (drawn, torch.where(drawn < 0, torch.nan, 1.0), torch.arange(7) % 2, torch.empty(0)):
        wanted = torch.sort(whole, stable=True)
        for layout in layouts(tuple(whole.shape), size)[1:]:
            x = dealt(whole, layout)
            with ms.testing.traffic() as seen:
                assert_close(ms.sort(x), wanted.values)
            assert seen.calls["alltoall"] == (size > 1)
            assert_close(ms.argsort(x), wanted.indices)
            assert_close(ms.unique_values(x), torch.unique(whole))
