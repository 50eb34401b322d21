"""Large matrices that are cut: torch's values and gradients for every layout, errors on all ranks, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from alive import Alive
from layouts import layouts
from matrices import assert_gradients, definite, numbers, phases, regular, symmetric
from torch.autograd import forward_ad

import minisplit as ms
from minisplit.ops.linalg.solvers import least_squares
from minisplit.ops.linalg.split_matrix import one_matrix, panels, spectra, transposition
from minisplit.ops.linalg.split_matrix.exponential import exponential
from minisplit.testing import Whole, assert_close, run, spmd, traffic

L, T = ms.linalg, torch.linalg
Tensors = tuple[torch.Tensor, ...]


def torch_qr(x: torch.Tensor) -> Tensors:
    q, r = T.qr(x)
    signs = phases(r).detach()
    return q * signs, signs.conj()[:, None] * r


def parts(values: Any, vectors: Any) -> tuple[Any, ...]:
    """What no phase of the vectors changes."""
    return values, abs(vectors)


def parts_of_svd(u: Any, s: Any, vh: Any) -> tuple[Any, ...]:
    return abs(u), s, abs(vh)


def pinv(x: ms.DNDarray) -> ms.DNDarray:
    return spectra.pinv(x, 1e-9, ms.Layout(x.shape[::-1], 1, x.comm.size))


# Ours, torch's, and the shapes: of the matrix, and of the right-hand sides if there are any.
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, int], ...]]
SQUARE, SYSTEM = ((5, 5),), ((5, 5), (5, 3))
CASES: dict[str, Case] = {
    "cholesky": (one_matrix.cholesky, T.cholesky, SQUARE),
    "cholesky, upper": (lambda x: one_matrix.cholesky(x, upper=True), lambda x: T.cholesky(x, upper=True), SQUARE),
    "solve": (lambda x, y: one_matrix.solve(x, y, "solve"), T.solve, SYSTEM),
    "inv": (one_matrix.inv, T.inv, SQUARE),
    "det": (one_matrix.determinant, T.det, SQUARE),
    "slogdet": (one_matrix.slogdet, T.slogdet, SQUARE),
    "qr": (one_matrix.qr, torch_qr, SQUARE),
    "qr, tall": (one_matrix.qr, torch_qr, ((6, 4),)),
    "qr, wide": (one_matrix.qr, torch_qr, ((3, 5),)),
    "lstsq, tall": (
        lambda x, y: least_squares(x, y, 1e-9, is_tall=True)[0], lambda x, y: T.lstsq(x, y).solution,
        ((6, 4), (6, 3)),
    ),
    "lstsq, wide": (
        lambda x, y: least_squares(x, y, 1e-9, is_tall=False)[0], lambda x, y: T.pinv(x.mH) @ y, ((6, 4), (4, 3)),
    ),
    "matrix_exp": (exponential, T.matrix_exp, SQUARE),
    # Of the sum with the adjoint: versions of torch differ in the part of a gradient by which no such matrix
    # changes.
    "eigh": (
        lambda x: parts(*spectra.eigh(x + L.matrix_transpose(x).conj())), lambda x: parts(*T.eigh(x + x.mH)),
        SQUARE,
    ),
    "eigvalsh, upper": (
        lambda x: spectra.eigh(x, upper=True, vectors=False)[0], lambda x: T.eigvalsh(x, UPLO="U"), SQUARE,
    ),
    "svd": (
        lambda x: parts_of_svd(*spectra.svd(x, full_matrices=False)), lambda x: parts_of_svd(*T.svd(x)), SQUARE,
    ),
    "svd, wide": (
        lambda x: parts_of_svd(*spectra.svd(x, full_matrices=False)),
        lambda x: parts_of_svd(*T.svd(x, full_matrices=False)), ((4, 5),),
    ),
    "svdvals, tall": (spectra.svdvals, T.svdvals, ((6, 4),)),
    "pinv": (pinv, T.pinv, ((6, 4),)),
    "triangular": (
        lambda x, y: one_matrix.triangular(x, y, upper=False), lambda x, y: T.solve_triangular(x, y, upper=False),
        SYSTEM,
    ),
    "triangular, unit": (
        lambda x, y: one_matrix.triangular(x, y, upper=True, unit=True),
        lambda x, y: T.solve_triangular(x, y, upper=True, unitriangular=True), SYSTEM,
    ),
}  # fmt: skip


def operands(name: str, ranks: int, dtype: torch.dtype) -> list[list[Whole]]:
    """The operands in every split layout of the matrix, beside those of the others in turn."""
    first, *others = CASES[name][2]
    a = definite(numbers(first, dtype)) if name.startswith("cholesky") else numbers(first, dtype)
    if first[0] == first[1]:
        a = a + 3 * torch.eye(first[0])
    cut = [layout for layout in layouts(first, ranks) if layout.split is not None]
    return [
        [
            Whole(a, layout),
            *[Whole(numbers(shape, dtype, 1), (2 * layouts(shape, ranks))[place]) for shape in others],
        ]
        for place, layout in enumerate(cut)
    ]


@pytest.mark.parametrize("name", CASES)
@spmd(ranks=(1, 2, 4))
def test_values_and_gradients(ranks: int, name: str) -> None:
    ours, theirs, _ = CASES[name]
    # Half of the layouts with complex numbers.
    real, imaginary = (operands(name, ranks, dtype) for dtype in (torch.float64, torch.complex128))
    for place in range(len(real)):
        wholes = (real, imaginary)[place % 2][place]
        check(name, wholes)
        # By imaginary numbers on the diagonal no Hermitian matrix changes. There torch's gradient of U is not the
        # adjoint of that of L.
        if not (name == "cholesky, upper" and place % 2):
            assert_gradients(ours, theirs, *wholes)


def check(name: str, wholes: list[Whole]) -> None:
    ours, theirs, _ = CASES[name]
    arrays = [whole.cut() for whole in wholes]
    found, wanted = ours(*arrays), theirs(*[whole.tensor for whole in wholes])
    for x, y in zip(*[part if isinstance(part, tuple) else (part,) for part in (found, wanted)], strict=True):
        assert_close(x, y, rtol=1e-8, atol=1e-9)
    for x, whole in zip(arrays, wholes, strict=True):
        assert_close(x, whole.tensor, rtol=0, atol=0)


def parts_of(result: Any) -> list[torch.Tensor]:
    parts = result if isinstance(result, tuple) else (result,)
    return [x.larray if isinstance(x, ms.DNDarray) else x for x in parts]


@pytest.mark.parametrize("name", CASES)
@spmd(ranks=(3,))
def test_second_derivatives(ranks: int, name: str) -> None:
    wholes, found = operands(name, ranks, torch.float64)[1], []
    arrays = [whole.cut() for whole in wholes]
    ours = [x.larray.requires_grad_() for x in arrays]
    theirs = [whole.tensor.clone().requires_grad_() for whole in wholes]
    for function, inputs, leaves in ((CASES[name][1], theirs, theirs), (CASES[name][0], arrays, ours)):
        cubes = [part.pow(3) for part in parts_of(function(*inputs))]
        slopes = torch.autograd.grad(cubes, leaves, [torch.ones_like(x) for x in cubes], create_graph=True)
        squares = [slope.pow(2) for slope in slopes]
        found.append(torch.autograd.grad(squares, leaves, [torch.ones_like(x) for x in squares]))
    for x, wanted, shard in zip(arrays, *found, strict=True):
        assert_close(ms.DNDarray(shard, x.layout, x.comm), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.serial
@pytest.mark.parametrize("name", CASES)
def test_tangents(name: str) -> None:
    # Torch has one level of forward mode for all threads.
    with forward_ad.dual_level():
        run(check_tangents, name, ranks=3)


def check_tangents(name: str) -> None:
    wholes = operands(name, 3, torch.float64)[4]
    changes = [Whole(numbers(tuple(x.tensor.shape), seed=5), x.layout) for x in wholes]
    if name.startswith("cholesky"):  # only such changes leave the matrix symmetric
        changes = [Whole(symmetric(x.tensor), x.layout) for x in changes]
    duals = [forward_ad.make_dual(x.tensor, change.tensor) for x, change in zip(wholes, changes, strict=True)]
    arrays = [
        ms.DNDarray(forward_ad.make_dual(x.larray, change.cut().larray), x.layout, x.comm)
        for x, change in zip([whole.cut() for whole in wholes], changes, strict=True)
    ]
    results = CASES[name][0](*arrays)
    wanted = [forward_ad.unpack_dual(x) for x in parts_of(CASES[name][1](*duals))]
    for x, part in zip(results if isinstance(results, tuple) else (results,), wanted, strict=True):
        tangent = forward_ad.unpack_dual(x.larray).tangent
        assert tangent is not None
        expected = torch.zeros_like(part.primal) if part.tangent is None else part.tangent
        assert_close(ms.DNDarray(tangent, x.layout, x.comm), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
@spmd(ranks=(2,))
def test_batches_of_gradients(ranks: int, name: str) -> None:
    arrays = [whole.cut() for whole in operands(name, ranks, torch.float64)[1]]
    leaves = [x.larray.requires_grad_() for x in arrays]
    parts = parts_of(CASES[name][0](*arrays))
    weights = [torch.stack([numbers(tuple(part.shape), seed=seed) for seed in (5, 6)]) for part in parts]
    found = torch.autograd.grad(parts, leaves, weights, is_grads_batched=True, retain_graph=True)
    for call in range(2):
        wanted = torch.autograd.grad(parts, leaves, [weight[call] for weight in weights], retain_graph=True)
        for x, y in zip(found, wanted, strict=True):
            torch.testing.assert_close(x[call], y)


@spmd(ranks=(2,))
def test_the_gradient_of_the_determinant_of_a_singular_matrix(ranks: int) -> None:
    """It is made of minors, which are there: torch's is 0 here."""
    tensor = regular((4, 4))
    tensor[-1] = 0
    minors = [
        T.det(torch.cat([tensor, torch.eye(4, dtype=tensor.dtype)[[place]]])[[0, 1, 2, 4]]) for place in range(4)
    ]
    for layout in layouts((4, 4), ranks)[1:]:
        x = Whole(tensor, layout).cut()
        x.larray.requires_grad_()
        value = one_matrix.determinant(x)
        assert value.item() == 0
        value.larray.backward()
        gradient = ms.DNDarray(x.larray.grad, layout, x.comm).resplit(None).larray
        torch.testing.assert_close(gradient[-1], torch.stack(minors), rtol=1e-8, atol=1e-8)


