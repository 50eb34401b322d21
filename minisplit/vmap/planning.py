"""Where the samples of a mapped call go: checked and decided from layouts alone, without a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved

# Layouts in which a rank has more than this many times its fair share are not moved to.
MAX_IMBALANCE = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one call: which axis of each input is mapped, and the layout each input must have."""

    in_dims: tuple[int | None, ...]
    targets: tuple[Layout, ...]
    samples: Layout

    @property
    def size(self) -> int:
        """Number of samples on all ranks."""
        return self.samples.size


@lru_cache(maxsize=256)
def plan_batch(layouts: tuple[Layout, ...], itemsizes: tuple[int, ...]) -> Batch:
    """Decide the common counts for inputs of these layouts and bytes per element. Pure.

    Where the counts agree, nothing moves, however uneven they are. Where they differ, the candidates are each
    input's counts and the balanced ones; of those that give no rank more than `MAX_IMBALANCE` times its
    fair share, the one that moves the fewest bytes is taken (the more even one of two that move the same).
    Raises ValueError where no input is split, or the inputs differ in the number of samples.

    >>> a = Layout((6, 2), 0, ranks=2, ragged=(4, 2))
    >>> b = Layout((6,), 0, ranks=2)
    >>> plan_batch((a, b), (4, 4)).samples.counts
    (4, 2)
    """
    mapped = [layout for layout in layouts if layout.split is not None]
    if not mapped:
        raise ValueError(
            "vmap maps over split axes, but no input has one: all are replicated (split=None); "
            "split at least one, e.g. minisplit.resplit(x, 0)"
        )
    extents = {layout.extent for layout in mapped}
    if len(extents) > 1:
        sizes = ", ".join(
            f"input {i} has {layout.extent} (axis {layout.split} of {layout.shape})"
            for i, layout in enumerate(layouts)
            if layout.split is not None
        )
        raise ValueError(f"the inputs must have the same number of samples along their split axes: {sizes}")
    ragged = _cheapest_counts(layouts, itemsizes)
    targets = tuple(layout if layout.split is None else _with_counts(layout, ragged) for layout in layouts)
    samples = Layout((mapped[0].extent,), 0, mapped[0].ranks, ragged)
    return Batch(tuple(layout.split for layout in layouts), targets, samples)


def _cheapest_counts(layouts: Sequence[Layout], itemsizes: Sequence[int]) -> tuple[int, ...] | None:
    """The counts, None for balanced, to which the split inputs move with the fewest bytes."""
    split = [(layout, size) for layout, size in zip(layouts, itemsizes, strict=True) if layout.split is not None]
    present = list(dict.fromkeys(layout.ragged for layout, _ in split))
    if len(present) == 1:
        return present[0]
    extent, ranks = split[0][0].extent, split[0][0].ranks
    fair = -(-extent // ranks)
    even = [c for c in present if c is not None and max(c) <= MAX_IMBALANCE * fair]

    def cost(ragged: tuple[int, ...] | None) -> tuple[int, int]:
        moved = sum(size * elements_moved(layout, _with_counts(layout, ragged)) for layout, size in split)
        return moved, fair if ragged is None else max(ragged)

    return min([None, *even], key=cost)


def _with_counts(layout: Layout, ragged: tuple[int, ...] | None) -> Layout:
    return layout.balanced() if ragged is None else layout.with_counts(ragged)


@lru_cache(maxsize=256)
def output_layout(sample_shape: tuple[int, ...], out_dim: int, samples: Layout) -> Layout:
    """The layout of an output with one `sample_shape` per sample, the samples along `out_dim`."""
    shape = (*sample_shape[:out_dim], samples.size, *sample_shape[out_dim:])
    return Layout(shape, out_dim, samples.ranks, samples.ragged)
