"""`.npy`, NumPy's own format of one array: a header, then the numbers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.io.formats.base import Format, Reader, Writer, no_options
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype
from minisplit.io.formats.raw import RawReader, RawWriter, in_pieces

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Npy(Format):
    """See `minisplit.io.formats.base.Format`."""

    name = "npy"
    suffixes = (".npy",)

    def names(self, path: str) -> list[str]:
        self.open(path).close()
        return [""]

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        no_options(self.name, options)
        shape, fortran, stored, offset = _header(path)
        kind = torch_dtype(stored, path)
        return RawReader(path, offset, shape, kind, swapped=not stored.isnative, fortran=fortran)

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        no_options(self.name, options)
        numpy_dtype(dtype, self.name)
        return in_pieces(layout, dtype.itemsize)

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        descr = np.lib.format.dtype_to_descr(numpy_dtype(dtype, self.name))
        with open(path, "xb") as file:
            header = {"descr": descr, "fortran_order": False, "shape": layout.shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + layout.size * dtype.itemsize)

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        return RawWriter(path, _header(path)[3], layout.shape)

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        _, fortran, stored, _ = _header(path)
        if fortran or not stored.isnative:
            order = "column-major" if fortran else "big-endian"
            raise ValueError(f"{path} is {order}, so no rows can be added to it: load it, and save it anew")
        return self.placed(layout, dtype, options), options

    def told(self, path: str, shape: tuple[int, ...]) -> tuple[int, bytes]:
        _, _, stored, end = _header(path)
        with open(path, "rb") as file:
            start = 10 if np.lib.format.read_magic(file) == (1, 0) else 12
        told = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False, "shape": shape}
        text = repr(told).encode().ljust(end - start - 1) + b"\n"
        if start + len(text) > end:
            raise ValueError(f"the header of {path} has no room for the shape {shape}: load it, and save it anew")
        return start, text


def _header(path: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and where the numbers begin; ValueError for what is no such file."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"its version is {version}, which arrays of numbers never have")
            shape, fortran, dtype = _HEADERS[version](file)
        except ValueError as error:
            size = os.fstat(file.fileno()).st_size
            raise ValueError(f"{path}, of {size} bytes, is no .npy file, or is truncated: {error}") from error
        if min(shape, default=0) < 0:
            raise ValueError(f"{path} is no .npy file: its header tells of shape {shape}")
        return shape, fortran, dtype, file.tell()


NPY = Npy()
