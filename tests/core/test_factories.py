"""Making arrays: each factory against torch on the gathered array, for every split."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.agreement import agreement

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


def assert_is(
    x: ms.DNDarray, whole: torch.Tensor, split: int | None, comm: ms.Communication | None = None
) -> None:
    """`x` is `whole`, cut along `split` with the default counts."""
    comm = comm or ms.get_comm()
    with agreement(comm, "checking"):
        assert x.layout == ms.Layout(tuple(whole.shape), split, comm.size)
        assert x.dtype is whole.dtype
        assert x.comm is comm
        mine = whole[x.layout.box(comm.rank)]
        assert torch.equal(x.larray, mine)
        assert x.lshape == tuple(mine.shape)
        assert x.device == whole.device


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


OBJECTS: dict[str, Any] = {
    "tensor": torch.arange(12.0).reshape(4, 3),
    "transposed tensor": torch.arange(12.0).reshape(3, 4).T,
    "NumPy": np.arange(12, dtype=np.int16).reshape(4, 3),
    "Fortran order": np.asfortranarray(np.arange(12.0).reshape(4, 3)),
    "read-only": np.broadcast_to(np.arange(3.0), (4, 3)),
    "negative strides": np.arange(12).reshape(4, 3)[::-1, ::-1],
    "big endian": np.arange(12, dtype=">f8").reshape(4, 3),
    "big-endian complex": np.arange(12, dtype=">c16").reshape(4, 3),
    "uint16": np.arange(12, dtype=np.uint16).reshape(4, 3),
    "bool": np.eye(4, 3, dtype=bool),
    "field of a record": np.ones((4, 3), dtype=[("a", "i1"), ("b", "<f8")])["b"],
    "lists": [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]],
    "lists of floats": [[1.5, 2], [4, 5]],
    "empty list": [],
    "number": 3,
    "float": 2.5,
    "complex": 1 + 2j,
    "NumPy scalar": np.float32(1.5),
    "0-d NumPy": np.array(7, dtype=">i4"),
    "range": range(5),
}


@pytest.mark.parametrize("copy", [True, None])
@pytest.mark.parametrize("name", OBJECTS)
def test_array_of_what_every_rank_has(name: str, copy: bool | None, calls: Counter[str]) -> None:
    obj = OBJECTS[name]
    if isinstance(obj, np.ndarray):
        whole = torch.from_numpy(np.array(obj, dtype=obj.dtype.newbyteorder("=")))
    else:
        whole = torch.as_tensor(obj)
    for split in (None, *range(-whole.ndim, whole.ndim)):
        x = ms.array(obj, split=split, copy=copy)
        assert calls == Counter()
        assert_is(x, whole, split)
        assert_is(ms.array(obj, torch.complex128, split=split, copy=copy), whole.to(torch.complex128), split)
        calls.clear()


@pytest.mark.parametrize("split", [None, 0, 1])
def test_memory_is_copied_or_shared(comm: Comm, size: int, split: int | None) -> None:
    whole = torch.zeros(2 * size, 3 * size)
    in_numpy = whole.numpy()
    shared = [
        ms.asarray(whole, split=split),
        ms.asarray(in_numpy, split=split),
        ms.from_numpy(in_numpy, split=split),
    ]
    copied = [ms.array(whole, split=split), ms.array(in_numpy, split=split)]
    whole += 1
    assert all((x.larray == 1).all() for x in shared)
    assert all((x.larray == 0).all() for x in copied)
    part = torch.ones(3)
    assert ms.asarray(part, is_split=0).larray is part
    assert ms.array(part, is_split=0).larray.data_ptr() != part.data_ptr()
    x = ms.array(whole, split=split)
    assert ms.asarray(x).larray.data_ptr() == x.larray.data_ptr()
    assert ms.array(x).larray.data_ptr() != x.larray.data_ptr()


@pytest.mark.parametrize("split", [None, 0, 1])
def test_arrays_of_other_libraries(size: int, split: int | None, raises_alike: Any) -> None:
    for source in (np.zeros((2 * size, 3)), torch.zeros(2 * size, 3)):
        shared = [ms.from_dlpack(source, split=split), ms.from_dlpack(source, split=split, copy=False)]
        copied = ms.from_dlpack(source, split=split, copy=True)
        source[:] = 1
        assert all((x.larray == 1).all() and x.split == split for x in shared)
        assert (copied.larray == 0).all()
    with raises_alike(TypeError, match="from_dlpack needs an array with __dlpack__, got list"):
        ms.from_dlpack([1], split=split)
    with raises_alike(ValueError, match="copy=False, but going from cpu to meta is a copy"):
        ms.from_dlpack(np.ones((2, 2)), copy=False, device="meta")


def test_a_read_only_array_is_not_shared() -> None:
    source = np.zeros(4)
    source.flags.writeable = False
    x = ms.asarray(source)
    x.larray.fill_(1)
    assert (source == 0).all()


def test_sequences_may_hold_arrays() -> None:
    x = ms.arange(3, dtype=torch.int16, split=0)
    made = ms.array([[x[0], x[2]], [x[1], x[1]]], split=0)
    assert made.dtype is torch.int16
    assert made.tolist() == [[0, 2], [1, 1]]
    assert ms.array([x, x * 2]).tolist() == [[0, 1, 2], [0, 2, 4]]


def test_a_split_array_in_the_part_of_one_rank_is_an_error_on_all(rank: int, raises_alike: Any) -> None:
    x = ms.arange(3, split=0)
    with raises_alike(ValueError, match="own part for is_split holds an array split along 0"):
        ms.array([x] if rank == 0 else [[0, 1, 2]], is_split=0)
    assert ms.array([x[0], x[1]], is_split=0).shape == (2 * x.comm.size,)


def test_a_0d_array_fills_as_its_number(raises_alike: Any) -> None:
    value = ms.array(2.5, dtype=torch.float64)
    assert ms.full(3, value, split=0).dtype is torch.float64
    assert ms.full_like(ms.zeros(3, split=0), value).tolist() == [2.5] * 3
    with raises_alike(ValueError, match=r"fill_value must be a number or a 0-d array, got shape \(1,\)"):
        ms.full(3, ms.ones(1, split=0))


def test_without_a_copy_there_is_none_or_an_error(raises_alike: Any) -> None:
    tensor, array = torch.ones(4), np.ones(4)
    assert ms.asarray(tensor, split=0, copy=False).larray.untyped_storage().data_ptr() == tensor.data_ptr()
    assert ms.asarray(tensor, is_split=0, copy=False).larray is tensor
    ms.asarray(array, copy=False).larray[0] = 7
    assert array[0] == 7
    x = ms.ones(4, split=0)
    assert ms.asarray(x, copy=False).larray is x.larray
    assert ms.asarray(x, split=0, copy=False).larray is x.larray
    calls: list[tuple[Any, dict[str, Any]]] = [
        ([1], {}),
        (tensor, {"dtype": torch.int64}),
        (x, {"dtype": torch.int8}),
    ]
    for obj, options in [*calls, (ms.ones(4), {"split": 0}), (tensor, {"dtype": torch.float64, "is_split": 0})]:
        with raises_alike(ValueError, match="copy=False, but with this dtype, device and split the object must"):
            ms.asarray(obj, copy=False, **options)


def test_bad_arguments_of_array(raises_alike: Any) -> None:
    with raises_alike(ValueError, match=r"give split .* or is_split .* not both, got split=0, is_split=1"):
        ms.array([[1]], split=0, is_split=1)
    with raises_alike(ValueError, match="copy must be True, False or None, got 'no'"):
        ms.array([1], copy="no")  # type: ignore[arg-type]
    with raises_alike(
        TypeError, match="dtype must be a torch.dtype or None, such as torch.float32, got 'float32'"
    ):
        ms.array([1], "float32")  # type: ignore[arg-type]
    with raises_alike(TypeError, match="from_numpy needs a NumPy array, got list"):
        ms.from_numpy([1])  # type: ignore[arg-type]
    with raises_alike(TypeError, match="an array cannot be made of None: with split= every rank gives"):
        ms.array(None, split=0)
    with raises_alike(TypeError, match="an array cannot be made of this set: Could not infer dtype"):
        ms.array({1})
    with raises_alike(ValueError, match="an array cannot be made of this list: too many dimensions"):
        ms.array(["a"])


@pytest.mark.parametrize("where", ["split", "is_split"])
@pytest.mark.parametrize(
    ("axis", "kind", "words"),
    [
        (2, IndexError, "split 2 is out of range for 2 dimensions; allowed: -2 to 1"),
        (-3, IndexError, "split -3 is out of range"),
        (True, TypeError, "split must be an int, got True of type bool"),
        (0.0, TypeError, "split must be an int, got 0.0 of type float"),
        ("0", TypeError, "split must be an int, got '0' of type str"),
    ],
)
def test_bad_axis(where: str, axis: Any, kind: Any, words: str, raises_alike: Any) -> None:
    prefix = "is_" if where == "is_split" else ""
    with raises_alike(kind, match=prefix + words):
        ms.array(torch.zeros(3, 4), **{where: axis})
    if where == "split":
        with raises_alike(kind, match=words):
            ms.zeros((3, 4), split=axis)


def test_axis_of_a_0d_part(raises_alike: Any) -> None:
    with raises_alike(IndexError, match="is_split 0 is out of range .* a 0-d array has no axis"):
        ms.array(1.0, is_split=0)


def extents_of(kind: str, size: int) -> list[int]:
    """How long each rank's part is."""
    return {
        "ragged": [(2 * r + 1) % 4 for r in range(size)],
        "empty on some": [3 * (r % 2) for r in range(size)],
        "only on the last": [0] * (size - 1) + [4],
        "empty on all": [0] * size,
    }[kind]


