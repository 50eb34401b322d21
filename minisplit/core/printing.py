"""How an array shows itself, without asking other ranks."""

from __future__ import annotations

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
