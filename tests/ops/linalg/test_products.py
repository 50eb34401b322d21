"""Products: NumPy's or torch's values for every pair of layouts, by the plan that sends least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from matrices import assert_gradients
from products import Pair, assert_as_numpy, assert_gradients_as_torch, pairs, refuse

import minisplit as ms
from minisplit.testing import assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication


@hs.composite
def factors(draw: hs.DrawFn, dtype: torch.dtype | None = None) -> Pair:
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
def test_matmul_of_any_layouts(pair: Pair) -> None:
    x, y = (whole.cut() for whole in pair)
    expected = torch.matmul(*(whole.tensor for whole in pair))
    assert_equal(x @ y, expected)
    assert (x.layout, y.layout) == tuple(whole.layout for whole in pair)


@given(pair=factors(), other=hs.sampled_from((torch.int8, torch.float16, torch.bool)))
@spmd
def test_dtypes_are_promoted(pair: Pair, other: torch.dtype) -> None:
    (a, x), (b, y) = ((whole.tensor, whole.cut()) for whole in pair)
    if other is torch.bool:
        expected = torch.matmul((a != 0).int(), (b != 0).int()) != 0
        assert_equal((x != 0) @ (y != 0), expected)
    if not a.is_complex():
        dtype = torch.promote_types(a.dtype, other)
        wanted = torch.matmul(a.to(other).to(dtype), b.to(dtype))
        assert_equal(ms.astype(x, other) @ y, wanted)


# What NumPy calls the same, and what it raises for arrays that do not fit.
NUMPY: dict[str, Callable[[Any, Any], Any]] = {
    "dot": np.dot,
    "inner": np.inner,
    "outer": np.outer,
    "vdot": np.vdot,
    "vecdot": lambda a, b: np.vecdot(a, b) if a.shape[-1:] == b.shape[-1:] else refuse(),
    "tensordot": lambda a, b: np.tensordot(a, b, 2),
    "kron": np.kron,
    "cross": lambda a, b: np.cross(a, b) if a.shape[-1:] == b.shape[-1:] == (3,) else refuse(),
}


@pytest.mark.parametrize("name", NUMPY)
@given(pair=pairs())
@spmd
def test_products_as_numpy_has_them(name: str, pair: Pair) -> None:
    assert_as_numpy(getattr(ms, name), NUMPY[name], pair)


TORCH = {
    "inner": torch.inner,
    "vecdot": torch.linalg.vecdot,
    "outer": torch.outer,
    "kron": torch.kron,
    "cross": torch.linalg.cross,
}


@pytest.mark.parametrize("name", TORCH)
@given(pair=pairs(torch.float64))
@spmd
def test_gradients_of_products(name: str, pair: Pair) -> None:
    assert_gradients_as_torch(getattr(ms, name), TORCH[name], NUMPY[name], pair)


@given(pair=pairs())
@spmd
def test_tensordot_of_any_axes(pair: Pair) -> None:
    x, y = (whole.cut() for whole in pair)
    fitting = [(i, j - y.ndim) for i in range(x.ndim) for j in range(y.ndim) if x.shape[i] == y.shape[j]]
    for axes in [(), *(((i,), (j,)) for i, j in fitting)]:
        wanted = axes or 0
        expected = np.tensordot(*(whole.tensor.numpy() for whole in pair), wanted)
        assert_equal(ms.tensordot(x, y, axes=wanted), np.asarray(expected))


@given(pair=factors(torch.float64))
@spmd
def test_gradients_of_matmul(pair: Pair) -> None:
    assert_gradients(ms.matmul, torch.matmul, *pair)


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
    """With an inner axis that is long beside the others where it is split, and short elsewhere."""
    inner = 1024 if sent.get("allreduce") else 2
    x, y = ms.ones((8, inner), split=left), ms.ones((inner, 8), split=right)
    with traffic() as seen:
        z = x @ y
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


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
    ],
)  # fmt: skip
def test_what_products_send(comm: Comm, call: Any, split: Any, sent: dict[str, int]) -> None:
    x, y = ms.ones((4, 4), split=0), ms.ones((4, 4), split=0)
    with traffic() as seen:
        z = call(x, y)
    assert z.split == split
    assert dict(seen.calls) == (sent if comm.size > 1 else {})


def test_kron_gathers_the_smaller_of_two_split_arrays(size: int) -> None:
    small, large = ms.ones((1, 3), split=0), ms.array(torch.arange(64.0).reshape(32, 2), split=0)
    for pair in ((small, large), (large, small)):
        with traffic() as seen:
            found = ms.kron(*pair)
        assert_equal(found, torch.kron(*(x.resplit(None).larray for x in pair)))
        assert seen.bytes_sent <= (size - 1) * 3 * 4


def test_half_precision_is_added_up_in_float32(comm: Comm) -> None:
    """257 ones on the first rank, of which bfloat16 makes 256, and 256 negative ones on the last."""
    n = 257 * max(comm.size, 2)
    whole = torch.zeros(n, dtype=torch.bfloat16)
    whole[:257], whole[-256:] = 1, -1
    x, y = ms.ones((1, n), dtype=torch.bfloat16, split=1), ms.array(whole[:, None], split=0)
    assert_equal(x @ y, torch.ones(1, 1, dtype=torch.bfloat16))
    assert_equal(ms.vecdot(x[0], y[:, 0]), torch.tensor(1, dtype=torch.bfloat16))


def test_what_torch_does_not_multiply_is_an_error_before_any_message(comm: Comm, raises_alike: Any) -> None:
    ms.ones((4, 4), split=0) @ ms.ones((4, 4))  # what torch multiplies is cached for each dtype
    x = ms.ones((4, 4), dtype=torch.uint16, split=0)
    with raises_alike(NotImplementedError, "not implemented for 'UInt16'"), traffic() as seen:
        try:
            _ = x @ x
        finally:
            assert seen.collectives == 0


def test_A16_results_stay_on_their_communicator(comm: Comm, rank: int) -> None:
    part = comm.split(rank % 2)
    assert part is not None
    x = ms.ones((3, 3), split=0, comm=part)
    for call in (ms.matmul, ms.vecdot, ms.tensordot, ms.inner, ms.vdot, ms.kron, ms.cross):
        assert call(x, x).comm is part  # type: ignore[operator]
    part.free()


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
    (lambda: ms.vdot(square(), ms.ones(3)), ValueError, r"arrays of one size, got shapes \(3, 3\) and \(3,\)"),
    (lambda: ms.cross(ms.ones((3, 2), split=0), ms.ones((3, 2))), ValueError, "length 3, got 2 along axis -1"),
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
