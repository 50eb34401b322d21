"""A picture of what ranks did over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minisplit.viz.layout_figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# They can be read on light and on dark paper, and by those who see no difference between red and green.
COLOURS = {"computing": "#4c78a8", "moving": "#f2a541", "waiting": "#b8b8b8"}
# What a rank did, from when to when in seconds, and in which call.
Span = tuple[str, float, float, str]


def draw(rows: Sequence[tuple[int, float, Sequence[Span]]]) -> Figure:
    """Return a figure with a row of bars for each (rank, seconds, spans). ImportError without matplotlib."""
    figure = new_figure(9, 1.4 + 0.42 * max(len(rows), 1))
    from matplotlib.patches import Patch  # noqa: PLC0415 - an optional dependency

    axes = figure.subplots()
    longest = max((seconds for _, seconds, _ in rows), default=0.0)
    scale, unit = (1e3, "milliseconds") if longest < 1 else (1.0, "seconds")
    for rank, _, spans in rows:
        for activity, colour in COLOURS.items():
            bars = [(start * scale, (stop - start) * scale) for name, start, stop, _ in spans if name == activity]
            axes.broken_barh(bars, (rank - 0.4, 0.8), facecolors=colour)
    axes.set_yticks([rank for rank, *_ in rows], [f"rank {rank}" for rank, *_ in rows])
    # From top to bottom.
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, longest * scale or 1)
    axes.set_xlabel(unit)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)
    return figure
