"""Pictures of which rank holds which part of an array, before a mapped call and for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minisplit.core.layout import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With more ranks their numbers would lie on one another.
_NUMBERED_RANKS = 16


def draw(title: str, inputs: Sequence[tuple[str, int | None, Layout, Layout]]) -> Figure:
    """Return a figure with a row for each input: (name, mapped axis, layout before, layout for the call).

    An array is drawn as a rectangle, its mapped axis from left to right, all others from top to bottom; each
    rank's part has a colour. ImportError, which says what to install, without matplotlib.
    """
    figure = new_figure(8, 0.9 + 1.25 * len(inputs))
    rows = figure.subplots(len(inputs), 2, squeeze=False)
    for (name, axis, before, after), (left, right) in zip(inputs, rows, strict=True):
        mapped = "not mapped" if axis is None else f"mapped along axis {axis}"
        draw_layout(left, before, axis, f"input {name} {before.shape}, {mapped}")
        draw_layout(right, after, axis, "stays" if before == after else "moves to")
    figure.suptitle(title)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; ImportError, which says what to install, without matplotlib."""
    try:
        # Not `pyplot`, which would keep the figure, and open a window where there is a screen.
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ImportError('pictures are drawn with matplotlib: pip install "minisplit[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def draw_layout(axes: Any, layout: Layout, horizontal: int | None, title: str) -> None:
    """Draw an array as a rectangle, its axis `horizontal` from left to right, all others from top to bottom."""
    prepare_axes(axes, title, 1, 0)
    if layout.split is None:
        _draw_part(axes, (0, 0, 1, 1), "lightgrey", "all of it on every rank")
        return
    for (start, stop), colour, label in rank_parts(layout):
        in_columns = layout.split == horizontal or horizontal is None
        _draw_part(axes, (start, 0, stop - start, 1) if in_columns else (0, start, 1, stop - start), colour, label)


def rank_parts(layout: Layout) -> Iterator[tuple[tuple[float, float], Any, str]]:
    """Yield, for each rank with a part, its span of a split axis of length 1, its colour and its label."""
    for rank in range(layout.ranks):
        start, stop = layout.span(rank)
        if start < stop:
            label = str(rank) if layout.ranks <= _NUMBERED_RANKS else ""
            yield (start / layout.extent, stop / layout.extent), rank_colour(rank, layout.ranks), label


def prepare_axes(axes: Any, title: str, right: float, top: float) -> None:
    """Give matplotlib's axes a title and no ticks, from 0 to `right`, and from `top` down to 1."""
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlim(0, right)
    axes.set_ylim(1, top)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_part(axes: Any, box: tuple[float, float, float, float], colour: Any, label: str) -> None:
    x, y, width, height = box
    axes.bar(x, height, width, y, align="edge", color=colour, edgecolor="white", linewidth=1)
    axes.text(x + width / 2, y + height / 2, label, ha="center", va="center", fontsize=9)


def rank_colour(rank: int, ranks: int) -> Any:
    """Return a light colour: one of ten, or, of more ranks, a point on a scale."""
    from matplotlib import colormaps  # noqa: PLC0415 - an optional dependency

    if ranks <= 10:
        red, green, blue, _ = colormaps["tab10"](rank)
        # Lighter, so that black text can be read on it.
        return tuple(0.4 + 0.6 * part for part in (red, green, blue))
    return colormaps["viridis"](0.25 + 0.7 * rank / max(ranks - 1, 1))[:3]
