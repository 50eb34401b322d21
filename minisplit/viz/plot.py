"""`plot_layout`: pictures of which rank holds which part of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minisplit.core.array import DNDarray
from minisplit.core.layout import Layout
from minisplit.core.storage import StoredArray
from minisplit.viz.layout_figure import draw_layout, new_figure, prepare_axes, rank_parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# How far the back of a box lies to the right of its front, and above it. The front is 1 wide and 1 high.
_DEPTH_RIGHT, _DEPTH_UP = 0.45, 0.4


def plot_layout(*arrays: DNDarray | StoredArray | Layout, names: tuple[str, ...] = ()) -> Figure:
    """Return a figure of which rank holds which part of each array, with a colour for each rank.

    The last axis goes from left to right, all others from top to bottom. An array of three axes is a box; its
    first axis goes from the front to the back.

    Parameters
    ----------
    *arrays : DNDarray or StoredArray or Layout
        The arrays to draw, side by side.
    names : tuple of str, optional
        A name for each array. By default they have no names.

    Returns
    -------
    matplotlib.figure.Figure
        The figure. Notebooks show it; `savefig` writes it to a file.

    Raises
    ------
    TypeError
        If an argument is neither an array nor a layout.
    ValueError
        If there is no array, or another number of names.
    ImportError
        If matplotlib is missing.

    Communication
    -------------
    Local.

    Examples
    --------
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
    """Draw an array of three axes, seen from the front, the right and above: a slab for each rank."""
    prepare_axes(axes, title, 1 + _DEPTH_RIGHT, -_DEPTH_UP)
    axes.set_axis_off()
    full = [(0.0, 1.0)] * 3
    if layout.split is None:
        _draw_slab(axes, full, (0.83, 0.83, 0.83), "all of it on every rank", on_front=True)
        return
    # A slab hides what is behind it, below it and to its left, so those come first.
    parts = list(rank_parts(layout))
    for span, colour, label in parts if layout.split == 2 else reversed(parts):
        spans = [*full[: layout.split], span, *full[layout.split + 1 :]]
        # Slabs behind one another show only their tops.
        _draw_slab(axes, spans, colour, label, on_front=layout.split > 0)


def _draw_slab(
    axes: Any, spans: list[tuple[float, float]], colour: tuple[float, ...], label: str, *, on_front: bool
) -> None:
    """Draw three faces of a part of a box, and a label on the front or on the top."""
    (near, far), (top, bottom), (left, right) = spans

    def project(*corners: tuple[float, float, float]) -> list[tuple[float, float]]:
        return [(x + _DEPTH_RIGHT * z, y - _DEPTH_UP * z) for z, y, x in corners]

    faces = [
        project((near, top, left), (near, top, right), (near, bottom, right), (near, bottom, left)),
        project((near, top, left), (near, top, right), (far, top, right), (far, top, left)),
        project((near, top, right), (far, top, right), (far, bottom, right), (near, bottom, right)),
    ]
    # The top is lighter than the front, and the right side darker, as if light came from above.
    for face, light in zip(faces, (1.0, 1.12, 0.85), strict=True):
        shade = [min(1.0, part * light) for part in colour]
        axes.fill(*zip(*face, strict=True), facecolor=shade, edgecolor="white", linewidth=1)
    x, y = (sum(corners) / 4 for corners in zip(*faces[0 if on_front else 1], strict=True))
    axes.text(x, y, label, ha="center", va="center", fontsize=9)


def _layout_of(x: object) -> Layout:
    if isinstance(x, Layout):
        return x
    if isinstance(x, DNDarray | StoredArray):
        return x.layout
    raise TypeError(f"plot_layout draws DNDarrays, arrays in files and layouts, got {type(x).__name__}")
