"""Cross products and Kronecker products: NumPy's values for every pair of layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from products import Pair, assert_as_numpy, assert_gradients_as_torch, pairs, refuse

import minisplit as ms
from minisplit.testing import assert_equal, spmd, traffic

NUMPY: dict[str, Callable[[Any, Any], Any]] = {
    "kron": np.kron,
    "cross": lambda a, b: np.cross(a, b) if a.shape[-1:] == b.shape[-1:] == (3,) else refuse(),
}
TORCH = {"kron": torch.kron, "cross": torch.linalg.cross}


@pytest.mark.parametrize("name", NUMPY)
@given(pair=pairs())
@spmd
def test_products_as_numpy_has_them(name: str, pair: Pair) -> None:
    assert_as_numpy(getattr(ms, name), NUMPY[name], pair)


@pytest.mark.parametrize("name", TORCH)
@given(pair=pairs(torch.float64))
@spmd
def test_gradients(name: str, pair: Pair) -> None:
    assert_gradients_as_torch(getattr(ms, name), TORCH[name], NUMPY[name], pair)


@pytest.mark.parametrize(
    ("call", "split", "sent"),
    [
        (lambda x, y: ms.kron(x, ms.ones((2, 2))), 0, {}),
        (lambda x, y: ms.kron(ms.ones((2, 2)), x), 0, {"exchange": 1}),
        (lambda x, y: ms.cross(x[:, :3], y[:, :3]), 0, {}),
    ],
)  # fmt: skip
def test_what_is_sent(comm: ms.Communication, call: Any, split: Any, sent: dict[str, int]) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 4), split=0)
    with traffic() as seen:
        z = call(x, y)
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


def test_kron_gathers_the_smaller_of_two_split_arrays(size: int) -> None:
    small, large = ms.ones((1, 3), split=0), ms.array(torch.arange(64.0).reshape(32, 2), split=0)
    for pair in ((small, large), (large, small)):
        with traffic() as seen:
            found = ms.kron(*pair)
        assert_equal(found, torch.kron(*(x.resplit(None).larray for x in pair)))
        assert seen.bytes_sent <= (size - 1) * 3 * 4


def test_A16_results_stay_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((3, 3), split=0, comm=part)
    assert ms.kron(x, x).comm is ms.cross(x, x).comm is part
    part.free()


def test_vectors_of_another_length(raises_alike: Any) -> None:
    with raises_alike(ValueError, "vectors of length 3, got 2 along axis -1"):
        ms.cross(ms.ones((3, 2), split=0), ms.ones((3, 2)))
