"""The outputs of a run, made from those of its chunks: placed, joined, reduced, or the same for all."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from minisplit.core.collectives import Tensors
from minisplit.core.pytorch.transforms import is_transformed
from minisplit.vmap.functorch import internals
from minisplit.vmap.inputs.batch import OutDim, Reduction, sample_axis, sample_shape
from minisplit.vmap.pytree import Structure
from minisplit.vmap.reduction import Pairwise, keeps_samples, reduce_chunk


class Mapped(NamedTuple):
    """The outputs of a mapped function, and how they lie in what it returned.

    `dims` has the mapped axis of each, None for one that is the same for every sample. One that is to be reduced
    over the samples has them along axis 0, until it is.
    """

    outputs: list[torch.Tensor]
    dims: tuple[OutDim, ...]
    structure: Structure


# Dtype, and shape per sample, of each output.
Kinds = list[tuple[torch.dtype, tuple[int, ...]]]


class Collected:
    """Takes the outputs of all chunks of a run, in order, and puts them together.

    Parameters
    ----------
    count : int
        How many samples the chunks have together.
    traced : bool
        Whether gradients are to flow back.
    part : str
        What to call a chunk.
    """

    def __init__(self, count: int, traced: bool, part: str) -> None:
        self.count, self.traced, self.part = count, traced, part
        self.kinds: Kinds = []
        self._dims: tuple[OutDim, ...] = ()
        self._structure: Structure = None
        self._places: list[_Place] = []

    def add(self, chunk: Mapped, tensors: Tensors, start: int, stop: int) -> None:
        """Take the outputs of the samples from `start` to `stop`, which come of these tensors.

        ValueError where they differ in kind from the first chunk's.
        """
        kinds = _kinds(chunk)
        if not self._places:
            self.kinds, self._dims, self._structure = kinds, chunk.dims, chunk.structure
            if stop - start == self.count:
                own_memory(chunk, tensors, self.count)
            self._places = [
                self._place(x, dim, stop - start) for x, dim in zip(chunk.outputs, chunk.dims, strict=True)
            ]
        elif kinds != self.kinds or chunk.structure != self._structure:
            raise ValueError(
                f"func must return the same for every {self.part}, but gave {self.kinds} first and then {kinds}"
            )
        for i, (place, x) in enumerate(zip(self._places, chunk.outputs, strict=True)):
            if not place.add(x, start, stop):
                raise ValueError(f"out_dims is None for output {i}, but it is not the same for every {self.part}")

    def result(self) -> Mapped:
        """The outputs of all samples. One that is reduced is in the dtype in which it is added up."""
        return Mapped([place.result() for place in self._places], self._dims, self._structure)

    def _place(self, first: torch.Tensor, dim: OutDim, samples: int) -> _Place:
        """Where an output goes of which the first chunk gives `first`."""
        if dim is None:
            return _Same(first)
        if isinstance(dim, str):
            reduce_chunk(dim, first[:1].detach())  # what torch refuses is refused here, also if all is kept
            if not keeps_samples(dim, first.dtype, self.traced):
                return _Reduced(dim)
        axis = 0 if isinstance(dim, str) else dim
        # Written into place, a tensor would have a node of autograd for each chunk, and each of them copies the
        # whole gradient.
        if self.traced or samples == self.count:
            return _Joined(axis)
        return _InPlace(first, axis, self.count)


class _Place(Protocol):
    """Where one output goes."""

    def add(self, x: torch.Tensor, start: int, stop: int) -> bool:
        """Take what a chunk gives; False if it does not go together with what was given before."""

    def result(self) -> torch.Tensor:
        """What all chunks give."""


class _InPlace:
    """Room for all samples, into which each chunk is written: the peak of memory is the output and one chunk."""

    def __init__(self, first: torch.Tensor, axis: int, count: int) -> None:
        shape = list(first.shape)
        shape[axis] = count
        self.axis, self.room = axis, first.new_empty(shape)

    def add(self, x: torch.Tensor, start: int, stop: int) -> bool:
        self.room.narrow(self.axis, start, stop - start).copy_(x)
        return True

    def result(self) -> torch.Tensor:
        return self.room


class _Joined:
    """What the chunks give, kept until the end."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.pieces: list[torch.Tensor] = []

    def add(self, x: torch.Tensor, start: int, stop: int) -> bool:
        self.pieces.append(x)
        return True

    def result(self) -> torch.Tensor:
        return self.pieces[0] if len(self.pieces) == 1 else torch.cat(self.pieces, self.axis)


class _Reduced:
    """What the chunks give, reduced over the samples."""

    def __init__(self, how: Reduction) -> None:
        self.how, self.pairwise = how, Pairwise(how)

    def add(self, x: torch.Tensor, start: int, stop: int) -> bool:
        self.pairwise.add(reduce_chunk(self.how, x))
        return True

    def result(self) -> torch.Tensor:
        return self.pairwise.result()


class _Same:
    """What the first chunk gives. All others must give the same."""

    def __init__(self, first: torch.Tensor) -> None:
        # clone: the output may be a captured tensor, which must not change with the output.
        self.first = first.clone(memory_format=torch.contiguous_format)
        self.checksum: int | None = None

    def add(self, x: torch.Tensor, start: int, stop: int) -> bool:
        if start == 0:
            return True
        if self.checksum is None:
            self.checksum = internals.checksum(self.first)
        # By bytes, as NaN is not equal to itself.
        return internals.checksum(x) == self.checksum

    def result(self) -> torch.Tensor:
        return self.first


def _kinds(mapped: Mapped) -> Kinds:
    return [
        (x.dtype, sample_shape(x.shape, sample_axis(dim)))
        for x, dim in zip(mapped.outputs, mapped.dims, strict=True)
    ]


def own_memory(part: Mapped, tensors: Tensors, samples: int) -> Mapped:
    """The outputs, copied where one is a part of something larger, repeats values, or shares memory.

    So no output keeps more memory alive than its own, nor changes when another tensor is written to. A captured
    tensor that `func` returns is repeated for every sample, which shows in its strides, but not for one sample.
    One that is to be reduced stays as it is.
    """
    # Without transforms around, nothing is wrapped, and a small call, of 30 us, is spared a call for each tensor.
    wrapped = is_transformed()
    taken = {(internals.unwrap(x) if wrapped else x).untyped_storage().data_ptr() for x in tensors}
    for i, (out, dim) in enumerate(zip(part.outputs, part.dims, strict=True)):
        if isinstance(dim, str):
            continue
        storage = (internals.unwrap(out) if wrapped else out).untyped_storage()
        address = storage.data_ptr()
        if dim is None or samples == 1 or address in taken or storage.nbytes() != out.nbytes or 0 in out.stride():
            part.outputs[i] = out.clone(memory_format=torch.contiguous_format)
            address = internals.unwrap(part.outputs[i]).untyped_storage().data_ptr()
        taken.add(address)
    return part