ERRORS: list[tuple[Callable[[ms.DNDarray], Any], str]] = [
    (one_matrix.cholesky, "cholesky: the matrix is not positive-definite .its leading minor of order 7 is not"),
    (one_matrix.inv, r"inv: the matrix is singular, U\[7,7\] of its LU factors is zero"),
    (lambda x: one_matrix.solve(x, x, "solve"), r"solve: the matrix is singular, U\[7,7\]"),
]


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize(("call", "words"), ERRORS)
def test_errors_on_all_ranks(split: int, call: Any, words: str, raises_alike: Any) -> None:
    tensor = torch.eye(8, dtype=torch.float64)
    tensor[6, 6] = 0
    with raises_alike(T.LinAlgError, words):
        call(ms.array(tensor, split=split))


def gathered(parts: tuple[ms.DNDarray, ...]) -> list[ms.DNDarray]:
    """Of small square problems the split of the solution is that for which the fewest bytes move."""
    return [part.resplit(None) for part in parts]


WIRED: dict[str, Callable[[ms.DNDarray], Any]] = {
    "cholesky": lambda x: L.cholesky(x @ x.T + 9 * ms.eye(6, dtype=x.dtype)),
    "cholesky, upper": lambda x: L.cholesky(x @ x.T + 9 * ms.eye(6, dtype=x.dtype), upper=True),
    "solve": lambda x: L.solve(x, ms.ones((6, 4), dtype=x.dtype, split=0)),
    "solve, float32": lambda x: L.solve(x.astype(ms.float32), ms.ones((6, 4), dtype=ms.float64, split=1)),
    "solve, whole": lambda x: L.solve(x, ms.ones((6, 4), dtype=x.dtype)),
    "solve, vector": lambda x: L.solve(x, ms.ones(6, dtype=x.dtype, split=0)),
    "solve_triangular": lambda x: L.solve_triangular(x, ms.ones((6, 4), dtype=x.dtype), lower=True),
    "inv": L.inv,
    "det": L.det,
    "slogdet": L.slogdet,
    "cond": lambda x: L.cond(x, 1),
    "cond, singular": lambda x: L.cond(x * (ms.arange(6) > 0), "fro"),
    "matrix_power": lambda x: L.matrix_power(x, -2),
    "matrix_exp": L.matrix_exp,
    "lstsq": lambda x: gathered(L.lstsq(x, ms.ones((6, 2), dtype=x.dtype, split=0))),
    "lstsq, tall": lambda x: L.lstsq(x[:, :4], ms.ones(6, dtype=x.dtype, split=0)),
    "lstsq, wide": lambda x: L.lstsq(x[:4], ms.ones((4, 2), dtype=x.dtype)),
    "lstsq, dependent": lambda x: gathered(L.lstsq(x * (ms.arange(6) > 0), ms.ones((6, 2), dtype=x.dtype))),
    "lstsq, wide and dependent": lambda x: L.lstsq((x * (ms.arange(6) > 2))[:4], ms.ones(4, dtype=x.dtype)),
    "eigh": lambda x: parts(*L.eigh(x)),
    "eigvalsh": lambda x: L.eigvalsh(x, "U"),
    "svd": lambda x: parts_of_svd(*L.svd(x)),
    "svd, tall": lambda x: parts_of_svd(*L.svd(x[:, :5], full_matrices=False)),
    "svd, wide and full": lambda x: parts_of_svd(L.svd(x[:5])[0], *L.svd(x[:5])[1:]),
    "svdvals": L.svdvals,
    "svdvals, wide": lambda x: L.svdvals(x[:5]),
    "norm": lambda x: [L.norm(x, 2), L.norm(x, -2), L.norm(x, "nuc")],
    "cond, 2": L.cond,
    "cond, nuc": lambda x: L.cond(x, "nuc"),
    "matrix_rank": lambda x: L.matrix_rank(x * (ms.arange(6) > 1)),
    "pinv": L.pinv,
    "pinv, singular": lambda x: L.pinv(x * (ms.arange(6) > 1), rtol=1e-9),
    "pinv, wide": lambda x: L.pinv(x[:5]),
    "qr": L.qr,
    "qr, tall": lambda x: L.qr(x[:, :4]),
    "qr, tall and complete": lambda x: [*L.qr(x[:, :4], mode="complete")][1],
    "qr, wide": lambda x: L.qr(x[:4]),
}


