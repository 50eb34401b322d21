"""What other libraries ask of an array: namespaces, NumPy, DLPack, devices."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
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
