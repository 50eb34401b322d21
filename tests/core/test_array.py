"""The array itself: what it says of itself, how it comes back whole, and its in-place methods."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.core.array import as_dndarray
from minisplit.core.communication.agreement import agreement
from minisplit.testing import assert_close

Comm = ms.Communication
SHAPES = [(7,), (5, 4), (3, 2, 6), (1,), (0,), (0, 3), (1, 1, 1)]


class Silent(ms.Communication):
    """A communicator that must not be asked for anything but `rank` and `size`."""

    def __init__(self, comm: ms.Communication) -> None:
        super().__init__(comm.rank, comm.size)

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("this call must not communicate")

    _collective = abort = _refuse
    _exchange = _allreduce = _scan = _broadcast = _broadcast_bytes = _refuse
    _allgather = _alltoall = _allgather_text = _agree = _split = _free = _meet = _refuse


def cases() -> list[Any]:
    """Every split of every shape, on every kind of layout."""
    return [
        pytest.param(shape, split, kind, id=f"{shape}-{split}-{kind}")
        for shape in [(), *SHAPES]
        for split in (None, *range(len(shape)))
        for kind in (KINDS if split is not None else KINDS[:1])
    ]


@pytest.mark.parametrize(("shape", "split", "kind"), cases())
def test_A9_attributes_tell_the_layout_and_send_nothing(
    comm: Comm, shape: tuple[int, ...], split: int | None, kind: str
) -> None:
    whole = torch.arange(int(np.prod(shape)), dtype=torch.int16).reshape(shape)
    layout = layout_of(shape, split, kind, comm.size)
    silent = Silent(comm)
    x = dealt(whole, layout, silent)
    mine = whole[layout.box(comm.rank)]
    assert x.shape == x.gshape == tuple(whole.shape)
    assert (x.ndim, x.size, x.nbytes) == (whole.ndim, whole.numel(), 2 * whole.numel())
    assert (x.dtype, x.device, x.comm, x.layout) == (torch.int16, whole.device, silent, layout)
    assert (x.split, x.counts, x.displs) == (split, layout.counts, layout.displs)
    assert torch.equal(x.larray, mine)
    assert x.lshape == tuple(mine.shape)
    assert x.lshape_map.dtype is torch.int64
    assert x.lshape_map.shape == (comm.size, x.ndim)
    assert [tuple(row) for row in x.lshape_map.tolist()] == [layout.lshape(r) for r in range(comm.size)]
    assert x.is_balanced() == layout.is_balanced
    assert x.is_distributed() == (split is not None and comm.size > 1)
    if shape:
        assert len(x) == shape[0]
    assert f"shape={shape}, split={split}, dtype=torch.int16, device=cpu" in repr(x)


def test_A9_a_lone_rank_may_look(comm: Comm, rank: int) -> None:
    x = ms.arange(7, split=0)
    if rank == comm.size - 1:
        assert len(x) == 7
        assert x.lshape_map.sum() == 7
        assert f"rank {rank} of {comm.size} holds" in repr(x)
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_repr_shows_facts_and_the_shard(comm: Comm, rank: int, size: int) -> None:
    x = ms.zeros((3, 4 * size), split=1)
    assert repr(x) == (
        f"DNDarray(shape=(3, {4 * size}), split=1, dtype=torch.float32, device=cpu; "
        f"rank {rank} of {size} holds [:, {4 * rank}:{4 * rank + 4}])\n{torch.zeros(3, 4)!r}"
    )
    assert f"rank {rank} of {size} holds all of it" in repr(ms.zeros(3))


def test_what_only_tensors_have_is_said_to_be_theirs() -> None:
    x = ms.zeros(3)
    with pytest.raises(AttributeError, match=r"no attribute 'data_ptr'; x\.larray\.data_ptr is that of"):
        x.data_ptr()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        x.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(x, "data_ptr")
    # What has a meaning for the whole array is not asked of a rank's part.
    with pytest.raises(AttributeError, match=r"'eigvalsh'; minisplit\.linalg\.eigvalsh\(x\) is the function"):
        x.eigvalsh  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"'lgamma'; x\.torch\(\) is the whole array as a tensor"):
        x.lgamma  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"'partition'; x\.numpy\(\) is the whole array"):
        x.partition  # type: ignore[attr-defined]  # noqa: B018


def test_a_0d_array_has_no_length() -> None:
    with pytest.raises(TypeError, match="a 0-d array has no length"):
        len(ms.array(3.0))


def test_larray_shares_memory_and_is_writable(comm: Comm, size: int) -> None:
    x = ms.zeros(2 * size, split=0)
    x.larray[:] = comm.rank
    assert x.tolist() == [float(r) for r in range(size) for _ in range(2)]


@pytest.mark.parametrize("name", ["larray", "shape", "split", "layout", "comm", "dtype", "other"])
def test_attributes_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(ms.zeros(3), name, None)


def test_the_constructor_checks_its_shard(comm: Comm, rank: int, size: int) -> None:
    layout = ms.Layout((size, 3), 0, size)
    words = rf"rank {rank} holds a shard of shape \(2, 3\), but the layout gives it \(1, 3\)"
    with pytest.raises(ValueError, match=words):
        ms.DNDarray(torch.zeros(2, 3), layout, comm)
    with pytest.raises(ValueError, match=f"is for {size + 1} ranks, but the communicator has {size}"):
        ms.DNDarray(torch.zeros(1, 3), ms.Layout((size, 3), 0, size + 1), comm)


def test_as_dndarray() -> None:
    x = ms.zeros(2)
    assert as_dndarray(x) is x
    with pytest.raises(TypeError, match=r"b must be a DNDarray, got Tensor; make one with minisplit\.array"):
        as_dndarray(torch.zeros(2), "b")


def test_an_array_is_freed_when_its_last_name_goes() -> None:
    x = ms.zeros(3, split=0)
    seen = weakref.ref(x)
    del x
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(("shape", "split", "kind"), cases())
def test_numpy_and_tolist(comm: Comm, shape: tuple[int, ...], split: int | None, kind: str) -> None:
    whole = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(shape)
    x = dealt(whole, layout_of(shape, split, kind, comm.size), comm)
    gathered, listed = x.numpy(), x.tolist()
    assert gathered.dtype == np.float64
    np.testing.assert_array_equal(gathered, whole.numpy())
    assert gathered.shape == shape
    assert listed == whole.tolist()
    gathered[...] = -1  # memory of its own
    assert torch.equal(x.larray, whole[x.layout.box(comm.rank)])


@pytest.mark.parametrize("split", [None, 0, 1])
def test_A7_conjugate_and_negative_views(comm: Comm, size: int, split: int | None) -> None:
    whole = torch.complex(torch.arange(12.0), -torch.arange(12.0)).reshape(3, 4)
    layout = ms.Layout((3, 4), split, size)
    part = whole[layout.box(comm.rank)]
    for view in (part.conj(), part.conj().imag, torch._neg_view(part.imag.contiguous())):
        x = ms.DNDarray(view, layout, comm)
        gathered, listed = x.numpy(), x.tolist()
        wanted = whole.conj().resolve_conj() if view.is_complex() else -whole.imag
        with agreement(comm, "checking"):
            np.testing.assert_array_equal(gathered, wanted.numpy())
            assert listed == wanted.tolist()


def test_bfloat16_has_no_numpy_form(raises_alike: Any) -> None:
    x = ms.arange(5, dtype=torch.bfloat16, split=0)
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    with raises_alike(TypeError, match="BFloat16"):
        x.numpy()


def test_numpy_of_what_requires_grad() -> None:
    x = ms.array(torch.arange(4.0, requires_grad=True), split=0)
    np.testing.assert_array_equal(x.numpy(), np.arange(4.0))
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)], ids=str)
def test_item(comm: Comm, size: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    one = torch.full(shape, True, dtype=dtype)
    for split in (None, *range(len(shape))):
        for owner in range(size if split is not None else 1):
            counts = tuple(int(r == owner) for r in range(size))
            layout = ms.Layout(shape, split, size, counts if split is not None else None)
            x = dealt(one, layout, comm)
            value = x.item()
            with agreement(comm, "checking"):
                assert value == one.item()
                assert type(value) is type(one.item())


def test_item_of_conjugate_and_negative_views(comm: Comm, size: int) -> None:
    layout = ms.Layout((1,), 0, size, (0,) * (size - 1) + (1,))
    part = torch.tensor([1 + 2j])[layout.box(comm.rank)]
    views = (part.conj(), part.conj().imag, torch._neg_view(part.imag.contiguous()))
    values = [ms.DNDarray(view, layout, comm).item() for view in views]
    assert values == [1 - 2j, -2.0, -2.0]


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)], ids=str)
def test_item_of_another_size(shape: tuple[int, ...], raises_alike: Any) -> None:
    with raises_alike(ValueError, match=r"item\(\) needs an array of one element, got shape"):
        ms.zeros(shape, split=0).item()


@pytest.mark.parametrize("method", ["resplit", "balance", "redistribute"])
@pytest.mark.parametrize("kind", KINDS)
def test_methods_in_place_change_the_array_and_return_it(comm: Comm, size: int, kind: str, method: str) -> None:
    whole = torch.arange(30).reshape(6, 5)
    arguments: dict[str, tuple[Any, ...]] = {
        "resplit": (1,),
        "balance": (),
        "redistribute": ([6] + [0] * (size - 1),),
    }
    x = dealt(whole, layout_of((6, 5), 0, kind, size), comm)
    made = getattr(x, method)(*arguments[method])
    same = getattr(x, method + "_")(*arguments[method])
    assert same is x
    assert x.layout == made.layout
    assert torch.equal(x.larray, made.larray)
    assert torch.equal(x.larray, whole[x.layout.box(comm.rank)])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.resplit(1),
        lambda x: x.resplit(None),
        lambda x: x.resplit(0),
        lambda x: x.balance(),
        lambda x: x.redistribute([0] * (x.comm.size - 1) + [6]),
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: f"{x}",
    ],
    ids=["resplit 1", "gather", "resplit 0", "balance", "redistribute", "numpy", "tolist", "repr"],
)
@pytest.mark.parametrize("split", [0, 1, None])
def test_a_method_leaves_its_array_alone(comm: Comm, size: int, split: int | None, call: Any) -> None:
    whole = torch.arange(36).reshape(6, 6)
    x = dealt(whole, layout_of((6, 6), split, "ragged" if split is not None else "balanced", size), comm)
    if split is None and "redistribute" in call.__code__.co_names:
        pytest.skip("a replicated array has no counts")
    shard, layout, address = x.larray, x.layout, x.larray.data_ptr()
    result = call(x)
    assert x.larray is shard
    assert x.layout is layout
    assert shard.data_ptr() == address
    assert torch.equal(shard, whole[layout.box(comm.rank)])
    if isinstance(result, ms.DNDarray):
        result.larray.fill_(-1)
        assert torch.equal(shard, whole[layout.box(comm.rank)])


def test_to_layout_is_the_array_itself_where_nothing_changes(comm: Comm, size: int, raises_alike: Any) -> None:
    x = ms.zeros((4, 3), split=0)
    assert x.to_layout(ms.Layout((4, 3), 0, size)) is x
    assert x.to_layout(ms.Layout((4, 3), 1, size)).split == 1
    with raises_alike(ValueError, match=r"a transfer keeps the shape .* got \(4, 3\) on .* and \(3, 4\) on"):
        x.to_layout(ms.Layout((3, 4), 0, size))


def test_A10_no_truth_value_of_many_elements(raises_alike: Any) -> None:
    with raises_alike(ValueError, match="truth value"):
        bool(ms.zeros(3, split=0))


def test_copying_keeps_the_communicator(comm: Comm) -> None:
    x = ms.arange(5, split=0)
    for y in (copy.copy(x), copy.deepcopy(x)):
        assert y.comm is comm
        assert y.layout == x.layout
        assert y.tolist() == x.tolist()


GRADIENT_CASES = [
    pytest.param((5, 4), split, kind, id=f"{split}-{kind}")
    for split in (None, 0, 1)
    for kind in (KINDS if split is not None else KINDS[:1])
]


@pytest.mark.parametrize(("shape", "split", "kind"), GRADIENT_CASES)
def test_a_gradient_is_in_the_layout_of_its_array(
    comm: Comm, size: int, shape: tuple[int, ...], split: int | None, kind: str
) -> None:
    """Whole, also where a rank has nothing: there it is empty, and not None."""
    whole = torch.arange(20, dtype=torch.float64).reshape(shape)
    wanted = whole.clone().requires_grad_()
    (wanted.sin() ** 2).sum().backward()
    x = dealt(whole, layout_of(shape, split, kind, size), comm)
    assert (x.requires_grad, x.grad) == (False, None)
    assert x.requires_grad_() is x
    assert x.requires_grad
    assert x.is_leaf
    assert x.grad_fn is None
    (ms.sin(x) ** 2).sum().backward()
    assert x.grad is not None
    assert x.grad.layout is x.layout
    assert x.grad.comm is comm
    assert x.grad.larray.data_ptr() == x.larray.grad.data_ptr()
    assert wanted.grad is not None
    assert_close(x.grad, wanted.grad)
    (ms.sin(x) ** 2).sum().backward()
    assert_close(x.grad, 2 * wanted.grad)
    x.grad = None
    assert x.grad is None
    assert x.larray.grad is None
    x.grad = ms.ones_like(x)
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_what_autograd_says_of_arrays(comm: Comm, size: int) -> None:
    x = ms.arange(7.0, split=0).requires_grad_()
    y = x * 2
    assert (y.requires_grad, y.is_leaf, y.retains_grad) == (True, False, False)
    assert y.grad_fn is y.larray.grad_fn is not None
    y.retain_grad()
    assert y.retains_grad
    y.sum().backward()
    assert y.grad is not None
    assert y.grad.layout is y.layout
    assert y.grad.tolist() == [1.0] * 7
    z = y.detach()
    assert (z.requires_grad, z.is_leaf, z.layout) == (False, True, y.layout)
    assert z.larray.data_ptr() == y.larray.data_ptr()
    with torch.no_grad():
        assert not (x * 2).requires_grad
    assert copy.deepcopy(x).requires_grad


def test_what_autograd_refuses(size: int, raises_alike: Any) -> None:
    x = ms.ones(7, split=0).requires_grad_()
    with raises_alike(RuntimeError, match="only Tensors of floating point"):
        ms.arange(7, split=0).requires_grad_()
    with raises_alike(RuntimeError, match="can only change requires_grad flags of leaf variables"):
        (x * 2).requires_grad = False
    with raises_alike(TypeError, match=r"grad must be a DNDarray, got Tensor"):
        x.grad = torch.ones(7)  # type: ignore[assignment]
    with raises_alike(ValueError, match=r"grad must have the array's layout, .*split 0.*, got .* replicated"):
        x.grad = ms.ones(7)
    with raises_alike(RuntimeError, match="leaf Variable that requires grad is being used in an in-place"):
        x += 1
    with torch.no_grad():
        shard = x.larray
        x += 1
        x[0] = 5
        assert x.larray is shard
    assert x.requires_grad
    assert x.tolist() == [5.0] + [2.0] * 6


@pytest.mark.parametrize("method", ["resplit_", "balance_", "redistribute_"])
def test_a_leaf_that_requires_a_gradient_keeps_its_layout(size: int, raises_alike: Any, method: str) -> None:
    """An optimiser has its shard, which would be nobody's any more: its steps would change nothing."""
    arguments: tuple[Any, ...] = ([0] * (size - 1) + [7],) if method == "redistribute_" else ()
    x = ms.ones(7, split=0).requires_grad_()
    shard, layout = x.larray, x.layout
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), raises_alike(RuntimeError, match="is a leaf that requires a gradient, .* keeps its layout"):
            getattr(x, method)(*arguments)
    assert (x.larray, x.layout) == (shard, layout)
    y = getattr(x * 2, method)(*arguments)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0] * 7