def call(name: str, layout: ms.Layout) -> tuple[list[ms.DNDarray], bool]:
    x = Whole(regular((6, 6)), layout).cut()
    with traffic() as seen:
        found = WIRED[name](x)
    return list(found) if isinstance(found, (tuple, list)) else [found], "broadcast" in seen.calls


@pytest.mark.serial
@pytest.mark.parametrize("name", WIRED)
def test_large_matrices_are_not_gathered_and_their_results_are_laid_out_as_those_of_small_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layout in layouts((6, 6), 3)[1:]:
        expected = run(call, name, layout, ranks=3)
        with monkeypatch.context() as patch:
            patch.setattr(one_matrix, "SMALL", 0)
            patch.setattr(spectra, "SMALL", 0)
            found = run(call, name, layout, ranks=3)
        for (results, is_large), (others, is_large_too) in zip(found, expected, strict=True):
            assert (is_large, is_large_too) == (True, False)
            for x, y in zip(results, others, strict=True):
                assert x.layout == y.layout
                torch.testing.assert_close(x.larray, y.larray, rtol=1e-5, atol=1e-5)


@spmd(ranks=(2,))
def test_the_size_from_which_matrices_are_large(ranks: int) -> None:
    for size, kinds in ((one_matrix.SMALL - 1, {"exchange"}), (one_matrix.SMALL, {"broadcast"})):
        with traffic() as seen:
            L.det(ms.eye(size, split=1))
        assert set(seen.calls) == kinds
    # Spectra are gathered up to more rows.
    x = ms.eye(spectra.SMALL, split=1)
    assert spectra.is_large(x) > spectra.is_large(x[1:])


