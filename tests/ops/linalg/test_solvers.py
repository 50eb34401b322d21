"""Systems of equations, inverses, ranks: torch's values for every pair of layouts; what is sent; gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from layouts import layouts
from matrices import (
    DTYPES,
    SHAPES,
    SQUARES,
    Shape,
    assert_gradients,
    assert_layout,
    definite,
    numbers,
    regular,
    stacks,
)

import minisplit as ms
from minisplit.ops.linalg.batched import is_split_matrix
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic

# Shapes of matrices and of right-hand sides: vectors and batches that broadcast among them.
RANKS = (1, 3)
SYSTEMS: tuple[tuple[Shape, Shape], ...] = (
    ((3, 3), (3, 6)), ((3, 3), (3, 2)), ((4, 4), (4,)), ((1, 1), (1, 1)), ((0, 0), (0, 2)), ((3, 3), (3, 0)),
    ((5, 3, 3), (5, 3, 2)), ((5, 3, 3), (3,)), ((3, 3, 3), (3, 3)), ((3, 3), (4, 3, 5)), ((2, 1, 2, 2), (3, 2, 1)),
    ((2, 3, 3), (1, 3, 4)), ((0, 2, 2), (1, 2, 2)),
)  # fmt: skip


def systems(ranks: int, dtypes: Sequence[torch.dtype] = DTYPES) -> Iterator[tuple[Whole, Whole]]:
    """Square matrices and right-hand sides, in every second pair of their layouts."""
    for a, b in SYSTEMS:
        for place, (left, right) in enumerate(product(layouts(a, ranks), layouts(b, ranks))):
            if place % 2:
                first, second = dtypes[place % len(dtypes)], dtypes[place // 2 % len(dtypes)]
                yield Whole(regular(a, first, place), left), Whole(numbers(b, second, place + 1), right)


def solution(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """As the standard has it, where torch would take some stacks of columns for vectors."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    if b.ndim == 1:
        return torch.linalg.solve(a.to(dtype), b.to(dtype).unsqueeze(-1).expand(*a.shape[:-1], 1))[..., 0]
    shape = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return torch.linalg.solve(a.to(dtype), b.to(dtype).expand(*shape, *b.shape[-2:]))


@spmd(ranks=RANKS)
def test_solve_in_any_layouts(ranks: int) -> None:
    for pair in systems(ranks):
        assert_solved(pair)


def assert_solved(pair: tuple[Whole, Whole]) -> None:
    a, b = (whole.cut() for whole in pair)
    assert_close(ms.linalg.solve(a, b), solution(*(whole.tensor for whole in pair)))
    for x, whole in zip((a, b), pair, strict=True):
        assert_equal(x, whole.tensor)
        assert x.layout == whole.layout


@spmd(ranks=(3,))
def test_gradients_of_solve(ranks: int) -> None:
    for pair in systems(ranks, (torch.float64,)):
        assert_gradients(ms.linalg.solve, solution, *pair)


def deficient(
    ranks: int, dtypes: Sequence[torch.dtype] = DTYPES, shapes: Sequence[Shape] = SHAPES, missing: int = 1
) -> Iterator[Whole]:
    """Yield stacks of matrices in every layout, of which every second is of less than full rank, by `missing`."""
    for shape in shapes:
        *batch, rows, columns = shape
        for place, layout in enumerate(layouts(shape, ranks)):
            dtype, rank = dtypes[place % len(dtypes)], max(min(rows, columns) - missing * (place % 2), 0)
            left = numbers((*batch, rows, rank), dtype, place)
            yield Whole(left @ numbers((*batch, rank, columns), dtype, place + 1), layout)


@spmd(ranks=RANKS)
def test_ranks_and_pseudo_inverses(ranks: int) -> None:
    for place, case in enumerate(deficient(ranks)):
        assert_inverted(case, (None, "array", 1e-3)[place % 3])


def assert_inverted(case: Whole, rtol: Any) -> None:
    x, batch, ours = case.cut(), case.tensor.shape[:-2], rtol
    if rtol == "array":
        rtol = torch.full(batch, 1e-3, dtype=case.tensor.dtype.to_real())
        ours = ms.array(rtol, split=0 if batch else None)
    elif rtol is None:
        rtol = max(case.tensor.shape[-2:]) * 4 * torch.finfo(case.tensor.dtype).eps
    assert_equal(ms.linalg.matrix_rank(x, rtol=ours), torch.linalg.matrix_rank(case.tensor, rtol=rtol))
    wanted = torch.linalg.pinv(case.tensor, rtol=rtol)
    result = ms.linalg.pinv(x, rtol=ours)
    assert_close(result, wanted, rtol=1e-3, atol=1e-4)
    if is_split_matrix(x.layout):
        assert result.split == x.ndim - 2 + (x.shape[-2] >= x.shape[-1])
    assert_equal(x, case.tensor)


@spmd(ranks=RANKS)
def test_least_squares(ranks: int) -> None:
    kinds = (torch.float64, torch.float64, torch.complex128)
    for place, case in enumerate(deficient(ranks, kinds)):
        assert_least(case, (None, 0, 3)[place % 3], place % 4 < 2)


