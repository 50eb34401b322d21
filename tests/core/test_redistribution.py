"""`resplit`, `balance` and `redistribute`: right for every dtype, layout and shape, and never more than needed."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import DrawFn, composite
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.pytorch.dtypes import ALL_DTYPES
from minisplit.core.transfer import elements_moved, plan
from minisplit.testing import Whole, spmd
from minisplit.testing import strategies as st

Comm = ms.Communication


def can_be_copied(dtype: torch.dtype) -> bool:
    if re.match(r"torch\.qu?int", str(dtype)):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.empty(2, dtype=dtype).copy_(torch.empty(2, dtype=dtype))
    except (RuntimeError, NotImplementedError):
        return False
    return True


DTYPES = [dtype for dtype in ALL_DTYPES if can_be_copied(dtype)]
HALF_COMPLEX = pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")


def numbered(shape: tuple[int, ...], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """A tensor of any dtype whose bytes are all different from their neighbours."""
    items = int(np.prod(shape))
    if dtype is torch.bool:
        return (torch.arange(items) % 3 == 0).reshape(shape)
    raw = (torch.arange(items * dtype.itemsize) * 37 % 251).to(torch.uint8)
    return raw.view(dtype).reshape(shape)


def raw(x: torch.Tensor) -> list[int]:
    values: list[int] = x.contiguous().reshape(-1).view(torch.uint8).tolist()
    return values


def assert_shard(x: ms.DNDarray, whole: torch.Tensor) -> None:
    mine = whole[x.layout.box(x.comm.rank)]
    with agreement(x.comm, "checking a shard"):
        assert x.dtype is whole.dtype
        assert x.lshape == tuple(mine.shape)
        assert x.larray.is_contiguous()
        assert raw(x.larray) == raw(mine)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every piece for a large one."""
    monkeypatch.setattr("minisplit.core.communication.mpi.communication.SCATTERED", -1)
    monkeypatch.setattr("minisplit.core.communication.mpi.communication.IN_ONE_PLACE", -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dst", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("src", [None, 0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 4, 7), (2, 9, 1), (1, 1, 1), (3, 0, 2)], ids=str)
def test_A5_resplit(comm: Comm, shape: tuple[int, ...], src: int | None, dst: int | None, kind: str) -> None:
    whole = numbered(shape)
    x = dealt(whole, layout_of(shape, src, kind, comm.size), comm)
    y = ms.resplit(x, dst)
    axis = dst if dst is None else dst % 3
    with agreement(comm, "checking"):
        assert y.layout == (x.layout if axis == src else ms.Layout(shape, axis, comm.size))
        assert y.larray.data_ptr() != x.larray.data_ptr() or x.larray.numel() == 0
    assert_shard(y, whole)
    assert_shard(ms.balance(y), whole)
    assert_shard(x, whole)


@HALF_COMPLEX
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_A7_every_dtype(comm: Comm, dtype: torch.dtype) -> None:
    whole = numbered((5, 6), dtype)
    for src in (None, 0, 1):
        for kind in KINDS:
            x = dealt(whole, layout_of((5, 6), src, kind, comm.size), comm)
            for dst in (None, 0, 1):
                assert_shard(ms.resplit(x, dst), whole)
                assert_shard(x.to_layout(layout_of((5, 6), dst, "ragged", comm.size)), whole)


def test_A7_no_dtype_is_left_out() -> None:
    left_out = {str(dtype) for dtype in ALL_DTYPES if dtype not in DTYPES}
    assert all(
        re.fullmatch(r"torch\.(u?int[1-7]|(qu?int|bits)\d+(x\d+)?|float4_e2m1fn_x2)", name) for name in left_out
    )


STRIDES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Fortran order": lambda t: t.T.contiguous().T,
    "every other column": lambda t: torch.stack([t, t - 1], -1)[..., 0],
    "offset": lambda t: torch.nn.functional.pad(t, (2, 1, 1, 3))[1 : 1 + t.shape[0], 2 : 2 + t.shape[1]],
}


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("dst", [None, 0, 1])
@pytest.mark.parametrize("src", [None, 0, 1])
def test_A7_strided_shards(comm: Comm, src: int | None, dst: int | None, strides: str) -> None:
    whole = numbered((6, 5))
    layout = layout_of((6, 5), src, "ragged", comm.size)
    x = ms.DNDarray(STRIDES[strides](whole[layout.box(comm.rank)]), layout, comm)
    assert_shard(ms.resplit(x, dst), whole)


