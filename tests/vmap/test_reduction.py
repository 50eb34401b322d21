"""Outputs that are reduced over the samples, against torch's reductions of what `torch.vmap` gives for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from layouts import KINDS, dealt, layout_of

import minisplit as ms
from minisplit.testing import Whole, assert_close, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

Comm = ms.Communication
HOW = ("sum", "mean", "max", "min")
OF_TORCH: dict[str, Any] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def all_on(rank: int, extent: int, comm: Comm) -> list[int]:
    return [extent if r == rank % comm.size else 0 for r in range(comm.size)]


@hs.composite
def wholes(draw: hs.DrawFn) -> Whole:
    dtype = draw(
        hs.sampled_from(
            (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
        )
    )
    shape = (draw(hs.integers(1, 7)), *draw(st.shapes(max_dims=2, max_side=3)))
    return Whole(draw(st.tensors(shape, dtype)), draw(st.layouts(shape)))


@given(
    whole=wholes(),
    hows=hs.lists(hs.sampled_from((*HOW, 0, None)), min_size=1, max_size=5),
    chunk_size=hs.sampled_from((None, 1, 2, 3, "auto")),
    loop=hs.booleans(),
)
@spmd
def test_equals_torch_on_the_gathered_inputs_and_sends_what_it_plans(
    whole: Whole, hows: list[Any], chunk_size: Any, loop: bool
) -> None:
    """On small numbers, whose sums are exact in any order."""
    x, tensor = whole.cut(), whole.tensor
    inexact = tensor.is_floating_point()
    hows = ["sum" if how == "mean" and not inexact else how for how in hows]

    def func(v: torch.Tensor) -> list[Any]:
        return [torch.ones(2) if how is None else {"is": v} for how in hows]

    mapped = ms.vmap(func, hows, in_dims=0, chunk_size=chunk_size)
    with traffic() as seen:
        outputs = mapped(x)
    for how, output in zip(hows, outputs, strict=True):
        if how is None:
            assert_equal(output, torch.ones(2))
            continue
        want = tensor if how == 0 else OF_TORCH[how](tensor, 0)
        assert output["is"].split == (0 if how == 0 else None)
        (assert_close if how == "mean" else assert_equal)(output["is"], want)
    plan = mapped.plan(x)
    assert (seen.collectives if x.comm.size > 1 else 0) == plan.collectives
    assert plan.outputs is not None
    leaves = [x if how is None else x["is"] for x, how in zip(outputs, hows, strict=True)]
    assert [(x.shape, x.split, f"torch.{x.dtype}") for x in plan.outputs] == [
        (x.shape, x.split, str(x.dtype)) for x in leaves
    ]
    assert [x.reduction for x in plan.outputs] == [how if how in HOW else None for how in hows]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_every_layout(comm: Comm, how: str, kind: str, chunk_size: int | None) -> None:
    whole = values(7, 5)
    for split in (0, 1):
        x = dealt(whole, layout_of((7, 5), split, kind, comm.size), comm)
        y, z = ms.vmap(lambda v: (v * 3, v.sum()), (how, 0), in_dims=1, chunk_size=chunk_size)(x)
        assert (y.split, z.split) == (None, 0)
        assert_close(y, OF_TORCH[how](whole * 3, 1))
        assert_close(z, whole.sum(0))
