"""Pictures of layouts before and for a mapped call. `plot_layout` draws by the same functions: test_plot.py."""

from __future__ import annotations

import sys

import pytest

import minisplit as ms
from minisplit.viz.layout_figure import draw, rank_colour, rank_parts

pytestmark = pytest.mark.serial


def boxes(axes: object) -> list[tuple[float, float, float, float]]:
    return [tuple(round(n, 3) for n in patch.get_bbox().bounds) for patch in axes.patches]  # type: ignore[attr-defined]


def test_a_row_for_each_input() -> None:
    before, after = ms.Layout((8, 4), 0, 2), ms.Layout((8, 4), 1, 2, (1, 3))
    replicated = ms.Layout((5,), None, 2)
    figure = draw("title", [("0", 1, before, after), ("'w'", None, replicated, replicated)])
    first, second, third, fourth = figure.axes
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["input 0 (8, 4), mapped along axis 1", "moves to", "input 'w' (5,), not mapped", "stays"]
    # The mapped axis goes from left to right, so what is split along the other one lies on top of one another.
    assert boxes(first) == [(0, 0, 1, 0.5), (0, 0.5, 1, 0.5)]
    assert boxes(second) == [(0, 0, 0.25, 1), (0.25, 0, 0.75, 1)]
    assert boxes(third) == boxes(fourth) == [(0, 0, 1, 1)]
    assert [text.get_text() for axes in (first, third) for text in axes.texts] == [
        "0",
        "1",
        "all of it on every rank",
    ]


def test_parts_of_ranks() -> None:
    parts = list(rank_parts(ms.Layout((4,), 0, 3, (1, 0, 3))))
    assert parts == [((0, 0.25), rank_colour(0, 3), "0"), ((0.25, 1), rank_colour(2, 3), "2")]
    assert not list(rank_parts(ms.Layout((0,), 0, 3)))
    many = draw("", [("x", 0, ms.Layout((40,), 0, 40), ms.Layout((40,), 0, 16))])
    assert {text.get_text() for text in many.axes[0].texts} == {""}
    assert [text.get_text() for text in many.axes[1].texts] == [str(rank) for rank in range(16)]


def test_colours_are_light() -> None:
    for ranks in (1, 10, 11, 1000):
        colours = [rank_colour(rank, ranks) for rank in range(ranks)]
        assert all(len(colour) == 3 and max(colour) <= 1 for colour in colours)
        assert len(set(colours)) >= min(ranks, 100)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (lambda: draw("", []), lambda: ms.plot_layout(ms.Layout((2,), 0, 1))):
        with pytest.raises(ImportError, match=r'pip install "minisplit\[plot\]"'):
            call()
