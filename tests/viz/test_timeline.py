"""The picture of what ranks did over time."""

from __future__ import annotations

import pytest

from minisplit.viz.timeline import COLOURS, draw

pytestmark = pytest.mark.serial


@pytest.mark.parametrize(("seconds", "unit", "scale"), [(2.0, "seconds", 1.0), (0.5, "milliseconds", 1e3)])
def test_bars_are_as_long_as_the_times(seconds: float, unit: str, scale: float) -> None:
    spans = [("computing", 0.0, 0.25, ""), ("waiting", 0.25, 0.3, "agree"), ("computing", 0.3, 0.5, "")]
    figure = draw([(0, seconds, spans), (1, 0.25, [])])
    [axes] = figure.axes
    assert axes.get_xlabel() == unit
    assert axes.get_xlim() == (0, seconds * scale)
    bars = axes.collections
    assert len(bars) == 2 * len(COLOURS)
    starts = [[path.get_extents().bounds[::2] for path in bar.get_paths()] for bar in bars[:3]]
    assert [len(each) for each in starts] == [2, 0, 1]
    assert starts[0] == [pytest.approx((0, 0.25 * scale)), pytest.approx((0.3 * scale, 0.2 * scale))]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rank 0", "rank 1"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(COLOURS)


def test_nothing_is_drawn_of_nothing() -> None:
    [axes] = draw([]).axes
    assert axes.get_xlim() == (0, 1)
    assert not axes.collections