def assert_least(case: Whole, columns: int | None, is_split: bool) -> None:
    a, batch, rows = case.cut(), case.tensor.shape[:-2], case.tensor.shape[-2]
    b = numbers((rows,) if columns is None else (*batch, rows, columns), torch.float64, 5)
    split = max(b.ndim - 2, 0) if is_split else None
    found = ms.linalg.lstsq(a, ms.array(b, split=split), rtol=1e-6)
    right = (b.unsqueeze(-1) if columns is None else b).to(case.tensor.dtype)
    wanted = torch.linalg.pinv(case.tensor, rtol=1e-6) @ right
    left = (right - case.tensor @ wanted).abs().square().sum(-2)
    if columns is None:
        wanted, left = wanted[..., 0], left[..., 0]
    assert_close(found.solution, wanted, rtol=1e-5, atol=1e-7)
    assert_close(found.residuals, left, rtol=1e-5, atol=1e-7)
    assert_equal(found.rank, torch.linalg.matrix_rank(case.tensor, rtol=1e-6))
    assert_close(found.singular_values, torch.linalg.svdvals(case.tensor))


@spmd(ranks=RANKS)
def test_inverses(ranks: int) -> None:
    for case in stacks(ranks, SQUARES):
        tensor = definite(case.tensor)
        x = Whole(tensor, case.layout).cut()
        result = ms.linalg.inv(x)
        assert_close(result, torch.linalg.inv(tensor))
        assert_layout(result, x, split_as=True)
        assert_equal(x, tensor)


@spmd(ranks=(3,))
def test_gradients_of_pseudo_inverses(ranks: int) -> None:
    for case in deficient(ranks, (torch.float64,), missing=0):
        assert_gradients(ms.linalg.pinv, torch.linalg.pinv, case)


@spmd(ranks=(3,))
def test_gradients_of_square_deficient(ranks: int) -> None:
    shapes = ((3, 3), (1, 1), (5, 5), (0, 0), (2, 3, 3), (3, 2, 2))
    for case, name in product(deficient(ranks, (torch.float64,), shapes), ("inv", "cholesky")):
        whole = Whole(definite(case.tensor), case.layout)
        assert_gradients(getattr(ms.linalg, name), getattr(torch.linalg, name), whole)


def test_the_tolerance_is_that_of_the_whole_matrix(comm: ms.Communication) -> None:
    for value, rank in ((1e-10, 2), (1e-14, 1)):
        tensor = torch.zeros(1000, 2, dtype=torch.float64)
        tensor[0, 0], tensor[-1, 1] = 1, value
        x = ms.array(tensor, split=0)
        assert ms.linalg.matrix_rank(x).item() == rank
        assert ms.linalg.lstsq(x, ms.ones(1000, dtype=torch.float64, split=0)).rank.item() == rank
        assert (ms.max(ms.linalg.pinv(x)).item() > 2) == (rank == 2)


def test_a_vector_is_one_for_all_matrices(comm: ms.Communication) -> None:
    """Where torch takes (3, 3) beside (3, 3, 3) for three vectors, the standard has columns for all."""
    a, b = regular((3, 3, 3)), numbers((3, 3), seed=1)
    for split in (0, 1, 2, None):
        for other in (0, 1, None):
            found = ms.linalg.solve(ms.array(a, split=split), ms.array(b, split=other))
            assert_close(found, torch.linalg.solve(a, b.expand(3, 3, 3)))
        for other in (0, None):
            found = ms.linalg.solve(ms.array(a, split=split), ms.array(b[0], split=other))
            assert_close(found, torch.linalg.solve(a, b[0].expand(3, 3)))


ROWS, COLUMNS, WHOLE = 0, 1, None


@pytest.mark.parametrize(
    ("left", "right", "split", "exchanges"),
    [
        (ROWS, COLUMNS, COLUMNS, 1),
        (COLUMNS, COLUMNS, COLUMNS, 1),
        (WHOLE, COLUMNS, COLUMNS, 0),
        (WHOLE, ROWS, COLUMNS, 1),
        (ROWS, ROWS, COLUMNS, 2),
        (ROWS, WHOLE, WHOLE, 1),
        (WHOLE, WHOLE, WHOLE, 0),
    ],
)
def test_what_is_sent(comm: ms.Communication, left: Any, right: Any, split: Any, exchanges: int) -> None:
    a, b = ms.array(regular((6, 6)), split=left), ms.array(numbers((6, 12)), split=right)
    with traffic() as seen:
        assert ms.linalg.solve(a, b).split == split
    wanted = {"exchange": exchanges, "agree": int(split is not WHOLE)}
    assert dict(seen.calls) == ({kind: n for kind, n in wanted.items() if n} if comm.size > 1 else {})


def test_least_squares_gather_nothing_that_is_tall(comm: ms.Communication) -> None:
    x, y = ms.array(numbers((1000, 3)), split=0), ms.array(numbers((1000, 2), seed=1), split=0)
    with traffic() as seen:
        found = ms.linalg.lstsq(x, y)
    assert found.solution.split is None
    assert dict(seen.calls) == ({"exchange": 1, "allreduce": 2} if comm.size > 1 else {})
    assert seen.bytes_sent == 72 * (comm.size - 1)