@pytest.mark.parametrize("dst", [None, 0, 1])
@pytest.mark.parametrize("src", [None, 0, 1])
def test_A7_conjugate_and_negative_views(comm: Comm, src: int | None, dst: int | None) -> None:
    whole = torch.complex(torch.arange(30.0), -torch.arange(30.0)).reshape(6, 5)
    layout = layout_of((6, 5), src, "ragged", comm.size)
    part = whole[layout.box(comm.rank)]
    for view in (part.conj(), part.conj().imag, torch._neg_view(part.imag.contiguous())):
        wanted = whole.conj() if view.is_complex() else -whole.imag
        y = ms.DNDarray(view, layout, comm).resplit(dst)
        with agreement(comm, "checking"):
            assert torch.equal(y.larray, wanted[y.layout.box(comm.rank)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", [0, 1])
def test_balance_and_redistribute(comm: Comm, size: int, split: int, kind: str) -> None:
    whole = numbered((7, 9))
    x = dealt(whole, layout_of((7, 9), split, kind, size), comm)
    balanced = ms.balance(x)
    assert balanced.layout == ms.Layout((7, 9), split, size)
    assert_shard(balanced, whole)
    for target in KINDS:
        counts = layout_of((7, 9), split, target, size).counts
        assert counts is not None
        for given_as in (counts, list(counts), np.array(counts), torch.tensor(counts)):
            y = ms.redistribute(x, given_as)  # type: ignore[arg-type]
            assert y.counts == counts
        assert_shard(y, whole)


def test_0d_arrays(comm: Comm) -> None:
    x = ms.array(3.5)
    for y in (ms.resplit(x), ms.resplit(x, None), ms.balance(x)):
        assert y.larray.item() == 3.5
        assert y.larray.data_ptr() != x.larray.data_ptr()
        assert y.shape == ()


def test_A6_more_than_2_to_the_31_elements_from_one_rank_to_another(comm: Comm, rank: int, size: int) -> None:
    if size != 2:
        pytest.skip("one number of ranks is enough, and 2 GiB on each")
    extent, places = 2**31 + 7, [0, 2**31 - 1, 2**31, -1]
    layout = ms.Layout((extent,), 0, 2, (extent, 0))
    shard = torch.zeros(layout.lshape(rank), dtype=torch.int8)
    if rank == 0:
        shard[places] = torch.arange(1, 5, dtype=torch.int8)
    moved = ms.DNDarray(shard, layout, comm).redistribute([0, extent]).larray
    with agreement(comm, "checking"):
        assert moved.shape == layout.lshape(1 - rank)
        if rank == 1:
            assert moved[places].tolist() == [1, 2, 3, 4]
            assert moved.count_nonzero() == 4


@composite
def moves(draw: DrawFn) -> tuple[Whole, ms.Layout]:
    x = draw(st.dndarrays(st.shapes(max_dims=4), st.dtypes((torch.float32, torch.uint8, torch.complex128))))
    return x, draw(st.layouts(x.layout.shape, x.layout.ranks))


@given(moves())
@spmd
def test_any_layout_to_any_other_and_back(move: tuple[Whole, ms.Layout]) -> None:
    x, dst = move
    there = x.cut().to_layout(dst)
    assert_shard(there, x.tensor)
    assert_shard(there.to_layout(x.layout), x.tensor)


def test_A5_no_message_where_none_is_needed(comm: Comm, size: int, calls: Counter[str]) -> None:
    ragged = dealt(numbered((6, 4)), layout_of((6, 4), 0, "one rank", size), comm)
    replicated = ms.array(numbered((6, 4)))
    for x in (ragged, replicated):
        x.resplit(x.split)
        x.to_layout(x.layout)
    ms.balance(ms.balance(replicated)).resplit(0)
    replicated.resplit(1)
    replicated.resplit(None)
    replicated.numpy()
    ragged.redistribute(ragged.counts or ())
    ms.zeros((0, 4), split=0).resplit(1).resplit(None)
    ms.array(1.0).resplit(None)
    ms.ones((1, 1), split=0).resplit(1)  # rank 0 has the only element before and after
    assert calls == Counter()


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("src", "dst"), [(0, 1), (1, 0), (0, None), (0, 0)])
def test_one_call_moves_small_pieces(
    comm: Comm, calls: Counter[str], src: int, dst: int | None, kind: str
) -> None:
    whole = numbered((6, 4))
    x = dealt(whole, layout_of((6, 4), src, kind, comm.size), comm)
    target = ms.Layout((6, 4), dst, comm.size)
    y = x.to_layout(target)
    assert calls == ({"Alltoallw": 1} if elements_moved(x.layout, target) else {})
    assert_shard(y, whole)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("src", "dst"), [(0, 1), (1, 0), (0, None), (0, 0)])
