"""The repr of an array, as text and for notebooks."""

from __future__ import annotations

import re

import pytest
import torch

from minisplit.core.layout import Layout
from minisplit.core.printing import local_html, local_repr

pytestmark = pytest.mark.serial


def test_text_says_what_a_rank_holds() -> None:
    layout, shard = Layout((5, 3), 0, 2, (4, 1)), torch.zeros((1, 3))
    assert local_repr(layout, 1, shard) == (
        f"DNDarray(shape=(5, 3), split=0, dtype=torch.float32, device=cpu; rank 1 of 2 holds [4:5, :])\n{shard!r}"
    )
    assert "rank 1 of 2 holds all of it)" in local_repr(Layout((5, 3), None, 2), 1, torch.zeros((5, 3)))


def rectangles(html: str) -> list[tuple[float, ...]]:
    """x, y, width, height and opacity of each."""
    pattern = r'x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" .*? fill-opacity="(.*?)"'
    return [tuple(map(float, found)) for found in re.findall(pattern, html)]


def test_a_picture_has_a_part_for_each_rank_with_indices() -> None:
    rows = local_html(Layout((4, 2), 0, 3, (1, 0, 3)), 2, torch.zeros((3, 2)))
    assert rectangles(rows) == [(0, 0, 160, 24, 0.3), (0, 24, 160, 72, 0.9)]
    columns = local_html(Layout((4, 2), 1, 2), 0, torch.zeros((4, 1)))
    assert rectangles(columns) == [(0, 0, 80, 96, 0.9), (80, 0, 80, 96, 0.3)]
    assert rectangles(local_html(Layout((4,), None, 2), 1, torch.zeros(4))) == [(0, 0, 160, 96, 0.9)]
    assert rectangles(local_html(Layout((0, 2), 0, 2), 1, torch.zeros((0, 2)))) == []


def test_a_table_has_the_facts_and_no_more_than_a_few_counts() -> None:
    html = local_html(Layout((2000, 2), 0, 1000), 3, torch.zeros((2, 2)))
    assert ">indices 6 to 8: (2, 2)</td>" in html
    assert f">{', '.join('2' * 16)} and 984 more</td>" in html
    assert ">all on every rank</td>" in local_html(Layout((2,), None, 2), 0, torch.zeros(2))
