"""What a key selects from one rank's shard: the part that reading and writing have in common.

Tested in tests/core/indexing/test_getitem.py and test_setitem.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from minisplit.core.collectives import reverse_ranks
from minisplit.core.communication.protocol import Communication
from minisplit.core.indexing.index_arrays import IndexArrays, Part
from minisplit.core.indexing.keys import ARRAY_AXES, Labels, Result, Selection, shard_key
from minisplit.core.performance_warning import warn_if_large
from minisplit.core.pytorch.dtypes import ALL_DTYPES
from minisplit.core.pytorch.transforms import unwrap

_REVERSED = (
    "backwards along the split axis, each rank's part goes to the rank opposite. Of an array that is split along "
    "another axis nothing moves"
)
# torch cannot index these dtypes in every way. Indexing only copies elements, so that the same bits of another
# dtype serve.
_SAME_BITS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64} | {
    dtype: torch.uint8 for dtype in ALL_DTYPES if str(dtype).startswith("torch.float8")
}


class Selected(NamedTuple):
    """What a key selects from `x`, as this rank sees it.

    result: the result of the key, see `minisplit.core.indexing.keys`.
    """

    x: Part
    selection: Selection
    arrays: IndexArrays
    result: Result
    comm: Communication

    def crosses_ranks(self) -> bool:
        """Whether the arrays of the key may select rows that other ranks own."""
        arrays = self.arrays
        return self.x.layout.split in arrays.local and not arrays.is_aligned and self.comm.size > 1

    def local_key(self) -> tuple[torch.Tensor, tuple[Any, ...], Labels]:
        """Return a view of the shard, a key for it, and the labels of the axes of `view[key]`.

        `view[key]` is this rank's part of the result, where the key selects rows of its own alone.
        """
        view, labels = self._window()
        shape, array_axes = self.arrays.layout.lshape(self.comm.rank), self._array_axes()
        if not self.arrays.local:  # lone bools remain, whose axes have an extent of 1 or 0
            return view.expand((*shape, *view.shape)) if shape else view, (), (*array_axes, *labels)
        # torch's rule, where ints have no part, since the view has no axes for them: the axes of arrays side by
        # side replace what they index, others come first. It spares the copy that another order would take.
        places = [place for place, label in enumerate(labels) if label in self.arrays.local]
        before = places[0] if places[-1] - places[0] < len(places) else 0
        rest = [label for label in labels if label not in self.arrays.local]
        key = tuple(
            self.arrays.local[label].expand(shape) if label in self.arrays.local else slice(None)
            for label in labels
        )
        return view, key, (*rest[:before], *array_axes, *rest[before:])

    def rows_first(self) -> tuple[torch.Tensor, list[int], Labels]:
        """Return a view of the shard whose rows have numbers, see `minisplit.core.indexing.gather`.

        Its first axes are those that the key's arrays index, the split one before the others. Returns these axes
        too, and the labels of the axes of what an array of row numbers selects.
        """
        view, labels = self._window()
        split = self.x.layout.split
        axes = sorted(self.arrays.local, key=lambda axis: (axis != split, axis))
        rest = [label for label in labels if label not in self.arrays.local]
        return permute(view, labels, (*axes, *rest)), axes, (*self._array_axes(), *rest)

    def _window(self) -> tuple[torch.Tensor, Labels]:
        """A view of what the key's ints, slices and new axes select of the shard, and the labels of its axes."""
        key, labels = shard_key(self.selection, self.comm.rank, self.arrays.layout.split is not None)
        return self.x.shard[key], labels

    def _array_axes(self) -> Labels:
        return tuple(range(ARRAY_AXES, ARRAY_AXES - self.arrays.layout.ndim, -1))


def permute(part: torch.Tensor, labels: Labels, order: Labels) -> torch.Tensor:
    """A view whose axes are in another order, given the labels of the axes."""
    return part if labels == order else part.permute([labels.index(label) for label in order])


def reverse(part: Part, result: Result, comm: Communication) -> Part:
    """Reverse the axes for which the key has a negative step. Twice is as if it were not done.

    Collective where the split axis is among them: each rank's rows go to the rank opposite.
    """
    shard, layout = part
    axes = [axis for axis in result.reversed_axes if layout.shape[axis] > 1]
    if not axes:
        return part
    shard = shard.flip(axes)
    if layout.split not in axes or comm.size == 1:
        return Part(shard, layout)
    warn_if_large(layout.size * shard.itemsize, _REVERSED, comm)
    return Part(reverse_ranks(shard, layout, comm), layout.with_counts((layout.counts or ())[::-1]))


def as_bits(shard: torch.Tensor) -> torch.Tensor:
    """The shard, or its bits in another dtype where torch cannot index its own."""
    other = _SAME_BITS.get(shard.dtype)
    return shard.view(other) if other else shard


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the memory of two tensors overlaps."""
    # By addresses, as two tensors made from one NumPy array have storages of their own.
    first, second = unwrap(a).untyped_storage(), unwrap(b).untyped_storage()
    return (
        a.device == b.device
        and first.data_ptr() < second.data_ptr() + second.nbytes()
        and second.data_ptr() < first.data_ptr() + first.nbytes()
    )
