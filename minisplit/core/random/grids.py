"""Which places the numbers of a tensor have in the global array or batch, and the random words of these places.

The words of an array are one row, of which each rank reads those of its shard. NumPy's Philox, which is C, makes
them where many follow each other. Elsewhere, and on other devices, they are made counter by counter. The words of
a batch are a row for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.layout import Layout
from minisplit.core.random.philox import (
    WORD,
    CallKey,
    DrawKey,
    fold,
    philox4x32,
    philox4x32_in_place,
    philox4x64,
    words_of,
)

# To set NumPy's counter takes the time of so many words. Between shorter runs the words are made as well.
_GAP = 900
# To make a counter's words otherwise takes the time of so many words. All this was measured by
# benchmarks/random_speed.py.
_ALONE = 32
# Counters that are made at a time. On the CPU they stay in the caches, and on other devices there are few calls.
_BLOCK, _BLOCK_ELSEWHERE = 2**14, 2**20
# Of more than a 12th of the places, words that are drawn again are made for all.
_DENSE = 12
# The second number that `fold` gets, for keys of two kinds: the draws of a mapped function, and repeated draws.
DRAW, _AGAIN = 1, 2
# The part of a call whose words are the key of a mapped function's draws. Other parts are small numbers.
_MAPPED = 2**64 - 1
_CPU = torch.device("cpu")


class Kind(NamedTuple):
    """How many numbers are made together, of how many words of 64 bits."""

    numbers: int
    words: int


# Reads the words of some rows, and in them of some groups of numbers that are made together: a row for each row.
Reader = Callable[[range, range], torch.Tensor]


class ArrayGrid(NamedTuple):
    """Places in an array: element (r, j) is number `first + r * stride + j`, in row-major order."""

    key: CallKey
    rows: int
    length: int
    first: int = 0
    stride: int = 0

    def alike(self, numbers: int) -> Iterator[tuple[slice, ArrayGrid, int]]:
        """Yield rows that begin at the same one of numbers that are made together, their grid, and which one."""
        groups = numbers // math.gcd(self.stride, numbers) if self.rows > 1 else 1
        for start in range(min(groups, self.rows)):
            first = self.first + start * self.stride
            rows = slice(start, None, groups)
            grid = ArrayGrid(self.key, len(range(self.rows)[rows]), self.length, first, self.stride * groups)
            yield rows, grid, first % numbers

    def reader(self, kind: Kind, device: torch.device) -> Reader:
        """Return what reads words, where all rows begin alike."""
        step = self.stride // kind.numbers * kind.words
        stream = _Stream(self.key) if by_numpy(device) else None

        def read(rows: range, columns: range) -> torch.Tensor:
            group = (self.first + rows.start * self.stride) // kind.numbers + columns.start
            first, width = group * kind.words, len(columns) * kind.words
            if stream is None or not stream.is_fast(first, step, len(rows), width):
                return _by_counters(self.key, first, step, len(rows), width, device)
            return torch.from_numpy(stream.read(first, step, len(rows), width).view(np.int64))

        return read

    def in_parts(self) -> ArrayGrid:
        """Return the places of the two parts of each number, as of complex ones."""
        return self._replace(length=2 * self.length, first=2 * self.first, stride=2 * self.stride)

    def again(self, index: torch.Tensor, attempt: int) -> torch.Tensor:
        """Return two rows of further words for some elements, given by their places in the flattened tensor."""
        grid = self.in_parts()._replace(key=self.key._replace(part=self.key.part | attempt << 32))
        if by_numpy(index.device) and len(index) * _DENSE > self.rows * self.length:
            kind = Kind(1, 1)
            words = grid.reader(kind, _CPU)(range(grid.rows), range(grid.length))
            return _columns(words.reshape(-1, 2)[index])
        row = index // self.length
        first = 2 * (self.first + row * self.stride + index - row * self.length)
        words = _words_of_counters(first >> 2, grid.key)
        return _columns(torch.where((first & 2 == 2)[:, None], words[:, 2:], words[:, :2]))


class SampleGrid(NamedTuple):
    """Places in a batch: element (r, j) is number j of sample `sample + r * step`."""

    key: DrawKey
    rows: int
    length: int
    sample: int = 0
    step: int = 1

    def alike(self, numbers: int) -> Iterator[tuple[slice, SampleGrid, int]]:
        """Yield all rows, since all begin at the first of numbers that are made together."""
        yield slice(None), self, 0

    def reader(self, kind: Kind, device: torch.device) -> Reader:
        """Return what reads words."""
        planes = None

        def read(rows: range, columns: range) -> torch.Tensor:
            nonlocal planes
            # Counters have two words. Blocks begin at an even one.
            first, width = columns.start * kind.words // 2, len(columns) * kind.words
            places = np.arange(first, first + -(-width // 2))
            samples = self.sample + np.arange(rows.start, rows.stop) * self.step
            places, samples = np.tile(places, len(rows)), samples.repeat(len(places))
            if not by_numpy(device):
                words = _draw_words(self.key, *(torch.from_numpy(x).to(device) for x in (places, samples)))
            else:
                planes = np.empty((6, len(places)), np.uint64) if planes is None else planes
                words = _draw_words_in(planes[:, : len(places)], self.key, places, samples)
            return words.view(len(rows), -1)[:, :width]

        return read

    def in_parts(self) -> SampleGrid:
        """Return the places of the two parts of each number, as of complex ones."""
        return self._replace(length=2 * self.length)

    def again(self, index: torch.Tensor, attempt: int) -> torch.Tensor:
        """Return two rows of further words for some elements, given by their places in the flattened tensor."""
        row = index // self.length
        key = fold(self.key, attempt, _AGAIN)
        return _columns(_draw_words(key, index - row * self.length, self.sample + row * self.step))


Grid = ArrayGrid | SampleGrid


def shard_grid(layout: Layout, rank: int, key: CallKey) -> ArrayGrid:
    """Return the places of a rank's shard. The elements of the global array are numbered in row-major order.

    >>> shard_grid(Layout((4, 6), 1, ranks=2), 1, CallKey(0))[1:]
    (4, 3, 3, 6)
    """
    if layout.split is None:
        return ArrayGrid(key, 1, layout.size)
    inner = math.prod(layout.shape[layout.split + 1 :])
    start, stop = layout.span(rank)
    rows = math.prod(layout.shape[: layout.split])
    return ArrayGrid(key, rows, (stop - start) * inner, start * inner, layout.extent * inner)


def by_numpy(device: torch.device) -> bool:
    """Return whether NumPy computes with integers and in single precision, where it is faster than torch."""
    return device.type == "cpu"


def mapped_key(key: CallKey) -> DrawKey:
    """Return the key from which those of a mapped function's draws are folded, in one call of it."""
    return words_of(int(_philox_of(key._replace(part=_MAPPED)).random_raw()))


