"""What is printed of arrays; how notebooks show them, which is in minisplit/core/printing.py."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from layouts import layouts

import minisplit as ms
from minisplit.core.communication.agreement import agreement
from minisplit.testing import Whole, traffic


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (40, 30), (2000,), (9, 5, 40)], ids=str)
def test_values_are_shown_once_as_numpy_shows_them(
    comm: ms.Communication, rank: int, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    for layout in layouts(shape, comm.size)[:4]:
        x = Whole(ms.array(numbers).larray, layout).cut()
        with traffic() as seen:
            x.show()
        shown = capsys.readouterr().out
        wanted = f"{numbers}\n{layout}, torch.int64\n" if rank == 0 else ""
        with agreement(comm, "checking"):
            assert shown == wanted
            assert seen.bytes_sent <= 8 * 1200  # of 1,800 numbers or more only those at the edges


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.float16])
def test_values_of_which_numpy_has_no_dtype(
    rank: int, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    ms.array([0.5, 3.0], dtype=dtype, split=0).show()
    shown = capsys.readouterr().out
    assert shown.startswith("[0.5 3. ]\n(2,) split 0") == shown.endswith(f"{dtype}\n") == (rank == 0)


def test_one_rank_may_print_otherwise(comm: ms.Communication, rank: int, size: int) -> None:
    """Which collective calls are made must not depend on it."""
    with np.printoptions(threshold=9 if rank == size - 1 else 1000), agreement(comm, "showing"):
        ms.ones((40, 3), split=0).show()


def test_print0(rank: int, capsys: pytest.CaptureFixture[str]) -> None:
    ms.print0("a", 1, sep="-", end="!")
    assert capsys.readouterr().out == ("a-1!" if rank == 0 else "")


def test_in_a_notebook(comm: ms.Communication, size: int) -> None:
    for layout in layouts((6, 4), comm.size):
        x = Whole(ms.zeros((6, 4)).larray, layout).cut()
        with traffic() as seen:
            html = x._repr_html_()
        assert seen.collectives == 0
        assert html.count("<rect") == (1 if layout.split is None else sum(n > 0 for n in layout.counts or ()))
        assert re.search(rf"<th[^>]*>split</th><td[^>]*>{layout.split}</td>", html)


def test_what_is_no_array(raises_alike: Any) -> None:
    with raises_alike(TypeError, match="x must be a DNDarray"):
        ms.show(3)  # type: ignore[arg-type]


@pytest.mark.serial
def test_printoptions_are_those_of_torch_and_numpy() -> None:
    x = ms.array([1 / 3] * 9)
    try:
        ms.set_printoptions(precision=2, threshold=5, edgeitems=1)
        assert repr(x).endswith("tensor([0.33,  ..., 0.33])")
        assert str(x.numpy()) == "[0.33 ... 0.33]"
        ms.set_printoptions(profile="full", sci_mode=False)
        assert "..." not in repr(x) + str(x.numpy())
        with pytest.raises(ValueError, match="profile must be one of default, short, full, got 'long'"):
            ms.set_printoptions(profile="long")  # type: ignore[arg-type]
    finally:
        ms.set_printoptions(profile="default")
        np.set_printoptions(precision=8, linewidth=75, suppress=False)
        torch.set_printoptions(sci_mode=None)
