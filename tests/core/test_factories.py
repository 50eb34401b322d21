"""Making arrays: each factory against torch on the gathered array, for every split."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_is

import minisplit as ms

Comm = ms.Communication
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.complex64,
]
SHAPES = [(7,), (5, 4), (3, 1, 6), (1,), (0,), (4, 0), ()]
SPLITS = [(shape, split) for shape in SHAPES for split in (None, *range(-len(shape), len(shape)))]
every_split = pytest.mark.parametrize(("shape", "split"), SPLITS, ids=str)


@every_split
@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "full"])
def test_filled_arrays(shape: tuple[int, ...], split: int | None, name: str, calls: Counter[str]) -> None:
    more = (7,) if name == "full" else ()
    make, wanted = getattr(ms, name), getattr(torch, name)
    for dtype in (None, *DTYPES):
        x = make(shape, *more, dtype=dtype, split=split)
        whole = wanted(shape, *more, dtype=dtype)
        if name == "empty":
            x.larray.zero_()
            whole.zero_()
        assert calls == Counter()
        assert_is(x, whole, split)
        calls.clear()


@pytest.mark.parametrize("value", [True, 3, 2.5, 1 - 2j, float("nan"), float("inf")], ids=str)
def test_full_takes_the_dtype_of_its_value(value: Any) -> None:
    x = ms.full((4, 3), value, split=1)
    assert x.dtype is torch.full((1,), value).dtype
    np.testing.assert_array_equal(x.numpy(), torch.full((4, 3), value).numpy())


@pytest.mark.parametrize("shape", [4, [4], torch.Size([4]), np.array([4])], ids=repr)
def test_forms_of_a_shape(shape: Any) -> None:
    assert_is(ms.zeros(shape, split=0), torch.zeros(4), 0)


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "empty_like", "full_like"])
def test_likes_keep_ragged_layouts(comm: Comm, rank: int, size: int, name: str, split: int | None) -> None:
    more = (2,) if name == "full_like" else ()
    make, wanted = getattr(ms, name), getattr(torch, name)
    x = ms.arange(24, dtype=torch.int32, split=0)
    x = ms.array(x.numpy().reshape(4, 6), split=split)
    if split is not None:
        x = x.redistribute([0] * (size - 1) + [x.shape[split]])
    y = make(x, *more)
    assert y.layout == x.layout
    assert (y.dtype, y.comm, y.device) == (x.dtype, x.comm, x.device)
    if name != "empty_like":
        assert torch.equal(y.larray, wanted(x.larray, *more))
    other = make(x, *more, dtype=torch.float64, split=1)
    assert other.dtype is torch.float64
    assert other.layout == (x.layout if split == 1 else ms.Layout((4, 6), 1, size))
    alone = make(x, *more, comm=ms.MPI_SELF)
    assert alone.comm is ms.MPI_SELF
    assert alone.lshape == (4, 6)


def test_likes_need_a_dndarray(raises_alike: Any) -> None:
    with raises_alike(TypeError, match="x must be a DNDarray, got Tensor"):
        ms.zeros_like(torch.zeros(3))  # type: ignore[arg-type]


def test_a_0d_array_fills_as_its_number(raises_alike: Any) -> None:
    value = ms.array(2.5, dtype=torch.float64)
    assert ms.full(3, value, split=0).dtype is torch.float64
    assert ms.full_like(ms.zeros(3, split=0), value).tolist() == [2.5] * 3
    with raises_alike(ValueError, match=r"fill_value must be a number or a 0-d array, got shape \(1,\)"):
        ms.full(3, ms.ones(1, split=0))


RANGES: list[Sequence[Any]] = [
    (5,), (0,), (-3,), (2, 9), (9, 2), (2, 9, 3), (9, 2, -3), (9, 2, 3), (0, 1, 5), (-4, 5, 2),
    (5.0,), (0.0, 1.0, 0.1), (0, 1, 0.25), (1.0, 0.0, -0.3), (0.5, 3), (0, 2, 0.7), (1.0, 1.0), (2**53, 2**53 + 7),
]  # fmt: skip


def test_A19_values_outside_of_the_dtype(raises_alike: Any) -> None:
    for call in (ms.full, lambda shape, value, dtype, split: ms.full_like(ms.ones(shape), value, dtype=dtype)):
        for value in (-1, 300, -1.5, math.nan):
            with raises_alike(
                OverflowError, match=f"fill_value must be in torch.uint8, from 0 to 255, got {value}"
            ):
                call(3, value, dtype=torch.uint8, split=0)
        with raises_alike(TypeError, match=r"fill_value must be real for torch.int32, got \(1\+1j\)"):
            call((2, 2), 1 + 1j, dtype=torch.int32, split=0)
        with raises_alike(TypeError, match="fill_value must be a number, got 'a'"):
            call(2, "a", dtype=None, split=0)
    with raises_alike(OverflowError, match="fill_value must be in torch.int64"):
        ms.full(2, 2**63, split=0)
    assert ms.full(2, 2**63, dtype=torch.uint64, split=0).tolist() == [2**63] * 2
    assert ms.full(2, 2**70, dtype=torch.float64, split=0).tolist() == [2.0**70] * 2
    assert ms.full(2, 1e40, split=0).tolist() == [math.inf] * 2
    assert ms.full(2, True, split=0).dtype is torch.bool
    for start, stop, step in ((300, 303, 1), (-1, 2, 1), (250, 260, 1), (3, -2, -1)):
        with raises_alike(OverflowError, match="number of arange must be in torch.uint8"):
            ms.arange(start, stop, step, dtype=torch.uint8, split=0)
    assert ms.arange(250, 256, dtype=torch.uint8, split=0).tolist() == list(range(250, 256))
    assert ms.arange(300, 300, dtype=torch.uint8, split=0).tolist() == []


@pytest.mark.parametrize("split", [None, 0, -1])
@pytest.mark.parametrize("arguments", RANGES, ids=str)
def test_arange(arguments: Sequence[Any], split: int | None) -> None:
    try:
        whole = torch.arange(*arguments)
    except RuntimeError:  # torch has no empty ranges whose bounds are in the wrong order
        whole = torch.from_numpy(np.arange(*arguments))
    x = ms.arange(*arguments, split=split)
    assert x.layout == ms.Layout(tuple(whole.shape), split, x.comm.size)
    assert x.dtype is whole.dtype
    np.testing.assert_allclose(x.numpy(), whole.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_arange_of_a_dtype(dtype: torch.dtype) -> None:
    assert_is(ms.arange(3, 12, 2, dtype=dtype, split=0), torch.arange(3, 12, 2).to(dtype), 0)


@pytest.mark.parametrize("number", [np.int64(5), np.int32(5), np.uint8(5), torch.tensor(5)], ids=repr)
def test_arange_of_numpy_integers_is_of_integers(number: Any) -> None:
    assert_is(ms.arange(number, split=0), torch.arange(5), 0)


def test_arrays_of_no_axis_are_numbers(raises_alike: Any) -> None:
    low, high, number = ms.array(1), ms.array(9.0), ms.array(3)
    assert_is(ms.arange(low, ms.array(6), number, split=0), torch.tensor([1, 4]), 0)
    for make in (ms.linspace, ms.geomspace):
        assert make(low, high, 3, split=0).tolist() == make(1, 9.0, 3).tolist()
    assert ms.logspace(low, 2, 2, base=number, split=0).tolist() == [3.0, 9.0]
    found, edges = ms.histogram(ms.arange(6, split=0), 2, range=(low, high))
    assert (found.tolist(), edges.tolist()) == ([4, 1], [1.0, 5.0, 9.0])
    with raises_alike(ValueError, match=r"stop must be a number or a 0-d array, got shape \(2,\)"):
        ms.linspace(low, ms.ones(2, split=0), 3)


@pytest.mark.parametrize("step", [0, 0.0, -0.0])
def test_arange_without_a_step(step: float, raises_alike: Any) -> None:
    with raises_alike(ValueError, match="arange needs a step other than 0"):
        ms.arange(0, 5, step, split=0)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("split", [None, 0])
@pytest.mark.parametrize(
    ("start", "stop", "num"),
    [(0, 1, 5), (3.5, -2.25, 8), (1, 1, 4), (-1, 1, 2), (2, 5, 1), (2, 5, 0), (0, 1, 101)],
)
def test_linspace(start: float, stop: float, num: int, split: int | None, dtype: torch.dtype | None) -> None:
    kind = torch.linspace(start, stop, num, dtype=dtype).dtype
    inner = torch.complex128 if kind.is_complex else torch.float64  # torch rounds its step to the dtype
    whole = torch.linspace(start, stop, num, dtype=inner).to(kind)
    x = ms.linspace(start, stop, num, dtype=dtype, split=split)
    assert x.layout == ms.Layout((num,), split, x.comm.size)
    assert x.dtype is whole.dtype
    torch.testing.assert_close(torch.from_numpy(x.numpy()), whole)
    open_end = ms.linspace(start, stop, num, endpoint=False, split=split).numpy()
    np.testing.assert_allclose(open_end, np.linspace(start, stop, num, endpoint=False), rtol=1e-6, atol=1e-6)


def test_linspace_ends_where_it_should() -> None:
    for num in range(2, 60):
        values = ms.linspace(-0.1, 0.7, num, dtype=torch.float64, split=0).numpy()
        assert values[0] == -0.1
        assert values[-1] == 0.7


def test_complex_linspace() -> None:
    x = ms.linspace(0, 2 + 4j, 3, split=0)
    assert x.dtype is torch.complex64
    assert x.tolist() == [0, 1 + 2j, 2 + 4j]
    assert ms.linspace(0, np.complex64(2 + 4j), 3, split=0).tolist() == [0, 1 + 2j, 2 + 4j]


def test_bad_num_of_linspace(raises_alike: Any) -> None:
    with raises_alike(ValueError, match="num must not be negative, got -1"):
        ms.linspace(0, 1, -1)
    with raises_alike(TypeError, match="num must be an int, got 2.5 of type float"):
        ms.linspace(0, 1, 2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (0, 3), (1, 1)], ids=str)
def test_eye(shape: tuple[int, int], split: int | None) -> None:
    for k in range(-9, 10):
        assert_is(ms.eye(*shape, k=k, split=split), torch.from_numpy(np.eye(*shape, k=k, dtype=np.float32)), split)
    assert_is(ms.eye(shape[0], split=split, dtype=torch.int64), torch.eye(shape[0], dtype=torch.int64), split)


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: ms.arange(0.1, 7.3, 0.3, **o),
        lambda **o: ms.arange(-5, 17, 3, **o),
        lambda **o: ms.linspace(0.1, 0.9, 23, **o),
        lambda **o: ms.linspace(0.1, 0.9, 23, endpoint=False, **o),
        lambda **o: ms.linspace(1j, 2.5, 23, **o),
        lambda **o: ms.eye(5, 6, k=-1, **o),
    ],
    ids=["float arange", "arange", "linspace", "open linspace", "complex linspace", "eye"],
)
def test_values_do_not_depend_on_the_number_of_ranks(make: Any) -> None:
    alone = make(split=0, comm=ms.MPI_SELF).numpy()
    for split in (0, -1):
        assert make(split=split).numpy().tobytes() == alone.tobytes()


def test_factories_use_the_communicator_in_use(comm: Comm, calls: Counter[str]) -> None:
    with ms.use_comm(ms.MPI_SELF):
        arrays = [
            ms.zeros(5, split=0), ms.full(5, 1.0, split=0), ms.arange(5, split=0), ms.linspace(0, 1, 5, split=0),
            ms.eye(5, split=0), ms.array([1, 2, 3, 4, 5], split=0), ms.array(torch.ones(5), is_split=0),
        ]  # fmt: skip
    for x in arrays:
        assert x.comm is ms.MPI_SELF
        assert x.lshape[0] == 5
    assert calls == Counter()


def test_devices_and_shapes_are_checked(raises_alike: Any) -> None:
    for make in (ms.zeros, ms.ones, ms.empty):
        with raises_alike(ValueError, match="got 'abacus'"):
            make(3, device="abacus")
        with raises_alike(ValueError, match="extents must not be negative"):
            make((3, -1))
    for dtype, split in itertools.product(("float33", str), (None, 0)):
        with raises_alike(TypeError, match="dtype must be a dtype of torch"):
            ms.zeros(3, dtype=dtype, split=split)  # type: ignore[arg-type]


LOGARITHMS = [(0, 2, 5), (0, 1, 1), (0, 1, 0), (2, -3, 6), (1j, 2, 4)]
ENDS = [
    (1, 1000, 4),
    (1, 256, 9),
    (-1000, -1, 4),
    (1e-300, 1e300, 7),
    (1j, 1000j, 4),
    (-1, 1j, 5),
    (1, 5, 1),
    (3, 4, 0),
]


@pytest.mark.parametrize("split", [None, 0])
@pytest.mark.parametrize("endpoint", [True, False])
def test_numbers_with_even_logarithms(split: int | None, endpoint: bool) -> None:
    for arguments in LOGARITHMS:
        for base in (10.0, 2, 0.5):
            wanted = np.logspace(*arguments, endpoint=endpoint, base=base)
            dtype = getattr(torch, str(wanted.dtype))
            found = ms.logspace(*arguments, endpoint=endpoint, base=base, dtype=dtype, split=split)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
            assert found.split == split
    for ends in ENDS:
        wanted = np.geomspace(*ends, endpoint=endpoint)
        dtype = getattr(torch, str(wanted.dtype))
        found = ms.geomspace(*ends, endpoint=endpoint, dtype=dtype, split=split)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
        assert found.split == split
        if ends[2] > 1 and endpoint:
            assert found.tolist()[0] == ends[0]
            assert found.tolist()[-1] == ends[1]
    assert ms.geomspace(1, 1000, 4, dtype=int, split=split).tolist() == [1, 10, 100, 1000]
    assert ms.logspace(0, 3, 4, dtype=int, split=split).tolist() == [1, 10, 100, 1000]
    assert len(ms.logspace(0, 1)) == len(ms.geomspace(1, 2)) == 50
    assert ms.logspace(0, 1, 2).dtype is ms.geomspace(1, 2, 2).dtype is torch.float32
    assert ms.geomspace(1j, 2, 2).dtype is torch.complex64


@pytest.mark.parametrize("ends", [(0, 1), (1, 0), (-1, 1)])
def test_numbers_with_even_logarithms_need_some(ends: tuple[float, float], raises_alike: Any) -> None:
    with raises_alike(
        ValueError, match=f"ends other than 0, and real ones of one sign, got {ends[0]} and {ends[1]}"
    ):
        ms.geomspace(*ends, split=0)
    with raises_alike(TypeError, match="base must be a number, got 'e'"):
        ms.logspace(0, 1, base="e")  # type: ignore[arg-type]


def test_linspace_has_fifty_points() -> None:
    assert ms.linspace(0, 49, split=0).tolist() == [float(n) for n in range(50)]
