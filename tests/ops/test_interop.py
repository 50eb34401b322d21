"""What other libraries ask of an array: namespaces, NumPy, DLPack, devices; and torch's functions of DNDarrays."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.interop import _NAMES
from minisplit.testing import assert_close, traffic

WHOLE = torch.arange(1.0, 13.0).reshape(4, 3) / 7


def test_the_namespace_is_that_of_the_standard(size: int) -> None:
    x = ms.ones(3, split=0)
    assert x.__array_namespace__() is ms
    assert x.__array_namespace__(api_version="2025.12") is ms
    with pytest.raises(ValueError, match=r"2025\.12, got '2020\.01'"):
        x.__array_namespace__(api_version="2020.01")


def test_numpy_gets_the_global_array(size: int) -> None:
    for layout in layouts((4, 3), size):
        x = dealt(WHOLE, layout)
        with traffic() as sent:
            made = np.asarray(x)
        assert np.array_equal(made, WHOLE.numpy())
        assert sent.collectives == (layout.split is not None and size > 1)
        assert np.asarray(x, dtype=np.float64).dtype == np.float64
        assert np.shares_memory(made, x.larray.numpy()) == (layout.split is None)
        assert not np.shares_memory(np.array(x), x.larray.numpy())
    x = ms.ones(3, split=0)
    with pytest.raises(ValueError, match=r"copy=False, but torch\.float32 split along 0"):
        np.asarray(x, copy=False)
    with pytest.raises(ValueError, match="becomes float64 by a copy"):
        np.asarray(x.resplit(None), np.float64, copy=False)


def test_dlpack_gives_the_global_array(size: int) -> None:
    for layout in layouts((4, 3), size):
        x = dealt(WHOLE, layout)
        made = torch.utils.dlpack.from_dlpack(x)
        assert torch.equal(made, WHOLE)
        assert (made.data_ptr() == x.larray.data_ptr()) == (layout.split is None)
        assert np.array_equal(np.from_dlpack(x), WHOLE.numpy())
        assert ms.from_dlpack(x).layout == x.layout
    assert x.__dlpack_device__() == WHOLE.__dlpack_device__()
    with pytest.raises(BufferError, match=r"an array split along . is gathered"):
        x.__dlpack__(copy=False)


def test_devices(size: int) -> None:
    x = ms.ones(3, split=0)
    assert x.to_device("cpu") is x
    with pytest.raises(ValueError, match="takes no stream, got 1"):
        x.to_device("cpu", stream=1)  # type: ignore[arg-type]


def test_only_an_integer_is_an_index(size: int) -> None:
    assert ["a", "b", "c"][ms.array(1)] == "b"
    for x in (ms.array(1.0), ms.array(True), ms.array([1]), ms.ones(1, dtype=torch.int64, split=0)):
        with pytest.raises(TypeError, match=r"only a 0-d array of integers is an index, got shape .* of torch"):
            operator.index(x)


CALLS: dict[str, Callable[[Any], Any]] = {
    "sin": torch.sin,
    "add": lambda x: torch.add(x, x),
    "eq": lambda x: torch.eq(x, 1.0),
    "clamp": lambda x: torch.clamp(x, 0.2, 0.8),
    "cat": lambda x: torch.cat([x, x], 1),
    "cat, by name": lambda x: torch.cat((x, x), dim=0),
    "stack": lambda x: torch.stack([x, x], dim=1),
    "sum": torch.sum,
    "sum, dim": lambda x: torch.sum(x, 1, keepdim=True),
    "sum, dims": lambda x: torch.sum(x, dim=(0, 1), dtype=torch.float64),
    "var": torch.var,
    "var, dim": lambda x: torch.var(x, dim=0, correction=0),
    "std": lambda x: torch.std(x, 1),
    "amax": lambda x: torch.amax(x, dim=1),
    "argmax": lambda x: torch.argmax(x, dim=0),
    "cumsum": lambda x: torch.cumsum(x, dim=0),
    "flip": lambda x: torch.flip(x, (0, 1)),
    "roll": lambda x: torch.roll(x, 1, dims=0),
    "transpose": lambda x: torch.transpose(x, 0, 1),
    "permute": lambda x: torch.permute(x, (1, 0)),
    "unsqueeze": lambda x: torch.unsqueeze(x, 1),
    "reshape": lambda x: torch.reshape(x, (2, 6)),
    "matmul": lambda x: torch.matmul(x, torch.permute(x, (1, 0))),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x),
    "kron": lambda x: torch.kron(x, x),
    "where": lambda x: torch.where(x > 1, x, -x),
}


@pytest.mark.parametrize("name", CALLS)
def test_torch_functions_of_arrays_are_ours(size: int, name: str) -> None:
    for layout in layouts((4, 3), size):
        x = dealt(WHOLE, layout)
        made = CALLS[name](x)
        assert isinstance(made, ms.DNDarray)
        assert_close(made, CALLS[name](WHOLE))


@pytest.mark.serial
def test_the_table_of_torch_functions_names_functions() -> None:
    assert all(callable(getattr(ms, name)) for name in _NAMES.values())


def test_torch_functions_with_another_meaning_say_what_to_call(size: int) -> None:
    x = ms.ones(3, split=0)
    assert torch.equal(x, x)
    with pytest.raises(TypeError, match=r"torch's max takes tensors, got a DNDarray: minisplit\.max takes arrays"):
        torch.max(x, 0)
    with pytest.raises(TypeError, match=r"minisplit\.linalg\.matrix_norm takes arrays; x\.larray is"):
        torch.linalg.matrix_norm(x)
    with pytest.raises(TypeError, match=r"torch's lgamma takes tensors, got a DNDarray: x\.larray is this"):
        torch.lgamma(x)


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
    with raises_alike(TypeError, match=r"minisplit\.sort has no kind, which numpy\.sort has"):
        np.sort(x, kind="mergesort")
    with raises_alike(TypeError, match=r"minisplit\.save\(x, path\)"):
        np.save("x.npy", x)


def test_formatting(size: int, raises_alike: Any) -> None:
    for split in (None, 0):
        x = ms.array([1.0, 2.0, 4.0], split=split)
        assert f"{x.mean():.3f}" == "2.333"
        assert f"{x[:1]:5.1f}|{x.max().item():g}" == "  1.0|4"
        assert f"{x}" == str(x) == repr(x)
        with raises_alike(ValueError, match="needs an array of one element"):
            format(x, ".2f")


def test_rounding(size: int) -> None:
    plain = np.array([1.005, 2.5, -0.125, 1234.5678])
    numbers = np.array([15, 25, -25, 14, 2**62 + 5])
    for split in (None, 0):
        x = ms.array(plain, split=split)
        for digits in (0, 1, 2, -2):
            assert_close(round(x, digits), np.round(plain, digits))
        assert_close(round(x), np.round(plain))
        i = ms.array(numbers, split=split)
        assert round(i, 2).tolist() == numbers.tolist()
        assert round(i[:4], -1).tolist() == [20, 20, -20, 10]
        assert round(i, -30).tolist() == [0] * 5
