"""The communicator in use, and what each method of a communicator gives, on every engine and on threads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from exchanges import everybody_to_everybody

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import first_difference

Comm = ms.Communication
NAN = float("nan")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
INTS = [getattr(torch, f"{sign}int{bits}") for bits in (8, 16, 32, 64) for sign in ("", "u")]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COMPLEX = [torch.complex32, torch.complex64, torch.complex128]
HALF_COMPLEX = pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")


def rows(size: int, dtype: torch.dtype) -> torch.Tensor:
    """What every rank puts in, one row per rank: small numbers, exact in every dtype."""
    table = torch.arange(size * 3).reshape(size, 3) % 4 + 1
    if dtype.is_complex:
        return (table + 1j * (table - 2)).to(dtype)
    return (table > 2) if dtype is torch.bool else table.to(dtype)


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """`torch.equal`, which complex32 does not have."""
    if a.dtype is torch.complex32:
        a, b = a.to(torch.complex64), b.to(torch.complex64)
    return torch.equal(a, b)


@pytest.mark.processes
def test_use_comm_in_a_block() -> None:
    with ms.use_comm(ms.MPI_SELF):
        assert ms.get_comm() is ms.MPI_SELF
        with ms.use_comm(ms.MPI_WORLD):
            assert ms.get_comm() is ms.MPI_WORLD
        assert ms.zeros(3, split=0).comm is ms.MPI_SELF
    assert ms.get_comm() is ms.MPI_WORLD


@pytest.mark.processes
def test_use_comm_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), ms.use_comm(ms.MPI_SELF):
        raise KeyError
    assert ms.get_comm() is ms.MPI_WORLD


@pytest.mark.processes
def test_use_comm_as_a_function() -> None:
    before = ms.use_comm(ms.MPI_SELF)
    try:
        assert ms.ones((2, 2), split=1).comm is ms.MPI_SELF
    finally:
        before.__exit__(None, None, None)
    assert ms.get_comm() is ms.MPI_WORLD


@pytest.mark.processes
def test_a_new_thread_starts_with_the_default() -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(ms.get_comm())
        ms.use_comm(ms.MPI_SELF)
        seen.append(ms.get_comm())

    with ms.use_comm(ms.MPI_SELF):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [ms.MPI_WORLD, ms.MPI_SELF]
    assert ms.get_comm() is ms.MPI_WORLD


@pytest.mark.processes
@pytest.mark.parametrize("wrong", [object(), "world", 0, ms.Communication], ids=repr)
def test_what_is_no_communicator(wrong: Any) -> None:
    words = f"comm must be a minisplit Communication or None, got {type(wrong).__name__}"
    with pytest.raises(TypeError, match=words):
        ms.use_comm(wrong)
    with pytest.raises(TypeError, match=words):
        ms.zeros(3, comm=wrong)
    assert ms.get_comm() is ms.MPI_WORLD


@HALF_COMPLEX
@pytest.mark.parametrize("op", ["sum", "prod", "min", "max"])
@pytest.mark.parametrize("dtype", [torch.bool, *INTS, *FLOATS, *COMPLEX], ids=str)
def test_A14_allreduce(comm: Comm, dtype: torch.dtype, op: Any) -> None:
    table = rows(comm.size, dtype)
    mine = table[comm.rank].clone()
    if dtype.is_complex and op in {"min", "max"}:
        with pytest.raises(TypeError, match=f"complex numbers have no order: op '{op}' of {dtype}"):
            comm.allreduce(mine, op)
        return
    total = comm.allreduce(mine, op)
    wide = table.to(torch.complex128 if dtype.is_complex else torch.float64)
    wanted = {"sum": wide.sum, "prod": wide.prod, "min": wide.amin, "max": wide.amax}[op](0).to(dtype)
    with agreement(comm, "checking"):
        assert total.dtype is dtype
        assert equal(total, wanted)
        assert equal(mine, table[comm.rank])
        assert total.data_ptr() != mine.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_A14_half_precision_is_accumulated_in_single(comm: Comm, dtype: torch.dtype) -> None:
    mine = torch.tensor([256.0 if comm.rank == 0 else 0.5], dtype=dtype)
    total = comm.allreduce(mine)
    assert total.item() == torch.tensor(256 + 0.5 * (comm.size - 1)).to(dtype).item()


@pytest.mark.parametrize("op", ["min", "max", "sum", "prod"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_A15_nan_wins_from_any_rank(comm: Comm, dtype: torch.dtype, op: Any) -> None:
    for owner in range(comm.size):
        mine = torch.tensor([NAN if comm.rank == owner else 1.0, float(comm.rank)], dtype=dtype)
        total = comm.allreduce(mine, op)
        with agreement(comm, "checking"):
            assert total.isnan().tolist() == [True, False]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3)], ids=str)
def test_allreduce_and_scan_of_any_shape(comm: Comm, rank: int, size: int, shape: tuple[int, ...]) -> None:
    ones = torch.ones(shape)
    total, before = comm.allreduce(ones), comm.scan(ones)
    with agreement(comm, "checking"):
        assert torch.equal(total, ones * size)
        assert torch.equal(before, ones * rank)


@pytest.mark.parametrize("device", DEVICES)
def test_reductions_of_strided_and_conjugate_tensors(comm: Comm, size: int, device: str) -> None:
    x = torch.arange(6.0, device=device).reshape(2, 3)
    z = torch.tensor([1 + 2j, 3 - 1j], device=device)
    for view in (x.T, z.conj(), z.conj().imag, torch._neg_view(x)):
        total = comm.allreduce(view)
        with agreement(comm, "checking"):
            assert torch.equal(total, view * size)
            assert total.device == x.device


@pytest.mark.several
def test_zeros_that_are_in_no_memory(comm: Comm, rank: int, size: int) -> None:
    """As autograd makes them, for the second derivative of `abs` for one."""
    zeros = torch._efficientzerotensor((2 * size,))
    got = torch.ones(2 * size)
    comm.exchange([((rank + 1) % size, zeros)], [((rank - 1) % size, got)])
    results = [
        *(got, comm.allreduce(zeros), comm.scan(zeros), comm.broadcast(zeros, 0), *comm.allgather(zeros)),
        ms.DNDarray(zeros, ms.Layout((2 * size * size,), 0, size), comm).resplit(None).larray,
    ]
    with agreement(comm, "checking"):
        assert not any(x.count_nonzero() for x in results)
        assert ms.DNDarray(zeros, ms.Layout((2 * size,), None, size), comm).numpy().tolist() == [0.0] * 2 * size


def test_allreduce_detaches(comm: Comm) -> None:
    assert not comm.allreduce(torch.ones(2, requires_grad=True)).requires_grad


def test_bad_reductions(comm: Comm) -> None:
    with pytest.raises(ValueError, match="op must be one of sum, prod, min, max, got 'mean'"):
        comm.allreduce(torch.ones(2), "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="op of a scan must be sum or prod, got 'max'"):
        comm.scan(torch.ones(2), "max")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"records for 'first' are 2 numbers of torch\.int64 .* got torch\.float32"
    ):
        comm.merge(torch.ones(2), "first")
    with pytest.raises(TypeError, match=r"reductions over ranks are not defined for torch\.float8_e5m2"):
        comm.allreduce(torch.empty(2, dtype=torch.float8_e5m2))


@HALF_COMPLEX
@pytest.mark.parametrize("dtype", [torch.bool, *INTS, *FLOATS, *COMPLEX], ids=str)
@pytest.mark.parametrize("op", ["sum", "prod"])
def test_A14_scan(comm: Comm, dtype: torch.dtype, op: Any) -> None:
    table = rows(comm.size, dtype)
    before = comm.scan(table[comm.rank], op)
    wide = table.to(torch.complex128 if dtype.is_complex else torch.float64)[: comm.rank]
    with agreement(comm, "checking"):
        assert before.dtype is dtype
        assert equal(before, (wide.sum(0) if op == "sum" else wide.prod(0)).to(dtype))


def test_merge(comm: Comm, rank: int, size: int) -> None:
    pairs = torch.tensor([[5, -rank], [rank // 2, -rank], [-(2**63), -(2**63 - 1)]])
    samples = torch.arange(size * 3.0, dtype=torch.float64).reshape(size, 3) ** 2
    mine = samples[rank] if rank != 1 else samples[rank, :0]
    everyone = torch.cat([samples[other] for other in range(size) if other != 1])
    empty = len(mine) == 0
    record = torch.tensor([len(mine), 0 if empty else mine.mean(), 0 if empty else mine.var(correction=0) * 3])
    many = record.to(torch.float64).expand(10001, 3)  # which MPI may combine in parts
    found, moments = comm.merge(pairs, "first"), comm.merge(many, "moments")
    with agreement(comm, "checking"):
        best = (size - 1) // 2
        assert found.tolist() == [[5, 0], [best, -2 * best], pairs[2].tolist()]
        assert torch.equal(moments, moments[:1].expand(10001, 3))
        wanted = [len(everyone), everyone.mean().item(), everyone.var(correction=0).item() * len(everyone)]
        torch.testing.assert_close(moments[0], torch.tensor(wanted, dtype=torch.float64))
    bits = comm.allgather_record(moments.view(torch.int64).flatten().numpy())
    assert (bits == bits[0]).all()


@HALF_COMPLEX
@pytest.mark.parametrize("dtype", [torch.bool, *INTS, *FLOATS, *COMPLEX], ids=str)
def test_broadcast(comm: Comm, dtype: torch.dtype) -> None:
    table = rows(comm.size, dtype)
    for root in range(comm.size):
        mine = table[comm.rank].clone()
        got = comm.broadcast(mine, root)
        with agreement(comm, "checking"):
            assert equal(got, table[root])
            assert equal(mine, table[comm.rank])
            assert got.data_ptr() != mine.data_ptr()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "view", ["transposed", "every other", "expanded", "conj", "neg", "contiguous neg", "empty", "0-d"]
)
def test_broadcast_of_views(comm: Comm, rank: int, view: str, device: str) -> None:
    z = torch.complex(torch.arange(8.0), -torch.arange(8.0)).reshape(2, 4).to(device)
    views = {
        "transposed": lambda t: t.T,
        "every other": lambda t: t[:, ::2],
        "expanded": lambda t: t[0, :1].expand(3),
        "conj": lambda t: t.conj(),
        "neg": lambda t: t.conj().imag,
        "contiguous neg": lambda t: torch._neg_view(t.real.contiguous()),
        "empty": lambda t: t[:0],
        "0-d": lambda t: t[1, 1],
    }
    root = comm.size - 1
    mine = views[view](z + rank)
    got = comm.broadcast(mine, root)
    with agreement(comm, "checking"):
        assert torch.equal(got, views[view](z + root).clone())
        assert torch.equal(mine, views[view](z + rank))
        assert got.device == z.device


@pytest.mark.parametrize("length", [0, 1, 300, 1_000_000])
def test_broadcast_bytes(comm: Comm, rank: int, size: int, length: int) -> None:
    for root in range(size):
        data = bytes([root]) * length
        got = comm.broadcast_bytes(data if rank == root else b"something else", root)
        with agreement(comm, "checking"):
            assert got == data
            assert type(got) is bytes


def test_allgather(comm: Comm, rank: int, size: int) -> None:
    mine = np.array([rank, -rank, 2**62])
    table = comm.allgather_record(mine)
    np.testing.assert_array_equal(table, [[r, -r, 2**62] for r in range(size)])
    table[:] = 0
    assert mine[2] == 2**62


def test_alltoall(comm: Comm, rank: int, size: int) -> None:
    mine = 100 * rank + np.arange(size)
    np.testing.assert_array_equal(comm.alltoall_record(mine), 100 * np.arange(size) + rank)
    np.testing.assert_array_equal(mine, 100 * rank + np.arange(size))


def test_agree_is_the_highest_of_each_column(comm: Comm, rank: int, size: int) -> None:
    highest = comm.agree(np.array([rank, -rank, -(2**62)]))
    np.testing.assert_array_equal(highest, [size - 1, 0, -(2**62)])


def test_A11_split_by_color_in_reversed_order(comm: Comm, rank: int, size: int) -> None:
    part = comm.split(rank % 2, key=-rank)
    mates = [r for r in reversed(range(size)) if r % 2 == rank % 2]
    with agreement(comm, "checking"):
        assert part is not None
        assert part.size == len(mates)
        assert mates[part.rank] == rank
    assert part is not None
    np.testing.assert_array_equal(part.allgather_record(np.array([rank]))[:, 0], mates)


def test_A11_ranks_without_a_color_are_left_out(comm: Comm, rank: int) -> None:
    part = comm.split(None if rank == 0 else 7)
    with agreement(comm, "checking"):
        assert (part is None) == (rank == 0)
        assert part is None or part.size == comm.size - 1


def test_A11_arrays_on_a_part_of_the_ranks(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2, key=-rank)
    assert part is not None
    whole = torch.arange(35).reshape(5, 7) + 100 * (rank % 2)
    x = ms.array(whole, split=0, comm=part)
    with agreement(comm, "moving on one's own part"):
        y = x.resplit(1)
        assert y.comm is part
        assert torch.equal(y.larray, whole[y.layout.box(part.rank)])
        np.testing.assert_array_equal(y.numpy(), whole.numpy())
        assert y.redistribute([7] + [0] * (part.size - 1)).comm is part


def test_A11_a_reordered_communicator(comm: Comm, rank: int, size: int) -> None:
    turned = comm.split(0, key=-rank)
    assert turned is not None
    x = ms.arange(10, split=0, comm=turned)
    gathered = x.numpy()
    with agreement(comm, "checking"):
        assert turned.rank == size - 1 - rank
        assert x.larray.tolist() == list(range(10))[x.layout.box(turned.rank)[0]]
        np.testing.assert_array_equal(gathered, np.arange(10))


def test_A11_a_rank_by_itself(comm: Comm, rank: int) -> None:
    if rank == comm.size - 1:  # nobody else takes part
        x = ms.arange(6, split=0, comm=ms.MPI_SELF)
        assert x.resplit(None).tolist() == [0, 1, 2, 3, 4, 5]
        assert ms.MPI_SELF.allreduce(torch.tensor(3)).item() == 3
        assert ms.MPI_SELF.broadcast_bytes(b"me") == b"me"
        assert not x.is_distributed()


def test_A11_a_freed_communicator(comm: Comm, size: int, raises_alike: Any) -> None:
    part = comm.split(0)
    assert part is not None
    x = ms.arange(2 * size, split=0, comm=part)
    part.free()
    words = f"the communicator of {size} ranks was freed: no call can be made on it"
    if size > 1:
        for call in (x.numpy, lambda: part.allreduce(torch.ones(1)), lambda: part.split(0)):
            with raises_alike(RuntimeError, match=words):
                call()
    with raises_alike(RuntimeError, match=words):
        part.free()
    assert x.shape == (2 * size,)
    assert "split=0" in repr(x)


@pytest.mark.several
def test_A13_a_second_thread_is_refused(comm: Comm) -> None:
    part = comm.split(0)
    assert part is not None
    part.agree(np.zeros(1, dtype=np.int64))
    caught: list[Exception] = []

    def use() -> None:
        try:
            part.split(0)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=use, name="second")
    thread.start()
    thread.join()
    with agreement(comm, "checking"):
        assert re.search("used by thread .*, so 'second' cannot make collective calls on it", str(caught[0]))
    assert part.allreduce(torch.ones(1)).item() == comm.size


@pytest.mark.several
def test_A13_two_threads_begin_at_once(comm: Comm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has made a call before, and each finds that no other has."""
    part = comm.split(0)
    assert part is not None
    both = threading.Barrier(2)
    enumerate_threads = threading.enumerate
    totals: list[float] = []
    refused: list[RuntimeError] = []

    def slowly() -> Iterator[threading.Thread]:
        yield from enumerate_threads()
        time.sleep(0.05)

    def use() -> None:
        both.wait()
        try:
            totals.append(part.allreduce(torch.ones(1)).item())
        except RuntimeError as error:
            refused.append(error)
        finally:
            both.wait()  # a thread that has ended leaves the communicator to the other

    monkeypatch.setattr(threading, "enumerate", slowly)
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with agreement(comm, "checking"):
        assert totals == [comm.size]
        assert re.search("used by thread .* cannot make collective calls on it", str(refused[0]))


