"""Products: NumPy's or torch's values for every pair of layouts, by the way that sends least."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.core.transfer import elements_moved
from minisplit.ops.linalg.contraction import plan_contraction, plan_matmul
from minisplit.ops.linalg.einsum_subscripts import contraction_steps, parse_subscripts
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
F64 = torch.float64


@hs.composite
def factors(draw: hs.DrawFn, dtype: torch.dtype | None = None) -> tuple[Whole, Whole]:
    """Two arrays whose product there is, vectors and batches that broadcast among them."""
    kind = dtype or draw(hs.sampled_from((torch.float64, torch.int64, torch.complex128, torch.bfloat16)))
    inner, rows, columns = (draw(hs.integers(0, 5)) for _ in range(3))
    left, right = (inner,), (inner,)
    if draw(hs.booleans()):
        left = (rows, inner)
    if draw(hs.booleans()):
        right = (inner, columns)
    batches = draw(st.broadcastable_shapes(2, max_dims=2, max_side=3))
    if len(left) == 2:
        left = (*batches[0], *left)
    if len(right) == 2:
        right = (*batches[1], *right)
    return draw(st.dndarrays(left, kind)), draw(st.dndarrays(right, kind))


@given(pair=factors())
@spmd
def test_products_of_any_layouts(pair: tuple[Whole, Whole]) -> None:
    x, y = (whole.cut() for whole in pair)
    expected = torch.matmul(*(whole.tensor for whole in pair))
    assert_equal(x @ y, expected)
    assert (x.layout, y.layout) == tuple(whole.layout for whole in pair)


@given(pair=factors(), other=hs.sampled_from((torch.int8, torch.float16, torch.bool)))
@spmd
def test_dtypes_are_promoted(pair: tuple[Whole, Whole], other: torch.dtype) -> None:
    (a, x), (b, y) = ((whole.tensor, whole.cut()) for whole in pair)
    if other is torch.bool:
        expected = torch.matmul((a != 0).int(), (b != 0).int()) != 0
        assert_equal((x != 0) @ (y != 0), expected)
    if not a.is_complex():
        dtype = torch.promote_types(a.dtype, other)
        wanted = torch.matmul(a.to(other).to(dtype), b.to(dtype))
        assert_equal(ms.astype(x, other) @ y, wanted)


def plain(x: torch.Tensor) -> Any:
    return x.detach().numpy()


# What NumPy calls the same, and what it raises for arrays that do not fit.
NUMPY: dict[str, Callable[[Any, Any], Any]] = {
    "dot": np.dot,
    "inner": np.inner,
    "kron": np.kron,
    "outer": lambda a, b: np.outer(a, b) if a.ndim == b.ndim == 1 else refused(),
    "vdot": np.vdot,
    "vecdot": lambda a, b: np.vecdot(a, b) if a.shape[-1:] == b.shape[-1:] else refused(),
    "cross": lambda a, b: np.cross(a, b) if a.shape[-1:] == b.shape[-1:] == (3,) else refused(),
    "tensordot": lambda a, b: np.tensordot(a, b, 2),
}


def refused() -> Any:
    raise ValueError


@hs.composite
def anything(draw: hs.DrawFn, dtype: torch.dtype | None = None) -> tuple[Whole, Whole]:
    """Two arrays that often fit each other: of few lengths, and of which the second often has the first's last."""
    kind = dtype or draw(hs.sampled_from((torch.float64, torch.int64, torch.complex128)))
    lengths = hs.sampled_from((3, 2, 1, 0, 4))
    first = tuple(draw(hs.lists(lengths, max_size=3)))
    rest = tuple(draw(hs.lists(lengths, max_size=2)))
    kept = draw(hs.integers(0, 3))
    last = first[len(first) - min(kept, len(first)) :]
    second = draw(hs.sampled_from((last + rest, rest + first[-1:], first)))
    return draw(st.dndarrays(first, kind)), draw(st.dndarrays(second[:3], kind))


@pytest.mark.parametrize("name", NUMPY)
@given(pair=anything())
@spmd
def test_products_as_numpy_has_them(name: str, pair: tuple[Whole, Whole]) -> None:
    x, y = (whole.cut() for whole in pair)
    try:
        expected = np.asarray(NUMPY[name](*(plain(whole.tensor) for whole in pair)))
    except (ValueError, IndexError):
        with pytest.raises((ValueError, IndexError)):
            getattr(ms, name)(x, y)
        return
    assert_equal(getattr(ms, name)(x, y), expected)
    assert (x.layout, y.layout) == tuple(whole.layout for whole in pair)


