"""Mapping over arrays that are not in memory: here their reader has them, and tells what it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.core.storage import Reader, StoredArray
from minisplit.testing import assert_equal, traffic
from minisplit.vmap.execution import stream

WHOLE = torch.arange(35.0).reshape(7, 5)


class Given(Reader):
    """A reader of a tensor. Fails for the row `bad`."""

    def __init__(self, whole: torch.Tensor, bad: int | None = None) -> None:
        self.whole, self.bad = whole, bad
        self.shape, self.dtype = tuple(whole.shape), whole.dtype
        self.asked: list[tuple[slice, ...]] = []

    def read(self, box: tuple[slice, ...]) -> torch.Tensor:
        self.asked.append(box)
        if self.bad is not None and self.bad in range(box[0].start, box[0].stop):
            raise OSError("the disk is gone")
        return self.whole[box].clone()

    def close(self) -> None:
        pass


def stored(whole: torch.Tensor = WHOLE, split: int | None = 0, bad: int | None = None) -> StoredArray:
    comm = ms.get_comm()
    layout = ms.Layout(whole.shape, split, comm.size)
    return StoredArray(Given(whole, bad), layout, comm, Path("given.npy"), None, whole.dtype)


def asked(x: StoredArray) -> list[tuple[slice, ...]]:
    assert isinstance(x.reader, Given)
    return x.reader.asked


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 100, "auto"])
def test_each_rank_reads_its_samples_once(comm: ms.Communication, rank: int, size: int, chunk_size: Any) -> None:
    x = stored()
    (y,) = ms.vmap(lambda v: v * 2, chunk_size=chunk_size)(x)
    assert_equal(y, WHOLE * 2)
    start, stop = x.layout.span(rank)
    step = chunk_size if isinstance(chunk_size, int) else 100
    wanted = [(slice(a, min(a + step, stop)), slice(0, 5)) for a in range(start, stop, step)]
    with agreement(comm, "checking"):
        assert asked(x) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_beside_arrays_in_memory_a_file_goes_where_those_are(comm: ms.Communication, kind: str) -> None:
    there = dealt(WHOLE, layout_of((7, 5), 0, kind, comm.size), comm)
    columns = dealt(WHOLE, layout_of((7, 5), 1, kind, comm.size), comm)
    everywhere = ms.array(torch.ones(5))
    mapped = ms.vmap(lambda a, b, w: {"sum": a + b * w, "of": a.sum()}, chunk_size=2)
    found = mapped(stored(), there, everywhere)
    assert_equal(found["sum"], WHOLE * 2)
    assert_equal(found["of"], WHOLE.sum(1))
    assert found["sum"].counts == there.counts
    (product,) = ms.vmap(lambda a, b: a * b, in_dims=(1, 1), out_dims=1)(stored(), columns)
    assert_equal(product, WHOLE * WHOLE)
    assert product.counts == columns.counts


def test_a_file_that_is_not_mapped_is_whole_for_every_sample(comm: ms.Communication) -> None:
    weights = stored(torch.arange(5.0), split=None)
    y, k = ms.vmap(lambda v, w: (v @ w, torch.ones(2)), out_dims=(0, None), chunk_size=3)(stored(), weights)
    assert_equal(y, WHOLE @ torch.arange(5.0))
    assert_equal(k, torch.ones(2))
    assert len(asked(weights)) == 1


def test_random_numbers_are_those_of_the_sample(comm: ms.Communication) -> None:
    mapped = ms.vmap(lambda v: v + torch.rand(()), randomness="different", chunk_size=2)
    ms.random.seed(3)
    (here,) = mapped(stored())
    ms.random.seed(3)
    (there,) = mapped(ms.array(WHOLE, split=0))
    assert_equal(here, there.numpy())


def test_a_batch_without_samples(comm: ms.Communication) -> None:
    (y,) = ms.vmap(lambda v: v.sum())(stored(torch.zeros(0, 3)))
    assert (y.shape, y.split) == ((0,), 0)


def test_a_disk_that_fails_on_one_rank_is_an_error_on_all(raises_alike: Any) -> None:
    for chunk_size in (1, 3, None):
        mapped = ms.vmap(lambda v: v * 2, chunk_size=chunk_size)
        with raises_alike(OSError, match="the disk is gone"):
            mapped(stored(bad=6))
    with raises_alike(OSError, match="the disk is gone"):
        mapped(stored(), stored(torch.arange(5.0), split=None, bad=2))
    assert_equal(mapped(stored())[0], WHOLE * 2)


def test_a_function_that_fails_names_the_first_sample(raises_alike: Any) -> None:
    def picky(v: torch.Tensor) -> torch.Tensor:
        if 4 in seen:
            raise ValueError("not this one")
        seen.append(len(seen))
        return v

    seen: list[int] = []
    with raises_alike(ValueError, match="not this one"):
        for _ in range(9):
            ms.vmap(picky, chunk_size=1)(stored())
    mapped = ms.vmap(lambda v: torch.linalg.cholesky(v.diag() - 30), chunk_size=2)
    with raises_alike(torch.linalg.LinAlgError, match=r"mapping sample 0 of 7"):
        mapped(stored())


@pytest.mark.several
def test_outputs_that_differ_between_ranks(comm: ms.Communication, rank: int, raises_alike: Any) -> None:
    with raises_alike(ValueError, match="must return the same structure, number, shapes and dtypes"):
        ms.vmap(lambda v: v[: rank + 1])(stored())


def test_what_does_not_go_together(comm: ms.Communication, raises_alike: Any) -> None:
    y = ms.array(WHOLE, split=0)
    y.larray.requires_grad_()
    with raises_alike(ValueError, match=r"no gradient flows through a map over files"):
        ms.vmap(lambda a, b: a * b)(stored(), y)
    with torch.no_grad():
        assert_equal(ms.vmap(lambda a, b: a - b)(stored(), y)[0], torch.zeros(7, 5))
    with raises_alike(ValueError, match="same number of samples"):
        ms.vmap(lambda a, b: a * b)(stored(), stored(WHOLE[:3]))
    with raises_alike(TypeError, match="out must be a path, or one for each output, got 3"):
        ms.vmap(lambda v: v, out=3)
    with raises_alike(ValueError, match="resume=True continues a call with"):
        ms.vmap(lambda v: v, resume=True)


@pytest.mark.serial
def test_subtract() -> None:
    assert list(stream.subtract([], 0, 3)) == [(0, 3)]
    assert list(stream.subtract([(5, 9), (0, 2), (1, 3)], 1, 7)) == [(3, 5)]
    assert list(stream.subtract([(0, 9)], 1, 7)) == []
    assert list(stream.subtract([(8, 9)], 1, 7)) == [(1, 7)]


def test_what_only_arrays_in_memory_do(raises_alike: Any) -> None:
    with raises_alike(AttributeError, r"no attribute 'mean'; load\(\)\.mean is that of the array in memory"):
        stored().mean()  # type: ignore[attr-defined]
    with raises_alike(TypeError, r"x must be a DNDarray, got StoredArray; x\.load\(\) is one"):
        ms.sum(stored())  # type: ignore[arg-type]


def test_the_plan_of_a_call(comm: ms.Communication, size: int) -> None:
    x = stored()
    plan = ms.vmap(lambda v: v.sum(), chunk_size=2).plan(x)
    assert (plan.bytes_moved, plan.samples, plan.chunk_size) == (0, 7, 2)
    mapped, weights = ms.vmap(lambda v, w: v @ w, chunk_size=2), stored(torch.arange(5.0), split=None)
    with ms.debug(False), traffic() as seen:
        mapped(stored(), weights)
    # The agreements on what is read, and on the outputs; on more than 7 ranks some have no samples.
    assert mapped.plan(stored(), weights).collectives == seen.collectives == (0 if size == 1 else 2 + (size > 7))
    assert asked(x) == []
    assert repr(x) == f"<StoredArray {x.layout}, torch.float32, in given.npy>"
