"""NumPy's functions of DNDarrays: ours of their name, or a TypeError. None gathers in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close

WHOLE = torch.arange(1.0, 13.0).reshape(4, 3) / 7

NUMPY: dict[str, Callable[[Any], Any]] = {
    "sum": np.sum,
    "sum of an axis": lambda x: np.sum(x, 0, keepdims=True),
    "mean": lambda x: np.mean(x, axis=1),
    "std": lambda x: np.std(x, ddof=1),
    "var": lambda x: np.var(x, 0, correction=1),
    "max": np.max,
    "amin": lambda x: np.amin(x, axis=0),
    "sort": lambda x: np.sort(x, 0),
    "argsort": lambda x: np.argsort(x, axis=-1),
    "concatenate": lambda x: np.concatenate([x, x], 1),
    "stack": lambda x: np.stack((x, x), axis=1),
    "where": lambda x: np.where(x > 0.5, x, -x),
    "where of one": lambda x: np.where(x > 0.5)[1],
    "round": lambda x: np.round(x, 2),
    "round of Python": lambda x: np.around(x, decimals=1),
    "reshape": lambda x: np.reshape(x, (3, 4)),
    "clip": lambda x: np.clip(x, 0.2, 0.5),
    "take": lambda x: np.take(x, [0, 2], 1),
    "cumsum": lambda x: np.cumsum(x, 0),
    "diff": lambda x: np.diff(x, 1, 0),
    "median": lambda x: np.median(x, 0),
    "quantile": lambda x: np.quantile(x, [0.1, 0.5], 1),
    "tensordot": lambda x: np.tensordot(x, x, 2),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "trace": np.trace,
    "norm": lambda x: np.linalg.norm(x, axis=0),
    "fft": lambda x: np.fft.fft(x, axis=0),
    "ones_like": np.ones_like,
    "pad": lambda x: np.pad(x, 1),
    "roll": lambda x: np.roll(x, 1, 0),
    "average": lambda x: np.average(x, 0, x[:, 0]),
    "digitize": lambda x: np.digitize(x, [0.2, 0.5], True),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_functions(size: int, name: str) -> None:
    wanted = np.asarray(NUMPY[name](WHOLE.numpy()))
    for layout in layouts((4, 3), size):
        found = NUMPY[name](dealt(WHOLE, layout))
        assert isinstance(found, ms.DNDarray)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_numpy_functions_that_minisplit_has_not(raises_alike: Any) -> None:
    x = ms.ones((4, 3), split=0)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((4, 3), 2, 12, 3)
    assert not np.iscomplexobj(x)
    with raises_alike(TypeError, match=r"numpy\.trim_zeros takes arrays of NumPy, got a DNDarray: x\.numpy\(\)"):
        np.trim_zeros(x[:, 0])
    with raises_alike(TypeError, match=r"minisplit\.sort has no order, which numpy\.sort has"):
        np.sort(x, order="a")
    with raises_alike(TypeError, match=r"minisplit\.save\(x, path\)"):
        np.save("x.npy", x)


UFUNCS: dict[str, Callable[[Any], Any]] = {
    "sin": np.sin,
    "absolute": lambda x: np.absolute(-x),
    "power": lambda x: np.power(x, 2.0),
    "arctan2": lambda x: np.arctan2(x, -x),
    "of a number of NumPy": lambda x: np.float64(2) * x + np.float32(1) - x / np.int64(3),
    "compared with a number of NumPy": lambda x: np.float64(1) < x,
    "matmul": lambda x: np.matmul(x, x.T),
    "where": lambda x: np.multiply(x, 2.0, where=x > 0.5, out=np.zeros_like(x)),
    "reduce": np.add.reduce,
    "reduce an axis": lambda x: np.maximum.reduce(x, axis=1),
    "invert": lambda x: np.invert(x > 1),
}


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs(size: int, name: str) -> None:
    wanted = np.asarray(UFUNCS[name](WHOLE.numpy()))
    for layout in layouts((4, 3), size):
        found = UFUNCS[name](dealt(WHOLE, layout))
        assert isinstance(found, ms.DNDarray)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_ufuncs_that_change_or_have_no_counterpart(raises_alike: Any) -> None:
    x = ms.ones((4, 3), split=0)
    np.exp(x, out=x)
    assert_close(x, torch.ones(4, 3).exp())
    np.copyto(x, 2)
    assert x.tolist() == [[2.0] * 3] * 4
    with raises_alike(TypeError, match=r"operand 1 of add must be a DNDarray or a number, got ndarray"):
        np.ones((4, 3)) + x
    with raises_alike(TypeError, match=r"numpy\.spacing takes arrays of NumPy, got a DNDarray: x\.numpy\(\) is"):
        np.spacing(x)
    with raises_alike(TypeError, match=r"numpy\.add\.accumulate takes arrays of NumPy"):
        np.add.accumulate(x)
    with raises_alike(TypeError, match=r"out of numpy\.sin must be a DNDarray"):
        np.sin(x, out=np.ones((4, 3)))
    with raises_alike(TypeError, match=r"minisplit\.sin has no dtype, which numpy\.sin has"):
        np.sin(x, dtype=np.float64)
    assert np.unique(ms.array([np.nan, np.nan, 1.0], split=0)).size == 2