def test_messages_of_large_pieces_are_those_of_the_plan(
    comm: Comm, rank: int, size: int, calls: Counter[str], large: None, src: int, dst: int | None, kind: str
) -> None:
    whole = numbered((6, 4))
    x = dealt(whole, layout_of((6, 4), src, kind, size), comm)
    target = ms.Layout((6, 4), dst, size)
    steps = plan(x.layout, target, rank)
    y = x.to_layout(target)
    sent = {name: calls[name] for name in ("Isend", "Irecv")}
    with agreement(comm, "counting"):
        assert set(calls) <= {"Isend", "Irecv"}
        assert sent["Isend"] == sum(peer != rank for peer in steps.send.peers)
        assert sent["Irecv"] == sum(peer != rank for peer in steps.recv.peers)
    assert_shard(y, whole)


@pytest.mark.parametrize("axis", [2, -3])
def test_A1_axis_out_of_range(axis: int, raises_alike: Any) -> None:
    with raises_alike(IndexError, match=f"axis {axis} is out of range for 2 dimensions; allowed: -2 to 1"):
        ms.resplit(ms.zeros((2, 3), split=0), axis)


@pytest.mark.parametrize("axis", [True, 1.0, "1"])
def test_A1_axis_is_no_int(axis: Any, raises_alike: Any) -> None:
    with raises_alike(TypeError, match="axis must be an int, got"):
        ms.resplit(ms.zeros((2, 3), split=0), axis)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda n: [1] * (n + 1), ValueError, "ints, one per rank, got"),
        (lambda n: [5] + [0] * (n - 1), ValueError, r"hold 5 indices, but axis 0 of \(6, 4\) has 6"),
        (lambda n: [7, -1] + [0] * (n - 2), ValueError, "must not be negative|one per rank, got 2"),
        (lambda n: [6.0] + [0] * (n - 1), TypeError, "every count must be an int, got 6.0"),
        (lambda n: 6, TypeError, "counts must be a sequence of ints, one per rank, got 6"),
        (lambda n: None, TypeError, "counts must be a sequence of ints, one per rank, got None"),
    ],
    ids=["length", "sum", "negative", "float", "int", "None"],
)
def test_A4_bad_counts(size: int, wrong: Any, kind: Any, words: str, raises_alike: Any) -> None:
    x = ms.redistribute(ms.zeros((6, 4), split=0), [0] * (size - 1) + [6])
    with raises_alike(kind, match=words):
        ms.redistribute(x, wrong(size))


def test_A4_counts_of_a_replicated_array(size: int, raises_alike: Any) -> None:
    with raises_alike(ValueError, match=r"counts need a split axis, but split is None \(replicated\)"):
        ms.redistribute(ms.zeros(size), [1] * size)


@pytest.mark.parametrize("call", [ms.resplit, ms.balance, lambda x: ms.redistribute(x, [1])])
def test_what_is_no_dndarray(call: Any, raises_alike: Any) -> None:
    with raises_alike(TypeError, match=r"x must be a DNDarray, got Tensor; make one with minisplit\.array"):
        call(torch.zeros(3))


def test_a_tree_is_resplit_in_one_exchange(comm: Comm, raises_alike: Any) -> None:
    weight, bias = numbered((6, 4), torch.float32), numbered((5,))
    tree = {"weight": ms.array(weight, split=0), "rest": [ms.array(bias, split=0), ms.array(weight, split=1)]}
    one = tree["weight"]
    with ms.testing.traffic() as seen:
        moved = ms.resplit(tree)
    assert seen.calls == (Counter(exchange=1) if comm.size > 1 else Counter())
    assert_shard(moved["weight"], weight)
    assert_shard(moved["rest"][0], bias)
    assert_shard(moved["rest"][1], weight)
    assert ms.tree_map(lambda x: x.split, moved) == {"weight": None, "rest": [None, None]}
    assert ms.resplit({}) == {}
    with raises_alike(TypeError, match="x must be a DNDarray, got Tensor"):
        ms.resplit([one, weight])
    with raises_alike(ValueError, match="must be on one communicator"):
        ms.resplit([one, ms.ones(3, split=0, comm=comm.split(0, comm.rank))])
