"""The repr of an array, as text and for notebooks. It asks no other rank."""

from __future__ import annotations

from html import escape

import torch

from minisplit.core.error_text import short_list
from minisplit.core.layout import Layout


def local_repr(layout: Layout, rank: int, larray: torch.Tensor) -> str:
    """Return the global facts as text, then the shard of one rank."""
    facts = f"shape={layout.shape}, split={layout.split}, dtype={larray.dtype}, device={larray.device}"
    if layout.split is None:
        part = "all of it"
    else:
        start, stop = layout.span(rank)
        key = [":"] * layout.ndim
        key[layout.split] = f"{start}:{stop}"
        part = f"[{', '.join(key)}]"
    return f"DNDarray({facts}; rank {rank} of {layout.ranks} holds {part})\n{larray!r}"


# The sides of the picture of an array, in pixels.
_WIDTH, _HEIGHT = 160, 96


def local_html(layout: Layout, rank: int, larray: torch.Tensor) -> str:
    """Return HTML for notebooks: the global facts beside a picture of who holds what."""
    part = "all of it" if layout.split is None else f"indices {layout.span(rank)[0]} to {layout.span(rank)[1]}"
    facts = {
        "shape": layout.shape,
        "dtype": larray.dtype,
        "split": layout.split,
        "counts": "all on every rank" if layout.counts is None else short_list(layout.counts),
        "device": larray.device,
        f"rank {rank} of {layout.ranks}": f"{part}: {tuple(larray.shape)}",
    }
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(str(name))}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<div style="display:flex;gap:1.5em;align-items:center"><table><caption style="text-align:left">DNDarray'
        f"</caption>{rows}</table>{_svg(layout, rank)}</div>"
    )


def _svg(layout: Layout, rank: int) -> str:
    """A rectangle with a part for each rank, this rank's in full colour; the last axis goes from left to right."""
    if layout.split is None:
        spans, extent = [(0, 1)], 1
    else:
        spans, extent = [layout.span(each) for each in range(layout.ranks)], max(layout.extent, 1)
    is_horizontal = layout.ndim > 1 and layout.split == layout.ndim - 1
    rectangles = []
    for each, (start, stop) in enumerate(spans):
        if start == stop:
            continue
        low, length = start / extent, (stop - start) / extent
        x, y, width, height = (low, 0.0, length, 1.0) if is_horizontal else (0.0, low, 1.0, length)
        opacity = 0.9 if layout.split is None or each == rank else 0.3
        rectangles.append(
            f'<rect x="{x * _WIDTH:.1f}" y="{y * _HEIGHT:.1f}" width="{width * _WIDTH:.1f}" '
            f'height="{height * _HEIGHT:.1f}" fill="#4c78a8" fill-opacity="{opacity}" '
            'stroke="currentColor" stroke-width="0.5"/>'
        )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{"".join(rectangles)}</svg>'
