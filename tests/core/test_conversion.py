"""Conversion of tensors, NumPy arrays, sequences and the ranks' own parts, for every split."""

from __future__ import annotations

import array as array_module
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from layouts import assert_is

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import assert_equal

Comm = ms.Communication


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


def test_A2_a_split_array_in_the_part_of_one_rank_is_an_error_on_all(rank: int, raises_alike: Any) -> None:
    x = ms.arange(3, split=0)
    with raises_alike(ValueError, match="own part for is_split holds an array split along 0"):
        ms.array([x] if rank == 0 else [[0, 1, 2]], is_split=0)
    assert ms.array([x[0], x[1]], is_split=0).shape == (2 * x.comm.size,)


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
    with raises_alike(TypeError, match="dtype must be a dtype of torch, .* got 'float33'"):
        ms.array([1], "float33")
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
def test_A1_bad_axis(where: str, axis: Any, kind: Any, words: str, raises_alike: Any) -> None:
    prefix = "is_" if where == "is_split" else ""
    with raises_alike(kind, match=prefix + words):
        ms.array(torch.zeros(3, 4), **{where: axis})
    if where == "split":
        with raises_alike(kind, match=words):
            ms.zeros((3, 4), split=axis)


def test_A1_axis_of_a_0d_part(raises_alike: Any) -> None:
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


def test_is_split_costs_one_allgather(rank: int, size: int) -> None:
    with ms.testing.traffic() as seen:
        ms.array(torch.zeros(rank, 2), is_split=0)
    assert seen.calls == ({"allgather": 1} if size > 1 else {})


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
def test_A2_parts_that_disagree(rank: int, size: int, name: str, raises_alike: Any) -> None:
    usual, odd, words = DISAGREEMENTS[name]
    for other in range(1, size):
        with raises_alike(ValueError, match="parts for is_split must have the " + words.format(other)):
            ms.array(odd if rank == other else usual, is_split=0)


def test_A2_odd_rank_zero(rank: int, size: int, raises_alike: Any) -> None:
    if size == 1:
        pytest.skip("needs two ranks")
    with raises_alike(ValueError, match="rank 0 has torch.int64, rank 1 has torch.float32"):
        ms.array(torch.zeros(2, dtype=torch.int64) if rank == 0 else torch.zeros(2), is_split=0)


def test_A2_different_is_split(rank: int, size: int, raises_alike: Any) -> None:
    if size == 1:
        pytest.skip("needs two ranks")
    with raises_alike(ValueError, match=f"must have the same is_split: rank 0 has 0, rank {size - 1} has 1"):
        ms.array(torch.zeros(2, 2), is_split=int(rank == size - 1))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(["a", "b"], ValueError), ([[1, 2], [3]], ValueError), ({"a": 1}, TypeError), (None, TypeError)],
)
def test_A2_conversion_fails_on_one_rank_only(
    rank: int, size: int, bad: Any, kind: type[Exception], raises_alike: Any
) -> None:
    where = f"rank {size - 1} of {size} failed while converting its part for is_split to a tensor"
    with raises_alike(kind, match=where):
        ms.array(bad if rank == size - 1 else [1.0, 2.0], is_split=0)


@pytest.mark.several
def test_A2_parts_that_differ_in_requires_grad(rank: int, size: int, raises_alike: Any) -> None:
    with raises_alike(ValueError, match=f"same requires_grad: rank 0 has False, rank {size - 1} has True"):
        ms.asarray(torch.ones(2, requires_grad=rank == size - 1), is_split=0)


def test_A1_an_is_split_that_is_no_int_on_one_rank(rank: int, size: int, raises_alike: Any) -> None:
    with raises_alike(TypeError, match="is_split must be an int, got 'a'"):
        ms.asarray(torch.ones(2), is_split="a" if rank == size - 1 else 0)  # type: ignore[arg-type]


def test_A2_a_sparse_part_is_refused(rank: int, size: int, raises_alike: Any) -> None:
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


@pytest.mark.parametrize("make", [ms.array, ms.asarray])
@pytest.mark.parametrize("split", [None, 0, 1, -1])
def test_A17_the_whole_gradient_of_a_tensor_that_is_cut(make: Any, split: int | None, size: int) -> None:
    p = torch.arange(12.0).reshape(4, 3).requires_grad_()
    x = make(p, split=split)
    (gradient,) = torch.autograd.grad((x**3).sum().larray, p, create_graph=True)
    assert torch.equal(gradient, 3 * p**2)
    gradient.sum().backward()
    assert p.grad is not None
    assert torch.equal(p.grad, 6 * p)


def test_A17_parts_of_a_tensor_that_requires_a_gradient_are_copied(raises_alike: Any) -> None:
    p = torch.ones(4, requires_grad=True)
    with raises_alike(ValueError, "that requires a gradient are copied"):
        ms.array(p, split=0, copy=False)
    with torch.no_grad():
        assert ms.array(p, split=0, copy=False).larray.shape[0] <= 4


