"""Choosing a chunk size from the work itself: `chunk_size="auto"`.

Small chunks pay for each operation's own overhead, large ones fall out of the caches. So the first chunks of a run
are of growing sizes, each four times the one before, until samples come out slower; the rest, and later calls of
the same function on the same kind of samples, use the fastest. Every chunk's outputs are used.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from minisplit.vmap.functorch import get_unwrapped, is_functorch_wrapped_tensor

Result = TypeVar("Result")
MEMORY_BUDGET = 2**29
# Each size is this many times the one before.
STEP = 4
# Bytes that the first chunk, which is weighed, and the first that is timed may take: both are in the cache.
_FIRST_BYTES, _START_BYTES = 2**14, 2**16
# No larger size is tried than one that takes this many times as long per sample as the fastest.
_SLOWER = 1.1
# Each size is timed so many times where a chunk takes up to so many seconds. But one that is much slower is left
# after two: the first chunk of a size may be slow since its memory is new.
_TIMES = ((0.02, 3), (0.1, 2), (float("inf"), 1))
_MUCH_SLOWER = 1.5


class Tuner:
    """Finds the fastest chunk size for one function and one kind of samples; remembers what it has seen."""

    def __init__(self, budget: int, sample_bytes: int) -> None:
        self.budget = budget
        self.best: int | None = None  # known once larger sizes have been seen to be slower, or are not allowed
        self._size = _power(_FIRST_BYTES // max(sample_bytes, 1), 64)
        self._limit: int | None = None
        self._trial = 0  # the size of the chunk that is to be timed
        self._tries: dict[int, list[float]] = {}  # seconds per sample for each size

    def size(self, samples: int, left: int) -> int:
        """The size of the next chunk of a run of so many samples, of which some are left."""
        if self.best is not None:
            return min(self.best, left)
        if self._limit is None:
            return min(self._size, left)
        self._trial = self._next_trial(samples)
        if self._trial > left or self._is_known(self._trial):
            self._trial = 0
            return min(self._fastest(), left)
        return self._trial

    def settled(self, samples: int) -> int | None:
        """The size of the chunks of a run of so many samples, None while it is being measured."""
        if self.best is None and (self._limit is None or not self._is_known(self._next_trial(samples))):
            return None
        return min(self.best or self._fastest(), samples)

    def _next_trial(self, samples: int) -> int:
        """The size to try next: the next one, or all samples at once where they are fewer than two such chunks."""
        assert self._limit is not None
        return self._size if 2 * self._size <= samples else min(samples, self._limit)

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
        self._learn(samples, (time.perf_counter() - started) / samples)
        return result

    def _weigh(self, samples: int, call: Callable[[], Result]) -> Result:
        """The first chunk: how much memory it takes per sample. Its time, which has much in it, does not count."""
        with _Weighing() as weighing:
            result = call()
        each = max(weighing.total() // samples, 1)
        self._limit = max(self.budget // each, 1)
        self._size = min(_power(_START_BYTES // each, self._limit), self._limit)
        return result

    def _learn(self, samples: int, seconds: float) -> None:
        """Take note of what each sample of a chunk took, and go on to the next size when this one is known."""
        if samples != self._trial:
            return
        self._tries.setdefault(samples, []).append(seconds)
        if samples != self._size or not self._is_known(samples):
            return
        assert self._limit is not None
        larger = min(self._size * STEP, self._limit)
        if self._slowness(samples) > _SLOWER or larger == self._size:
            self.best = self._fastest()
        else:
            self._size = larger

    def _is_known(self, size: int) -> bool:
        """Whether this size has been timed often enough."""
        tries = self._tries.get(size, [])
        if len(tries) >= 2 and self._slowness(size) > _MUCH_SLOWER:
            return True
        return bool(tries) and len(tries) >= next(times for most, times in _TIMES if min(tries) * size <= most)

    def _slowness(self, size: int) -> float:
        """The time per sample over that of the fastest other size."""
        others = [min(tries) for other, tries in self._tries.items() if other != size]
        mine = min(self._tries[size])
        return mine / min(others, default=mine)

    def _fastest(self) -> int:
        return min(self._tries, key=lambda size: min(self._tries[size]), default=self._size)


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


class _Weighing(TorchFunctionMode):
    """Sums up the memory of all that torch's functions return within it.

    As much as if nothing were given back: as it is where a gradient is taken, and more than enough elsewhere. What
    lies within one of torch's functions is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, torch.Tensor] = {}  # by address, and kept, so that no two have the same

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        for x in _tensors(returned):
            physical = _physical(x)
            self._seen.setdefault(physical.untyped_storage().data_ptr(), physical)
        return returned

    def total(self) -> int:
        """Bytes, of a part of an input only those of that part."""
        return sum(min(x.numel() * x.itemsize, x.untyped_storage().nbytes()) for x in self._seen.values())


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _physical(x: torch.Tensor) -> torch.Tensor:
    """The tensor with the values of all samples, beneath the wrappers of torch.func."""
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
    return x
