"""What programs do with arrays on another device stays there, and the host does not wait for it.

`ops/test_all_operations.py` has the functions of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from other_device import DEVICE, DeviceTensor, OtherDevice

import minisplit as ms
from minisplit.testing import assert_close

pytestmark = pytest.mark.serial
WHOLE = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)


def on_device(x: ms.DNDarray) -> ms.DNDarray:
    return ms.DNDarray(DeviceTensor(x.larray), x.layout, x.comm)


def mapped(x: ms.DNDarray) -> list[Any]:
    ms.random.seed(3)

    def norm(row: torch.Tensor) -> torch.Tensor:
        return (row - row.mean()).square().sum()

    def nested(row: torch.Tensor) -> torch.Tensor:
        return torch.func.jacrev(lambda v: v.sin() * v.sum())(row)

    return [
        *ms.vmap(norm)(x),
        *ms.vmap(nested)(x),
        *ms.vmap(norm, chunk_size=2)(x),
        *ms.vmap(lambda a, b: (a @ b, a + b), out_dims=(0, 0))(x, x),
        *ms.vmap(lambda row, factor: row * factor)(x, factor=2.0),
        *ms.vmap(lambda row: row + torch.rand((), device=row.device), randomness="different")(x),
    ]


def moved(x: ms.DNDarray) -> list[Any]:
    ragged = x.redistribute([0] * (x.comm.size - 1) + [6])
    return [
        x.resplit(1),
        x.resplit(None),
        x.resplit(None).resplit(0),
        ragged,
        ragged.balance(),
        ragged + x.resplit(1),
    ]


def indexed(x: ms.DNDarray) -> list[Any]:
    y = x + 0
    y[1:3] = 7
    y[:, 1] = y[:, 0]
    y[0] = x[5]
    z = x + 0
    z += x
    z *= 2
    return [x[1], x[:, 2], x[::2], x[1:5, ::-1], x[..., None], x[4, 3], x[::-1], y, z]


def made(x: ms.DNDarray) -> list[Any]:
    make: dict[str, Any] = {"device": DEVICE, "split": 0}
    return [
        ms.zeros((5, 2), **make), ms.ones(5, **make), ms.full((5,), 3.5, **make), ms.arange(7, **make),
        ms.linspace(0, 1, 7, **make), ms.eye(4, **make), ms.zeros_like(x), ms.tril(x),
        ms.random.rand(5, **make), ms.array([1.0, 2.0, 3.0], **make),
    ]  # fmt: skip


def differentiated(x: ms.DNDarray) -> list[Any]:
    results = []
    for function in (
        lambda x: (x * x).sum(),
        lambda x: x.var(),
        lambda x: x.max(),
        lambda x: (x.resplit(1) * 2).mean(),
        lambda x: ms.vmap(lambda row: row.square().sum())(x)[0].sum(),
        lambda x: (x @ x.T).sum(),
    ):
        leaf = ms.DNDarray(x.larray.detach().clone().requires_grad_(), x.layout, x.comm)
        function(leaf).backward()
        results.append(ms.DNDarray(leaf.larray.grad, x.layout, x.comm))
    return results


PATHS: list[Callable[[ms.DNDarray], list[Any]]] = [mapped, moved, indexed, made, differentiated]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_path_stays_on_the_device(path: Callable[[ms.DNDarray], list[Any]], ranks: int) -> None:
    def on_each_rank() -> None:
        x = ms.array(WHOLE, split=0)
        wanted = path(x) if path is not made else None
        there = on_device(x)
        with OtherDevice() as device:
            found = path(there)
            assert not device.reads
            for place, result in enumerate(found):
                assert result.device == DEVICE
                if wanted is not None:
                    assert_close(result, torch.from_numpy(wanted[place].numpy()))

    ms.testing.run(on_each_rank, ranks=ranks)


def test_what_is_on_two_sides_is_refused() -> None:
    x = ms.array(WHOLE, split=0)
    with OtherDevice(), pytest.raises((RuntimeError, ValueError), match="device"):
        on_device(x) + x