TORCH: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "kron": torch.kron,
    "inner": torch.inner,
    "vecdot": torch.linalg.vecdot,
    "cross": torch.linalg.cross,
    "outer": torch.outer,
}


@pytest.mark.parametrize("name", TORCH)
@given(pair=anything(torch.float64))
@spmd
def test_gradients_of_products(name: str, pair: tuple[Whole, Whole]) -> None:
    try:
        TORCH[name](*(whole.tensor for whole in pair))
        NUMPY[name](*(plain(whole.tensor) for whole in pair))
    except (RuntimeError, ValueError, IndexError):
        return
    assert_gradients(getattr(ms, name), TORCH[name], pair)


def assert_gradients(ours: Callable[..., ms.DNDarray], theirs: Callable[..., torch.Tensor], wholes: Any) -> None:
    arrays = [whole.cut() for whole in wholes]
    tensors = [whole.tensor.clone().requires_grad_() for whole in wholes]
    for x in arrays:
        x.larray.requires_grad_()
    z, wanted = ours(*arrays), theirs(*tensors)
    weights = torch.arange(1.0, 1 + wanted.numel(), dtype=wanted.dtype).reshape(wanted.shape)
    (z.larray * weights[z.layout.box(z.comm.rank)]).sum().backward()
    (wanted * weights).sum().backward()
    for array, tensor in zip(arrays, tensors, strict=True):
        grad = array.larray.grad
        found = torch.zeros_like(array.larray) if grad is None else grad
        assert_close(ms.DNDarray(found, array.layout, array.comm), tensor.grad)


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
    expected = np.einsum(subscripts, *(plain(whole.tensor) for whole in wholes))
    assert_close(ms.einsum(subscripts, *arrays), np.asarray(expected))
    assert [x.layout for x in arrays] == [whole.layout for whole in wholes]


@given(case=contractions(torch.float64))
@spmd
def test_gradients_of_einsum(case: tuple[str, list[Whole]]) -> None:
    subscripts, wholes = case
    assert_gradients(partial(ms.einsum, subscripts), partial(torch.einsum, subscripts), wholes)


def test_einsum_multiplies_small_products_first() -> None:
    extents = {"i": 1000, "j": 10, "k": 1000, "l": 10}
    assert contraction_steps(["ij", "jk", "kl"], "il", extents) == [((1, 2), "jl"), ((0, 1), "il")]
    assert parse_subscripts("...ij, j...", (3, 2)) == (("aij", "ja"), "ai")


@given(pair=anything())
@spmd
def test_tensordot_of_any_axes(pair: tuple[Whole, Whole]) -> None:
    x, y = (whole.cut() for whole in pair)
    fitting = [(i, j - y.ndim) for i in range(x.ndim) for j in range(y.ndim) if x.shape[i] == y.shape[j]]
    for axes in [(), *(((i,), (j,)) for i, j in fitting)]:
        wanted = axes or 0
        expected = np.tensordot(*(plain(whole.tensor) for whole in pair), wanted)
        assert_equal(ms.tensordot(x, y, axes=wanted), np.asarray(expected))


@given(whole=st.dndarrays(hs.sampled_from([(3, 3), (2, 3, 3), (4, 4), (1, 1), (0, 0)]), F64))
@spmd
def test_powers_of_matrices(whole: Whole) -> None:
    x = whole.cut()
    regular = torch.eye(whole.tensor.shape[-1], dtype=F64) * 10 + whole.tensor.tanh()
    for n in (0, 1, 2, 5):
        assert_close(ms.linalg.matrix_power(x, n), torch.linalg.matrix_power(whole.tensor, n))
        expected = torch.linalg.matrix_power(regular, -n)
        assert_close(ms.linalg.matrix_power(Whole(regular, whole.layout).cut(), -n), expected)


def test_chains_of_matrices(size: int) -> None:
    tensors = [torch.arange(12.0).reshape(4, 3), torch.arange(6.0).reshape(3, 2), torch.ones(2, 5)]
    for split in (0, 1, None):
        arrays = [ms.array(x, split=split) for x in tensors]
        assert_close(ms.linalg.multi_dot(arrays), torch.linalg.multi_dot(tensors))
        ends = [ms.ones(4), *arrays, ms.ones(5, split=0)]
        assert_close(ms.linalg.multi_dot(ends), torch.linalg.multi_dot([torch.ones(4), *tensors, torch.ones(5)]))


@given(pair=factors(torch.float64))
@spmd
def test_gradients_of_products_of_any_layouts(pair: tuple[Whole, Whole]) -> None:
    assert_gradients(ms.matmul, torch.matmul, pair)


