"""What a plan says. That calls send what it says, for anything drawn: `test_properties.py`."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.testing import run, traffic

pytestmark = pytest.mark.serial


def planned(ranks: int, body: Any) -> Any:
    """What `body` returns on rank 0, the same on all."""
    results = run(body, ranks=ranks)
    assert all(str(result) == str(results[0]) for result in results)
    return results[0]


def test_the_example_of_the_issue_unbalanced_against_balanced() -> None:
    """(1, 5, 0, 2) and (2, 2, 2, 2): evened out, since 5 of 8 samples are more than twice the fair share."""

    def body() -> tuple[Any, int, int]:
        a = ms.zeros((8, 3), split=0).redistribute([1, 5, 0, 2])
        b = ms.zeros((8, 3), split=0)
        mapped = ms.vmap(torch.add)
        plan = mapped.plan(a, b)
        with traffic() as seen:
            mapped(a, b)
        return plan, seen.collectives, int(ms.get_comm().allreduce(torch.tensor(seen.bytes_sent)))

    plan, collectives, sent = planned(4, body)
    # One row goes from rank 1 to rank 0, two to rank 2.
    assert (plan.bytes_moved, plan.collectives) == (sent, collectives)
    assert plan.collectives == 2
    assert plan.counts == (2, 2, 2, 2)
    assert plan.bytes_moved == 3 * (3 * 4)


def test_three_inputs_on_three_splits_are_one_exchange() -> None:
    def body() -> tuple[Any, Any, int]:
        a, b, c = (ms.zeros((4, 6, 8), split=split) for split in (0, 1, 2))
        mapped = ms.vmap(lambda x, y, z: (x + y, z.sum()), (0, -1), in_dims=(1, 1, 1))
        plan = mapped.plan(a, b, c)
        with traffic() as seen:
            mapped(a, b, c)
        return plan, dict(seen.calls), int(ms.get_comm().allreduce(torch.tensor(seen.bytes_sent)))

    plan, calls, sent = planned(3, body)
    assert calls == {"exchange": 1, "agree": 1}
    assert (plan.bytes_moved, plan.collectives) == (sent, 2)
    assert [each.bytes_moved > 0 for each in plan.inputs] == [True, False, True]
    assert [(each.shape, each.split) for each in plan.outputs] == [((6, 4, 8), 0), ((6,), 0)]


def test_the_table() -> None:
    def body() -> Any:
        x = ms.ones((1797, 64), split=0)
        labels = ms.zeros(1797, dtype=torch.int64, split=0).redistribute([224, 224, 224, 1125])
        weights = {"weight": ms.zeros((10, 64), split=1), "bias": ms.zeros(10)}

        def loss(image: torch.Tensor, label: torch.Tensor, model: dict[str, torch.Tensor]) -> Any:
            logits = model["weight"] @ image + model["bias"]
            return {"loss": torch.logsumexp(logits, 0) - logits[label * 0], "logits": logits}

        in_dims = (0, 0, {"weight": None, "bias": None})
        return ms.vmap(loss, chunk_size=256, in_dims=in_dims).plan(x, labels, weights)

    plan = planned(4, body)
    assert (
        str(plan)
        == """\
vmap of loss: 1797 samples on 4 ranks, [450,449,449,449]: imbalance 1.00

input       shape      dtype   axis now         then         moved
0           (1797, 64) float32 0    split 0     stays          0 B
1           (1797,)    int64   0    0 224..1125 split 0    8.8 KiB
2['weight'] (10, 64)   float32 -    split 1     replicated 7.5 KiB
2['bias']   (10,)      float32 -    replicated  stays          0 B
output
'loss'      (1797,)    float32                  split 0
'logits'    (1797, 10) float32                  split 0

16.3 KiB moved, 2 collective calls; chunks of 256 samples"""
    )


def test_every_line_fits_and_what_is_unknown_is_said() -> None:
    def body() -> Any:
        arrays = [ms.empty((n, 100000, 3), split=0, dtype=torch.complex128) for n in (700,) * 3]
        return ms.vmap(lambda x, y, z: x.sum().item() * y).plan(*arrays)

    plan = planned(64, body)
    assert max(map(len, str(plan).splitlines())) <= 80
    assert plan.outputs is None
    assert "outputs: unknown before the call (RuntimeError:" in str(plan)
    assert plan.unknown
    assert (plan.samples, plan.imbalance) == (700, 11 * 64 / 700)


def test_a_long_name_leaves_room_for_the_rest_of_its_line() -> None:
    def body() -> Any:
        def a_function_with_a_name_as_long_as_they_get(x: torch.Tensor) -> torch.Tensor:
            return x

        return ms.vmap(a_function_with_a_name_as_long_as_they_get).plan(ms.ones((64, 1797), split=1))

    line = str(planned(4, body)).splitlines()[0]
    assert line == "vmap of a_function_…: 1797 samples on 4 ranks, [450,449,449,449]: imbalance 1.00"
    assert len(line) == 80


def test_a_plan_runs_nothing_and_sends_nothing() -> None:
    seen = []

    def body() -> None:
        def func(x: torch.Tensor) -> torch.Tensor:
            seen.append(type(x).__name__)
            return x

        x = ms.ones(4, split=0).redistribute([4, 0])
        with traffic() as told:
            plan = ms.vmap(func, chunk_size="auto").plan(x)
        assert told.collectives == 0
        assert plan.chunk_size == "auto"
        assert "chunks of a size to be measured" in str(plan)

    run(body, ranks=2)
    assert len(seen) == 2, "once per rank, on a tensor without data"


def test_a_measured_chunk_size_is_in_later_plans() -> None:
    def body() -> Any:
        x = ms.zeros((3, 4000), split=0)  # must be re-split, so that shards change their shape
        mapped = ms.vmap(torch.sin, in_dims=1, chunk_size="auto")
        for _ in range(6):
            mapped(x)
        return mapped.plan(x).chunk_size

    assert all(isinstance(size, int) for size in run(body, ranks=2))


def test_what_a_call_would_raise_a_plan_raises() -> None:
    with pytest.raises(ValueError, match="the same number of samples"):
        run(lambda: ms.vmap(torch.add).plan(ms.zeros(4, split=0), ms.zeros(5, split=0)), ranks=2)


def test_the_picture_has_a_part_for_each_rank_before_and_after() -> None:
    def body() -> Any:
        a, b = ms.zeros((8, 3), split=1), ms.zeros(8, split=0).redistribute([8, 0, 0])
        return ms.vmap(torch.add, in_dims=0).plan(a, b)

    figure = planned(3, body).plot()
    panels = figure.get_axes()
    assert len(panels) == 4
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [
        ["0", "1", "2"],
        ["0", "1", "2"],
        ["0"],
        ["0", "1", "2"],
    ]
    assert [panel.get_title(loc="left") for panel in panels][:2] == [
        "input 0 (8, 3), mapped along axis 0",
        "moves to",
    ]


def test_without_matplotlib_the_picture_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(1, lambda: ms.vmap(torch.sin).plan(ms.zeros(4, split=0)))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"minisplit\[plot\]"):
        plan.plot()
