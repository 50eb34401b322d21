"""Arrays that lie in a file as in memory: a rank reads and writes its part of the bytes, at their offset.

npy, safetensors and the plain datasets of HDF5 are such a block of bytes each, behind a header. Files are read and
written by `pread` and `pwrite`, which any number of ranks may call at once, and not by memory maps: in a map a
full disk, or a file that another program cuts short, ends the process by a signal; here it is an OSError.
"""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.communication.buffers import as_bytes
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.files import file_version
from minisplit.io.formats.base import OpenFile, Shape, Writer

# Pieces of a file from this size on are read one by one: for shorter ones the system call costs more than the
# bytes. An estimate, which no benchmark has checked.
PIECE = 64 * 1024
# How much is read at once where pieces are short, with what lies between them.
_BUFFER = 16 * PIECE
# Linux moves no more than 2 GiB in one call.
_MAX_CALL = 2**30


class RawReader(OpenFile, Reader):
    """An array that lies in an open file from byte `offset` on, in row-major or, `fortran`, in column-major order.

    ValueError where the file is too short for it. The file is the one whose header was read, also where another
    one has its name meanwhile. `close` closes it.
    """

    _file: io.BufferedReader

    def __init__(
        self,
        file: io.BufferedReader,
        offset: int,
        shape: Shape,
        dtype: torch.dtype,
        *,
        swapped: bool = False,
        fortran: bool = False,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._offset, self._swapped, self._fortran = offset, swapped, fortran
        self._file, self.path, self.version = file, file.name, file_version(file.fileno())
        end, size = offset + math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
        if size < end:
            raise ValueError(f"{file.name} is truncated: its header tells of {end} bytes, but it has {size}")

    def read_layout(self, layout: Layout) -> Layout:
        if not self._fortran:
            return contiguous_layout(layout, self.dtype.itemsize)
        return transposed_layout(contiguous_layout(transposed_layout(layout), self.dtype.itemsize))

    def read(self, box: Box) -> torch.Tensor:
        # A column-major array is the transpose of a row-major one.
        shape, box = (self.shape[::-1], box[::-1]) if self._fortran else (self.shape, box)
        part = torch.empty([span.stop - span.start for span in box], dtype=self.dtype)
        if part.numel():
            self._read_pieces(as_bytes(part).numpy(), shape, box)
        if self._swapped:
            # Of a complex number the bytes of each part: it is two numbers.
            word = part.element_size() // (1 + part.dtype.is_complex)
            as_bytes(part).numpy().view(f"u{word}").byteswap(inplace=True)
        return part.permute(list(reversed(range(part.ndim)))).contiguous() if self._fortran else part

    def _read_pieces(self, target: NDArray[np.uint8], shape: Shape, box: Box) -> None:
        starts, length = pieces(shape, box, self.dtype.itemsize)
        if length >= PIECE or len(starts) == 1:
            for i, start in enumerate(starts.tolist()):
                self._read_at(target[i * length : (i + 1) * length], self._offset + start)
            return
        # Many short pieces: as many as fit into a buffer are read by one call, and then picked out.
        first = 0
        while first < len(starts):
            begin = int(starts[first])
            stop = int(np.searchsorted(starts, begin + _BUFFER - length, side="right"))
            offsets = starts[first:stop] - begin
            buffer = np.empty(int(offsets[-1]) + length, np.uint8)
            self._read_at(buffer, self._offset + begin)
            windows = np.lib.stride_tricks.sliding_window_view(buffer, length)
            target.reshape(-1, length)[first:stop] = windows[offsets]
            first = stop

    def _read_at(self, target: NDArray[np.uint8], start: int) -> None:
        done = 0
        while done < len(target):
            count = os.preadv(self._file.fileno(), [target[done : done + _MAX_CALL].data], start + done)
            # It was long enough when it was opened: another program has cut it short since.
            if not count:
                raise ValueError(f"the file ends at byte {start + done}, where an array should go on")
            done += count


class RawWriter(OpenFile, Writer):
    """Writes parts of an array, in row-major order from byte `offset` on, into a file that has the room."""

    def __init__(self, path: str, offset: int, shape: Shape) -> None:
        self._shape, self._offset = shape, offset
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - until `close`

    def write(self, box: Box, part: torch.Tensor) -> None:
        if not part.numel():
            return
        source = as_bytes(part.contiguous()).numpy()
        starts, length = pieces(self._shape, box, part.element_size())
        for i, start in enumerate(starts.tolist()):
            write_at(self._file.fileno(), source[i * length : (i + 1) * length], self._offset + start)


def write_at(file: int, data: Any, start: int) -> None:
    """Write all bytes of `data` from byte `start` of the file on: the system may write a part of them only."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view[:_MAX_CALL], start)
        view, start = view[count:], start + count


def pieces(shape: Shape, box: Box, itemsize: int) -> tuple[NDArray[np.int64], int]:
    """Return where the contiguous pieces of a box, which is not empty, begin in row-major order, and their length.

    Both are bytes.

    >>> starts, length = pieces((4, 6), (slice(1, 3), slice(0, 2)), 8)
    >>> starts.tolist(), length
    ([48, 96], 16)
    """
    extents = [span.stop - span.start for span in box]
    # The box has all of the axes behind `axis`, so that a piece goes over them and over its part of `axis`.
    axis = len(shape)
    while axis and extents[axis - 1] == shape[axis - 1]:
        axis -= 1
    axis = max(axis - 1, 0)
    strides = [math.prod(shape[i + 1 :]) * itemsize for i in range(len(shape))]
    starts = np.zeros(1, dtype=np.int64)
    for i, span in enumerate(box):
        indices = range(span.start, span.stop) if i < axis else [span.start]
        starts = (starts[:, None] + np.array(indices, dtype=np.int64) * strides[i]).reshape(-1)
    return starts, math.prod(extents[axis:]) * itemsize


def contiguous_layout(layout: Layout, itemsize: int) -> Layout:
    """Return the layout in which ranks read or write a row-major array: its own, or one of longer pieces.

    Where the parts of a layout are many short pieces of the file, an exchange between the ranks costs less than
    reading or writing them one by one. Pure.

    >>> contiguous_layout(Layout((1000, 8), 1, ranks=4), 8).split
    0
    >>> contiguous_layout(Layout((3, 100_000), 1, ranks=4), 8).split
    1
    """
    axis = layout.split
    if axis is None or math.prod(layout.shape[:axis]) == 1:
        return layout
    length = layout.extent // layout.ranks * math.prod(layout.shape[axis + 1 :]) * itemsize
    if length >= PIECE:
        return layout
    # The first axis that has an index for each rank gives the longest pieces.
    return layout.with_split(next((i for i in range(axis) if layout.shape[i] >= layout.ranks), axis))


def transposed_layout(layout: Layout) -> Layout:
    """Return the layout of the array with its axes in reverse order."""
    split = None if layout.split is None else layout.ndim - 1 - layout.split
    return Layout(layout.shape[::-1], split, layout.ranks, layout.ragged)