@pytest.mark.parametrize(("shape", "split", "kind"), GRADIENT_CASES)
def test_the_tensor_of_an_array_has_its_gradient(
    comm: Comm, size: int, shape: tuple[int, ...], split: int | None, kind: str
) -> None:
    whole = torch.arange(20, dtype=torch.float64).reshape(shape) / 7
    x = dealt(whole, layout_of(shape, split, kind, size), comm).requires_grad_()
    tensor = x.torch()
    assert torch.equal(tensor, whole)
    assert tensor.data_ptr() != x.larray.data_ptr()
    torch.linalg.svdvals(tensor)[0].backward()
    wanted = whole.clone().requires_grad_()
    torch.linalg.svdvals(wanted)[0].backward()
    assert x.grad is not None
    assert wanted.grad is not None
    assert_close(x.grad, wanted.grad)
    assert not x.detach().torch().requires_grad


@pytest.mark.serial
def test_copies_and_pickles() -> None:
    x = ms.ones((3, 2), split=0).requires_grad_()
    same, other = copy.copy(x), copy.deepcopy(x)
    assert same.larray is x.larray
    assert other.larray.data_ptr() != x.larray.data_ptr()
    assert (other.layout, other.comm, other.is_leaf, other.requires_grad) == (x.layout, x.comm, True, True)
    for write in (pickle.dumps, lambda x: torch.save({"x": x}, io.BytesIO())):
        with pytest.raises(TypeError, match=r"write it by minisplit\.save or save_checkpoint"):
            write(x)
    assert (x.size, f"{x.size}") == (6, "6")
    with pytest.raises(TypeError, match=r"for torch's x\.size\(0\) write x\.shape\[0\]"):
        x.size(0)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"for torch's x\.size\(\) write x\.shape$"):
        x.size()  # type: ignore[operator]


def test_comparisons_with_sequences_and_transpositions_as_torch_writes_them_are_errors() -> None:
    """Python says in silence that an array is no list, and NumPy's `transpose(0, 1)` changes nothing."""
    x = ms.arange(6, split=0).reshape((2, 3))
    for wrong in (lambda: x == [1, 2, 3], lambda: x != (1, 2, 3)):
        with pytest.raises(TypeError, match=r"must be a DNDarray or a number, got (list|tuple)"):
            wrong()
    assert (x == None) is False  # noqa: E711
    with pytest.raises(ValueError, match=r"write x.swapaxes\(0, 1\)|Write x.swapaxes\(0, 1\)"):
        x.transpose(0, 1)
    with pytest.raises(ValueError, match=r"Write x.swapaxes\(1, 2\)"):
        x.reshape((1, 2, 3)).transpose(1, 2)
    assert x.transpose(1, 0).shape == x.transpose().shape == (3, 2)
