"""Matrix products: torch's values for every pair of layouts, by the way that sends least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import minisplit as ms
from minisplit.core.transfer import elements_moved
from minisplit.ops._products import matrix_product
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication


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


@given(pair=factors(torch.float64))
@spmd
def test_gradients_of_products_of_any_layouts(pair: tuple[Whole, Whole]) -> None:
    x, y = (whole.cut() for whole in pair)
    a, b = (whole.tensor.clone().requires_grad_() for whole in pair)
    x.larray.requires_grad_()
    y.larray.requires_grad_()
    z = x @ y
    weights = torch.arange(1.0, 1 + torch.Size(z.shape).numel(), dtype=torch.float64).reshape(z.shape)
    (z.larray * weights[z.layout.box(z.comm.rank)]).sum().backward()
    ((a @ b) * weights).sum().backward()
    for array, whole in ((x, a), (y, b)):
        assert array.larray.grad is not None
        assert_equal(ms.DNDarray(array.larray.grad, array.layout, array.comm), whole.grad)


ROWS, COLUMNS, WHOLE = 0, 1, None


@pytest.mark.parametrize(
    ("left", "right", "split", "calls"),
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
def test_what_is_sent(comm: Comm, left: Any, right: Any, split: Any, calls: dict[str, int]) -> None:
    """With an inner axis that is long beside the others where it is cut, and short elsewhere."""
    inner = 1024 if calls.get("allreduce") else 2
    x, y = ms.ones((8, inner), split=left), ms.ones((inner, 8), split=right)
    with traffic() as seen:
        z = x @ y
    assert z.split == split
    assert dict(seen.calls) == (calls if comm.size > 1 else {})


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_no_operand_larger_than_the_other_is_gathered(ranks: int) -> None:
    tall, wide = ms.Layout((10_000, 10), 0, ranks), ms.Layout((10, 10), 0, ranks)
    way = matrix_product(tall, wide, (8, 8))
    assert way.needed[0] is None
    assert elements_moved(wide, way.needed[1] or wide) == 100 * (ranks - 1)


def test_half_precision_is_added_up_in_float32(comm: Comm) -> None:
    n = 4096
    x, y = ms.ones((1, n), dtype=torch.bfloat16, split=1), ms.full((n, 1), 0.001, dtype=torch.bfloat16, split=0)
    expected = (torch.ones(1, n) @ torch.full((n, 1), 0.001, dtype=torch.bfloat16).float()).bfloat16()
    assert_equal(x @ y, expected)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ms.ones((2, 3), split=0) @ ms.ones((2, 3)), ValueError, r"shapes \(2, 3\) and \(2, 3\): 3 and 2"),
    (lambda: ms.ones(()) @ ms.ones(3), ValueError, "at least one dimension"),
    (lambda: ms.matmul(ms.ones(3), torch.ones(3)), TypeError, "x2 must be a DNDarray"),
    (lambda: ms.ones((2, 3, 4)) @ ms.ones((3, 4, 5)), ValueError, "do not broadcast"),
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