@pytest.mark.parametrize("kind", ["ragged", "empty on some", "only on the last", "empty on all"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_is_split(comm: Comm, rank: int, size: int, axis: int, kind: str) -> None:
    extents = extents_of(kind, size)
    shape = [2, 3, 2]
    shape[axis] = sum(extents)
    whole = torch.arange(int(np.prod(shape))).reshape(shape)
    part = torch.split(whole, extents, dim=axis)[rank]
    for obj in (part, part.numpy(), part.mT.contiguous().mT):
        x = ms.array(obj, is_split=axis)
        with agreement(comm, "checking"):
            assert x.layout == ms.Layout(tuple(shape), axis, size, tuple(extents))
            assert torch.equal(x.larray, part)
        np.testing.assert_array_equal(x.numpy(), whole.numpy())


def test_is_split_costs_one_allgather(comm: Comm, rank: int, size: int, calls: Counter[str]) -> None:
    ms.array(torch.zeros(rank, 2), is_split=0)
    assert calls == Counter({"Allgather": 1} if size > 1 else {})


def test_is_split_of_nine_dimensions(comm: Comm, rank: int, size: int) -> None:
    for axis in (0, 8):
        shape = [1, 2, 1, 1, 1, 1, 1, 1, 3]
        shape[axis] = rank + 1
        x = ms.array(torch.full(shape, rank), is_split=axis)
        shape[axis] = size * (size + 1) // 2
        assert x.shape == tuple(shape)
        assert x.counts == tuple(range(1, size + 1))
        assert x.numpy().shape == x.shape


def test_is_split_keeps_gradients(comm: Comm, rank: int) -> None:
    part = torch.ones(2, 3, requires_grad=True)
    ms.array(part, is_split=0).resplit(1).larray.sum().backward()
    with agreement(comm, "checking"):
        assert torch.equal(part.grad, torch.ones(2, 3))


DISAGREEMENTS: dict[str, tuple[Any, Any, str]] = {
    "ndim": (
        torch.zeros(2, 3),
        torch.zeros(2),
        "same number of dimensions: rank 0 has 2, rank {} has 1",
    ),
    "dtype": (
        torch.zeros(2, 3),
        torch.zeros(2, 3).int(),
        "same dtype: rank 0 has torch.float32, rank {} has torch.int32",
    ),
    "extent": (
        torch.zeros(2, 3),
        torch.zeros(2, 4),
        r"same extent of axis 1 \(parts may differ along axis 0 only\): rank 0 has 3, rank {} has 4",
    ),
    "ninth extent": (
        torch.zeros([1] * 9),
        torch.zeros([1] * 8 + [2]),
        "same extent of axis 8 .* rank 0 has 1, rank {} has 2",
    ),
    "ndim above eight": (
        torch.zeros(2),
        torch.zeros([1] * 9),
        "same number of dimensions: rank 0 has 1, rank {} has 9",
    ),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_parts_that_disagree(rank: int, size: int, name: str, raises_alike: Any) -> None:
    usual, odd, words = DISAGREEMENTS[name]
    for other in range(1, size):
        with raises_alike(ValueError, match="parts for is_split must have the " + words.format(other)):
            ms.array(odd if rank == other else usual, is_split=0)


def test_odd_rank_zero(rank: int, size: int, raises_alike: Any) -> None:
    if size == 1:
        pytest.skip("needs two ranks")
    with raises_alike(ValueError, match="rank 0 has torch.int64, rank 1 has torch.float32"):
        ms.array(torch.zeros(2, dtype=torch.int64) if rank == 0 else torch.zeros(2), is_split=0)


def test_different_is_split(rank: int, size: int, raises_alike: Any) -> None:
    if size == 1:
        pytest.skip("needs two ranks")
    with raises_alike(ValueError, match=f"must have the same is_split: rank 0 has 0, rank {size - 1} has 1"):
        ms.array(torch.zeros(2, 2), is_split=int(rank == size - 1))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(["a", "b"], ValueError), ([[1, 2], [3]], ValueError), ({"a": 1}, TypeError), (None, TypeError)],
)
def test_conversion_fails_on_one_rank_only(
    rank: int, size: int, bad: Any, kind: type[Exception], raises_alike: Any
) -> None:
    where = f"rank {size - 1} of {size} failed while converting its part for is_split to a tensor"
    with raises_alike(kind, match=where):
        ms.array(bad if rank == size - 1 else [1.0, 2.0], is_split=0)


@pytest.mark.several
def test_parts_that_differ_in_requires_grad(rank: int, size: int, raises_alike: Any) -> None:
    with raises_alike(ValueError, match=f"same requires_grad: rank 0 has False, rank {size - 1} has True"):
        ms.asarray(torch.ones(2, requires_grad=rank == size - 1), is_split=0)


def test_an_is_split_that_is_no_int_on_one_rank(rank: int, size: int, raises_alike: Any) -> None:
    with raises_alike(TypeError, match="is_split must be an int, got 'a'"):
        ms.asarray(torch.ones(2), is_split="a" if rank == size - 1 else 0)  # type: ignore[arg-type]


def test_a_sparse_part_is_refused(rank: int, size: int, raises_alike: Any) -> None:
    part = torch.eye(3)
    with raises_alike(TypeError, match="sparse"):
        ms.asarray(part.to_sparse() if rank == size - 1 else part, is_split=0)


def test_a_dndarray_keeps_its_layout(comm: Comm, size: int, raises_alike: Any) -> None:
    whole = torch.arange(12.0).reshape(4, 3)
    x = ms.array(whole, split=0).redistribute([0] * (size - 1) + [4])
    for y in (ms.array(x), ms.array(x, split=0), ms.array(x, split=-2), ms.array(x, is_split=0), ms.asarray(x)):
        assert y.layout == x.layout
        assert torch.equal(y.larray, x.larray)
    assert_is(ms.array(x, split=1), whole, 1)
    assert_is(ms.array(x, torch.int32, split=1), whole.int(), 1)
    with raises_alike(ValueError, match="is_split must be the split of the DNDarray, 0, got 1"):
        ms.array(x, is_split=1)
    with raises_alike(IndexError, match="split 2 is out of range"):
        ms.array(x, split=2)
    with raises_alike(ValueError, match="a DNDarray stays on its communicator"):
        ms.array(x, comm=ms.MPI_SELF)


RANGES: list[Sequence[Any]] = [
    (5,), (0,), (-3,), (2, 9), (9, 2), (2, 9, 3), (9, 2, -3), (9, 2, 3), (0, 1, 5), (-4, 5, 2),
    (5.0,), (0.0, 1.0, 0.1), (0, 1, 0.25), (1.0, 0.0, -0.3), (0.5, 3), (0, 2, 0.7), (1.0, 1.0), (2**53, 2**53 + 7),
]  # fmt: skip


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


@pytest.mark.parametrize("number", [np.int64(5), np.int32(5), np.uint8(5)], ids=repr)
def test_arange_of_numpy_integers_is_of_integers(number: Any) -> None:
    assert_is(ms.arange(number, split=0), torch.arange(5), 0)


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
    for dtype, split in itertools.product(("f", int), (None, 0)):
        with raises_alike(TypeError, match="dtype must be a torch.dtype or None"):
            ms.zeros(3, dtype=dtype, split=split)  # type: ignore[arg-type]
