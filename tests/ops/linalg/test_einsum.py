"""`einsum` and chains of matrices: NumPy's values for every layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from matrices import assert_gradients

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st


@hs.composite
def contractions(draw: hs.DrawFn, dtype: torch.dtype | None = None) -> tuple[str, list[Whole]]:
    """Subscripts of one to four operands, with labels twice in one and ellipses among them, and the operands."""
    kind = dtype or draw(hs.sampled_from((torch.float64, torch.int64, torch.complex128)))
    extents = {label: draw(hs.integers(0, 3)) for label in "ijklm"}
    terms, arrays = [], []
    for _ in range(draw(hs.integers(1, 4))):
        labels = "".join(draw(hs.lists(hs.sampled_from("ijklm"), max_size=3)))
        leading = draw(hs.sampled_from((None, (), (2,), (1,), (3, 2), (3, 1))))
        shape = (*(leading or ()), *(extents[label] for label in labels))
        terms.append(labels if leading is None else f"...{labels}")
        arrays.append(draw(st.dndarrays(shape, kind)))
    if draw(hs.booleans()):
        return ",".join(terms), arrays
    used = sorted(set("".join(terms)) - {"."})
    kept = draw(hs.permutations(used))[: draw(hs.integers(0, len(used)))] if used else []
    return f"{','.join(terms)} -> ...{''.join(kept)}", arrays


@given(case=contractions())
@spmd
def test_einsum_as_numpy_has_it(case: tuple[str, list[Whole]]) -> None:
    subscripts, wholes = case
    arrays = [whole.cut() for whole in wholes]
    expected = np.einsum(subscripts, *(whole.tensor.numpy() for whole in wholes))
    assert_close(ms.einsum(subscripts, *arrays), np.asarray(expected))
    assert [x.layout for x in arrays] == [whole.layout for whole in wholes]


@given(case=contractions(torch.float64))
@spmd
def test_gradients_of_einsum(case: tuple[str, list[Whole]]) -> None:
    subscripts, wholes = case
    assert_gradients(partial(ms.einsum, subscripts), partial(torch.einsum, subscripts), *wholes)


def test_the_gradient_of_a_replicated_operand_beside_a_sum_over_ranks(size: int) -> None:
    x, y = (torch.arange(1.0, 1 + n).reshape(shape) for n, shape in ((80, (2, 40)), (3, (3,))))
    wholes = Whole(x, ms.Layout((2, 40), 1, size)), Whole(y, ms.Layout((3,), None, size))
    assert_gradients(partial(ms.einsum, "ij,k->k"), partial(torch.einsum, "ij,k->k"), *wholes)


def test_chains_of_matrices(size: int) -> None:
    tensors = [torch.arange(12.0).reshape(4, 3), torch.arange(6.0).reshape(3, 2), torch.ones(2, 5)]
    for split in (0, 1, None):
        arrays = [ms.array(x, split=split) for x in tensors]
        assert_close(ms.linalg.multi_dot(arrays), torch.linalg.multi_dot(tensors))
        ends = [ms.ones(4), *arrays, ms.ones(5, split=0)]
        assert_close(ms.linalg.multi_dot(ends), torch.linalg.multi_dot([torch.ones(4), *tensors, torch.ones(5)]))


@pytest.mark.parametrize(
    ("call", "split", "sent"),
    [
        (lambda x, y: ms.einsum("ij,ij->ij", x, y), 0, {}),
        (lambda x, y: ms.einsum("ij,ij,ij->", x, y, x), None, {"allreduce": 1}),
        (lambda x, y: ms.einsum("ji", x), 1, {}),
        (lambda x, y: ms.einsum("ii", x), None, {"allreduce": 1}),
    ],
)  # fmt: skip
def test_what_is_sent(comm: ms.Communication, call: Any, split: Any, sent: dict[str, int]) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 4), split=0)
    with traffic() as seen:
        z = call(x, y)
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


def test_results_have_memory_of_their_own_and_stay_on_their_communicator(
    comm: ms.Communication, rank: int
) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((3, 3), split=0, comm=part)
    assert ms.einsum("ij,jk", x, x).comm is part
    for copy in (ms.einsum("ij->ji", x), ms.einsum("ii->i", x)):
        copy.larray.zero_()
    assert_equal(x, torch.ones(3, 3))
    part.free()


def square() -> ms.DNDarray:
    return ms.ones((3, 3), split=0)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ms.linalg.multi_dot([square()]), ValueError, r"two or more matrices, .* got \[2\] dimensions"),
    (
        lambda: ms.linalg.multi_dot([square(), ms.ones((2, 3))]),
        ValueError,
        r"got shapes \(3, 3\) and \(2, 3\): 3 and 2",
    ),
    (lambda: ms.einsum("ij,jk", square()), ValueError, "'ij,jk' are for 2 operands, got 1"),
    (lambda: ms.einsum("i", square()), ValueError, "'i' of 'i' names 1 axes, but the operand has 2"),
    (lambda: ms.einsum("i1", square()), ValueError, "subscripts must be letters, .* got 'i1'"),
    (lambda: ms.einsum("ij->ii", square()), ValueError, "has 'i' more than once"),
    (lambda: ms.einsum("ij->k", square()), ValueError, "has 'k' in the result alone"),
    (lambda: ms.einsum("ii", ms.ones((2, 3))), ValueError, "label twice .* 'i' of 'ii' stands for 2 and 3"),
    (
        lambda: ms.einsum("ij,jk", square(), ms.ones((2, 3))),
        ValueError,
        "'j' stands for 3 and 2 in ij,jk",
    ),
    (lambda: ms.einsum(square(), "ii"), TypeError, "subscripts must be a str, and come first, got DNDarray"),
    (lambda: ms.einsum("i"), ValueError, "an array for each part of the subscripts, got none"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_are_the_same_on_all_ranks(raises_alike: Any, call: Any, kind: Any, text: str) -> None:
    with raises_alike(kind, text):
        call()
