"""What type checkers know of calls: mypy and pyright check this file (`python3 dev.py lint`). Nothing runs it."""

from __future__ import annotations

from typing import Any, assert_type

import torch
from torch import Tensor

import minisplit as ms
from minisplit import DNDarray


def norm(v: Tensor) -> Tensor:
    return v.abs().sum()


def two(v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return v, w


def named(v: Tensor) -> dict[str, Tensor]:
    return {"v": v}


@ms.vmap
def decorated(v: Tensor) -> Tensor:
    return v * 2


@ms.vmap(out_dims=1, randomness="different", chunk_size=8)
def with_options(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return v, v, v


def calls(x: DNDarray) -> None:
    (y,) = ms.vmap(norm)(x)
    assert_type(y, DNDarray)
    assert_type(ms.vmap(norm).one(x), DNDarray)
    assert_type(ms.vmap(norm)(x)[0], DNDarray)
    first, second = ms.vmap(two, in_dims=(0, None))(x, torch.ones(3))
    assert_type(first, DNDarray)
    assert_type(second, DNDarray)
    assert_type(ms.vmap(named, chunk_size="auto")(x), dict[str, DNDarray])
    assert_type(decorated(x), tuple[DNDarray])
    assert_type(decorated.one(x), DNDarray)
    assert_type(with_options(x), tuple[DNDarray, DNDarray, DNDarray])
    assert_type(ms.vmap(torch.sin).one(x), DNDarray)
    stored: Any = ms.vmap(norm, out="norms.npy")(x)
    print(stored, ms.vmap(norm).plan(x).bytes_moved)
    ms.vmap(norm, randomness="sometimes")(x)  # type: ignore[call-overload]


def arrays(x: DNDarray) -> None:
    assert_type(x == 1, DNDarray)
    assert_type((x == 1).sum(), DNDarray)
    assert_type((x != 2).any(), DNDarray)
    print(max(x.counts), [count + 1 for count in x.counts], x.displs[0], x.layout.counts[0])
    assert_type(ms.array([1.0, 2.0], split=0), DNDarray)
    print(ms.array({"w": torch.ones(2)}, split=0)["w"].shape)
    assert_type(ms.resplit(x, None), DNDarray)
    assert_type(ms.resplit({"w": x}), dict[str, DNDarray])
    assert_type(ms.replicate(torch.nn.Linear(2, 1)), torch.nn.Linear)
