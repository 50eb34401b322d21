"""Arrays that lie in a file as in memory: a rank reads and writes its part of the bytes, at their place.

npy, safetensors and the plain datasets of HDF5 are such a block each, behind a header.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.layout import Layout
from minisplit.core.storage import Box

# Pieces of a file from this size on are read and written one by one: below, what a call costs would be seen.
PIECE = 64 * 1024
_BUFFER = 16 * PIECE
# Linux moves no more than 2 GiB in one call.
_MOST = 2**30


class RawReader:
    """An array that lies in the file from byte `offset` on, in row-major or, `fortran`, in column-major order.

    Raises ValueError where the file is too short for it.
    """

    def __init__(
        self,
        path: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        *,
        swapped: bool = False,
        fortran: bool = False,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._offset, self._swapped, self._fortran = offset, swapped, fortran
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        end, there = offset + math.prod(shape) * dtype.itemsize, os.fstat(self._file).st_size
        if there < end:
            self.close()
            raise ValueError(f"{path} is truncated: its header tells of {end} bytes, but it has {there}")

    def placed(self, layout: Layout) -> Layout:
        if not self._fortran:
            return in_pieces(layout, self.dtype.itemsize)
        return mirrored(in_pieces(mirrored(layout), self.dtype.itemsize))

    def read(self, box: Box) -> torch.Tensor:
        shape, box = (self.shape[::-1], box[::-1]) if self._fortran else (self.shape, box)
        found = torch.empty([span.stop - span.start for span in box], dtype=self.dtype)
        if found.numel():
            self._fill(_bytes(found), shape, box)
        if self._swapped:
            _swap(found)
        return found.permute(list(reversed(range(found.ndim)))).contiguous() if self._fortran else found

    def _fill(self, target: NDArray[np.uint8], shape: tuple[int, ...], box: Box) -> None:
        starts, length = pieces(shape, box, self.dtype.itemsize)
        if length >= PIECE or len(starts) == 1:
            for place, start in enumerate(starts.tolist()):
                self._read(target[place * length : (place + 1) * length], self._offset + start)
            return
        # Many small pieces: with what lies between them, a buffer at a time.
        first = 0
        while first < len(starts):
            begin = int(starts[first])
            past = int(np.searchsorted(starts, begin + _BUFFER - length, side="right"))
            begins = starts[first:past] - begin
            between = np.empty(int(begins[-1]) + length, np.uint8)
            self._read(between, self._offset + begin)
            windows = np.lib.stride_tricks.sliding_window_view(between, length)
            target.reshape(-1, length)[first:past] = windows[begins]
            first = past

    def _read(self, target: NDArray[np.uint8], start: int) -> None:
        done = 0
        while done < len(target):
            got = os.preadv(self._file, [target[done : done + _MOST].data], start + done)
            if not got:
                raise ValueError(f"the file ends at byte {start + done}, where an array should go on")
            done += got

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


class RawWriter:
    """Writes parts of an array, in row-major order from byte `offset` on, into a file that has the room."""

    def __init__(self, path: str, offset: int, shape: tuple[int, ...]) -> None:
        self._shape, self._offset = shape, offset
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, box: Box, part: torch.Tensor) -> None:
        if not part.numel():
            return
        source = _bytes(part.contiguous())
        starts, length = pieces(self._shape, box, part.element_size())
        for place, start in enumerate(starts.tolist()):
            write_at(self._file, source[place * length : (place + 1) * length], self._offset + start)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def write_at(file: int, data: Any, start: int) -> None:
    """Write all bytes of `data` from byte `start` of the file on."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view[:_MOST], start)
        view, start = view[done:], start + done


def pieces(shape: tuple[int, ...], box: Box, itemsize: int) -> tuple[NDArray[np.int64], int]:
    """Where the pieces begin in which a box, not an empty one, lies in row-major order; their length. In bytes.

    >>> starts, length = pieces((4, 6), (slice(1, 3), slice(0, 2)), 8)
    >>> starts.tolist(), length
    ([48, 96], 16)
    """
    extents = [span.stop - span.start for span in box]
    # The axes from `cut` on are whole, so that a piece goes over them and a part of the one before.
    cut = len(shape)
    while cut and extents[cut - 1] == shape[cut - 1]:
        cut -= 1
    cut = max(cut - 1, 0)
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    starts = np.zeros(1, dtype=np.int64)
    for axis, span in enumerate(box):
        steps = range(span.start, span.stop) if axis < cut else [span.start]
        starts = (starts[:, None] + np.array(steps, dtype=np.int64) * strides[axis]).reshape(-1)
    return starts, math.prod(extents[cut:]) * itemsize


def in_pieces(layout: Layout, itemsize: int) -> Layout:
    """The layout in which ranks read or write an array in row-major order: its own, or one with longer pieces.

    Where the parts of a layout are many small pieces of the file, an exchange between the ranks is the cheaper way
    to bring them together. Pure.

    >>> in_pieces(Layout((1000, 8), 1, ranks=4), 8).split, in_pieces(Layout((3, 100_000), 1, ranks=4), 8).split
    (0, 1)
    """
    axis = layout.split
    if axis is None or math.prod(layout.shape[:axis]) == 1:
        return layout
    share = layout.extent // layout.ranks * math.prod(layout.shape[axis + 1 :]) * itemsize
    if share >= PIECE:
        return layout
    longest = next((other for other in range(axis) if layout.shape[other] >= layout.ranks), axis)
    return layout.with_split(longest)


def mirrored(layout: Layout) -> Layout:
    """The layout of the transposed array."""
    split = None if layout.split is None else layout.ndim - 1 - layout.split
    return Layout(layout.shape[::-1], split, layout.ranks, layout.ragged)


def _bytes(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """The memory of a contiguous tensor, which may have any stride where there is but one element."""
    found: NDArray[np.uint8] = tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
    return found


def _swap(tensor: torch.Tensor) -> None:
    """Turn the bytes of its numbers around; of complex ones those of both parts."""
    word = tensor.element_size() // (1 + tensor.dtype.is_complex)
    _bytes(tensor).view(f"u{word}").byteswap(inplace=True)
