"""What a caller gave, as error messages show it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minisplit as ms
from minisplit.core.communication.debug import texts_by_rank
from minisplit.core.error_text import counted, ranks_named, short_list, short_repr

pytestmark = pytest.mark.serial


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("both", "'both'"),
        (2.5, "2.5"),
        ((1, None), "(1, None)"),
        (np.float32, "<class 'numpy.float32'>"),
        (torch.zeros(()), "tensor(0.)"),
        (torch.zeros(2, 10**6), "<Tensor of shape (2, 1000000)>"),
        ([np.zeros(3)], "[<ndarray of shape (3,)>]"),
        # Its repr is that of a rank's part.
        (ms.zeros((2, 3), split=0), "<DNDarray of shape (2, 3)>"),
        (ms.zeros(()), "<DNDarray of shape ()>"),
        ((1, ms.zeros(())), "(1, <DNDarray of shape ()>)"),
        ({"a": [0] * 10**6}, "{'a': [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...]}"),
    ],
    ids=str,
)
def test_shown(value: object, text: str) -> None:
    assert short_repr(value) == text


def test_shown_is_one_line_without_addresses() -> None:
    function = short_repr(lambda x: x)
    assert "lambda" in function
    assert "0x" not in function
    assert "\n" not in short_repr("a\nb" * 1000)
    assert len(short_repr("a\nb" * 1000)) < 130


def test_of_many_ranks_the_first_are_named() -> None:
    texts = ["waits"] * 10_000
    assert texts_by_rank(["leaves", *texts])[:40] == "rank 0 leaves, ranks 1, 2, 3, 4, 5, 6, 7"
    assert texts_by_rank(texts).endswith("15 and 9984 more waits")
    assert texts_by_rank([str(n) for n in range(20)]).endswith("rank 15 15 and 4 more")
    assert short_list([]) == ""


def test_ranks_and_numbers_of_them() -> None:
    assert [counted(number, "rank") for number in (0, 1, 2)] == ["0 ranks", "1 rank", "2 ranks"]
    assert ranks_named([3]) == "rank 3"
    assert ranks_named(range(100)) == "ranks " + short_list(range(100))