def three(split: int | None, dtype: torch.dtype = torch.float64) -> ms.DNDarray:
    return ms.eye(3, dtype=dtype, split=split)


L = ms.linalg
ERRORS: list[tuple[Callable[[int | None], Any], type[Exception], str]] = [
    (lambda s: L.solve(ms.ones((3, 4), split=s), three(s)), ValueError, r"solve needs square .* x1 .* \(3, 4\)"),
    (lambda s: L.solve(three(s), ms.ones((4, 3), split=s)), ValueError, r"as many rows .* \(3, 3\) and \(4, 3\)"),
    (lambda s: L.solve(three(s), ms.ones(4, split=s)), ValueError, r"as many rows .* \(3, 3\) and \(4,\)"),
    (lambda s: L.solve(three(s), ms.ones(())), ValueError, r"as many rows .* \(3, 3\) and \(\); a vector is 1-d"),
    (lambda s: L.solve(three(s), torch.ones(3)), TypeError, "x2 must be a DNDarray, got Tensor"),
    (lambda s: L.solve(three(s), three(s, torch.int64)), TypeError, r"solve needs floating .* torch\.int64"),
    (lambda s: L.solve(three(s), three(s, torch.bfloat16)), TypeError, r"solve has no half .* torch\.bfloat16"),
    (lambda s: L.solve(ms.ones((2, 3, 3)), ms.ones((4, 3, 1), split=s)), ValueError, "do not broadcast"),
    (lambda s: L.lstsq(three(s), ms.ones(4, split=s)), ValueError, "lstsq needs as many rows of x2 as x1"),
    (lambda s: L.pinv(three(s), rtol="0"), TypeError, "rtol of pinv must be a number or a DNDarray .* got str"),
    (lambda s: L.matrix_rank(three(s), rtol=three(s) > 0), TypeError, r"rtol of matrix_rank .* got torch\.bool"),
    (lambda s: L.matrix_rank(three(s), rtol=ms.ones(3)), ValueError, r"rtol .* batch axes .* got shape \(3,\)"),
]  # fmt: skip


@pytest.mark.parametrize("split", [0, None])
@pytest.mark.parametrize(("call", "kind", "words"), ERRORS)
def test_errors_before_any_message(split: Any, call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with traffic() as seen, raises_alike(kind, words):
        try:
            call(split)
        finally:
            assert seen.collectives == 0


def test_a_singular_matrix_on_one_rank(comm: ms.Communication, raises_alike: Any) -> None:
    n = 2 * comm.size
    tensor = torch.eye(3).expand(n, 3, 3).clone()
    tensor[-1] = 0
    for split in (0, 1, 2):
        x = ms.array(tensor, split=split)
        for call in (ms.linalg.inv, lambda x: ms.linalg.solve(x, ms.ones(3, split=0))):
            with raises_alike(torch.linalg.LinAlgError, f"(?s)singular.*rank {comm.size - 1} of .* of axis 0"):
                call(x)


def test_A16_results_stay_on_their_communicator(comm: ms.Communication, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x, y = ms.array(regular((4, 4)), split=0, comm=part), ms.array(numbers((4,)), split=0, comm=part)
    assert ms.linalg.solve(x, y).comm is part
    assert all(array.comm is part for array in ms.linalg.lstsq(x, y))
    part.free()


@pytest.mark.parametrize("p", [None, 1, -1, 2, -2, math.inf, -math.inf, "fro", "nuc"])
def test_condition_numbers(size: int, p: Any) -> None:
    for shape in ((3, 3), (5, 3, 3), (2, 2, 2)):
        whole = regular(shape, torch.float64)
        for layout in layouts(shape, size):
            found = ms.linalg.cond(Whole(whole, layout).cut(), p)
            assert_close(found, np.linalg.cond(whole.numpy(), p), rtol=1e-8, atol=0)
    assert ms.linalg.cond(ms.zeros((2, 2), split=0), p).item() in {math.inf, math.nan} or p == "nuc"
    if p in (None, 2, -2):
        whole = numbers((6, 2), torch.float64)
        for layout in layouts((6, 2), size):
            assert_close(ms.linalg.cond(Whole(whole, layout).cut(), p), np.linalg.cond(whole.numpy(), p))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ms.linalg.cond(x, 1), ValueError, r"cond needs square matrices, got x of shape \(4, 2\)"),
        (lambda x: ms.linalg.cond(x.T @ x, 3), ValueError, "p must be None, 1, -1, 2, -2, inf, -inf, 'fro' or"),
        (lambda x: ms.linalg.cond(x[:0]), ValueError, r"matrices that have elements, got shape \(0, 2\)"),
        (lambda x: ms.linalg.cond(x * math.nan), torch.linalg.LinAlgError, "of finite elements, got NaN"),  # type: ignore[attr-defined]
    ],
)
def test_errors_of_condition_numbers(call: Any, kind: Any, words: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=words):
        call(ms.ones((4, 2), split=0))
