"""Decompositions: torch's values for every layout, and the same ones; what is sent; gradients; errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.ops.linalg.matrix_layouts import is_split_matrix, whole_matrices
from minisplit.ops.linalg.tsqr import normalise_phases
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic

Comm = ms.Communication
Shape = tuple[int, ...]
KINDS = (torch.float64, torch.complex128, torch.float32)


def numbers(shape: Shape, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Numbers of which matrices have full rank, and are far from losing it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return x + x.mH


def definite(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mH + torch.eye(x.shape[-1], dtype=x.dtype)


# Tall and wide, empty ones among them; few and many.
SHAPES = (
    (9, 2), (5, 4), (3, 3), (2, 7), (4, 5), (1, 1), (0, 0), (3, 0), (0, 2),
    (2, 5, 2), (5, 3, 3), (2, 2, 4), (0, 3, 2), (2, 3, 3, 2),
)  # fmt: skip
# Of the same, but square.
SQUARES = ((5, 5), (3, 3), (1, 1), (0, 0), (2, 4, 4), (5, 3, 3), (0, 2, 2), (2, 3, 2, 2))
RANKS = (1, 3)


def stacks(ranks: int, shapes: Sequence[Shape] = SHAPES, kinds: Sequence[torch.dtype] = KINDS) -> Iterator[Whole]:
    """Stacks of matrices of these shapes, each in every layout, of one kind of numbers after the other."""
    for shape in shapes:
        for place, layout in enumerate(layouts(shape, ranks)):
            yield Whole(numbers(shape, kinds[place % len(kinds)], place), layout)


def gathered(x: ms.DNDarray) -> torch.Tensor:
    return x.resplit(None).larray.detach()


def assert_orthonormal(q: torch.Tensor) -> None:
    """Assert that the columns are."""
    torch.testing.assert_close(q.mH @ q, torch.eye(q.shape[-1], dtype=q.dtype).expand(*q.shape[:-2], -1, -1))


def assert_layout(result: ms.DNDarray, x: ms.DNDarray, *, cut_as: bool) -> None:
    """Assert that matrices that were shared out still are, else that the result is cut as `x`, or replicated."""
    layout = x.layout if cut_as and is_split_matrix(x.layout) else whole_matrices(x.layout)
    assert (result.split, result.counts) == (layout.split, layout.counts)


def assert_lengthwise(result: ms.DNDarray, x: ms.DNDarray, axis: int) -> None:
    """Assert that a square result is cut along this axis, which is the longer one of `x`."""
    if is_split_matrix(x.layout):
        assert (result.split, result.counts) == (axis, x.layout.with_split(axis).counts)
    else:
        assert_layout(result, x, cut_as=False)


def phases(r: torch.Tensor) -> torch.Tensor:
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    return diagonal / diagonal.abs()


@spmd(ranks=(1, 2, 4))
def test_qr(ranks: int) -> None:
    for case, mode in product(stacks(ranks), ("reduced", "complete")):
        assert_qr(case, mode)


def assert_qr(case: Whole, mode: Any) -> None:
    x = case.cut()
    q, r = ms.linalg.qr(x, mode=mode)
    rows, columns = x.shape[-2:]
    least = min(rows, columns)
    wanted, other = torch.linalg.qr(case.tensor, mode)
    assert (q.shape, r.shape) == (tuple(wanted.shape), tuple(other.shape))
    signs = phases(other)
    assert_close(r[..., :least, :], signs.conj().unsqueeze(-1) * other[..., :least, :])
    assert_close(q[..., :least], wanted[..., :least] * signs.unsqueeze(-2))
    left, right = gathered(q), gathered(r)
    assert_orthonormal(left)
    torch.testing.assert_close(left @ right, case.tensor)
    diagonal = right.diagonal(dim1=-2, dim2=-1)
    assert torch.equal(right, right.triu())
    assert not right.tril(-1).real.signbit().any()
    assert torch.equal(diagonal, diagonal.abs().to(diagonal.dtype))
    if mode == "complete" and rows > columns:
        assert_lengthwise(q, x, x.ndim - 2)
        assert_layout(r, x, cut_as=True)
    else:
        assert_layout(q, x, cut_as=rows >= columns)
        assert_layout(r, x, cut_as=rows < columns)
    assert_equal(x, case.tensor)
    assert x.layout == case.layout


@spmd(ranks=RANKS)
def test_svd(ranks: int) -> None:
    for case, full_matrices in product(stacks(ranks), (True, False)):
        assert_svd(case, full_matrices)


def assert_svd(case: Whole, full_matrices: bool) -> None:
    x = case.cut()
    u, s, vh = ms.linalg.svd(x, full_matrices=full_matrices)
    shapes = [tuple(part.shape) for part in torch.linalg.svd(case.tensor, full_matrices=full_matrices)]
    values = torch.linalg.svdvals(case.tensor)
    assert_close(s, values)
    assert_close(ms.linalg.svdvals(x), values)
    left, right, count = gathered(u), gathered(vh), s.shape[-1]
    assert [part.shape for part in (u, s, vh)] == shapes
    assert_orthonormal(left)
    assert_orthonormal(right.mH)
    torch.testing.assert_close(left[..., :count] * values.unsqueeze(-2) @ right[..., :count, :], case.tensor)
    assert_layout(s, x, cut_as=False)
    rows, columns = x.shape[-2:]
    if full_matrices and rows != columns:
        tall, small, axis = (u, vh, x.ndim - 2) if rows > columns else (vh, u, x.ndim - 1)
        assert_lengthwise(tall, x, axis)
        assert_layout(small, x, cut_as=False)
    else:
        assert_layout(u, x, cut_as=rows >= columns)
        assert_layout(vh, x, cut_as=rows < columns)
    assert_equal(x, case.tensor)


def parts_of(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


# From ms.linalg or torch.linalg the function; and the kind of matrix to give it.
EXACT: list[tuple[Callable[[Any, Any], Any], Callable[[torch.Tensor], torch.Tensor]]] = [
    (lambda space, x: space.det(x), torch.clone),
    (lambda space, x: space.slogdet(x), torch.clone),
    (lambda space, x: space.matrix_exp(x), torch.clone),
    (lambda space, x: space.eigvalsh(x), symmetric),
    (lambda space, x: space.cholesky(x), definite),
    (lambda space, x: space.cholesky(x, upper=True), definite),
    (lambda space, x: space.inv(x), definite),
]


@spmd(ranks=RANKS)
def test_functions_of_square_matrices(ranks: int) -> None:
    for case, row in product(stacks(ranks, SQUARES), EXACT):
        assert_exact(case, row)


def assert_exact(case: Whole, row: Any) -> None:
    call, kind = row
    tensor = kind(case.tensor)
    x = Whole(tensor, case.layout).cut()
    results, wanted = parts_of(call(ms.linalg, x)), parts_of(call(torch.linalg, tensor))
    for result, expected in zip(results, wanted, strict=True):
        assert_close(result, expected)
        assert_layout(result, x, cut_as=result.shape == x.shape)
    assert_equal(x, tensor)


@spmd(ranks=RANKS)
def test_eigenvectors(ranks: int) -> None:
    for case in stacks(ranks, SQUARES):
        assert_eigen(case)


def assert_eigen(case: Whole) -> None:
    values, vectors = ms.linalg.eigh(Whole(symmetric(case.tensor), case.layout).cut())
    whole_values, whole_vectors = gathered(values), gathered(vectors)
    torch.testing.assert_close(whole_values, torch.linalg.eigvalsh(symmetric(case.tensor)))
    assert_orthonormal(whole_vectors)
    torch.testing.assert_close(
        whole_vectors * whole_values.unsqueeze(-2) @ whole_vectors.mH, symmetric(case.tensor), rtol=1e-4, atol=1e-5
    )
    x = case.cut()
    values, vectors = ms.linalg.eig(x)
    assert_close(ms.linalg.eigvals(x), gathered(values), rtol=1e-3, atol=1e-4)
    whole_vectors = gathered(vectors)
    product = case.tensor.to(whole_vectors.dtype) @ whole_vectors
    torch.testing.assert_close(product, whole_vectors * gathered(values).unsqueeze(-2), rtol=1e-4, atol=1e-5)
    assert_layout(values, x, cut_as=False)
    assert_layout(vectors, x, cut_as=True)


def parts_of_qr(x: Any) -> tuple[Any, ...]:
    if isinstance(x, ms.DNDarray):
        return ms.linalg.qr(x)
    q, r = torch.linalg.qr(x)
    signs = phases(r).detach()
    return q * signs.unsqueeze(-2), signs.conj().unsqueeze(-1) * r


def parts_of_svd(x: Any) -> tuple[Any, ...]:
    """What no sign changes."""
    space: Any = ms if isinstance(x, ms.DNDarray) else torch
    u, s, vh = space.linalg.svd(x, full_matrices=False)
    return space.abs(u), s, space.abs(vh)


def parts_of_eigh(x: Any) -> tuple[Any, ...]:
    space: Any = ms if isinstance(x, ms.DNDarray) else torch
    values, vectors = space.linalg.eigh(x.mT @ x if x.shape[-2] > x.shape[-1] else x @ x.mT)
    return values, space.abs(vectors)


def parts_of_svdvals(x: Any) -> tuple[Any, ...]:
    return ((ms if isinstance(x, ms.DNDarray) else torch).linalg.svdvals(x),)


# Of full rank, whatever the ranks have of them.
REGULAR = ((6, 3), (3, 3), (3, 6), (2, 5, 2), (7, 1), (2, 3, 4))


@pytest.mark.parametrize("parts", [parts_of_qr, parts_of_svd, parts_of_svdvals, parts_of_eigh])
@spmd(ranks=(3,))
def test_gradients_are_those_of_the_whole_matrix(ranks: int, parts: Callable[[Any], tuple[Any, ...]]) -> None:
    for case in stacks(ranks, REGULAR, (torch.float64,)):
        assert_gradients(parts, case)


@spmd(ranks=(3,))
def test_complex_gradients_of_qr(ranks: int) -> None:
    for case in stacks(ranks, REGULAR, (torch.complex128,)):
        assert_gradients(parts_of_qr, case)


def assert_gradients(parts: Callable[[Any], tuple[Any, ...]], case: Whole) -> None:
    tensor = case.tensor.clone().requires_grad_()
    x = Whole(tensor, case.layout).cut()
    wanted, results = parts(tensor), parts(x)
    weights = [numbers(tuple(part.shape), part.dtype, place) for place, part in enumerate(wanted)]
    (gradient,) = torch.autograd.grad(wanted, tensor, weights)
    own = [weight[part.layout.box(part.comm.rank)] for weight, part in zip(weights, results, strict=True)]
    (mine,) = torch.autograd.grad([part.larray for part in results], x.larray, own)
    assert_close(ms.DNDarray(mine, x.layout, x.comm), gradient, rtol=1e-6, atol=1e-8)


@spmd(ranks=(3,))
def test_second_derivatives_of_qr(ranks: int) -> None:
    for case in stacks(ranks, REGULAR, (torch.float64,)):
        assert_curves(case)


def assert_curves(case: Whole) -> None:
    tensor = case.tensor.clone().requires_grad_()
    x = Whole(tensor, case.layout).cut()
    direction = numbers(tuple(tensor.shape), seed=3)
    found = []
    for array, leaf, along in ((tensor, tensor, direction), (x, x.larray, direction[x.layout.box(x.comm.rank)])):
        parts = [part if isinstance(part, torch.Tensor) else part.larray for part in parts_of_qr(array)]
        cubes = [part.pow(3) for part in parts]
        (slope,) = torch.autograd.grad(cubes, leaf, [torch.ones_like(part) for part in parts], create_graph=True)
        (curve,) = torch.autograd.grad(slope, leaf, along)
        found.append(curve)
    assert_close(ms.DNDarray(found[1], x.layout, x.comm), found[0], rtol=1e-6, atol=1e-7)


def test_a_gradient_where_one_rank_has_a_singular_part(comm: Comm) -> None:
    """Of whose own decomposition there is none."""
    tensor = numbers((3 * comm.size, 2))
    tensor[:3] = torch.tensor([1.0, 0.0])
    if comm.size > 1:
        assert_gradients(parts_of_qr, Whole(tensor, ms.Layout((3 * comm.size, 2), 0, comm.size)))


ROWS, COLUMNS, WHOLE = 0, 1, None


@pytest.mark.parametrize(
    ("call", "shape", "split", "wanted", "moved"),
    [
        (ms.linalg.qr, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.qr, (3, 400), COLUMNS, {"exchange": 1}, 3),
        (ms.linalg.qr, (400, 3), COLUMNS, {"exchange": 3}, None),
        (ms.linalg.qr, (400, 3), WHOLE, {}, 0),
        (ms.linalg.svdvals, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.svd, (3, 400), COLUMNS, {"exchange": 2}, None),
        (lambda x: ms.linalg.qr(x, mode="complete"), (400, 3), ROWS, {"exchange": 2}, None),
        (lambda x: ms.linalg.svd(x, full_matrices=False), (3, 400), COLUMNS, {"exchange": 1}, 9),
        (ms.linalg.matrix_rank, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.pinv, (400, 3), ROWS, {"exchange": 1}, 9),
        (ms.linalg.det, (8, 8), ROWS, {"exchange": 1}, None),
        (ms.linalg.cholesky, (1, 1), ROWS, {"exchange": 1}, None),
        (ms.linalg.det, (8, 3, 3), 0, {}, 0),
        (ms.linalg.qr, (8, 3, 3), 0, {}, 0),
        (ms.linalg.eigh, (8, 3, 3), 0, {"agree": 1}, 0),
        (ms.linalg.inv, (1, 1), ROWS, {"exchange": 1, "agree": 1}, None),
        (ms.linalg.det, (8, 3, 3), 1, {"exchange": 1}, None),
        (ms.linalg.svdvals, (8, 3, 3), 2, {"exchange": 1, "agree": 1}, None),
    ],
)
def test_what_is_sent(comm: Comm, call: Any, shape: Shape, split: Any, wanted: dict[str, int], moved: Any) -> None:
    """`moved`: how many numbers each rank sends to each other, if it has that many of its own."""
    x = ms.array(numbers(shape) + (len(shape) == 2 and shape[0] == shape[1]), split=split)
    with traffic() as seen:
        call(x)
    assert dict(seen.calls) == (wanted if comm.size > 1 else {})
    if moved is not None and split in {WHOLE, 0} and len(shape) == 2:
        assert seen.bytes_sent == 8 * moved * (comm.size - 1)


def test_the_backward_pass_of_tall_matrices_sends_one_reduction(comm: Comm) -> None:
    x = ms.array(numbers((40, 3)), split=0)
    x.larray.requires_grad_()
    q, r = ms.linalg.qr(x)
    with traffic() as seen:
        (q.larray.sum() + r.larray.sum()).backward()
    assert dict(seen.calls) == ({"allreduce": 1} if comm.size > 1 else {})


def test_results_that_are_replicated_are_the_same_bit_by_bit(comm: Comm) -> None:
    with ms.debug():
        for layout in layouts((9, 4), comm.size):
            x = dealt(numbers((9, 4)), layout)
            for part in (ms.linalg.qr(x).R, *ms.linalg.svd(x), ms.linalg.eigh(x[:4]).eigenvectors):
                if part.split is None:
                    comm.check_replicated(part.larray, "the result")


@pytest.mark.parametrize("split", [0, 1, 2])
def test_one_matrix_that_fails_fails_on_all_ranks(comm: Comm, split: int, raises_alike: Any) -> None:
    n = 2 * comm.size
    tensor = torch.eye(3).expand(n, 3, 3).clone()
    tensor[-1] = -torch.eye(3)
    where = f"rank {comm.size - 1} of .* computing {{}} for the indices {n - 2} to {n - 1} of axis 0"
    with raises_alike(torch.linalg.LinAlgError, f"(?s)not positive-definite.*{where.format('cholesky')}"):
        ms.linalg.cholesky(ms.array(tensor, split=split))
    tensor[-1] = math.nan
    for name in ("eigh", "svd", "svdvals", "pinv", "matrix_rank"):
        with raises_alike(torch.linalg.LinAlgError, where.format(name)):
            getattr(ms.linalg, name)(ms.array(tensor, split=split))


def test_one_split_matrix_that_fails(comm: Comm, raises_alike: Any) -> None:
    for layout in layouts((3, 3), comm.size):
        x = dealt(torch.zeros(3, 3), layout)
        with raises_alike(torch.linalg.LinAlgError, "singular"):
            ms.linalg.inv(x)
        with raises_alike(torch.linalg.LinAlgError, "singular"):
            ms.linalg.solve(x, x)
        with raises_alike(torch.linalg.LinAlgError, "not positive-definite"):
            ms.linalg.cholesky(x)
        with raises_alike(torch.linalg.LinAlgError, "non-finite"):
            ms.linalg.svd(x + math.nan)


SQUARE = ["cholesky", "det", "slogdet", "eig", "eigvals", "eigh", "eigvalsh", "inv", "matrix_exp"]
ANY = ["qr", "svd", "svdvals", "pinv", "matrix_rank"]


@pytest.mark.parametrize("split", [0, None])
def test_errors_before_any_message(split: int | None, raises_alike: Any) -> None:
    for name in SQUARE + ANY:
        call = getattr(ms.linalg, name)
        cases: list[tuple[Any, type[Exception], str]] = [
            (ms.ones(3, split=split), ValueError, rf"{name} needs matrices, along .* got x of shape \(3,\)"),
            (ms.ones((3, 3), dtype=torch.int64, split=split), TypeError, rf"{name} needs floating .*torch\.int64"),
            (ms.ones((3, 3), dtype=torch.bool, split=split), TypeError, rf"{name} needs floating .*torch\.bool"),
            (
                ms.ones((3, 3), dtype=torch.float16, split=split),
                TypeError,
                rf"{name} has no half precision, got torch\.float16; use x\.astype\(torch\.float32\)",
            ),
            (torch.ones(3, 3), TypeError, "x must be a DNDarray, got Tensor"),
        ]
        if name in SQUARE:
            cases.append((ms.ones((4, 3), split=split), ValueError, rf"{name} needs square .* shape \(4, 3\)"))
        for x, kind, words in cases:
            with traffic() as seen, raises_alike(kind, words):
                try:
                    call(x)
                finally:
                    assert seen.collectives == 0
    with raises_alike(ValueError, "mode of qr must be 'reduced' or 'complete', got 'r'"):
        ms.linalg.qr(ms.ones((3, 3), split=split), mode="r")  # type: ignore[arg-type]


def test_results_stay_on_their_communicator_and_names_are_the_standards(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.array(definite(numbers((4, 4))), split=0, comm=part)
    fields = {
        "qr": ("Q", "R"),
        "svd": ("U", "S", "Vh"),
        "eigh": ("eigenvalues", "eigenvectors"),
        "eig": ("eigenvalues", "eigenvectors"),
        "slogdet": ("sign", "logabsdet"),
    }
    for name in SQUARE + ANY:
        result = getattr(ms.linalg, name)(x)
        assert getattr(result, "_fields", None) == fields.get(name)
        assert all(one.comm is part for one in (result if isinstance(result, tuple) else (result,)))
    part.free()


def test_diagonals_become_real() -> None:
    """Also where a library leaves them complex."""
    q, r = torch.eye(2, dtype=torch.complex128), torch.tensor([[2j, 1], [0, -3]], dtype=torch.complex128)
    unitary, triangle = normalise_phases(q.clone(), r.clone())
    torch.testing.assert_close(unitary @ triangle, r)
    assert triangle.diagonal().tolist() == [2, 3]
