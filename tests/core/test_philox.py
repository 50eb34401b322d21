"""The counter function, against the answers published with Random123 (its file kat_vectors)."""

import numpy as np
import pytest
import torch

from minisplit.core.random import sampling
from minisplit.core.random.philox import WORD, fold, philox, philox_in_place

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


def test_other_devices_get_the_words_that_numpy_makes():
    """Beyond 2^32, where both halves of place and sample count."""
    generator = np.random.default_rng(1)
    place, sample = generator.integers(0, 2**62, (2, 1000))
    here = sampling._words((5, 6), (place, 3), (sample, 4), torch.device("cpu"))
    # On tensors of the CPU, by the way that a GPU's go.
    tensors = torch.from_numpy(place), torch.from_numpy(sample)
    there = sampling._words((5, 6), (tensors[0], 3), (tensors[1], 4), torch.device("cuda"))
    assert torch.equal(here, there)
    assert torch.equal(
        sampling._words((5, 6), (place % 99, 1), (0, 7), torch.device("cpu")),
        sampling._words((5, 6), (tensors[0] % 99, 1), (0, 7), torch.device("cuda")),
    )
    assert int(here.min()) >= 0
    assert int(here.max()) <= WORD


def test_keys_differ_in_every_part():
    keys = {fold(key, first, second) for key in [(0, 0), (0, 1)] for first in (0, 1, 2**40) for second in (0, 1)}
    assert len(keys) == 12
