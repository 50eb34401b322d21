"""The counter function, against the answers published with Random123 (its file kat_vectors)."""

import numpy as np
import pytest
import torch

from minisplit.core.random.philox import fold, philox4x32, philox4x32_in_place, philox4x64

pytestmark = pytest.mark.serial

# Counter, key, answer; of Salmon et al. 2011.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


# The same of 64 bits.
KNOWN_64 = [
    (
        "0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "0000000000000000 0000000000000000",
        "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b",
    ),
    (
        "ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff",
        "ffffffffffffffff ffffffffffffffff",
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert philox4x32(words(counter), words(key)) == words(answer)
    tensors = tuple(torch.full((3,), word) for word in words(counter))
    assert [x.tolist() for x in philox4x32(tensors, words(key))] == [[word] * 3 for word in words(answer)]
    planes = np.zeros((6, 5), np.uint64)
    planes[:4] = np.array(words(counter), np.uint64)[:, None]
    philox4x32_in_place(planes, words(key))
    assert planes[:4].tolist() == [[word] * 5 for word in words(answer)]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_64)
def test_known_answers_of_64_bits(counter, key, answer):
    """Also in tensors, and of NumPy, which counts on before it makes the first words."""
    first, *others = words(counter)
    wanted = [list(words(answer))] * 3
    made = np.zeros((2, 3, 4), np.uint64)
    memory = np.empty((6, 2, 3), np.uint64)
    philox4x64((np.full(3, first, np.uint64), *others), words(key), np, memory, made[0])
    tensor = torch.from_numpy(np.full(3, first, np.uint64).view(np.int64))
    there = [torch.from_numpy(x.view(np.int64)) for x in (memory, made[1])]
    philox4x64((tensor, *others), words(key), torch, *there)
    assert made.tolist() == [wanted] * 2
    number = sum(word << 64 * i for i, word in enumerate(words(counter)))
    key = words(key)[0] | words(key)[1] << 64
    assert np.random.Philox(key=key, counter=(number - 1) % 2**256).random_raw(4).tolist() == wanted[0]


def test_keys_differ_in_every_part():
    keys = {fold(key, first, second) for key in [(0, 0), (0, 1)] for first in (0, 1, 2**40) for second in (0, 1)}
    assert len(keys) == 12


def test_keys_of_rounds_are_cached_by_key():
    """Each key is asked twice, with the others in between."""
    planes = [np.zeros((6, 3), np.uint64) for _ in range(4)]
    for each, key in zip(planes, [(1, 2), (2, 1), (1, 2), (2, 1)], strict=True):
        philox4x32_in_place(each, key)
        assert tuple(each[:4, 0].tolist()) == philox4x32((0, 0, 0, 0), key)
