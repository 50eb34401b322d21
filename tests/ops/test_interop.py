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
