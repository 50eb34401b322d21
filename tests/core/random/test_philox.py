"""The counter function, against the answers published with Random123 (its file kat_vectors)."""

import numpy as np
import pytest
import torch

from minisplit.core.random.philox import fold, philox, philox_in_place

pytestmark = pytest.mark.serial

# Counter, key, answer; of Salmon et al. 2011.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert philox(words(counter), words(key)) == words(answer)
    tensors = tuple(torch.full((3,), word) for word in words(counter))
    assert [x.tolist() for x in philox(tensors, words(key))] == [[word] * 3 for word in words(answer)]
    planes = np.zeros((6, 5), np.uint64)
    planes[:4] = np.array(words(counter), np.uint64)[:, None]
    philox_in_place(planes, words(key))
    assert planes[:4].tolist() == [[word] * 5 for word in words(answer)]


def test_keys_differ_in_every_part():
    keys = {fold(key, first, second) for key in [(0, 0), (0, 1)] for first in (0, 1, 2**40) for second in (0, 1)}
    assert len(keys) == 12


def test_keys_of_rounds_are_cached_by_key():
    """Each key is asked twice, with the others in between."""
    planes = [np.zeros((6, 3), np.uint64) for _ in range(4)]
    for each, key in zip(planes, [(1, 2), (2, 1), (1, 2), (2, 1)], strict=True):
        philox_in_place(each, key)
        assert tuple(each[:4, 0].tolist()) == philox((0, 0, 0, 0), key)