ROWS, COLUMNS, WHOLE = 0, 1, None


@pytest.mark.parametrize(
    ("left", "right", "split", "sent"),
    [
        (ROWS, WHOLE, ROWS, {}),
        (WHOLE, COLUMNS, COLUMNS, {}),
        (WHOLE, WHOLE, WHOLE, {}),
        (COLUMNS, ROWS, WHOLE, {"allreduce": 1}),
        (WHOLE, ROWS, WHOLE, {"allreduce": 1}),
        (COLUMNS, WHOLE, WHOLE, {"allreduce": 1}),
        (ROWS, ROWS, ROWS, {"exchange": 1}),
        (COLUMNS, COLUMNS, COLUMNS, {"exchange": 1}),
    ],
)
def test_what_is_sent(comm: Comm, left: Any, right: Any, split: Any, sent: dict[str, int]) -> None:
    """With an inner axis that is long beside the others where it is cut, and short elsewhere."""
    inner = 1024 if sent.get("allreduce") else 2
    x, y = ms.ones((8, inner), split=left), ms.ones((inner, 8), split=right)
    with traffic() as seen:
        z = x @ y
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_no_operand_larger_than_the_other_is_gathered(ranks: int) -> None:
    tall, wide = ms.Layout((10_000, 10), 0, ranks), ms.Layout((10, 10), 0, ranks)
    way = plan_matmul(tall, wide, (8, 8))
    assert way.needed[0] is None
    assert elements_moved(wide, way.needed[1] or wide) == 100 * (ranks - 1)


def test_an_axis_that_no_operand_is_cut_along_is_shared_out_if_it_has_enough_indices() -> None:
    rows = ms.Layout((8, 100, 10), 1, 8), ms.Layout((8, 10, 1000), 1, 8)
    assert plan_contraction(rows, (4, 4), ("bij", "bjk"), "bik").result.split == 0
    few = ms.Layout((2, 100, 10), 1, 8), ms.Layout((2, 10, 1000), 1, 8)
    assert plan_contraction(few, (4, 4), ("bij", "bjk"), "bik").result.split != 0


@pytest.mark.parametrize(
    ("call", "split", "sent"),
    [
        (ms.vecdot, 0, {}),
        (lambda x, y: ms.vecdot(x[:, :1], y[:, :1], axis=0), None, {"allreduce": 1}),
        (ms.vdot, None, {"allreduce": 1}),
        (lambda x, y: ms.tensordot(x[:, :1], y[:, :1], axes=(0, 0)), None, {"allreduce": 1}),
        (lambda x, y: ms.tensordot(x, ms.ones((4, 4))), None, {"allreduce": 1}),
        (lambda x, y: ms.inner(x, ms.ones(4)), 0, {}),
        (ms.inner, 0, {"exchange": 1}),
        (lambda x, y: ms.kron(x, ms.ones((2, 2))), 0, {}),
        (lambda x, y: ms.kron(ms.ones((2, 2)), x), 0, {"exchange": 1}),
        (lambda x, y: ms.cross(x[:, :3], y[:, :3]), 0, {}),
        (lambda x, y: ms.einsum("ij,ij->ij", x, y), 0, {}),
        (lambda x, y: ms.einsum("ij,ij,ij->", x, y, x), None, {"allreduce": 1}),
        (lambda x, y: ms.einsum("ji", x), 1, {}),
        (lambda x, y: ms.einsum("ii", x), None, {"allreduce": 1}),
    ],
)  # fmt: skip
def test_what_products_send(comm: Comm, call: Any, split: Any, sent: dict[str, int]) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 4), split=0)
    with traffic() as seen:
        z = call(x, y)
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


def test_half_precision_is_added_up_in_float32(comm: Comm) -> None:
    """257 ones on the first rank, of which bfloat16 makes 256, and 256 negative ones on the last."""
    n = 257 * max(comm.size, 2)
    whole = torch.zeros(n, dtype=torch.bfloat16)
    whole[:257], whole[-256:] = 1, -1
    x, y = ms.ones((1, n), dtype=torch.bfloat16, split=1), ms.array(whole[:, None], split=0)
    assert_equal(x @ y, torch.ones(1, 1, dtype=torch.bfloat16))
    assert_equal(ms.vecdot(x[0], y[:, 0]), torch.tensor(1, dtype=torch.bfloat16))


