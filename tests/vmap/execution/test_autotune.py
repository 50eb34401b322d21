"""Automatic chunk sizes, with a clock of its own: what a chunk takes is a function of its size."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from minisplit.vmap.execution import autotune
from minisplit.vmap.execution.autotune import Tuner, tuner_for

pytestmark = pytest.mark.serial
CPU = torch.device("cpu")


class Clock:
    """Stands before the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def sizes_of(
    tuner: Tuner,
    samples: int,
    seconds: Callable[[int], float],
    monkeypatch: pytest.MonkeyPatch,
    beside: float = 0.0,
) -> list[int]:
    """The sizes of the chunks of a run in which a chunk of `n` samples takes `seconds(n)`.

    What is made of several chunks takes `beside` more per sample.
    """
    clock = Clock()
    monkeypatch.setattr(autotune, "time", clock)
    taken: list[int] = []
    tuner.begin_run(samples, CPU)
    while sum(taken) < samples:
        size = tuner.size(samples, samples - sum(taken))

        def chunk(size: int = size) -> torch.Tensor:
            clock.now += seconds(size)
            return torch.zeros(size, 100, dtype=torch.float64)  # 800 bytes per sample

        tuner.run(size, chunk, CPU)
        taken.append(size)
    assert sum(taken) == samples
    clock.now += beside * samples * (len(taken) > 1)
    tuner.end_run()
    return taken


def overhead_and_cache(best: int) -> Callable[[int], float]:
    """Per sample the less the larger the chunk, until it falls out of the cache."""
    return lambda n: 2e-5 + n * 1e-6 * (1 if n <= best else 3)


@pytest.mark.parametrize("best", [64, 256, 1024, 4096])
def test_the_fastest_size_is_found_and_kept(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(2**30, 800)
    taken = sizes_of(tuner, 200_000, overhead_and_cache(best), monkeypatch)
    assert tuner.best == best
    assert taken[-2] == best
    assert {n for n in taken if n > best} <= {4 * best}, "of the slower sizes only one is tried"
    assert set(sizes_of(tuner, 8 * best, overhead_and_cache(best), monkeypatch)) == {best}


def test_one_slow_chunk_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def seconds(n: int) -> float:
        calls.append(n)
        return overhead_and_cache(4096)(n) + (1.0 if len(calls) in {4, 9} else 0.0)

    tuner = Tuner(2**30, 800)
    sizes_of(tuner, 200_000, seconds, monkeypatch)
    assert tuner.best == 4096


def test_the_budget_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(800 * 500, 800)
    taken = sizes_of(tuner, 20_000, lambda n: 1e-3 + 1e-9 * n, monkeypatch)
    assert max(taken) == 500
    assert tuner.best == 500
    tuner = Tuner(100, 800)
    first = tuner._size
    assert set(sizes_of(tuner, 50, lambda n: 1e-3, monkeypatch)) <= {1, first}


def test_a_run_too_short_to_find_it_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(2**30, 800)
    assert tuner.settled(5000) is None
    for _ in range(6):
        taken = sizes_of(tuner, 5000, overhead_and_cache(1024), monkeypatch)
    assert taken == [1024] * 4 + [5000 - 4 * 1024]
    assert tuner.settled(5000) == 1024
    assert tuner.settled(100_000) is None, "larger ones were not tried"


def test_all_samples_at_once_are_a_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where larger is faster, and the batch is no power of four."""
    tuner = Tuner(2**30, 800)
    for _ in range(4):
        sizes_of(tuner, 9999, lambda n: 1e-3 + 1e-9 * n, monkeypatch)
    assert sizes_of(tuner, 9999, lambda n: 1e-3 + 1e-9 * n, monkeypatch) == [9999]


@pytest.mark.parametrize(
    ("factor", "beside", "is_kept"),
    [(3.0, 0.0, True), (1.2, 0.0, True), (1.2, 1e-6, False), (1.02, 0.0, False)],
    ids=["much faster", "faster", "slower as a whole", "about as fast"],
)
def test_chunks_stay_only_where_whole_runs_are_faster(
    factor: float, beside: float, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = Tuner(2**30, 800)

    def seconds(n: int) -> float:
        return 2e-5 + n * 1e-6 * (1 if n <= 1024 else factor if n > 9000 else 1.15)

    runs = [sizes_of(tuner, 10_000, seconds, monkeypatch, beside) for _ in range(12)]
    assert 1 in map(len, runs), "all at once was tried"
    assert (len(runs[-1]) > 1) == is_kept
    assert (tuner.best == 1024) == is_kept


def test_a_wrong_choice_on_a_busy_machine_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger sizes came when another program ran. One pair is enough where chunks are much slower."""
    tuner = Tuner(2**30, 800)
    sizes_of(tuner, 10_000, lambda n: 1e-4 + n * 1e-6 * (1 if n <= 64 else 50), monkeypatch)
    assert tuner.best == 64
    for _ in range(2):
        sizes_of(tuner, 10_000, lambda n: 1e-4 + n * 1e-6, monkeypatch)
    assert sizes_of(tuner, 10_000, lambda n: 1e-4 + n * 1e-6, monkeypatch) == [10_000]


def test_times_that_differ_are_taken_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(2**30, 800)
    sizes_of(tuner, 200_000, overhead_and_cache(1024), monkeypatch)
    sizes = [sizes_of(tuner, 10_000, lambda n, k=k: n * 1e-6 * 1.2**k, monkeypatch) for k in range(20)]
    assert [len(each) for each in sizes].count(1) == 6
    assert len(sizes[-1]) == 10


def test_chunks_that_won_once_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(2**30, 800)
    sizes_of(tuner, 200_000, overhead_and_cache(1024), monkeypatch)
    assert tuner.best == 1024
    for k in range(12):
        sizes_of(
            tuner, 10_000, lambda n, k=k: n * 1e-6 * (1 if n > 9000 else 0.9 if k == 0 else 1.05), monkeypatch
        )
    assert tuner.settled(10_000) == 10_000


def test_few_samples_are_one_chunk_once_their_memory_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = Tuner(2**30, 8)
    sizes_of(tuner, 10, lambda n: 1e-6, monkeypatch)
    assert sizes_of(tuner, 10, lambda n: 1e-6, monkeypatch) == [10]


def test_it_is_remembered_as_long_as_the_function_lives() -> None:
    def func(x: Any) -> Any:
        return x

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

    owner, other = Unhashable(), func
    first = tuner_for(func, None, "kind", 100, 8)
    assert tuner_for(func, None, "kind", 100, 8) is first
    assert tuner_for(func, None, "other kind", 100, 8) is not first
    assert tuner_for(func, None, "kind", 200, 8) is not first
    assert tuner_for(owner, other, "kind", 100, 8) is first, "in place of what cannot be a key"
    before = len(autotune._tuners)
    del func, other
    gc.collect()
    assert len(autotune._tuners) == before - 1


def test_memory_is_that_of_all_that_the_function_makes() -> None:
    x = torch.ones(1000, 10)
    with autotune._MemoryOfResults() as seen:
        torch.vmap(lambda v: ((v * 2 + 1).sin().sum(), v[:2], torch.zeros(5), torch.stack([v, v]).unbind()))(x)
    assert seen.total() == 3 * x.nbytes + 1000 * 4 + x.nbytes // 5 + 5 * 4 + 2 * x.nbytes
    with autotune._MemoryOfResults() as seen:
        torch.vmap(torch.func.grad(lambda v: (v * 2).sum()))(x)
    assert 2 * x.nbytes <= seen.total() <= 4 * x.nbytes + 4000