def test_A13_a_communicator_of_ones_own_or_a_loan(comm: Comm, size: int) -> None:
    """The first thread waits meanwhile: of threads that run at once each needs its own communicator."""
    own, lent = comm.split(0), comm.split(0)
    assert own is not None
    assert lent is not None
    lent.agree(np.zeros(1, dtype=np.int64))
    totals: list[float] = []

    def use() -> None:
        totals.append(own.allreduce(torch.ones(1)).item())
        with lent.taken_over():
            totals.append(lent.allreduce(torch.ones(1)).item())

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert totals == [size, size]
    assert lent.allreduce(torch.ones(1)).item() == size


def test_A13_freed_while_it_is_taken_over(comm: Comm) -> None:
    lent = comm.split(0)
    assert lent is not None
    lent.allreduce(torch.ones(1))
    with lent.taken_over():
        lent.free()
    with pytest.raises(RuntimeError, match="was freed: no call can be made on it"):
        lent.split(0)


def test_A13_the_thread_that_used_it_has_ended(comm: Comm, size: int) -> None:
    part = comm.split(0)
    assert part is not None
    totals: list[float] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: totals.append(part.allreduce(torch.ones(1)).item()))
        thread.start()
        thread.join()
    assert totals == [size, size]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("table", "other"),
    [([[1, 2], [1, 2]], None), ([[1, 2], [1, 2], [1, 3], [0, 2]], 2), ([[5]], None), ([5, 5, 6, 5], 2)],
)
def test_the_first_rank_that_differs(table: list[Any], other: int | None) -> None:
    assert first_difference(np.array(table)) == other


