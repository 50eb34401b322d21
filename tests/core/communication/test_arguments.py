"""What the methods of a communicator refuse: on all ranks, before any message, with the communicator clean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.layout import Layout
from minisplit.core.transfer import TransferPlan
from minisplit.core.transfer import plan as transfer_plan

Comm = ms.Communication
T = torch.ones(2, 3)
R = np.zeros(2, dtype=np.int64)


def plan(comm: Any) -> TransferPlan:
    return transfer_plan(Layout((4, 6), 0, comm.size), Layout((4, 6), 1, comm.size), comm.rank)


def peer(comm: Any) -> int:
    return int((comm.rank + 1) % comm.size)


Refused = tuple[Callable[[Any], object], type[Exception], str]
REFUSED: dict[str, Refused] = {
    "allreduce of an array": (
        lambda c: c.allreduce(R),
        TypeError,
        "a torch tensor, got ndarray: torch.from_numpy",
    ),
    "allreduce of a list": (lambda c: c.allreduce([1.0]), TypeError, "tensor must be a torch tensor, got list"),
    "scan of a number": (lambda c: c.scan(1.0), TypeError, "tensor must be a torch tensor, got float"),
    "merge of an array": (lambda c: c.merge(R, "first"), TypeError, "records must be a torch tensor, got ndarray"),
    "merge by no rule": (lambda c: c.merge(T, "last"), ValueError, "op of a merge must be one of first, moments"),
    "merge of 0-d": (lambda c: c.merge(torch.tensor(1), "first"), ValueError, "got torch.int64 of shape"),
    "broadcast of None": (lambda c: c.broadcast(None), TypeError, "tensor must be a torch tensor, got NoneType"),
    "broadcast root": (lambda c: c.broadcast(T, root=11), ValueError, "root must be a rank from 0 to .*, got 11"),
    "broadcast root -1": (lambda c: c.broadcast(T, -1), ValueError, "root must be a rank from 0 to .*, got -1"),
    "broadcast root True": (
        lambda c: c.broadcast(T, True),
        TypeError,
        "root must be an int, got True of type bool",
    ),
    "broadcast root 0.0": (lambda c: c.broadcast(T, 0.0), TypeError, "root must be an int, got 0.0 of type float"),
    "text": (
        lambda c: c.broadcast_bytes("abc"),
        TypeError,
        "data must be bytes on every rank, got str: str.encode",
    ),
    "bytes root": (lambda c: c.broadcast_bytes(b"", 11), ValueError, "root must be a rank from 0"),
    "record of floats": (lambda c: c.allgather_record(np.ones(1)), TypeError, "int64, got an array of float64"),
    "record of int32": (lambda c: c.agree(np.zeros(1, np.int32)), TypeError, "int64, got an array of int32"),
    "record of a list": (lambda c: c.agree([1]), TypeError, "int64, got list"),
    "record of 0-d": (lambda c: c.agree(np.array(1)), ValueError, r"record must have one axis, got shape \(\)"),
    "record of 2-d": (lambda c: c.allgather_record(R[None]), ValueError, r"one axis, got shape \(1, 2\)"),
    "record of too many": (lambda c: c.alltoall_record(np.zeros(9, int)), ValueError, "each of .* ranks, got 9"),
    "gather an array": (
        lambda c: c.allgather(np.array([1.5])),
        TypeError,
        "tensor must be a torch tensor, got nd",
    ),
    "split by text": (lambda c: c.split("a"), TypeError, "color must be an int, got 'a'"),
    "split by -1": (lambda c: c.split(-1), ValueError, "color must be from 0 to .*, or None, got -1"),
    "split key": (lambda c: c.split(0, 2**31), ValueError, "key must be from .*, got 2147483648"),
    "split key 0.5": (lambda c: c.split(0, 0.5), TypeError, "key must be an int, got 0.5"),
    "exchange with nobody": (
        lambda c: c.exchange([(9, T)], []),
        ValueError,
        "ranks of send must be a rank from 0",
    ),
    "exchange with itself": (lambda c: c.exchange([], [(c.rank, T)]), ValueError, "no rank exchanges with itself"),
    "exchange an array": (
        lambda c: c.exchange([(peer(c), R)], []),
        TypeError,
        "what send has must be a torch tens",
    ),
    "exchange a tensor": (lambda c: c.exchange([T], []), TypeError, "send must have pairs of a rank and a tensor"),
    "transfer no plan": (lambda c: c.transfer(T, T, None), TypeError, "plan must be a TransferPlan, got NoneType"),
    "transfer source": (
        lambda c: c.transfer(torch.ones(9), T, plan(c)),
        ValueError,
        r"source must be the rank.s shard of .* got shape \(9,\)",
    ),
    "transfer dtype": (lambda c: c.transfer(T.long(), T, plan(c)), ValueError, "one dtype, got torch.int64 and"),
    "compare a list": (lambda c: c.check_same([1], "x"), TypeError, "what is compared must be a torch tensor"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_A21_what_is_refused(comm: Comm, raises_alike: Any, what: str) -> None:
    call, kind, words = REFUSED[what]
    before = comm._calls
    with raises_alike(kind, words):
        call(comm)
    assert comm._calls - before <= 4, "those of raises_alike"


@pytest.mark.parametrize("view", ["expanded", "leaf"])
def test_A20_A21_what_cannot_be_written_into_is_not_received_into(comm: Comm, view: str) -> None:
    if comm.size == 1:
        return
    target = torch.ones(1).expand(3) if view == "expanded" else torch.ones(3, requires_grad=True)
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    with pytest.raises(ValueError, match="what recv has cannot be written into"):
        comm.exchange([(after, torch.zeros(3))], [(before, target)])
    assert comm.allreduce(torch.ones(1)).item() == comm.size


def test_A21_a_record_may_have_strides(comm: Comm, rank: int, size: int) -> None:
    table = np.array([[rank, 1], [2, 3]])
    assert comm.allgather_record(table[:, 0]).tolist() == [[r, 2] for r in range(size)]
    assert comm.agree(table[:, 0]).tolist() == [size - 1, 2]


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64],
    ids=str,
)
def test_A21_allgather_of_tensors(comm: Comm, rank: int, size: int, dtype: torch.dtype) -> None:
    """Of any dtype and length. Floats came back as integers, and halves from beyond the end."""
    shapes = [(r % 3, 2) for r in range(size)]
    parts = [torch.arange(2 * n).reshape(n, 2).add(r).to(dtype) for r, (n, _) in enumerate(shapes)]
    mine = parts[rank].T.contiguous().T
    got = comm.allgather(mine)
    assert len(got) == size
    for have, want in zip(got, parts, strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=0)
    got[rank].zero_()
    torch.testing.assert_close(mine, parts[rank], rtol=0, atol=0)
    assert [t.item() for t in comm.allgather(torch.tensor(rank + 0.5))] == [r + 0.5 for r in range(size)]


@pytest.mark.parametrize("what", ["dtype", "axes", "extent"])
def test_A21_tensors_that_differ_are_an_error_on_all_ranks(comm: Comm, raises_alike: Any, what: str) -> None:
    if comm.size == 1:
        return
    other = {"dtype": T.double(), "axes": T[0], "extent": T[:, :2]}[what]
    with raises_alike(ValueError, r"rank 0 has torch.float32 of shape \(:, 3\), rank 1 has torch.float"):
        comm.allgather(other if comm.rank == 1 else T)


def test_A21_allgather_of_objects(comm: Comm, rank: int, size: int) -> None:
    value = {
        "rank": rank,
        "names": ["a"] * rank,
        "loss": rank / 3,
        "none": None,
        "text": "naïve \udcff",
        "t": (1, 2),
    }
    got = comm.allgather_object(value)
    assert got == [
        {"rank": r, "names": ["a"] * r, "loss": r / 3, "none": None, "text": "naïve \udcff", "t": [1, 2]}
        for r in range(size)
    ]


def bad_objects() -> dict[str, Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return {"set": {1}, "tensor": T, "int key": {1: 2}, "cycle": cycle, "object": object()}


@pytest.mark.parametrize("what", bad_objects())
def test_A21_objects_that_JSON_has_not(comm: Comm, raises_alike: Any, size: int, what: str) -> None:
    """On one rank only: all raise, since who has what only the ranks themselves know."""
    with raises_alike(TypeError, f"values to gather must be what JSON has.* rank {size - 1} failed with"):
        comm.allgather_object(bad_objects()[what] if comm.rank == size - 1 else 1)
