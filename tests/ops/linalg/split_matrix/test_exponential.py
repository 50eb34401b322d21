"""The exponential of a matrix that is cut: exact at every degree. For gradients see test_one_matrix."""

from __future__ import annotations

import math

import pytest
import torch
from matrices import numbers

import minisplit as ms
from minisplit.ops.linalg.split_matrix.exponential import LIMITS, PADE, exponential
from minisplit.testing import Whole, assert_close, run


def check() -> None:
    for dtype, limits in LIMITS.items():
        for norm in (0, *limits.values(), 40):
            x = numbers((5, 5), dtype)
            x *= norm / torch.linalg.matrix_norm(x, 1)
            layout = ms.Layout((5, 5), 1, 2, (3, 2))
            tolerance = 40 * max(norm, 1) * torch.finfo(dtype).eps
            wanted = torch.linalg.matrix_exp(x.double()).to(dtype)
            found = exponential(Whole(x, layout).cut())
            assert_close(found, wanted, rtol=0, atol=tolerance * float(wanted.norm()))
    assert exponential(ms.full((3, 3), math.inf, split=0)).isnan().all().item()


@pytest.mark.serial
def test_all_degrees_in_both_precisions() -> None:
    run(check, ranks=2)


@pytest.mark.serial
def test_the_approximants_are_those_of_pade() -> None:
    f = math.factorial
    for n, found in PADE.items():
        wanted = [f(2 * n - k) * f(n) / (f(2 * n) * f(k) * f(n - k)) for k in range(n + 1)]
        assert found == tuple(round(each * found[0]) for each in wanted)
