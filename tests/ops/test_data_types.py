"""What dtypes are and become: the Python Array API standard's rules, where it has any."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.ops.data_types import DTYPES
from minisplit.testing import assert_equal, traffic

FLOATS = [torch.float32, torch.float64]
COMPLEX = [torch.complex64, torch.complex128]
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64]
UNSIGNED = [torch.uint8, torch.uint16, torch.uint32, torch.uint64]


def numpy_of(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(str(dtype).removeprefix("torch."))


def test_result_type_is_that_of_the_standard() -> None:
    pairs = [*product(INTEGERS, repeat=2), *product([*FLOATS, *COMPLEX], repeat=2)]
    pairs += product([torch.uint8], INTEGERS)
    for a, b in pairs:
        wanted = np.promote_types(numpy_of(a), numpy_of(b))
        assert numpy_of(ms.result_type(a, b)) == wanted
        assert ms.can_cast(a, b) == (wanted == numpy_of(b))


def test_result_type_of_arrays_and_numbers(size: int) -> None:
    scalar, x = ms.zeros((), dtype=torch.float64), ms.zeros(3, split=0)
    with traffic() as seen:
        assert ms.result_type(scalar, x) is torch.float64  # whatever the shapes
        assert ms.result_type(x, 1) is ms.result_type(x, 1.5) is ms.result_type(True, x) is torch.float32
        assert ms.result_type(x, 1j) is torch.complex64
        assert ms.result_type(torch.int8, 1000) is torch.int8
        assert ms.can_cast(x, torch.float64)
    assert seen.collectives == 0


def test_kinds() -> None:
    kinds = {
        "bool": [torch.bool],
        "signed integer": INTEGERS,
        "unsigned integer": UNSIGNED,
        "integral": [*INTEGERS, *UNSIGNED],
        "real floating": [*FLOATS, torch.float16, torch.bfloat16],
        "complex floating": COMPLEX,
        "numeric": [*INTEGERS, *UNSIGNED, *FLOATS, torch.float16, torch.bfloat16, *COMPLEX],
    }
    for (kind, members), dtype in product(kinds.items(), [torch.bool, *kinds["numeric"]]):
        assert ms.isdtype(dtype, kind) == ms.isdtype(dtype, ("bool", kind)[1:]) == (dtype in members)
    assert ms.isdtype(torch.int8, (torch.int16, "signed integer"))
    assert not ms.isdtype(torch.int8, torch.uint8)


def test_limits() -> None:
    for dtype in [*INTEGERS, *UNSIGNED]:
        info, wanted = ms.iinfo(dtype), np.iinfo(numpy_of(dtype))
        assert (info.bits, info.max, info.min, info.dtype) == (wanted.bits, wanted.max, wanted.min, dtype)
    for dtype, real in zip([*FLOATS, *COMPLEX], [*FLOATS, *FLOATS], strict=True):
        found, wide = ms.finfo(dtype), np.finfo(numpy_of(real))
        assert (found.bits, found.dtype) == (wide.bits, real)
        names = ("eps", "max", "min", "smallest_normal")
        assert [getattr(found, name) for name in names] == [float(getattr(wide, name)) for name in names]
        assert all(type(getattr(found, name)) is float for name in names)
    assert ms.finfo(ms.zeros(2)).eps == ms.finfo(torch.float32).eps


@pytest.mark.parametrize("split", [None, 0, 1])
def test_astype(size: int, split: int | None) -> None:
    x = ms.arange(6).reshape(3, 2).resplit(split)
    with traffic() as seen:
        for dtype in [torch.bool, torch.uint8, torch.bfloat16, torch.float64, torch.complex64]:
            y = ms.astype(x, dtype)
            assert (y.dtype, y.layout) == (dtype, x.layout)
        same = x.astype(x.dtype)
        assert same is not x
        assert same.larray is not x.larray
        assert x.astype(x.dtype, copy=False) is x
        assert x.astype(torch.bool, copy=False).dtype is torch.bool
        assert ms.astype(x, torch.int8, device=ms.cpu).device.type == "cpu"
    assert seen.collectives == 0
    same.larray.zero_()
    assert_equal(x.astype(torch.float32), torch.arange(6.0).reshape(3, 2))


def test_gradients_pass_a_cast(size: int) -> None:
    x = ms.ones(4, split=0)
    x.larray.requires_grad_()
    x.astype(torch.float64).larray.sum().backward()
    assert_equal(ms.DNDarray(x.larray.grad, x.layout, x.comm), torch.ones(4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.astype(x, None), TypeError, "dtype must be a torch.dtype, got None"),
        (lambda x: ms.astype(x, str), TypeError, "float, complex or None, got <class 'str'>"),
        (lambda x: x.astype(torch.complex64).astype(torch.float32), TypeError, r"take minisplit\.real\(x\)"),
        (lambda x: ms.result_type(), ValueError, r"at least one array or dtype, got \(\)"),
        (lambda x: ms.result_type(1, 2.0), ValueError, r"at least one array or dtype, got \(1, 2\.0\)"),
        (lambda x: ms.result_type(x, "f5"), TypeError, "float, complex or None, got 'f5'"),
        (lambda x: ms.isdtype("f4", "bool"), TypeError, "dtype must be a torch.dtype, got 'f4'"),
        (lambda x: ms.isdtype(torch.bool, "real"), ValueError, "one of bool, signed integer, .*, got 'real'"),
        (lambda x: ms.finfo(torch.int8), TypeError, r"got torch\.int8; iinfo is of integers"),
        (lambda x: ms.iinfo(torch.bool), TypeError, r"got torch\.bool; finfo is of floating point ones"),
    ],
)  # fmt: skip
def test_errors(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones(3, split=0))


def test_what_the_namespace_offers(size: int) -> None:
    info = ms.__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert info.default_device() == ms.zeros(1).device
    assert info.default_device() in info.devices()
    defaults = info.default_dtypes()
    assert defaults["real floating"] is ms.zeros(1).dtype
    assert defaults["integral"] is ms.arange(1).dtype
    assert info.dtypes() == DTYPES == {name: getattr(ms, name) for name in DTYPES}
    assert set(info.dtypes(kind=("bool", "unsigned integer"))) == {"bool", "uint8"}
    with pytest.raises(ValueError, match="integers"):
        info.dtypes(kind="integers")