@pytest.mark.several
@pytest.mark.parametrize("kind", ["text", "long text", "tensor", "dtype", "shape"])
def test_what_is_not_the_same_on_all_ranks(comm: Comm, rank: int, size: int, kind: str, raises_alike: Any) -> None:
    other = rank == size - 1
    value = {
        "text": "b" if other else "a",
        "long text": "a" * 10_000 + str(other),
        "tensor": torch.tensor([1.0, float(other)]),
        "dtype": torch.zeros(2, dtype=torch.float64 if other else torch.float32),
        "shape": torch.zeros((2, 1) if other else (1, 2)),
    }[kind]
    words = f"^the value must be the same on every rank, but rank 0 has checksum .*, rank {size - 1} has checksum"
    with raises_alike(ValueError, match=words):
        comm.check_same(value, "the value")
    with raises_alike(ValueError, match=rf"rank 0 has \(0\), rank {size - 1} has \({size - 1}\); look again$"):
        comm.check_same(value, "the value", description=f"({rank})", hint="look again")
    with ms.debug(False):
        comm.check_replicated(value, "the value")
    with ms.debug(), raises_alike(ValueError, match=words):
        comm.check_replicated(value, "the value")


def test_what_is_the_same_on_all_ranks(comm: Comm, rank: int) -> None:
    for value in ("", "text \udcff", torch.zeros(0), torch.arange(6).reshape(2, 3).T, torch.tensor([1j]).conj()):
        comm.check_same(value, "the value", description=str(rank))


