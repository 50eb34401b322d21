"""Pictures of who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minisplit.core.array import DNDarray
from minisplit.core.layout import Layout
from minisplit.core.storage import StoredArray
from minisplit.viz.layout_figure import NUMBERED, colour_of, draw_layout, new_figure, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where the back of a box is, to the right of its front and above it.
_RIGHT, _ABOVE = 0.45, 0.4


def plot_layout(*arrays: DNDarray | StoredArray | Layout, names: tuple[str, ...] = ()) -> Figure:
    """A figure of which rank holds what of each array, a part with a colour for each rank. Local.

    arrays: DNDarrays, arrays in files, or layouts. The last axis goes from left to right, all others from top to
    bottom; an array of three axes is a box, whose first axis goes back. names: what to call them. Needs
    matplotlib. Raises TypeError for anything else, ValueError for no array or another number of names.

    >>> import minisplit as ms
    >>> figure = ms.plot_layout(ms.zeros((8, 4), split=0), ms.Layout((8, 4), 1, ranks=3))
    >>> [axes.get_title(loc="left") for axes in figure.axes][1]
    '(8, 4) split 1 over 3 ranks'
    """
    layouts = [_layout_of(x) for x in arrays]
    if not layouts:
        raise ValueError("plot_layout draws at least one array, got none")
    if names and len(names) != len(layouts):
        raise ValueError(f"plot_layout needs a name for each of {len(layouts)} arrays, got {len(names)}")
    figure = new_figure(1 + 3.2 * len(layouts), 2.8)
    panels = figure.subplots(1, len(layouts), squeeze=False)[0]
    for i, (axes, layout) in enumerate(zip(panels, layouts, strict=True)):
        title = f"{names[i]}: {layout}" if names else str(layout)
        if layout.ndim == 3:
            _draw_box(axes, layout, title)
        else:
            draw_layout(axes, layout, max(layout.ndim - 1, 0), title)
    return figure


def _draw_box(axes: Any, layout: Layout, title: str) -> None:
    """An array of three axes, seen from the front, the right and above: a slab for each rank."""
    prepare(axes, title, 1 + _RIGHT, -_ABOVE)
    axes.set_axis_off()
    whole = [(0.0, 1.0)] * 3
    if layout.split is None:
        _draw_slab(axes, whole, (0.83, 0.83, 0.83), "all of it on every rank", front=True)
        return
    # The last to be drawn hides what is behind it, below it and to its left.
    ranks = range(layout.ranks)
    for rank in ranks if layout.split == 2 else reversed(ranks):
        start, stop = (place / max(layout.extent, 1) for place in layout.span(rank))
        if start < stop:
            spans = [*whole[: layout.split], (start, stop), *whole[layout.split + 1 :]]
            label = str(rank) if layout.ranks <= NUMBERED else ""
            _draw_slab(axes, spans, colour_of(rank, layout.ranks)[:3], label, front=layout.split > 0)


def _draw_slab(
    axes: Any, spans: list[tuple[float, float]], colour: tuple[float, ...], label: str, *, front: bool
) -> None:
    """Three sides of a part of a box, and a label on the front or on the top."""
    from matplotlib.patches import Polygon  # noqa: PLC0415 - an optional dependency

    (near, far), (top, bottom), (left, right) = spans

    def side(*corners: tuple[float, float, float]) -> list[tuple[float, float]]:
        return [(x + _RIGHT * z, y - _ABOVE * z) for z, y, x in corners]

    faces = [
        side((near, top, left), (near, top, right), (near, bottom, right), (near, bottom, left)),
        side((near, top, left), (near, top, right), (far, top, right), (far, top, left)),
        side((near, top, right), (far, top, right), (far, bottom, right), (near, bottom, right)),
    ]
    for face, light in zip(faces, (1.0, 1.12, 0.85), strict=True):
        shade = [min(1.0, part * light) for part in colour]
        axes.add_patch(Polygon(face, facecolor=shade, edgecolor="white", linewidth=1))
    labelled = faces[0 if front else 1]
    x, y = (sum(places) / 4 for places in zip(*labelled, strict=True))
    axes.text(x, y, label, ha="center", va="center", fontsize=9)


def _layout_of(x: object) -> Layout:
    if isinstance(x, Layout):
        return x
    if isinstance(x, DNDarray | StoredArray):
        return x.layout
    raise TypeError(f"plot_layout draws DNDarrays, arrays in files and layouts, got {type(x).__name__}")