def test_masked_arrays(raises_alike: Any) -> None:
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    x = ms.zeros(3, split=0)
    for call in (
        lambda: ms.array(masked, split=0),
        lambda: ms.from_numpy(masked),
        lambda: ms.array(masked, is_split=0),
        lambda: ms.array([masked, masked], split=1),
        lambda: x.__setitem__(slice(None), masked),
        lambda: x[np.ma.array([0, 1], mask=[True, False])],
    ):
        with raises_alike(ValueError, match="has masked elements, which no tensor has"):
            call()
    assert_equal(ms.array(masked.filled(np.nan), split=0), np.array([1.0, np.nan, 3.0]))
    assert_equal(ms.array(np.ma.array([1.0, 2.0]), split=0), np.array([1.0, 2.0]))


def test_array_module() -> None:
    for code, dtype in (("d", torch.float64), ("f", torch.float32), ("i", torch.int32), ("q", torch.int64)):
        given = array_module.array(code, [1, 2, 3])
        for obj in (given, memoryview(given), Wrapper(np.asarray(given))):
            x = ms.array(obj, split=0)
            assert x.dtype is dtype
            assert x.tolist() == [1, 2, 3]
            assert ms.array([obj, obj]).dtype is dtype
    x = ms.asarray(given, copy=False)
    x[0] = 7
    assert given[0] == 7


class Wrapper:
    """An array of another library, as NumPy sees it."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> float:
        return float(self.values[index])


def test_set_in_an_expanded_tensor(comm: Comm, size: int) -> None:
    """x[0] = 5 set all elements, or raised on the owner alone."""
    windows = torch.arange(6.0).as_strided((4, 3), (1, 1))
    for make in (
        lambda: ms.asarray(torch.ones(1).expand(4), split=0),
        lambda: ms.asarray(torch.ones(1).expand(4)),
        lambda: ms.asarray(np.lib.stride_tricks.sliding_window_view(np.ones(6, np.float32), 4), split=0)[0],
        lambda: ms.asarray(torch.ones(4), split=0),
    ):
        x = make()
        x[0] = 5
        x[1:] = ms.arange(3.0, split=0)
        assert x.tolist() == [5, 0, 1, 2]
    x = ms.asarray(windows, is_split=0)
    x[0, 1] = 9
    assert x.tolist() == [[0, 9, 2], *windows.tolist()[1:], *windows.tolist() * (size - 1)]
    with pytest.raises(ValueError, match="copy=False"):
        ms.asarray(torch.ones(1).expand(4), copy=False)
    part = torch.ones(3, 4).T[:, ::2]
    assert ms.asarray(part, is_split=0).larray is part


def test_set_in_an_inference_tensor(raises_alike: Any) -> None:
    with torch.inference_mode():
        x, part = ms.zeros(4, split=0), torch.zeros(4)
        x[0] = 1
    with raises_alike(RuntimeError, match="not made in torch.inference_mode"):
        x[0] = 5
    x = ms.array(x)
    x[0] = 5
    assert x.tolist() == [5, 0, 0, 0]
    x = ms.asarray(part, split=0)
    x[0] = 5
    assert x.tolist() == [5, 0, 0, 0]


def test_A19_python_numbers_outside_of_the_dtype(size: int, raises_alike: Any) -> None:
    for numbers in ([-1], -1, [[1, 300]], [1.0, -1.5], 256, [float("nan")]):
        for options in ({"split": None}, {"is_split": 0} if isinstance(numbers, list) else {}):
            with raises_alike(OverflowError, match="must be in torch.uint8, from 0 to 255, got"):
                ms.array(numbers, torch.uint8, **options)
    with raises_alike(OverflowError, match="an int of this list is not in int64"):
        ms.array([2**63])
    assert ms.array([2**63], torch.uint64).tolist() == [2**63]
    assert ms.array([[0, 255], [1, 2]], torch.uint8, split=0).tolist() == [[0, 255], [1, 2]]
    assert ms.array([0.5, 3], torch.int32).tolist() == [0, 3]
    assert ms.array([], torch.uint8).shape == (0,)
    # What has a dtype is cast, as NumPy casts it.
    assert (
        ms.array(np.array([-1]), torch.uint8).tolist()
        == ms.array(torch.tensor([-1]), torch.uint8).tolist()
        == [255]
    )


def test_array_of_trees(raises_alike: Any) -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(3, 2))
    made = ms.array({"w": weight, "b": {"list": [1, 2, 3], "array": np.arange(3)}}, split=0)
    assert_is(made["w"], weight.detach(), 0)
    assert_is(made["b"]["list"], torch.tensor([1, 2, 3]), 0)
    assert_is(made["b"]["array"], torch.arange(3), 0)
    made["w"].torch().sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 1.0]] * 3
    params, buffers = ms.array(({"w": weight}, {}), dtype=torch.float64)
    assert_is(params["w"], weight.detach().double(), None)
    assert buffers == {}
    with raises_alike(TypeError, match="an array cannot be made of a module: give its parameters"):
        ms.array(torch.nn.Linear(2, 1))