def test_a_check_of_debug_mode_is_not_observed(comm: Comm) -> None:
    with ms.debug(), ms.testing.traffic() as seen:
        comm.check_replicated("text", "the value")
        comm.compare(np.zeros(1, dtype=np.int64))
    assert seen.collectives == 0
    with ms.testing.traffic() as seen:
        comm.check_same("text", "the value")
    assert seen.collectives == (comm.size > 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (3, 1, 2), (0,), (2, 0)], ids=str)
def test_exchange(comm: Comm, shape: tuple[int, ...], strided: bool, device: str) -> None:
    everybody_to_everybody(comm, shape, strided, device)


def test_only_some_ranks_exchange(comm: Comm, rank: int, size: int) -> None:
    if size == 1:
        comm.exchange([], [])
        return
    got = torch.zeros(4)
    for _ in range(3):  # ranks between run ahead: the count of exchanges keeps them apart
        comm.exchange([(size - 1, torch.ones(4))] if rank == 0 else [], [(0, got)] if rank == size - 1 else [])
        comm.exchange([], [])
    with agreement(comm, "checking"):
        assert torch.equal(got, torch.full((4,), float(rank == size - 1)))


def test_neighbours_in_a_ring_with_conjugate_and_negative_views(comm: Comm, rank: int, size: int) -> None:
    if size == 1:
        return
    after, before = (rank + 1) % size, (rank - 1) % size
    whole = torch.tensor([1 + 2j, 3 - 4j])
    for view in (lambda t: t.conj(), lambda t: t.conj().imag, lambda t: torch._neg_view(t.real.clone())):
        got = torch.empty_like(view(whole)).resolve_neg()
        comm.exchange([(after, view(whole + rank))], [(before, got)])
        with agreement(comm, "checking"):
            assert torch.equal(got, view(whole + before).clone())


