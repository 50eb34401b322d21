"""Products in blocks that go around the ranks: torch's values and derivatives, and as many bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from alive import Alive
from layouts import assert_gradients, dealt, layouts

import minisplit as ms
from minisplit.core import collectives
from minisplit.core.communication.agreement import agreement
from minisplit.ops.linalg import ring
from minisplit.testing import assert_close, run, traffic

Comm = ms.Communication
# By what is summed over or stays of the operand that travels: the equation, and the shapes.
EQUATIONS = {
    "ij,jk->ik": ((5, 4), (4, 3)),
    "ij,kj->ki": ((5, 4), (6, 4)),
    "ijk,kl->ijl": ((3, 2, 4), (4, 5)),
    "bij,bjk->bik": ((2, 5, 4), (2, 4, 3)),
    "i,j->ij": ((5,), (6,)),
    "ij,j->i": ((5, 4), (4,)),
}


@pytest.fixture(autouse=True)
def _of_any_size_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "RING_BYTES", -1)
    # Of shards of a few numbers two pieces or three, if not one.
    monkeypatch.setattr(ring, "PIECE_BYTES", 64)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_values_of_any_layouts(size: int, equation: str) -> None:
    first, second = EQUATIONS[equation]
    x, y = (random(*shape, dtype=torch.complex128) for shape in (first, second))
    wanted = torch.einsum(equation, x, y)
    for left in layouts(first, size)[1:]:
        for right in layouts(second, size)[1:]:
            assert_close(ms.einsum(equation, dealt(x, left), dealt(y, right)), wanted)


def test_dtypes_as_without_a_ring(size: int) -> None:
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.bfloat16):
        x, y = (torch.randint(0, 2, (257, 6)).to(dtype).fill_(1) for _ in range(2))
        expected = torch.full((6, 6), 1) if dtype is torch.bool else torch.full((6, 6), 257)
        product = dealt(x, ms.Layout((257, 6), 0, size)).T.resplit(0) @ dealt(y, ms.Layout((257, 6), 0, size))
        assert_close(product, expected.to(dtype))


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,kj->ki"])
def test_gradients_of_any_layouts(size: int, equation: str) -> None:
    first, second = EQUATIONS[equation]
    assert_gradients(
        lambda x, y: ms.einsum(equation, x, y),
        lambda x, y: torch.einsum(equation, x, y),
        [random(*first), random(*second)],
        size,
    )


def product_of_rows(comm: Comm, *parts: torch.Tensor) -> torch.Tensor:
    x, y = (ms.array(part, is_split=0, comm=comm) for part in parts)
    return (x @ y).larray


@pytest.mark.several
def test_derivatives_of_second_order(comm: Comm, size: int, rank: int) -> None:
    """The second derivatives are products and sums of all kinds. Forward mode is in tests/test_torch_func.py."""
    x, y, w = (random(6, 6, dtype=torch.complex128, seed=seed) for seed in range(3))
    box = slice(*ms.Layout((6, 6), 0, size).span(rank))

    def ours(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return product_of_rows(comm, x, y)

    def slopes(
        f: Callable[..., torch.Tensor], weights: torch.Tensor, *leaves: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        found = torch.autograd.grad((weights * f(*leaves) ** 3).real.sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum((g.abs() ** 2).sum() for g in found), leaves)

    whole = [each.clone().requires_grad_() for each in (x, y)]
    wanted = slopes(torch.matmul, w, *whole)
    mine = [each[box].clone().requires_grad_() for each in (x, y)]
    found = slopes(ours, w[box], *mine)
    with agreement(comm, "comparing derivatives"):
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other[box])


def test_small_operands_are_gathered_at_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "PIECE_BYTES", 12 * 12 * 4)
    x = ms.ones((12, 12), split=0)
    with traffic() as seen:
        x @ x
    assert seen.calls["exchange"] == size - 1
    sent = seen.bytes_sent
    monkeypatch.setattr(collectives, "RING_BYTES", 12 * 12 * 4)
    with traffic() as seen:
        x @ x
    assert seen.calls["exchange"] == (size > 1)
    assert seen.bytes_sent == sent


def peak(name: str) -> float:
    """Of a product of 240 x 240 matrices, on this rank, in shards."""
    x = ms.ones((240, 240), dtype=ms.float64, split=1)
    y = x.larray.clone().requires_grad_(name == "gradients")
    left = ms.DNDarray(y, x.layout, x.comm)
    with ms.debug(False), Alive() as seen:
        product = left @ x
        if name == "gradients":
            product.larray.backward(x.larray)
    return seen.peak / x.larray.nbytes


@pytest.mark.serial
@pytest.mark.parametrize(("name", "shards"), [("product", 1.6), ("gradients", 3.8)])
def test_memory_of_a_rank(name: str, shards: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result, a piece that is multiplied and one that comes; of a gradient as much, and the sum so far."""
    monkeypatch.setattr(ring, "PIECE_BYTES", 240)
    monkeypatch.setattr(ring, "PIECES", 8)
    assert max(run(peak, name, ranks=4)) < shards
