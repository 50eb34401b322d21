"""Pictures of who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minisplit.core.dndarray import DNDarray
from minisplit.core.layout import Layout
from minisplit.core.stored import StoredArray
from minisplit.vmap.pictures import draw_layout, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_layout(*arrays: DNDarray | StoredArray | Layout, names: tuple[str, ...] = ()) -> Figure:
    """A figure of which rank holds what of each array, a rectangle with a colour for each rank. Local.

    arrays: DNDarrays, arrays in files, or layouts. The last axis goes from left to right, all others from top to
    bottom. names: what to call them. Needs matplotlib. Raises TypeError for anything else, ValueError for no array
    or another number of names.

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
        draw_layout(axes, layout, max(layout.ndim - 1, 0), f"{names[i]}: {layout}" if names else str(layout))
    return figure


def _layout_of(x: object) -> Layout:
    if isinstance(x, Layout):
        return x
    if isinstance(x, DNDarray | StoredArray):
        return x.layout
    raise TypeError(f"plot_layout draws DNDarrays, arrays in files and layouts, got {type(x).__name__}")