def _philox_of(key: CallKey) -> np.random.Philox:
    """NumPy's generator before the first word of a call."""
    return np.random.Philox(key=key.seed | key.stream << 64, counter=key.call << 128 | key.part << 192)


class _Stream:
    """The words of a call, of which NumPy makes each counter's from that of the one before."""

    def __init__(self, key: CallKey) -> None:
        self._source = _philox_of(key)
        self._counter = 0  # of the next word

    @staticmethod
    def is_fast(first: int, step: int, rows: int, width: int) -> bool:
        """Whether this takes less time for some runs of words than making the words of each counter alone."""
        return rows == 1 or min(step, width + _GAP) <= _ALONE * _counters(first, step, width)

    def read(self, first: int, step: int, rows: int, width: int) -> NDArray[np.uint64]:
        """Return rows of words, each of which begins `step` words behind the one before."""
        if rows == 1:
            return self._run(first, width)[None]
        words = np.empty((rows, width), np.uint64)
        if step - width > _GAP:
            for row in range(rows):
                words[row] = self._run(first + row * step, width)
            return words
        # At a time so many rows that they stay in the caches with what is between them.
        many = max(_BLOCK // step, 1)
        for row in range(0, rows, many):
            part = words[row : row + many]
            part[:] = self._run(first + row * step, len(part) * step).reshape(-1, step)[:, :width]
        return words

    def _run(self, first: int, width: int) -> NDArray[np.uint64]:
        """Words that follow each other."""
        counter, skipped = first >> 2, first & 3
        if counter != self._counter:
            self._source.advance(counter - self._counter)
        counters = (skipped + width + 3) >> 2
        self._counter = counter + counters
        return self._source.random_raw(4 * counters)[skipped : skipped + width]


def _counters(first: int, step: int, width: int) -> int:
    """How many counters the words of each row have, at most."""
    phase = first % 4 if step % 4 == 0 else 3
    return -(-(phase + width) // 4)


def _by_counters(key: CallKey, first: int, step: int, rows: int, width: int, device: torch.device) -> torch.Tensor:
    """Rows of words, each of which begins `step` words behind the one before."""
    starts = first + step * torch.arange(rows, device=device)
    counters = (starts >> 2)[:, None] + torch.arange(_counters(first, step, width), device=device)
    words = _words_of_counters(counters.view(-1), key).view(rows, -1)
    if step % 4 == 0:
        return words[:, first % 4 :][:, :width]
    return words.gather(1, (starts & 3)[:, None] + torch.arange(width, device=device))


def _words_of_counters(counters: torch.Tensor, key: CallKey) -> torch.Tensor:
    """A row of four words for each counter of a call."""
    on_cpu = by_numpy(counters.device)
    size = max(1, min(len(counters), _BLOCK if on_cpu else _BLOCK_ELSEWHERE))
    words, memory = counters.new_empty(len(counters), 4), counters.new_empty(6, 2, size)
    # As in NumPy, the first counter of a call is 1.
    for block, out in zip(torch.split(counters + 1, size), torch.split(words, size), strict=True):
        arrays: Any = block, memory[:, :, : len(block)], out
        if on_cpu:
            arrays = [x.numpy().view(np.uint64) for x in arrays]
        first, part, made = arrays
        others = 0, key.call, key.part
        philox4x64((first, *others), (key.seed, key.stream), np if on_cpu else torch, part, made)
    return words


def _columns(words: torch.Tensor) -> torch.Tensor:
    """The columns as rows that are contiguous, also of one element."""
    return words.T.clone(memory_format=torch.contiguous_format)


def _draw_words(key: DrawKey, places: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """A row of two words for each place of a sample."""
    if by_numpy(places.device):
        return _draw_words_in(np.empty((6, len(places)), np.uint64), key, places.numpy(), samples.numpy())
    counter = places & WORD, places >> 32, samples & WORD, samples >> 32
    c0, c1, c2, c3 = philox4x32(counter, key)
    return torch.stack((c0 | c1 << 32, c2 | c3 << 32), -1)


def _draw_words_in(planes: NDArray[np.uint64], key: DrawKey, places: Any, samples: Any) -> torch.Tensor:
    """The same on the CPU, in memory that is given."""
    for numbers, row in ((places, 0), (samples, 2)):
        np.bitwise_and(numbers.view(np.uint64), WORD, out=planes[row])
        np.right_shift(numbers.view(np.uint64), 32, out=planes[row + 1])
    philox4x32_in_place(planes, key)
    words = np.empty((planes.shape[1], 2), np.uint64)
    for row in (0, 1):
        np.left_shift(planes[2 * row + 1], 32, out=planes[4])
        np.bitwise_or(planes[2 * row], planes[4], out=words[:, row])
    return torch.from_numpy(words.view(np.int64))
