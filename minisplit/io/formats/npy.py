"""`.npy`, NumPy's own format of one array: a header, then the numbers."""

from __future__ import annotations

import io
import math
import os
import tokenize
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Reader
from minisplit.io.files import inode
from minisplit.io.formats.base import Format, Shape, Target, Writer
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype
from minisplit.io.formats.raw import RawReader, RawWriter, contiguous_layout


class Npy(Format):
    """See `minisplit.io.formats.base.Format`. No options."""

    name = "npy"
    suffixes = (".npy",)
    contents = "array"

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        self.open_reader(path, None, None).close()
        return [""]

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            shape, fortran, stored, offset = _read_header(file)
            dtype = torch_dtype(stored, path)
            reader = RawReader(file, offset, shape, dtype, swapped=not stored.isnative, fortran=fortran)
            # Its length is no part of the version: while rows are added to the file it has that of before still.
            reader.version = inode(file.fileno())
            stack.pop_all()  # the file stays open, until `close`
        return reader

    def write_layout(self, target: Target) -> Layout:
        numpy_dtype(target.dtype, self.name)
        return contiguous_layout(target.layout, target.dtype.itemsize)

    def create(self, target: Target) -> None:
        descr = np.lib.format.dtype_to_descr(numpy_dtype(target.dtype, self.name))
        with open(target.path, "wb") as file:
            header = {"descr": descr, "fortran_order": False, "shape": target.layout.shape}
            np.lib.format.write_array_header_1_0(file, header)
            # Room for all numbers: ranks write them in any order.
            file.truncate(file.tell() + target.layout.size * target.dtype.itemsize)

    def open_writer(self, target: Target) -> Writer:
        with open(target.path, "rb") as file:
            offset = _read_header(file)[3]
        return RawWriter(target.path, offset, target.layout.shape)

    def append_target(self, target: Target) -> Target:
        with open(target.path, "rb") as file:
            _, fortran, stored, _ = _read_header(file)
        if fortran or not stored.isnative:
            order = "column-major" if fortran else "big-endian"
            raise ValueError(f"{target.path} is {order}, so no rows can be added to it: load it, and save it anew")
        return super().append_target(target)

    def header_of_shape(self, path: str, shape: Shape) -> tuple[int, bytes, int]:
        with open(path, "rb") as file:
            old, _, stored, end = _read_header(file)
            rows_end = file.seek(end + math.prod(old) * stored.itemsize)
            # What is behind the array otherwise are rows that a killed job has not added to its end.
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise ValueError(f"{path} has another array behind the first, so no rows can be added to that")
            file.seek(0)
            start = 10 if np.lib.format.read_magic(file) == (1, 0) else 12
        header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False, "shape": shape}
        # The header keeps its length, as the numbers behind it stay where they are. NumPy pads headers with
        # spaces, so that the first axis has room for 21 digits.
        text = repr(header).encode().ljust(end - start - 1) + b"\n"
        if start + len(text) > end:
            raise ValueError(f"the header of {path} has no room for the shape {shape}: load it, and save it anew")
        return start, text, rows_end


def _read_header(file: io.BufferedReader) -> tuple[Shape, bool, np.dtype[Any], int]:
    """Return shape, whether in Fortran order, dtype, and where the numbers begin; ValueError for other files."""
    try:
        version = np.lib.format.read_magic(file)
        # NumPy's public functions are for versions 1.0 and 2.0. Version 3.0 is 2.0 with its text in UTF-8, which
        # makes a difference in the names of fields alone; arrays of numbers have none.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in {(1, 0), (2, 0), (3, 0)}:
            raise ValueError(f"its version is {version}, which is not known here")
        shape, fortran, dtype = read(file)
    # What NumPy raises for text that is not that of a dict.
    except (ValueError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        size = os.fstat(file.fileno()).st_size
        raise ValueError(f"{file.name}, of {size} bytes, is no .npy file, or is truncated: {error}") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"{file.name} is no .npy file: its header tells of shape {shape}")
    return shape, fortran, dtype, file.tell()


NPY = Npy()