@pytest.mark.several
def test_reductions_of_several_operations_and_dtypes_in_turn(comm: Comm, rank: int, size: int) -> None:
    """MPI keeps objects for each."""
    kinds = [torch.float32, torch.int64, torch.float64, torch.uint8, torch.complex64]
    for _ in range(2):
        for dtype in kinds:
            table = (torch.arange(2 * size).reshape(size, 2) % 3 + 1).to(dtype)
            results = {"sum": table.sum(0), "prod": table.prod(0)}
            if not dtype.is_complex:
                results |= {"min": table.amin(0), "max": table.amax(0)}
            for op, expected in results.items():
                found = comm.allreduce(table[rank], op)  # type: ignore[arg-type]
                with agreement(comm, "checking"):
                    assert torch.equal(found, expected.to(dtype)), (dtype, op)
        pairs = comm.merge(torch.tensor([[rank, -rank]]), "first")
        moments = comm.merge(torch.tensor([1.0, rank, 0.0], dtype=torch.float64), "moments")
        with agreement(comm, "checking"):
            assert pairs.tolist() == [[size - 1, 1 - size]]
            assert moments.tolist()[0] == size


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_sums_of_integers_go_around_as_those_of_torch(comm: ms.Communication, dtype: torch.dtype) -> None:
    """Open MPI stops at the greatest number where it adds many short ones, by vector instructions."""
    mine = torch.full((100,), torch.iinfo(dtype).max, dtype=dtype)
    expected = torch.stack([mine] * comm.size).sum(0, dtype=dtype)
    with agreement(comm, "comparing"):
        assert torch.equal(comm.allreduce(mine), expected)
