"""Choosing a chunk size from the work itself: `chunk_size="auto"`.

Small chunks pay for each operation's own overhead, large ones fall out of the caches. So the first chunks of a run
are of growing sizes, each four times the one before, until samples come out slower; the rest, and later calls of
the same function on the same kind of samples, use the fastest. Some later calls then map all samples at once, in
turns with others: what chunks cost beyond their functions, and what disturbed the first measurements, shows in
whole calls only. Chunks stay where they win clearly. Every chunk's outputs are used.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from operator import lt
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from minisplit.core.pytorch.pytree import pytree
from minisplit.vmap.functorch.internals import unwrap

Result = TypeVar("Result")
Kept = TypeVar("Kept")
# Bytes that a chunk may take on each rank, if the program does not say.
MEMORY_BUDGET = 2**29
# Each size of the ladder is this many times the one before. A step of 2 would take twice the trials to get as far,
# and one of 8 could miss the best size by a factor of almost 3. benchmarks/vmap_chunks.py compares the sizes that
# are found with sizes from 64 to 65536 that were chosen by hand.
STEP = 4
# Bytes that the first chunk, which is weighed, and the first that is timed may take: both fit into the cache.
_FIRST_BYTES, _START_BYTES = 2**14, 2**16
# The search ends at a size that takes this many times as long per sample as the fastest: less may be noise.
_SLOWER = 1.1
# How often each size is timed, for chunks of up to so many seconds: short times are less certain. But a size that
# is much slower is given up after two: the first chunk of a size may be slow since its memory is new.
_TRIALS = ((0.02, 3), (0.1, 2), (float("inf"), 1))
_MUCH_SLOWER = 1.5
# Whole calls, in chunks and at once, in turns: so many of each, or more where the fastest two differ by more than
# `_SLOWER`, which on a busy machine they do. Chunks stay if they take at most so much of the time, and less in two
# of three pairs. One pair is enough where they are much slower: other programs had ended the search at chunks of
# 256 samples where all at once take 1/36 of that.
_PAIRS, _MOST_PAIRS = 3, 6
_WINS = 0.9
# What is computed within a captured graph is not seen. It is taken for so many times its inputs and outputs: a
# layer of some dozens of operations.
_HIDDEN = 16


class Tuner:
    """Finds the fastest chunk size for one function and one kind of samples, over all runs of that function.

    `best` is the fastest size, once larger ones have been measured to be slower, or are not allowed. It becomes
    the largest that is allowed where whole calls are no faster in chunks.
    `is_captured` says whether the function has parts that torch captures as a graph.
    """

    def __init__(self, budget: int, sample_bytes: int, is_captured: bool = False) -> None:
        self.budget = budget
        self.sample_bytes = sample_bytes
        self.is_captured = is_captured
        self.best: int | None = None
        # The rung of the ladder that is measured now.
        self._size = _power(_FIRST_BYTES // max(sample_bytes, 1), 64)
        self._limit: int | None = None  # the largest size within the budget, known after the first chunk
        self._trial = 0  # the size of the next chunk to be timed; 0 for a chunk that is not timed
        self._seconds: dict[int, list[float]] = {}  # per sample, of each trial of each size
        # Seconds per sample of whole runs, in chunks of the best size and at once, while these are compared.
        self._runs: dict[bool, list[float]] | None = {False: [], True: []}
        self._at_once: bool | None = None  # how this run goes, None where it is not timed
        self._begun, self._samples, self._device = 0.0, 0, torch.device("cpu")

    def begin_run(self, samples: int, device: torch.device) -> None:
        """Begin a run of all samples of a rank, which may be timed."""
        self._at_once = None
        if (
            self._runs is None
            or self.best is None
            or self._limit is None
            or not self.best < samples <= self._limit
        ):
            return
        self._at_once = len(self._runs[True]) < len(self._runs[False])
        self._samples, self._device = samples, device
        _synchronize(device)
        self._begun = time.perf_counter()

    def end_run(self) -> None:
        """End a run: record its time, and decide once there are enough of both kinds."""
        if self._at_once is None or self._runs is None:
            return
        _synchronize(self._device)
        self._runs[self._at_once].append((time.perf_counter() - self._begun) / self._samples)
        self._at_once = None
        chunked, whole = (sorted(self._runs[kind]) for kind in (False, True))
        if len(whole) < len(chunked):
            return
        is_lost = chunked[0] > _MUCH_SLOWER * whole[0]
        is_clear = len(whole) >= _PAIRS and all(each[1] <= _SLOWER * each[0] for each in (chunked, whole))
        if is_lost or is_clear or len(whole) >= _MOST_PAIRS:
            wins = sum(map(lt, self._runs[False], self._runs[True]))
            self._runs = None
            if chunked[0] > _WINS * whole[0] or 3 * wins < 2 * len(whole):
                self.best = self._limit

    def size(self, samples: int, left: int) -> int:
        """The size of the next chunk of a run of so many samples, of which some are left."""
        if self.best is not None:
            return left if self._at_once else min(self.best, left)
        if self._limit is None:
            return min(self._size, left)
        self._trial = self._next_trial(samples)
        if self._trial > left or self._is_measured(self._trial):
            self._trial = 0
            return min(self._fastest(), left)
        return self._trial

    def settled(self, samples: int) -> int | None:
        """The size of the chunks of a run of so many samples, None while it is being measured."""
        if self.best is None and (self._limit is None or not self._is_measured(self._next_trial(samples))):
            return None
        return min(self.best or self._fastest(), samples)

    def _next_trial(self, samples: int) -> int:
        """The size to try next: the next rung, or all samples at once where they make fewer than two chunks."""
        assert self._limit is not None
        return self._size if 2 * self._size <= samples else min(samples, self._limit)

    def run(self, samples: int, call: Callable[[], Result], device: torch.device) -> Result:
        """Make the call for a chunk of so many samples, and measure it if need be."""
        if self.best is not None:
            return call()
        if self._limit is None:
            return self._weigh(samples, call)
        _synchronize(device)
        started = time.perf_counter()
        result = call()
        _synchronize(device)
        self._record(samples, (time.perf_counter() - started) / samples)
        return result

    def _weigh(self, samples: int, call: Callable[[], Result]) -> Result:
        """Make the call for the first chunk, and set the limit by the memory that it takes per sample.

        Its time does not count, since it has in it what happens once: compiling, loading, the first allocations.
        """
        if self.is_captured:
            # torch captures no graph while a mode is on: torch.cond, for one, is an error then.
            result = call()
            outputs = sum(unwrap(x).nbytes for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor))
            total = _HIDDEN * (self.sample_bytes * samples + outputs)
        else:
            with _MemoryOfResults() as memory:
                result = call()
            total = memory.total()
        each = max(total // samples, 1)
        self._limit = max(self.budget // each, 1)
        self._size = min(_power(_START_BYTES // each, self._limit), self._limit)
        return result

    def _record(self, samples: int, seconds: float) -> None:
        """Record the seconds per sample of a chunk, and go on to the next size when this one is measured."""
        if samples != self._trial:
            return
        self._seconds.setdefault(samples, []).append(seconds)
        if samples != self._size or not self._is_measured(samples):
            return
        assert self._limit is not None
        larger = min(self._size * STEP, self._limit)
        if self._slowness(samples) > _SLOWER or larger == self._size:
            self.best = self._fastest()
        else:
            self._size = larger

    def _is_measured(self, size: int) -> bool:
        """Whether this size has been timed often enough."""
        seconds = self._seconds.get(size, [])
        if len(seconds) >= 2 and self._slowness(size) > _MUCH_SLOWER:
            return True
        return bool(seconds) and len(seconds) >= next(n for most, n in _TRIALS if min(seconds) * size <= most)

    def _slowness(self, size: int) -> float:
        """The least time per sample over that of the fastest other size."""
        others = [min(seconds) for other, seconds in self._seconds.items() if other != size]
        own = min(self._seconds[size])
        return own / min(others, default=own)

    def _fastest(self) -> int:
        return min(self._seconds, key=lambda size: min(self._seconds[size]), default=self._size)


# Key: the function, and then dtypes, shapes and devices of the samples, mapped axes, whether gradients are
# recorded, the budget, and the number of threads: all that the fastest size depends on. It has no bound, since an
# entry goes with its function, and to measure anew would cost what the entry is to save.
_tuners: weakref.WeakKeyDictionary[object, dict[object, Tuner]] = weakref.WeakKeyDictionary()


def tuner_for(
    func: object, owner: object, kind: object, budget: int, sample_bytes: int, is_captured: bool = False
) -> Tuner:
    """The tuner of a function and a kind of samples, the same one in every call.

    It is kept as long as `func` lives. See `entries_of`.
    """
    tuners = entries_of(_tuners, func, owner)
    key = kind, budget, torch.get_num_threads()
    if key not in tuners:
        tuners[key] = Tuner(budget, sample_bytes, is_captured)
    return tuners[key]


def entries_of(
    kept: weakref.WeakKeyDictionary[object, dict[object, Kept]], func: object, owner: object
) -> dict[object, Kept]:
    """What is kept for a function, or for its owner where it cannot be referred to weakly, or hashed."""
    try:
        return kept.setdefault(func, {})
    except TypeError:
        return kept.setdefault(owner, {})


def _power(number: int, most: int) -> int:
    """The largest power of `STEP` up to both, at least 1."""
    power = 1
    while power * STEP <= min(number, most):
        power *= STEP
    return power


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _MemoryOfResults(TorchFunctionMode):
    """Adds up the memory of all that torch's functions return within a `with` block.

    It is as much as if nothing were freed: the truth where a gradient is taken, and more than enough elsewhere.
    What lies within one of torch's functions is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        # By address. The tensors are kept, so that no address is used a second time.
        self._results: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        for x in pytree.tree_leaves(returned):
            if isinstance(x, torch.Tensor):
                whole = unwrap(x)
                self._results.setdefault(whole.untyped_storage().data_ptr(), whole)
        return returned

    def total(self) -> int:
        """Bytes, of a part of an input only those of that part."""
        return sum(min(x.numel() * x.itemsize, x.untyped_storage().nbytes()) for x in self._results.values())
