"""How ranks agree on outputs and failures, and what is said of them: the first failing sample, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.core.layout import Layout
from minisplit.core.pytorch.pytree import pytree
from minisplit.testing import run, traffic
from minisplit.vmap.outcome import describe, explain, hint_for, narrow

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("bad", [{4}, {9}, {7}, {6, 8}, {4, 5, 6, 7, 8, 9}])
def test_narrowed_to_the_first_sample_that_fails(bad: set[int]) -> None:
    ran = []

    def run(start: int, stop: int) -> None:
        ran.append(stop - start)
        if bad & set(range(start, stop)):
            raise ValueError("again")

    assert narrow(ValueError("first"), 4, 10, run) == (min(bad), min(bad) + 1)
    assert sum(ran) <= 2 * 6


def test_not_narrowed_where_it_cannot_be() -> None:
    def run(start: int, stop: int) -> None:
        ran.append((start, stop))
        raise KeyError("another")

    ran: list[tuple[int, int]] = []
    samples = Layout((8,), 0, 1)
    assert explain(ValueError("first"), 0, 8, run, samples, 0).attributes == {"samples": range(8)}
    assert len(ran) > 0, "the error does not come again"
    ran.clear()
    for error in (RuntimeError("CPUAllocator: can't allocate memory"), MemoryError(), SystemExit(3)):
        assert explain(error, 0, 8, run, samples, 0).attributes == {"samples": range(8)}
    assert ran == []


def test_what_is_said_of_the_samples() -> None:
    samples = Layout((10,), 0, 3)
    one = explain(ValueError(), 1, 2, None, samples, 1)
    assert (one.doing, one.attributes) == ("mapping sample 5 of 10", {"samples": range(5, 6)})
    several = explain(ValueError(), 0, 3, None, samples, 2)
    assert (several.doing, several.attributes) == ("mapping samples 7 to 9 of 10", {"samples": range(7, 10)})


def test_hints_are_for_what_they_fit() -> None:
    assert "chunk_size" in hint_for(MemoryError())
    assert "chunk_size" in hint_for(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert hint_for(ValueError("anything")) == ""
    assert "error.samples" in hint_for(RuntimeError("linalg.cholesky: (Batch element 0): not positive-definite"))


def test_descriptions_differ_in_everything_that_ranks_must_agree_on() -> None:
    kind = torch.float32, (3, 4), 0, False, 0
    others = [
        ((torch.float64, (3, 4), 0, False, 0),),
        ((torch.float32, (3, 5), 0, False, 0),),
        ((torch.float32, (3, 4), 1, False, 0),),
        ((torch.float32, (3, 4), 0, True, 0),),
        ((torch.float32, (3, 4), None, False, 1),),
        ((torch.float32, (3, 4), None, False, 2),),
        (kind, kind),
    ]
    samples = Layout((6,), 0, 2)
    first = describe((kind,), None, samples)
    assert describe((kind,), None, samples) is first
    assert describe(((torch.float32, (2, 4), 0, False, 0),), None, samples).digest == first.digest, (
        "on another rank"
    )
    structures = [None, 1, pytree.tree_structure([0]), pytree.tree_structure({"a": 0})]
    digests = {describe((kind,), structure, samples).digest for structure in structures}
    assert len(digests | {describe(kinds, None, samples).digest for kinds in others}) == len(structures) + len(
        others
    )
    longer = describe((kind,), None, Layout((9,), 0, 2))
    assert (longer.digest, [layout.shape for layout in longer.layouts]) == (first.digest, [(9, 4)])
    assert first.record.tolist() == [-(2**62), first.digest, -first.digest]


def on_three_ranks(func: Callable[..., Any], counts: list[int], out_dims: Any = 0) -> dict[str, int]:
    """The messages of a call, which are as many as its plan says."""

    def body() -> dict[str, int]:
        x = ms.zeros(6, split=0).redistribute(counts)
        mapped = ms.vmap(func, out_dims)
        with traffic() as seen:
            mapped(x)
        assert mapped.plan(x).collectives == seen.collectives
        return dict(seen.calls)

    results = run(body, ranks=3)
    assert results == results[:1] * 3
    return results[0]


def test_ranks_without_samples_cost_a_broadcast_and_one_for_each_replicated_output() -> None:
    def func(x: torch.Tensor) -> Any:
        return x, torch.ones(2), torch.ones(3)

    assert on_three_ranks(func, [1, 4, 1]) == {"agree": 1}
    assert on_three_ranks(func, [1, 4, 1], (0, None, None)) == {"agree": 1}
    assert on_three_ranks(func, [0, 4, 2]) == {"agree": 1, "broadcast_bytes": 1}
    assert on_three_ranks(func, [0, 6, 0], (0, None, None)) == {"agree": 1, "broadcast_bytes": 1, "broadcast": 2}


def differing(func: Callable[[torch.Tensor, int], Any]) -> str:
    """The text of the error where ranks return other outputs."""

    def body() -> None:
        ms.vmap(lambda x: func(x, ms.get_comm().rank))(ms.zeros(4, split=0).redistribute([2, 0, 1, 1]))

    with pytest.raises(ValueError, match="must return the same") as caught:
        run(body, ranks=4)
    return str(caught.value).partition(", got ")[2].splitlines()[0]


def test_outputs_that_differ_are_listed_by_rank() -> None:
    plain = "(torch.float32 () per sample, mapped along axis 0)"
    wide = "(torch.float32 (1,) per sample, mapped along axis 0)"
    assert differing(lambda x, rank: x[None] if rank == 2 else x) == f"{plain} on ranks 0, 3; {wide} on rank 2"
    assert differing(lambda x, rank: [x] if rank == 3 else {"a": x}) == (
        f"{plain} as {{'a': *}} on ranks 0, 2; {plain} as [*] on rank 3"
    )


def test_of_many_outputs_those_that_differ_are_listed() -> None:
    def many(x: torch.Tensor, rank: int) -> Any:
        return [x.double() if (rank, i) == (3, 37) else x for i in range(40)]

    text = differing(many)
    assert "output 37 (torch.float32 () per sample" in text
    assert "output 37 (torch.float64 () per sample" in text
    assert "output 36" not in text
    text = differing(lambda x, rank: (x,) * (40 + rank))
    assert text.count("per sample") == 3 * 8
    assert "and 34 more on rank 2" in text


@dataclass
class Pair:
    one: Any
    two: Any


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (lambda v: v[5], r"hint: func sees one sample: input 0 has shape \(3,\)"),
        (lambda v: v.sum(dim=1), r"hint: func sees one sample: input 0 has shape \(3,\)"),
        (lambda v: v @ torch.ones(4), r"hint: func sees one sample: input 0 has shape \(3,\)"),
        (
            lambda v: torch.distributions.Geometric(torch.sigmoid(v)).sample(),
            "the distribution validate_args=False",
        ),
        (
            lambda v: torch.nn.GRU(3, 2)(v[None])[0],
            "recurrent layers and cells: run func on .* by loop=True, or write",
        ),
        (
            lambda v: Pair(v, v),
            r"a dataclass is a structure of its fields after torch\.export\.register_dataclass\(Pair\)",
        ),
    ],
)
def test_errors_say_what_to_do(func: Callable[..., Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.compile, once it was used, switches that off for good.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    with pytest.raises((IndexError, RuntimeError, TypeError), match=text):
        ms.vmap(func, randomness="different")(ms.ones((4, 3), split=0))
