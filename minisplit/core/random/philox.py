"""Philox: random words as a function of a counter, not of the words before.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405. The function resembles a block cipher: ten rounds mix a counter of four
words with a key of two, and give four random words. Names and constants are those of the paper. The answers that
its authors published for some counters and keys are in the tests.

Arrays have their numbers from Philox4x64-10, whose words have 64 bits: of counters that follow each other NumPy
makes them in C. Draws of mapped functions have theirs from Philox4x32-10. There each sample has counters of its
own, so that C does not help, and a counter takes a quarter of the time of one of 64 bits.

This module is pure: it knows neither torch nor MPI.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# A key of Philox4x32-10, from which the draws of mapped functions have their numbers.
DrawKey = tuple[int, int]
Array = NDArray[np.uint64]

ROUNDS = 10
WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_MULTIPLIERS_64 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL_64 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


class CallKey(NamedTuple):
    """What the words of one call depend on: the key of Philox4x64-10, and the upper half of its counter.

    The key is seed and stream, so that two calls of a generator differ in their counters alone. `part` is above 0
    for more numbers of the same places.
    """

    seed: int
    stream: int = 0
    call: int = 0
    part: int = 0


def philox4x64(counter: tuple[Any, int, int, int], key: tuple[int, int], xp: Any, memory: Any, words: Any) -> None:
    """Write into `words` a row of four random words of 64 bits for each number in the first word of the counter.

    These numbers are a 1-d array of uint64, or a tensor of int64 with the same bits, on any device. `xp` is the
    module of their functions; on the CPU NumPy's take half the time of torch's. `memory` is for `(6, 2, n)` words.

    >>> zero, memory, words = (np.zeros(shape, np.uint64) for shape in [1, (6, 2, 1), (1, 4)])
    >>> philox4x64((zero, 0, 0, 0), (0, 0), np, memory, words)
    >>> [f"{word:016x}" for word in words[0]]
    ['16554d9eca36314c', 'db20fe9d672d0fdc', 'd7e772cee186176b', '7e68b68aec7ba23b']
    """
    first, *others = counter
    is_signed = xp is not np
    given: tuple[Any, Any, Any] = _constants_64(key), _SHIFT, _MASK
    if is_signed:
        given = first.new_tensor(given[0].view(np.int64)), 32, WORD
        others = [word - 2**64 if word >> 63 else word for word in others]

    constants, shift, mask = given

    def upper_half(words: Any, out: Any) -> None:
        xp.bitwise_right_shift(words, shift, out=out)
        if is_signed:
            xp.bitwise_and(out, mask, out=out)  # the shift has copied the sign

    low, high, factor, *round_keys = constants
    # c0 and c2 are in x, whose products are made at once, and c3 and c1 in y.
    x, y, upper, lower, a, b = memory
    x[0], y[1], x[1], y[0] = first, *others
    for k in round_keys:
        # 64 bits times 64 bits, by halves. No sum here reaches 2^64.
        xp.bitwise_and(x, mask, out=a)
        upper_half(x, b)
        xp.multiply(a, low, out=lower)
        upper_half(lower, lower)
        xp.multiply(b, low, out=upper)
        xp.add(lower, upper, out=lower)
        xp.multiply(a, high, out=a)
        xp.bitwise_and(lower, mask, out=upper)
        xp.add(a, upper, out=a)
        upper_half(a, a)
        upper_half(lower, lower)
        xp.multiply(b, high, out=upper)
        xp.add(upper, lower, out=upper)
        xp.add(upper, a, out=upper)
        xp.multiply(x, factor, out=lower)
        xp.bitwise_xor(upper[1], y[1], out=x[0])
        xp.bitwise_xor(upper[0], y[0], out=x[1])
        xp.bitwise_xor(x, k, out=x)
        y, lower = lower, y
    words[:, 0], words[:, 1], words[:, 2], words[:, 3] = x[0], y[1], x[1], y[0]


@lru_cache(maxsize=64)
def _constants_64(key: tuple[int, int]) -> Array:
    """Of both multipliers the lower and the upper halves, and all bits, and the keys of the rounds, in columns."""
    rows = [[word & WORD for word in _MULTIPLIERS_64], [word >> 32 for word in _MULTIPLIERS_64], _MULTIPLIERS_64]
    rows += [[(word + r * weyl) % 2**64 for word, weyl in zip(key, _WEYL_64, strict=True)] for r in range(ROUNDS)]
    return np.array(rows, np.uint64)[:, :, None]


def philox4x32(counter: tuple[Any, Any, Any, Any], key: DrawKey) -> tuple[Any, Any, Any, Any]:
    """Return four random words for each counter of four words: ints, or int64 tensors of one shape on any device.

    >>> [f"{word:08x}" for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    for k0, k1 in _round_keys(key):
        # The upper halves of the products, which are 64 bits long, go into c0 and c2, the lower ones into c1 and
        # c3. What is above the lower halves is masked away a round later.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) ^ c1 ^ k0) & WORD, p1, ((p0 >> 32) ^ c3 ^ k1) & WORD, p0
    return c0, c1 & WORD, c2, c3 & WORD


def philox4x32_in_place(planes: Array, key: DrawKey) -> None:
    """Replace the counters in the first four rows of a `(6, n)` array by their random words.

    The other two rows are for products. This is several times faster than tensors, for some thousand columns,
    which stay in the caches (benchmarks/random_speed.py).
    """
    c0, c1, c2, c3, p0, p1 = planes
    for k0, k1 in _round_constants(key):
        np.multiply(c0, _M0, out=p0)
        np.multiply(c2, _M1, out=p1)
        for c, product, word, k in ((c0, p1, c1, k0), (c2, p0, c3, k1)):
            np.right_shift(product, _SHIFT, out=c)
            np.bitwise_xor(c, word, out=c)
            np.bitwise_xor(c, k, out=c)
            np.bitwise_and(c, _MASK, out=c)
        c1, p1, c3, p0 = p1, c1, p0, c3
    # The rows change places each round. After an even number of rounds all are where they were.
    np.bitwise_and(planes[1], _MASK, out=planes[1])
    np.bitwise_and(planes[3], _MASK, out=planes[3])


def _round_keys(key: DrawKey) -> list[DrawKey]:
    """The keys of the rounds."""
    return [((key[0] + r * _WEYL[0]) & WORD, (key[1] + r * _WEYL[1]) & WORD) for r in range(ROUNDS)]


def _constant(number: int) -> Array:
    """An array, since NumPy takes a microsecond to make one of a number."""
    return np.array(number, np.uint64)


# Key: that of a draw. The blocks of one call use the same one, and a call of `vmap` has one for each random
# function.
@lru_cache(maxsize=64)
def _round_constants(key: DrawKey) -> list[tuple[Array, Array]]:
    """The same keys as arrays."""
    return [(_constant(k0), _constant(k1)) for k0, k1 in _round_keys(key)]


_M0, _M1, _SHIFT, _MASK = map(_constant, (*_MULTIPLIERS, 32, WORD))


def fold(key: DrawKey, first: int, second: int = 0) -> DrawKey:
    """Derive a key for two numbers below 2^64 from another key. The keys of different numbers are independent.

    >>> fold((0, 0), 0) == (0x6627E8D5, 0xE169C58D)
    True
    """
    return philox4x32((*words_of(first), *words_of(second)), key)[:2]


def words_of(number: int) -> DrawKey:
    """Return the lower and the upper word of a number below 2^64."""
    return number & WORD, number >> 32
