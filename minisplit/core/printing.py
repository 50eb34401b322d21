"""How an array shows itself, without asking other ranks."""

from __future__ import annotations

from html import escape

import torch

from minisplit.core.layout import Layout


def local_repr(layout: Layout, rank: int, larray: torch.Tensor) -> str:
    """Text of one rank's view: the global facts, then its own shard. Local."""
    facts = f"shape={layout.shape}, split={layout.split}, dtype={larray.dtype}, device={larray.device}"
    if layout.split is None:
        held = f"rank {rank} of {layout.ranks} holds all of it"
    else:
        start, stop = layout.span(rank)
        cut = [":"] * layout.ndim
        cut[layout.split] = f"{start}:{stop}"
        held = f"rank {rank} of {layout.ranks} holds [{', '.join(cut)}]"
    return f"DNDarray({facts}; {held})\n{larray!r}"


# The sides of the picture of an array, in pixels.
_WIDTH, _HEIGHT = 160, 96


def local_html(layout: Layout, rank: int, larray: torch.Tensor) -> str:
    """One rank's view for notebooks: the global facts beside a picture of who holds what. Local."""
    held = "all of it" if layout.split is None else f"indices {layout.span(rank)[0]} to {layout.span(rank)[1]}"
    facts = {
        "shape": layout.shape,
        "dtype": larray.dtype,
        "split": layout.split,
        "counts": "all on every rank" if layout.counts is None else _shortened(layout.counts),
        "device": larray.device,
        f"rank {rank} of {layout.ranks}": f"{held}: {tuple(larray.shape)}",
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


def _shortened(counts: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, counts[:16]))
    return f"{shown}, ... on {len(counts)} ranks" if len(counts) > 16 else shown


def _svg(layout: Layout, rank: int) -> str:
    """A rectangle with a part for each rank, this rank's in full colour; the last axis goes from left to right."""
    across, extent = layout.split == layout.ndim - 1 and layout.ndim > 1, 1
    spans = [(0, 1)] if layout.split is None else [layout.span(each) for each in range(layout.ranks)]
    if layout.split is not None:
        extent = max(layout.extent, 1)
    parts = []
    for each, (start, stop) in enumerate(spans):
        if start == stop:
            continue
        low, length = start / extent, (stop - start) / extent
        x, y, width, height = (low, 0.0, length, 1.0) if across else (0.0, low, 1.0, length)
        strong = layout.split is None or each == rank
        parts.append(
            f'<rect x="{x * _WIDTH:.1f}" y="{y * _HEIGHT:.1f}" width="{width * _WIDTH:.1f}" '
            f'height="{height * _HEIGHT:.1f}" fill="#4c78a8" fill-opacity="{0.9 if strong else 0.3}" '
            'stroke="currentColor" stroke-width="0.5"/>'
        )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{"".join(parts)}</svg>'
