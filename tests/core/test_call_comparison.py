"""In debug mode calls of public functions that differ between the ranks are one error on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import traffic

Call = Callable[[ms.DNDarray], Any]

# What the last rank calls, and what the others call. Lambdas: the names are looked up once debug mode is on.
# ruff: noqa: PLW0108
DIFFERING: dict[str, tuple[Call, Call]] = {
    "function": (lambda x: x.mean(), lambda x: x.sum()),
    "function of the same message": (lambda x: ms.argmax(x), lambda x: ms.argmin(x)),
    "number": (lambda x: x.std(correction=1), lambda x: x.std()),
    "direction": (lambda x: ms.sort(x, descending=True), lambda x: ms.sort(x)),
    "largest or smallest": (lambda x: ms.topk(x, 2, largest=False), lambda x: ms.topk(x, 2)),
    "wrong axis": (lambda x: x.sum(axis=9), lambda x: x.sum(axis=0)),
    "wrong split": (lambda x: x.resplit(9), lambda x: x.resplit(1)),
    "shape that does not fit": (lambda x: x.reshape(5, 5), lambda x: x.reshape(6, 4)),
    "counts of a wrong sum": (
        lambda x: x.redistribute([99] * x.comm.size),
        lambda x: x.redistribute([12] + [0] * (x.comm.size - 1)),
    ),
    "arrays to join": (lambda x: ms.concat([x, x, x]), lambda x: ms.concat([x, x])),
    "matrices that do not fit": (lambda x: x @ x, lambda x: x @ x.T),
    "key": (lambda x: x[3], lambda x: x[4]),
    "key out of range": (lambda x: x[99], lambda x: x[4]),
    "local function": (lambda x: ms.expand_dims(x, 9), lambda x: ms.expand_dims(x, 0)),
    "operator": (lambda x: x - 1, lambda x: x + 1),
    "dtype": (lambda x: x.astype(torch.int32), lambda x: x.astype(torch.int64)),
    "factory": (lambda x: ms.zeros(3, split=0), lambda x: ms.zeros(4, split=0)),
    "random numbers": (lambda x: ms.random.rand(3, split=0), lambda x: ms.random.randn(3, split=0)),
    "transform": (lambda x: ms.fft.fft(x), lambda x: ms.fft.ifft(x)),
    "decomposition": (lambda x: ms.linalg.svdvals(x), lambda x: ms.linalg.qr(x)),
    "cast": (lambda x: x.float(7), lambda x: x.float()),
    "file": (lambda _: ms.load("a.npy", 7, 7), lambda _: ms.load("b.npy")),
    "checkpoint": (lambda _: ms.load_checkpoint("a", 7), lambda _: ms.load_checkpoint("a")),
    "module": (lambda _: ms.replicate(torch.ones(3), 7), lambda _: ms.replicate(torch.ones(3))),
    "mapped axis": (lambda x: ms.vmap(torch.sin, in_dims=1)(x), lambda x: ms.vmap(torch.sin, in_dims=0)(x)),
}


@pytest.mark.several
@pytest.mark.parametrize("case", DIFFERING)
def test_A18_another_call_on_one_rank(case: str, rank: int, size: int, raises_alike: Any) -> None:
    of_last, of_others = DIFFERING[case]
    x = ms.ones((12, 2), split=0)
    with ms.debug():
        with raises_alike(ms.CollectiveError, match=r"rank.* at test_call_comparison.py:\d+, rank"):
            (of_last if rank == size - 1 else of_others)(x)
        assert x.sum().item() == 24  # the communicator is clean


@pytest.mark.several
def test_what_all_ranks_call_together_may_differ_in_what_is_theirs(rank: int, raises_alike: Any) -> None:
    """A path of each node's own, and what is replicated."""
    with ms.debug():
        assert ms.replicate(torch.tensor(float(rank))).item() == 0
        assert ms.replicate(x=[rank, torch.tensor(rank)])[1].item() == 0
        with raises_alike(FileNotFoundError, "missing"):
            ms.load(path=f"/missing/{rank}.npy")


@pytest.mark.several
@pytest.mark.parametrize("case", ["direction", "largest or smallest", "number of values", "distinct values"])
def test_A18_another_sort_on_one_rank_without_debug_mode(
    case: str, rank: int, size: int, raises_alike: Any
) -> None:
    """The ranks' samples have a number with them that says what is sorted how."""
    more: dict[str, tuple[Call, Call]] = {
        "number of values": (lambda x: ms.topk(x, 5), lambda x: ms.topk(x, 2)),
        "distinct values": (lambda x: ms.unique(x), lambda x: ms.sort(x)),
    }
    of_last, of_others = (DIFFERING | more)[case]
    x = ms.arange(24.0, split=0)
    with ms.debug(False):
        with raises_alike(ms.CollectiveError, match=f"rank {size - 1} sorts in another direction than rank 0, or"):
            (of_last if rank == size - 1 else of_others)(x)
        assert x.sum().item() == 276


@pytest.mark.several
@pytest.mark.parametrize("bad_rank", [0, 1])
def test_A18_another_operation_with_an_agreement_on_one_rank(comm: ms.Communication, bad_rank: int) -> None:
    """Without debug mode, by a number of which all ranks know the greatest: those with a lesser one raise."""
    x, seen = ms.arange(12, split=0) + 1, ""
    with ms.debug(False):
        try:
            x // x if comm.rank == bad_rank else x % x
        except ms.CollectiveError as error:
            seen = str(error)
        errors = comm.allgather_object(seen)
    raised = ["but another rank something else" in error for error in errors]
    assert raised in (
        [rank == bad_rank for rank in range(comm.size)],
        [rank != bad_rank for rank in range(comm.size)],
    )


@pytest.mark.several
def test_what_one_rank_may_call_alone(rank: int) -> None:
    x, whole = ms.ones((12, 2), split=0), ms.ones(3)
    with ms.debug():
        if rank == 1:
            assert (x.shape, len(x), x.is_balanced()) == ((12, 2), 12, True)
            assert "shape=(12, 2)" in repr(x)
            assert (whole + 1).sum().item() == 6  # a replicated array
        assert x.sum().item() == 24


@pytest.mark.several
def test_comparisons_are_not_seen_as_traffic() -> None:
    x = ms.ones((12, 2), split=0)
    with ms.debug(), traffic() as seen:
        x + x
        x.sum()
    assert seen.calls == {"allreduce": 1}


@pytest.mark.serial
def test_functions_show_as_they_are() -> None:
    with ms.debug():
        assert ms.sum.__name__ == "sum"
        assert ms.sum is ms.ops.sum
        assert "axis" in (ms.sum.__doc__ or "")


@pytest.mark.several
def test_facts_that_one_rank_asks_for_alone_wait_for_nobody(rank: int) -> None:
    x = ms.ones((12, 2), split=0)
    with ms.debug():
        if rank == 0:
            facts = (x.numel(), x.nelement(), x.dim(), x.element_size(), x.is_complex(), x.is_floating_point())
            assert facts == (24, 24, 2, 4, False, True)
            assert x.contiguous() is x
            assert x.counts_displs() == (x.counts, x.displs)
            assert x.create_lshape_map().shape == (x.comm.size, 2)
        assert x.sum().item() == 24
