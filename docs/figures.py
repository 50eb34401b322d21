"""Draws the figures of the pages: `python docs/figures.py` writes them to docs/figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

import minisplit as ms
from minisplit.viz.timeline import draw

FOLDER = Path(__file__).with_name("figures")
# Of four ranks: light, so that black text is read on them.
COLOURS = ("#8dbbdf", "#ffc078", "#93d3a2", "#e8a3a6")
GREY, INK, PAPER = "#d4d4d4", "#222222", "#ffffff"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    # The same file each time.
    "svg.hashsalt": "minisplit",
}


def layouts() -> Figure:
    """The ways in which four ranks hold an array."""
    kinds = [
        ("split=0", ms.Layout((10, 6), 0, 4)),
        ("split=1", ms.Layout((10, 6), 1, 4)),
        ("split=0, ragged", ms.Layout((10, 6), 0, 4, (5, 0, 1, 4))),
        ("split=None", ms.Layout((10, 6), None, 4)),
    ]
    figure, axes = canvas(8, 2.9, len(kinds))
    for ax, (title, layout) in zip(axes, kinds, strict=True):
        rows, columns = layout.shape
        ax.set_xlim(-0.3, columns + 0.3)
        ax.set_ylim(rows + 1.6, -1.6)
        ax.text(columns / 2, -0.8, title, ha="center", va="center", family="DejaVu Sans Mono", fontsize=9.5)
        under = "all of it on every rank" if layout.counts is None else f"counts {layout.counts}"
        ax.text(columns / 2, rows + 0.9, under, ha="center", va="center", fontsize=8.5)
        if layout.split is None:
            block(ax, 0, 0, columns, rows, GREY, "0 1 2 3")
            grid(ax, 0, 0, columns, rows)
            continue
        for rank in range(layout.ranks):
            down, across = layout.box(rank)
            size = (across.stop - across.start, down.stop - down.start)
            if all(size):
                block(ax, across.start, down.start, *size, COLOURS[rank], f"{rank}")
                grid(ax, across.start, down.start, *size)
    return figure


def moves() -> Figure:
    """Which rows change their rank when counts do."""
    before, after = ms.Layout((20,), 0, 4, (10, 1, 2, 7)), ms.Layout((20,), 0, 4)
    figure, (ax,) = canvas(8, 2.6)
    ax.set_xlim(-3.2, 20.2)
    ax.set_ylim(5.2, -0.6)
    for layout, y, name in ((before, 0, "before"), (after, 4, "after")):
        ax.text(-0.4, y + 0.5, f"{name}\n{layout.counts}", ha="right", va="center", fontsize=8.5)
        for rank in range(4):
            start, stop = layout.span(rank)
            block(ax, start, y, stop - start, 1, COLOURS[rank], f"{rank}")
    for source in range(4):
        for target in range(4):
            start = max(before.span(source)[0], after.span(target)[0])
            stop = min(before.span(source)[1], after.span(target)[1])
            if start < stop:
                moved = source != target
                corners = [(start, 1), (stop, 1), (stop, 4), (start, 4)]
                style = {"facecolor": COLOURS[target], "alpha": 0.75} if moved else {"facecolor": "none"}
                ax.add_patch(Polygon(corners, edgecolor="#999999", linewidth=0.6, **style))
                what = f"{source} to {target}" if moved else "stays"
                ax.text((start + stop) / 2, 2.5, what, ha="center", va="center", fontsize=8, rotation=90)
    return figure


def plan() -> Figure:
    """What `plan.plot()` draws, of the plan in plans.md."""
    return ms.testing.run(_plan, ranks=4)[0]


def _plan() -> Figure:
    images = ms.zeros((1000, 64), split=0)
    labels = ms.zeros(1000, split=0).redistribute([100, 100, 100, 700])

    def gradient(x: Any, y: Any) -> Any:
        return x * y

    return ms.vmap(gradient).plan(images, labels).plot()


def mapping() -> Figure:
    """A mapped call: samples, the function on each rank, outputs."""
    figure, (ax,) = canvas(8, 2.7)
    ax.set_xlim(0, 16)
    ax.set_ylim(5.4, 0)
    for rank in range(4):
        y = 0.9 + rank * 1.1
        ax.text(0.1, y + 0.4, f"rank {rank}", va="center", fontsize=8.5)
        for x, width, columns in ((1.9, 3.2, 4), (5.5, 0.8, 1), (13.2, 2.4, 3)):
            block(ax, x, y, width, 0.8, COLOURS[rank], "")
            grid(ax, x, y, width, 0.8, columns, 2)
        arrow(ax, (6.5, y + 0.4), (7.9, y + 0.4))
        ax.add_patch(FancyBboxPatch((8, y + 0.05), 3.7, 0.7, boxstyle="round,pad=0.05", fc="none", ec=INK, lw=1))
        ax.text(9.85, y + 0.4, "torch.vmap(f)", ha="center", va="center", family="DejaVu Sans Mono", fontsize=8.5)
        arrow(ax, (11.9, y + 0.4), (13.1, y + 0.4))
    for x, text in (
        (3.5, "a, split=0"),
        (5.9, "b"),
        (9.85, "plain torch, for one sample"),
        (14.4, "out, split=0"),
    ):
        ax.text(x, 0.45, text, ha="center", va="center", fontsize=8.5)
    return figure


def layers() -> Figure:
    """What stands on what in minisplit."""
    rows = [
        [("io", "arrays in files"), ("viz", "pictures, profiles"), ("testing", "threads as ranks, pools")],
        [("vmap", "plans, chunks, agreement, gradients"), ("ops", "elementwise ... sorting, linalg, fft")],
        [("random, factories, conversion", "where arrays come from")],
        [("DNDarray", "tensor + layout + communicator")],
        [("collectives, indexing", "what is sent, with its gradient; x[key]")],
        [("layout, transfer", "who owns what, what to send: integers"), ("communication", "MPI, threads, debug")],
    ]
    figure, (ax,) = canvas(8, 4.2)
    ax.set_xlim(0, 12)
    ax.set_ylim(len(rows), 0)
    for level, row in enumerate(rows):
        width = 12 / len(row)
        for place, (name, text) in enumerate(row):
            x = place * width
            box = (x + 0.1, level + 0.1)
            shade = COLOURS[(0, 1, 2, 2, 3, 3)[level]]
            round_ = "round,pad=0,rounding_size=0.1"
            ax.add_patch(FancyBboxPatch(box, width - 0.2, 0.8, boxstyle=round_, fc=shade, ec="none"))
            ax.text(x + width / 2, level + 0.38, name, ha="center", va="center", fontsize=10.5, weight="bold")
            ax.text(x + width / 2, level + 0.7, text, ha="center", va="center", fontsize=8.5)
    return figure


def timeline() -> Figure:
    """A profile of four ranks, the third of which has twice the samples."""
    rows = []
    for rank, work in enumerate((0.21, 0.2, 0.41, 0.22)):
        parts = [
            ("computing", 0.03),
            ("moving", 0.05),
            ("computing", work),
            ("waiting", 0.42 - work),
            ("moving", 0.02),
        ]
        ends = [sum(length for _, length in parts[: i + 1]) for i in range(len(parts))]
        spans = [(name, end - length, end, "") for (name, length), end in zip(parts, ends, strict=True)]
        rows.append((rank, ends[-1], spans))
    return draw(rows)


def boxes() -> Figure:
    """Arrays of three axes, as `plot_layout` draws them."""
    return ms.plot_layout(*[ms.Layout((8, 6, 10), split, 4) for split in (0, 1, 2)])


FIGURES: dict[str, Callable[[], Figure]] = {
    "layouts": layouts,
    "moves": moves,
    "plan": plan,
    "mapping": mapping,
    "layers": layers,
    "profile": timeline,
    "boxes": boxes,
}


def canvas(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.set_axis_off()
    return figure, axes


def block(ax: Any, x: float, y: float, width: float, height: float, colour: str, label: str) -> None:
    ax.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=PAPER, linewidth=2))
    ax.text(x + width / 2, y + height / 2, label, ha="center", va="center", weight="bold")


def grid(ax: Any, x: float, y: float, width: float, height: float, columns: int = 0, rows: int = 0) -> None:
    """The elements of a block, by thin lines; by default of the size 1."""
    columns, rows = columns or round(width), rows or round(height)
    for i in range(1, columns):
        ax.plot([x + i * width / columns] * 2, [y, y + height], color=PAPER, linewidth=0.6)
    for i in range(1, rows):
        ax.plot([x, x + width], [y + i * height / rows] * 2, color=PAPER, linewidth=0.6)


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK, linewidth=1))


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw().savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