def test_the_gradient_of_a_whole_operand_beside_a_sum_over_ranks(size: int) -> None:
    x, y = (torch.arange(1.0, 1 + n).reshape(shape) for n, shape in ((80, (2, 40)), (3, (3,))))
    wholes = Whole(x, ms.Layout((2, 40), 1, size)), Whole(y, ms.Layout((3,), None, size))
    assert_gradients(partial(ms.einsum, "ij,k->k"), partial(torch.einsum, "ij,k->k"), wholes)


def test_kron_gathers_the_smaller_of_two_split_arrays(size: int) -> None:
    small, large = ms.ones((1, 3), split=0), ms.array(torch.arange(64.0).reshape(32, 2), split=0)
    for pair in ((small, large), (large, small)):
        with traffic() as seen:
            found = ms.kron(*pair)
        assert_equal(found, torch.kron(*(x.resplit(None).larray for x in pair)))
        assert seen.bytes_sent <= (size - 1) * 3 * 4


def test_what_torch_does_not_multiply_is_an_error_before_any_message(comm: Comm, raises_alike: Any) -> None:
    x = ms.ones((4, 4), dtype=torch.uint16, split=0)
    with raises_alike(NotImplementedError, "not implemented for 'UInt16'"), traffic() as seen:
        try:
            _ = x @ x
        finally:
            assert seen.collectives == 0


def test_results_have_memory_of_their_own_and_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((3, 3), split=0, comm=part)
    for call in (ms.kron, ms.vecdot, ms.tensordot, ms.cross, partial(ms.einsum, "ij,jk"), ms.inner):
        assert call(x, x).comm is part  # type: ignore[operator]
    for copy in (ms.einsum("ij->ji", x), ms.einsum("ii->i", x), ms.linalg.matrix_power(x, 1)):
        copy.larray.zero_()
    assert_equal(x, torch.ones(3, 3))
    part.free()


def test_a_singular_matrix_on_one_rank_is_an_error_on_all(comm: Comm, raises_alike: Any) -> None:
    whole = torch.eye(2).repeat(comm.size, 1, 1)
    whole[-1] = 0
    with raises_alike(RuntimeError, "singular"):
        ms.linalg.matrix_power(ms.array(whole, split=0), -1)


def square() -> ms.DNDarray:
    return ms.ones((3, 3), split=0)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ms.ones((2, 3), split=0) @ ms.ones((2, 3)), ValueError, r"shapes \(2, 3\) and \(2, 3\): 3 and 2"),
    (lambda: ms.ones(()) @ ms.ones(3), ValueError, "at least one dimension"),
    (lambda: ms.matmul(ms.ones(3), torch.ones(3)), TypeError, "x2 must be a DNDarray"),
    (lambda: ms.ones((2, 3, 4)) @ ms.ones((3, 4, 5)), ValueError, "do not broadcast"),
    (
        lambda: ms.tensordot(square(), ms.ones((2, 3))),
        ValueError,
        r"axes \(0, 1\) of \(3, 3\) and \(0, 1\) of \(2, 3\)",
    ),
    (lambda: ms.tensordot(square(), square(), axes=3), ValueError, "axes must be from 0 to 2 for shapes"),
    (
        lambda: ms.tensordot(square(), square(), axes=((0, 0), (0, 1))),
        ValueError,
        "an axis of 2 dimensions more than once",
    ),
    (lambda: ms.vecdot(square(), ms.ones((3, 2))), ValueError, "vectors of one length, got 3 and 2 along axis -1"),
    (lambda: ms.vecdot(square(), ms.ones(3), axis=0), ValueError, "axis 0 of vecdot names different axes"),
    (lambda: ms.cross(ms.ones((3, 2)), ms.ones((3, 2))), ValueError, "vectors of length 3, got 2 along axis -1"),
    (lambda: ms.vdot(square(), ms.ones(3)), ValueError, r"arrays of one size, got shapes \(3, 3\) and \(3,\)"),
    (lambda: ms.outer(square(), ms.ones(3)), ValueError, r"1-d arrays, got shapes \(3, 3\)"),
    (lambda: ms.linalg.matrix_power(ms.ones((2, 3)), 2), ValueError, r"square matrices, got shape \(2, 3\)"),
    (
        lambda: ms.linalg.matrix_power(ms.astype(square(), torch.int64), -1),
        TypeError,
        "negative matrix_power",
    ),
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


def test_operators(comm: Comm) -> None:
    x = ms.ones((3, 3), split=0)
    y = x
    y @= ms.ones((3, 3))
    assert_close(y, torch.full((3, 3), 3.0))
    assert x.tolist() == [[1.0] * 3] * 3
    with pytest.raises(TypeError):
        _ = x @ 2
