"""Choosing a chunk size from the work itself: `chunk_size="auto"`.

Small chunks pay for each operation's own overhead, large ones fall out of the caches. So the first chunks of a run
are of growing sizes, each four times the one before, until samples come out slower; the rest, and later calls of
the same function on the same kind of samples, use the fastest. Every chunk's outputs are used.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Result = TypeVar("Result")
MEMORY_BUDGET = 2**29
# Each size is this many times the one before.
STEP = 4
# Bytes that the first sizes may take: below them a chunk is in the cache in any case.
_FIRST_BYTES, _START_BYTES = 2**14, 2**16
# A size is given up when it takes this many times as long per sample as the best, and no larger one is tried.
_SLOWER = 1.1
# Chunks quicker than this are timed more than once.
_QUICK, _TIMES = 0.005, 3


class Tuner:
    """Finds the fastest chunk size for one function and one kind of samples; remembers what it has seen."""

    def __init__(self, budget: int, sample_bytes: int) -> None:
        self.budget = budget
        self.best: int | None = None  # known once larger sizes have been seen to be slower, or not allowed
        self._first = _power(_FIRST_BYTES // max(sample_bytes, 1), 64)
        self._limit: int | None = None
        self._size = self._first
        self._tries: list[float] = []
        self._seconds: dict[int, float] = {}

    def size(self, samples: int) -> int:
        """The size of the next chunk, where so many samples are left."""
        if self.best is not None:
            return self.best
        if self._limit is None or samples >= self._size:
            return self._size
        return min(self._seconds, key=self._seconds.__getitem__, default=self._size)

    def run(self, samples: int, call: Callable[[], Result], device: torch.device) -> Result:
        """Make the call for a chunk of so many samples, and learn from it."""
        if self.best is not None:
            return call()
        if self._limit is None:
            return self._weigh(samples, call)
        _synchronize(device)
        started = time.perf_counter()
        result = call()
        _synchronize(device)
        if samples == self._size:
            self._learn(time.perf_counter() - started)
        return result

    def _weigh(self, samples: int, call: Callable[[], Result]) -> Result:
        """The first chunk: how much memory it takes per sample. Its time, which has much in it, does not count."""
        with _Allocations() as allocations:
            result = call()
        each = max(allocations.peak // samples, 1)
        self._limit = max(self.budget // each, 1)
        self._size = min(_power(_START_BYTES // each, self._limit), self._limit)
        return result

    def _learn(self, seconds: float) -> None:
        assert self._limit is not None
        self._tries.append(seconds)
        if seconds < _QUICK and len(self._tries) < _TIMES:
            return
        each = min(self._tries) / self._size
        fastest = min(self._seconds.values(), default=each)
        if each > _SLOWER * fastest and len(self._tries) < _TIMES:
            return
        self._tries.clear()
        self._seconds[self._size] = each
        larger = min(self._size * STEP, self._limit)
        if each > _SLOWER * fastest or larger == self._size:
            self.best = min(self._seconds, key=self._seconds.__getitem__)
        else:
            self._size = larger


_remembered: weakref.WeakKeyDictionary[object, dict[object, Tuner]] = weakref.WeakKeyDictionary()


def tuner_for(func: object, instead: object, kind: object, budget: int, sample_bytes: int) -> Tuner:
    """The tuner of a function and a kind of samples, the same in every call.

    It is remembered as long as `func` lives, or `instead` where that cannot be referred to weakly, or hashed.
    """
    try:
        tuners = _remembered.setdefault(func, {})
    except TypeError:
        tuners = _remembered.setdefault(instead, {})
    return tuners.setdefault((kind, budget, torch.get_num_threads()), Tuner(budget, sample_bytes))


def _power(number: int, most: int) -> int:
    """The largest power of `STEP` up to both, at least 1."""
    power = 1
    while power * STEP <= min(number, most):
        power *= STEP
    return power


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of tensors made within it that were alive at once: a little below what the process takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        given = {x.untyped_storage()._cdata for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)}
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, torch.Tensor):
                storage = x.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._known:
                    self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        number, size = storage._cdata, storage.nbytes()
        self._known.add(number)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, number, size)

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self._alive -= size
