"""Bad and odd inputs that go through many operations: each gives what it should, on every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import assert_close, assert_equal

TWO: dict[str, Callable[[Any, Any], Any]] = {
    "allclose": ms.allclose,
    "array_equal": ms.array_equal,
    "average": lambda x, y: ms.average(x, weights=y),
    "bincount": lambda x, y: ms.bincount(ms.arange(5, split=0, comm=x.comm), weights=y[:, 0]),
    "broadcast_arrays": ms.broadcast_arrays,
    "bucketize": lambda x, y: ms.bucketize(x, y[:, 0]),
    "clip": ms.clip,
    "concat": lambda x, y: ms.concat([x, y]),
    "convolve": lambda x, y: ms.convolve(x[:, 0], y[:, 0]),
    "cov": ms.cov,
    "cross": lambda x, y: ms.cross(x[:, :3], y[:, :3]),
    "diff": lambda x, y: ms.diff(x, append=y),
    "digitize": lambda x, y: ms.digitize(x, y[:, 0]),
    "dot": lambda x, y: ms.dot(x[:, 0], y[:, 0]),
    "einsum": lambda x, y: ms.einsum("ij,ij->", x, y),
    "histogram": lambda x, y: ms.histogram(x, weights=y),
    "inner": ms.inner,
    "isclose": ms.isclose,
    "isin": ms.isin,
    "kron": ms.kron,
    "lstsq": ms.linalg.lstsq,
    "matmul": lambda x, y: x @ y[:4],
    "meshgrid": lambda x, y: ms.meshgrid(x[:, 0], y[:, 0]),
    "multi_dot": lambda x, y: ms.linalg.multi_dot([x, y[:4], x[:4]]),
    "outer": lambda x, y: ms.outer(x[:, 0], y[:, 0]),
    "pinv": lambda x, y: ms.linalg.pinv(x, rtol=y[0, 0]),
    "searchsorted": lambda x, y: ms.searchsorted(x[:, 0], y),
    "searchsorted, sorter": lambda x, y: ms.searchsorted(x[:, 0], 1.0, sorter=ms.astype(y[:, 0], torch.int64)),
    "solve": lambda x, y: ms.linalg.solve(x[:4], y[:4]),
    "stack": lambda x, y: ms.stack([x, y]),
    "subtract": lambda x, y: x - y,
    "take": lambda x, y: ms.take(x, ms.astype(y[:, 0], torch.int64), axis=0),
    "take_along_axis": lambda x, y: ms.take_along_axis(x, ms.astype(y, torch.int64), axis=0),
    "tensordot": ms.tensordot,
    "trapezoid": ms.trapezoid,
    "vdot": ms.vdot,
    "vecdot": ms.vecdot,
    "where": lambda x, y: ms.where(x > 0, x, y),
    "x += y": lambda x, y: x.__iadd__(y),
    "x[y]": lambda x, y: x[y > 0],
    "x[:] = y": lambda x, y: x.__setitem__(slice(None), y),
}


@pytest.mark.parametrize("name", TWO)
def test_A12_operands_on_different_communicators(comm: ms.Communication, name: str) -> None:
    other = comm.split(0)
    assert other is not None
    x, y = ms.ones((5, 4), split=0), ms.ones((5, 4), split=0, comm=other)
    with (
        agreement(comm, "calling"),
        pytest.raises(ValueError, match=r"on one communicator|on the communicator of"),
    ):
        TWO[name](x, y)
    assert_equal(x, torch.ones(5, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_A14_halves_are_added_up_in_a_wider_type(size: int, dtype: torch.dtype) -> None:
    whole = torch.ones(600, dtype=dtype)
    for layout in layouts((600,), size):
        x = dealt(whole, layout)
        for total in (x.sum(), ms.cumulative_sum(x)[-1], x @ x, ms.einsum("i->", x), ms.trapezoid(x) + 1):
            assert (total.dtype, total.item()) == (dtype, 600)
        assert x.mean().item() == ms.cumulative_prod(x)[-1].item() == x.prod().item() == 1
        assert abs(ms.linalg.vector_norm(x).item() - 600**0.5) < 0.1


def test_A14_bools_and_complex_numbers(size: int) -> None:
    truths, numbers = torch.arange(9) % 3 > 0, torch.full((9,), 1j, dtype=torch.complex64)
    for layout in layouts((9,), size):
        x, z = dealt(truths, layout), dealt(numbers, layout)
        assert (x.sum().item(), x.prod().item(), ms.cumulative_sum(x)[-1].item()) == (6, 0, 6)
        assert x.sum().dtype is torch.int64
        assert (z.sum().item(), z.prod().item(), ms.cumulative_prod(z)[-1].item()) == (9j, 1j, 1j)


def test_A15_nan_in_extremes_sort_and_where(size: int) -> None:
    for place in (0, 4, 8):
        whole = torch.arange(9.0)
        whole[place] = torch.nan
        for layout in layouts((9,), size):
            x = dealt(whole, layout)
            assert np.isnan(
                [x.max().item(), x.min().item(), ms.median(x).item(), ms.quantile(x, 0.1).item()]
            ).all()
            assert x.argmax().item() == x.argmin().item() == place
            assert_equal(ms.sort(x), whole.sort().values)
            assert_equal(ms.argsort(x), whole.sort(stable=True).indices)
            assert_equal(ms.where(x > 3, x, -1.0), torch.where(whole > 3, whole, -1.0))
            assert_equal(ms.maximum(x, 5.0), torch.maximum(whole, torch.tensor(5.0)))
            assert len(ms.unique_values(x)) == 9
            assert (ms.nanmax(x).item(), ms.nanmin(x).item()) == (8 - (place == 8), 0 + (place == 0))


def test_A15_empty_shards(size: int) -> None:
    whole = torch.tensor([[3.0, 0.0, 1.0], [0.0, 5.0, -2.0]])
    calls: dict[str, tuple[Callable[[Any], Any], torch.Tensor]] = {
        "argmax": (lambda x: ms.argmax(x, axis=0), whole.argmax(0)),
        "argmin": (ms.argmin, whole.argmin()),
        "nonzero": (lambda x: ms.stack(ms.nonzero(x)), torch.stack(whole.nonzero(as_tuple=True))),
        "pad": (lambda x: ms.pad(x, 1), torch.nn.functional.pad(whole, (1, 1, 1, 1))),
        "diff": (lambda x: ms.diff(x, axis=0), whole.diff(dim=0)),
        "max": (lambda x: ms.max(x, axis=0), whole.amax(0)),
        "prod": (ms.prod, whole.prod()),
        "var": (lambda x: ms.var(x, axis=0), whole.var(0, correction=0)),
        "sort": (lambda x: ms.sort(x, axis=0), whole.sort(0).values),
        "median": (lambda x: ms.median(x, axis=0), whole.mean(0)),
        "unique": (ms.unique, whole.unique()),
        "cumulative_sum": (lambda x: ms.cumulative_sum(x, axis=0), whole.cumsum(0)),
        "fft": (lambda x: ms.fft.fft(x, axis=0), torch.fft.fft(whole, dim=0)),
        "svdvals": (ms.linalg.svdvals, torch.linalg.svdvals(whole)),
    }
    for layout in layouts((2, 3), size):
        for call, wanted in calls.values():
            assert_close(call(dealt(whole, layout)), wanted)


def test_looking_at_an_array_leaves_it_as_it_was(comm: ms.Communication) -> None:
    for layout in layouts((3, 1), comm.size):
        x = dealt(torch.ones(3, 1), layout)
        shard = x.larray
        repr(x), str(x), x.tolist(), x.numpy(), np.asarray(x), x[0].item(), bool(x[1]), len(x), list(x)
        with pytest.raises(ValueError, match="needs an array of one element"):
            x.item()
        assert x.larray is shard
        assert x.layout is layout
