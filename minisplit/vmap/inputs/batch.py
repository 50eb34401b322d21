"""Where the samples of a mapped call go: checked and decided from layouts alone, without a message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from minisplit.core.layout import Layout
from minisplit.core.transfer import elements_moved
from minisplit.vmap.inputs.balance import cheapest_counts, parts_of

# The most samples that a rank is given by a move, as a multiple of its fair share.
MAX_IMBALANCE = 1.25

# The mapped axis of each array, None for one that is not mapped.
Dims = tuple[int | None, ...]

# How an output is reduced over the samples.
Reduction = Literal["sum", "mean", "max", "min"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
# Where an output has its samples: its mapped axis, how it is reduced over them, or None for one that is the same
# for every sample.
OutDim = int | Reduction | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one call: which axis of each input is mapped, and the layout that each input must have."""

    in_dims: Dims
    targets: tuple[Layout, ...]
    samples: Layout
    # Whether all inputs have their target layout already, and whether bytes must move between ranks.
    aligned: bool
    exchanges: bool
    # The first rank with samples, if some rank has none: it tells those what the outputs are. Else None.
    root: int | None
    # Number of samples on all ranks.
    size: int
    # Bytes of one sample of all mapped inputs together.
    sample_bytes: int


# Looked up by each mapped call. Key: layouts and bytes per element of the inputs, mapped axes, bound on the
# imbalance. Planning takes 12 us if nothing moves, and some 500 us otherwise, beside a call of 30 us. A program
# has some dozens of mapped functions and shapes, so 256 entries hold them all; an entry takes 3 KiB, or more if
# the counts of many ranks are uneven.
@lru_cache(maxsize=256)
def plan_batch(
    layouts: tuple[Layout, ...],
    itemsizes: tuple[int, ...],
    in_dims: Dims | None = None,
    max_imbalance: float = MAX_IMBALANCE,
) -> Batch:
    """Decide which ranks get which samples of inputs with these layouts and bytes per element. Pure.

    `in_dims` has the mapped axis of each input, counted from the front, None for one that every sample gets whole.
    Without it the mapped axes are the split axes.

    Inputs that are split along their mapped axes, all with the same counts, stay where they are, however uneven.
    Where an input must move, all get the counts for which the fewest bytes of all inputs move, among those that
    give no rank more than `max_imbalance` times its fair share; of counts that move as few, the more even.
    Raises ValueError where no input is mapped, or the inputs differ in the number of samples.

    >>> a = Layout((12, 2), 0, ranks=2, ragged=(7, 5))
    >>> b = Layout((12,), 0, ranks=2)
    >>> plan_batch((a, b), (4, 4)).samples.counts
    (7, 5)
    >>> plan_batch((a, b), (4, 4), max_imbalance=1.0).samples.counts
    (6, 6)
    """
    axes = tuple(layout.split for layout in layouts) if in_dims is None else in_dims
    extent = _number_of_samples(layouts, axes, given=in_dims is not None)
    ragged = _common_counts(layouts, itemsizes, axes, extent, max_imbalance)
    targets = tuple(_target(layout, axis, ragged) for layout, axis in zip(layouts, axes, strict=True))
    samples = Layout((extent,), 0, layouts[0].ranks, ragged)
    counts = samples.counts or ()
    root = next(rank for rank, count in enumerate(counts) if count) if extent and 0 in counts else None
    exchanges = any(map(elements_moved, layouts, targets))
    sample_bytes = sum(
        itemsize * math.prod(sample_shape(layout.shape, axis))
        for layout, axis, itemsize in zip(layouts, axes, itemsizes, strict=True)
        if axis is not None
    )
    return Batch(axes, targets, samples, layouts == targets, exchanges, root, extent, sample_bytes)


def _number_of_samples(layouts: Sequence[Layout], axes: Dims, given: bool) -> int:
    """The extent that the mapped axes have in common."""
    extents = {layout.shape[axis] for layout, axis in zip(layouts, axes, strict=True) if axis is not None}
    if not extents and given:
        raise ValueError("vmap needs an axis to map: in_dims is None for every input; give at least one an axis")
    if not extents:
        raise ValueError(
            "vmap maps over split axes, but no input has one: all are replicated (split=None); "
            "split at least one, e.g. minisplit.resplit(x, 0), or say which axes to map with in_dims="
        )
    if len(extents) > 1:
        sizes = ", ".join(
            f"input {i} has {layout.shape[axis]} (axis {axis} of {layout.shape})"
            for i, (layout, axis) in enumerate(zip(layouts, axes, strict=True))
            if axis is not None
        )
        axes_named = "mapped axes (in_dims)" if given else "split axes"
        raise ValueError(f"the inputs must have the same number of samples along their {axes_named}: {sizes}")
    return extents.pop()


def _common_counts(
    layouts: Sequence[Layout], itemsizes: Sequence[int], axes: Dims, extent: int, max_imbalance: float
) -> tuple[int, ...] | None:
    """The counts, None for balanced ones, that all mapped inputs get."""
    # Replicated inputs have no say: of those each rank has whatever it needs.
    cut = [
        (layout, axis, size)
        for layout, axis, size in zip(layouts, axes, itemsizes, strict=True)
        if axis is not None and layout.split is not None
    ]
    present = {layout.ragged for layout, axis, _ in cut if layout.split == axis}
    if len(present) == 1 and all(layout.split == axis for layout, axis, _ in cut):
        return present.pop()
    ranks = layouts[0].ranks
    fair = -(-extent // ranks)  # rounded up: the largest of the balanced counts, which are always allowed
    return cheapest_counts(extent, ranks, [parts_of(*each) for each in cut], max(fair, int(max_imbalance * fair)))


def _target(layout: Layout, axis: int | None, ragged: tuple[int, ...] | None) -> Layout:
    """The layout that an input must have: the same object where it has it already, which is quick to compare."""
    if axis is None:
        return layout if layout.split is None else Layout(layout.shape, None, layout.ranks)
    if (layout.split, layout.ragged) == (axis, ragged):
        return layout
    return Layout(layout.shape, axis, layout.ranks, ragged)


def sample_shape(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    """The shape of one sample, of an array of this shape with the samples along `axis`; None: all of it."""
    return tuple(shape) if axis is None else (*shape[:axis], *shape[axis + 1 :])


def sample_axis(dim: OutDim) -> int | None:
    """The axis along which the function's output has its samples: the first, if it is to be reduced over them."""
    return 0 if isinstance(dim, str) else dim


def box(shape: Sequence[int], axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The part of an array of this shape from `start` to `stop` along `axis`, as `StoredArray.read` takes it."""
    return tuple(slice(start, stop) if i == axis else slice(0, n) for i, n in enumerate(shape))


def output_layout(shape: tuple[int, ...], out_dim: OutDim, samples: Layout) -> Layout:
    """The layout of an output of which one sample has this shape, with the samples along `out_dim`.

    Without samples, since it is the same for all or reduced over them, it is replicated.
    """
    if not isinstance(out_dim, int):
        return Layout(shape, None, samples.ranks)
    shape = (*shape[:out_dim], samples.size, *shape[out_dim:])
    return Layout(shape, out_dim, samples.ranks, samples.ragged)
