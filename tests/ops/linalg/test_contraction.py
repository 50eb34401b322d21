"""The plans of products: which axis the ranks share."""

from __future__ import annotations

import pytest

import minisplit as ms
from minisplit.core.transfer import elements_moved
from minisplit.ops.linalg.contraction import (
    contraction_steps,
    label_extents,
    parse_subscripts,
    plan_contraction,
    plan_matmul,
)

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_no_operand_larger_than_the_other_is_gathered(ranks: int) -> None:
    tall, wide = ms.Layout((10_000, 10), 0, ranks), ms.Layout((10, 10), 0, ranks)
    plan = plan_matmul(tall, wide, (8, 8))
    assert plan.needed[0] is None
    assert elements_moved(wide, plan.needed[1] or wide) == 100 * (ranks - 1)


def test_an_axis_along_which_no_operand_is_split_needs_an_index_for_every_rank() -> None:
    rows = ms.Layout((8, 100, 10), 1, 8), ms.Layout((8, 10, 1000), 1, 8)
    assert plan_contraction(rows, (4, 4), ("bij", "bjk"), "bik").result.split == 0
    few = ms.Layout((2, 100, 10), 1, 8), ms.Layout((2, 10, 1000), 1, 8)
    assert plan_contraction(few, (4, 4), ("bij", "bjk"), "bik").result.split != 0


def test_the_extents_of_labels() -> None:
    assert label_extents([(2, 1), (5, 3)], ["ij", "jk"]) == {"i": 2, "j": 5, "k": 3}
    with pytest.raises(ValueError, match=r"'j' stands for 3 and 2 in ij,jk of shapes \(3, 3\) and \(2, 3\)"):
        label_extents([(3, 3), (2, 3)], ["ij", "jk"])


def test_plans_are_those_of_their_own_arguments() -> None:
    """A plan is cached. Each argument changes it."""
    rows, columns = ms.Layout((40, 30), 0, 2), ms.Layout((30, 20), 1, 2)
    cached = [
        plan_contraction((rows, columns), itemsizes, ("ij", "jk"), output)
        for itemsizes in ((8, 8), (1, 16))
        for output in ("ik", "ki", "i")
    ]
    assert [(plan.result.shape, plan.result.split) for plan in cached] == [
        ((40, 20), 0), ((20, 40), 1), ((40,), 0), ((40, 20), 1), ((20, 40), 0), ((40,), None)
    ]  # fmt: skip
    assert plan_contraction((rows,), (8,), ("ij",), "j") != plan_contraction((rows,), (8,), ("ji",), "j")
    assert plan_matmul(rows, columns, (8, 8)).result.split == 0
    assert plan_matmul(rows, columns, (1, 16)).result.split == 1
    assert plan_matmul(ms.Layout((30, 30), 0, 2), columns, (8, 8)).result.shape == (30, 20)


def test_small_products_come_first() -> None:
    extents = {"i": 1000, "j": 10, "k": 1000, "l": 10}
    assert contraction_steps(["ij", "jk", "kl"], "il", extents) == [((1, 2), "jl"), ((0, 1), "il")]


def test_labels() -> None:
    """They are cached. The text and each number of dimensions change them."""
    assert parse_subscripts("...ij, j...", (3, 2)) == (("aij", "ja"), "ai")
    assert parse_subscripts("...ij, j...", (3, 1)) == (("aij", "j"), "ai")
    assert parse_subscripts("...ij, j...", (2, 3)) == (("ij", "jab"), "abi")
    assert parse_subscripts("...ij, j... -> ...j", (2, 3)) == (("ij", "jab"), "abj")
    assert parse_subscripts("ij,jk", (2, 2)) == parse_subscripts("ij,jk->ik", (2, 2))
