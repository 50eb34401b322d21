"""Philox4x32-10: random words as a function of a counter, not of the words before.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405. The function resembles a block cipher: ten rounds mix a counter of four
32-bit words with a key of two, and give four random words. Names and constants are those of the paper. The answers
that its authors published for some counters and keys are in the tests.

This module is pure: it knows neither torch nor MPI.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = tuple[int, int]
Array = NDArray[np.uint64]

ROUNDS = 10
WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Any, Any, Any, Any], key: Key) -> tuple[Any, Any, Any, Any]:
    """Return four random words for each counter of four words: ints, or int64 tensors of one shape on any device.

    >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    for k0, k1 in _round_keys(key):
        # The upper halves of the products, which are 64 bits long, go into c0 and c2, the lower ones into c1 and
        # c3. What is above the lower halves is masked away a round later.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) ^ c1 ^ k0) & WORD, p1, ((p0 >> 32) ^ c3 ^ k1) & WORD, p0
    return c0, c1 & WORD, c2, c3 & WORD


def philox_in_place(planes: Array, key: Key) -> None:
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


def _round_keys(key: Key) -> list[Key]:
    """The keys of the rounds."""
    return [((key[0] + r * _WEYL[0]) & WORD, (key[1] + r * _WEYL[1]) & WORD) for r in range(ROUNDS)]


def _constant(number: int) -> Array:
    """An array, since NumPy takes a microsecond to make one of a number."""
    return np.array(number, np.uint64)


# Key: that of a call. The blocks of one call use the same one, and a call of `vmap` has one for each random
# function.
@lru_cache(maxsize=64)
def _round_constants(key: Key) -> list[tuple[Array, Array]]:
    """The same keys as arrays."""
    return [(_constant(k0), _constant(k1)) for k0, k1 in _round_keys(key)]


_M0, _M1, _SHIFT, _MASK = map(_constant, (*_MULTIPLIERS, 32, WORD))


def fold(key: Key, first: int, second: int = 0) -> Key:
    """Derive a key for two numbers below 2^64 from another key. The keys of different numbers are independent.

    >>> fold((0, 0), 0) == (0x6627E8D5, 0xE169C58D)
    True
    """
    return philox((*words_of(first), *words_of(second)), key)[:2]


def words_of(number: int) -> Key:
    """Return the lower and the upper word of a number below 2^64."""
    return number & WORD, number >> 32
