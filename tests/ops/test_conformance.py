"""The Python Array API standard, 2025.12, with array-api-strict as oracle: names, parameters, dtypes, values."""

from __future__ import annotations

import inspect
from itertools import product
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from hypothesis.extra.array_api import make_strategies_namespace

import minisplit as ms
from minisplit.ops.data_types import DTYPES
from minisplit.testing import Whole, spmd
from minisplit.testing import strategies as st

xps = make_strategies_namespace(ms)
SPACES = {"": (strict, ms), "linalg.": (strict.linalg, ms.linalg), "fft.": (strict.fft, ms.fft)}
FUNCTIONS = [
    f"{space}{name}"
    for space, (theirs, _) in SPACES.items()
    for name in theirs.__all__
    if inspect.isfunction(getattr(theirs, name, None)) and not name.startswith("_")
]
# array-api-strict's own switches.
FUNCTIONS = [name for name in FUNCTIONS if "strict" not in name]
Kind = inspect.Parameter


def pair(name: str) -> tuple[Any, Any]:
    space, _, last = name.rpartition(".")
    theirs, ours = SPACES[f"{space}." if space else ""]
    return getattr(theirs, last), getattr(ours, last, None)


@pytest.mark.serial
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_the_parameters_of_the_standard(name: str) -> None:
    theirs, ours = (inspect.signature(function).parameters for function in pair(name))
    places = [p.name for p in ours.values() if p.kind in {Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD}]
    for place, parameter in enumerate(theirs.values()):
        if parameter.kind in {Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD}:
            continue
        mine = ours.get(parameter.name)
        if parameter.kind is Kind.POSITIONAL_ONLY:
            assert place < len(places), parameter
            continue
        assert mine is not None, parameter
        if parameter.kind is Kind.POSITIONAL_OR_KEYWORD:
            assert places[place] == parameter.name
        assert mine.kind in {parameter.kind, Kind.POSITIONAL_OR_KEYWORD}
        if isinstance(parameter.default, (bool, int, float, str, tuple)):
            assert mine.default == parameter.default


@pytest.mark.serial
def test_every_attribute_of_arrays_is_there() -> None:
    theirs = {name for name in dir(strict.asarray(1)) if not name.startswith("_")}
    alone = "abs neg pos invert bool int float complex index getitem setitem eq ne lt le gt ge"
    binary = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
    operators = {f"__{name}__" for name in f"{alone} array_namespace dlpack dlpack_device".split()}
    operators |= {f"__{before}{name}__" for before in ("", "r", "i") for name in binary.split()} - {"__imatmul__"}
    assert theirs | operators <= set(dir(ms.DNDarray))
    for name in ("e", "inf", "nan", "pi", "newaxis"):
        assert str(getattr(ms, name)) == str(getattr(strict, name))


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return str(function(*arguments)).rpartition(".")[2]
    except (TypeError, ValueError):
        return "an error"


@pytest.mark.serial
def test_dtypes_promote_as_the_standard_says() -> None:
    for first, second in product(DTYPES, repeat=2):
        wanted = outcome(strict.result_type, getattr(strict, first), getattr(strict, second))
        # What the standard leaves open, mixed kinds, is torch's.
        assert wanted in {outcome(ms.result_type, DTYPES[first], DTYPES[second]), "an error"}
    for name, dtype in DTYPES.items():
        for kind in ("bool", "signed integer", "unsigned integer", "integral", "real floating", "numeric"):
            assert ms.isdtype(dtype, kind) == strict.isdtype(getattr(strict, name), kind)


INTEGERS = ("int8", "int16", "int32", "int64", "uint8")
FLOATS = ("float32", "float64")
REAL = (*INTEGERS, *FLOATS)
NUMBERS = (*REAL, "complex64", "complex128")
Table = dict[str, tuple[str, ...]]


def table(rows: dict[str, tuple[str, ...]]) -> Table:
    """The dtypes for each function, from those for several."""
    return {name: dtypes for names, dtypes in rows.items() for name in names.split()}


UNARY = table({
    "abs square negative positive sign isfinite isinf isnan": NUMBERS,
    "ceil floor round trunc": REAL,
    "exp sqrt sin cos log log1p expm1 tanh reciprocal signbit": FLOATS,
    "bitwise_invert": INTEGERS,
    "logical_not": ("bool",),
})  # fmt: skip
BINARY = table({
    "add subtract multiply equal not_equal": NUMBERS,
    "less greater_equal maximum minimum": REAL,
    # Not floor_divide: array-api-strict has NumPy's special cases there.
    "divide remainder atan2 copysign hypot logaddexp": FLOATS,
    "bitwise_and bitwise_or bitwise_xor": (*INTEGERS, "bool"),
    "logical_and logical_or logical_xor": ("bool",),
})  # fmt: skip
ALONG_AXES = table({
    "max min argmax argmin": REAL,
    "sum prod": ("int8", "int32", "int64", "float64"),
    "any all count_nonzero": (*REAL, "bool"),
    "cumulative_sum cumulative_prod sort argsort flip": ("int8", "int64"),
})  # fmt: skip


@hs.composite
def calls(draw: hs.DrawFn, table: Table, arrays: int, min_dims: int = 0) -> tuple[str, tuple[Whole, ...]]:
    """A function of the table, and arrays of dtypes for it, of shapes that broadcast, in any layouts."""
    name = draw(hs.sampled_from(sorted(table)))
    drawn = xps.mutually_broadcastable_shapes(arrays, min_dims=min_dims, max_dims=3, max_side=4)
    shapes = draw(drawn).input_shapes
    wholes = []
    for shape in shapes:
        x = draw(xps.arrays(draw(hs.sampled_from(table[name])), shape, elements={"allow_subnormal": False}))
        wholes.append(Whole(torch.from_numpy(x.numpy()), draw(st.layouts(shape))))
    return name, tuple(wholes)


def compare(result: ms.DNDarray, wanted: Any) -> None:
    whole = np.asarray(wanted)
    assert str(result.dtype).rpartition(".")[2] == str(whole.dtype)
    assert result.shape == whole.shape
    rtol = 1e-5 if whole.dtype in (np.float32, np.complex64) else 1e-12
    np.testing.assert_allclose(result.numpy(), whole, rtol=rtol, atol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of overflow and the like
@given(call=calls(UNARY, 1))
@spmd
def test_values_of_functions_of_one_array(call: tuple[str, tuple[Whole, ...]]) -> None:
    name, (whole,) = call
    compare(getattr(ms, name)(whole.cut()), getattr(strict, name)(strict.asarray(whole.tensor.numpy())))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(call=calls(BINARY, 2))
@spmd
def test_values_of_functions_of_two_arrays(call: tuple[str, tuple[Whole, ...]]) -> None:
    name, (x, y) = call
    a, b = (strict.asarray(whole.tensor.numpy()) for whole in (x, y))
    try:
        wanted = getattr(strict, name)(a, b)
    except TypeError:  # kinds that the standard does not mix
        return
    compare(getattr(ms, name)(x.cut(), y.cut()), wanted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(call=calls(ALONG_AXES, 1, min_dims=1), axis=hs.integers(0, 2))
@spmd
def test_values_of_functions_along_an_axis(call: tuple[str, tuple[Whole, ...]], axis: int) -> None:
    name, (whole,) = call
    axis %= whole.tensor.ndim
    if not whole.tensor.shape[axis] and name in {"max", "min", "argmax", "argmin"}:
        return
    wanted = getattr(strict, name)(strict.asarray(whole.tensor.numpy()), axis=axis)
    compare(getattr(ms, name)(whole.cut(), axis=axis), wanted)
