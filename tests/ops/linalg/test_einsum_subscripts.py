"""What subscripts mean, and the order of products."""

from __future__ import annotations

import pytest

from minisplit.ops.linalg.einsum_subscripts import contraction_steps, parse_subscripts

pytestmark = pytest.mark.serial


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