def check_transform() -> None:
    stack = regular((2, 4, 4))
    x = [Whole(part, ms.Layout((4, 4), 1, 2)).cut() for part in stack]
    assert one_matrix.is_large(x[0])
    found = torch.func.vmap(lambda shard: L.det(ms.DNDarray(shard, x[0].layout, x[0].comm)).larray)(
        torch.stack([part.larray for part in x])
    )
    torch.testing.assert_close(found, T.det(stack))


@pytest.mark.serial
def test_transforms_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    """They map over tensors, whose values a factorisation could not write to."""
    monkeypatch.setattr(one_matrix, "SMALL", 0)
    run(check_transform, ranks=2)


# In shards of 400 x 400 on 4 ranks, without the user's own: at most 2.5, and as many panels of 8 columns as there
# are ranks, since of ranks that are threads the last one makes the copies for all. Results count: qr has two.
MEMORY: dict[str, tuple[Callable[..., Any], float]] = {
    "cholesky": (lambda x, y: L.cholesky(x), 1.2),
    "cholesky, upper": (lambda x, y: L.cholesky(x, upper=True), 1.2),
    "solve": (L.solve, 2.2),
    "solve_triangular": (L.solve_triangular, 1.2),
    "inv": (lambda x, y: L.inv(x), 2.2),
    "det": (lambda x, y: L.det(x), 1.2),
    "qr": (lambda x, y: L.qr(x), 2.2),
}


def peak(name: str, split: int) -> float:
    tensor = numbers((400, 400))
    x, y = ms.array(definite(tensor), split=split), ms.array(tensor, split=1)
    with ms.debug(False), Alive() as seen:
        MEMORY[name][0](x, y)
    return seen.peak / x.larray.nbytes


@pytest.mark.serial
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("name", MEMORY)
def test_memory_of_a_rank(name: str, split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_matrix, "SMALL", 400)
    for module in (panels, transposition):
        monkeypatch.setattr(module, "WIDTH", 8)
    assert max(run(peak, name, split, ranks=4)) < MEMORY[name][1] + 4 * 8 / 100
