"""Matrices transposed in place: the numbers of all layouts, and the memory beside."""

from __future__ import annotations

import pytest
import torch
from alive import Alive
from layouts import layouts
from matrices import numbers

import minisplit as ms
from minisplit.ops.linalg.split_matrix import transposition
from minisplit.testing import Whole, assert_close, run

N = 13


def check() -> None:
    comm = ms.get_comm()
    for dtype in (torch.float64, torch.complex64):
        x = numbers((N, N), dtype)
        for layout in [each for each in layouts((N, N), comm.size) if each.split == 1]:
            array = Whole(x, layout).cut()
            transposition.transpose(array.larray, layout, comm)
            assert_close(array, x.T, rtol=0, atol=0)
            for upper in (False, True):
                triangle = (x.triu(1) if upper else x.tril(-1)).clone()
                array = Whole(x, layout).cut()
                transposition.complete_hermitian(array.larray, layout, comm, upper=upper)
                assert_close(array, triangle + triangle.mH + x.diagonal().real.diag(), rtol=0, atol=0)


@pytest.mark.serial
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_numbers(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transposition, "WIDTH", 2)
    run(check, ranks=ranks)


def peak() -> float:
    layout, comm = ms.Layout((400, 400), 1, 4), ms.get_comm()
    x = Whole(numbers((400, 400)), layout).cut()
    with ms.debug(False), Alive() as seen:
        transposition.transpose(x.larray, layout, comm)
    return seen.peak / x.larray.nbytes


@pytest.mark.serial
def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of two times 4 of 100 columns on each rank; ranks that are threads copy for each other.
    monkeypatch.setattr(transposition, "WIDTH", 4)
    assert max(run(peak, ranks=4)) < 0.2
