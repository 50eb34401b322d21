"""HDF5, by h5py, whether that was built with MPI or not.

A plain dataset gets its place in the file when it is made; from then on it is a block of numbers, which all ranks
fill at once. Those that are compressed or in chunks only the library can write, for one rank at a time.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.chunks import aligned, by_chunks, chunks_of, unending
from minisplit.io.formats.base import Format, Reader, Writer, listed, needed, no_options, the_one
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype
from minisplit.io.formats.raw import RawWriter, in_pieces

_DEFAULT = "data"
# What a chunk holds at most, in bytes, unless the caller says otherwise: the library keeps so much of one.
_MOST = 2**20


class Hdf5(Format):
    """See `base.Format`. Options are those of `h5py.Group.create_dataset`, as `compression`."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5", ".he5", ".hdf")
    named = True
    adds = True

    def names(self, path: str) -> list[str]:
        with _h5py().File(path, "r") as file:
            return _names(file)

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        no_options(self.name, options)
        return _Reader(path, dataset)

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        numpy_dtype(dtype, self.name)
        if chosen := _options(layout, dtype, options):
            return aligned(layout, chosen["chunks"])
        return in_pieces(layout, dtype.itemsize)

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        h5py, name = _h5py(), dataset or _DEFAULT
        with _changing(path) as file:
            if name in file:
                if not isinstance(file[name], h5py.Dataset):
                    raise ValueError(f"{name!r} in {path} is a group; the file has {listed(_names(file))}")
                del file[name]
            if chosen := _options(layout, dtype, options):
                file.create_dataset(name, layout.shape, numpy_dtype(dtype, self.name), **chosen)
            else:
                _create_plain(h5py, file, name, layout.shape, numpy_dtype(dtype, self.name))

    def in_turns(self, options: dict[str, Any]) -> bool:
        return bool(options)

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        with _h5py().File(path, "r") as file:
            offset = file[dataset or _DEFAULT].id.get_offset()
        return _Writer(path, dataset or _DEFAULT) if offset is None else RawWriter(path, offset, layout.shape)

    def extensible(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
        long = chunks_of(unending(layout), dtype.itemsize, _MOST)
        return {"chunks": long, "maxshape": (None, *layout.shape[1:]), **options}

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        with _h5py().File(path, "r") as file:
            there = file[dataset]
            rows, most = there.shape[0] + layout.shape[0], there.maxshape[0]
            if most is not None and most < rows:
                raise ValueError(
                    f"{dataset!r} in {path} can have {most} rows at most, not {rows}: make it by mode='extend' "
                    "or with maxshape=(None, ...)"
                )
            chunks = there.chunks
            return aligned(layout, chunks, there.shape[0]) if chunks else layout, {"chunks": chunks}

    def extend(self, path: str, dataset: str | None, shape: tuple[int, ...]) -> None:
        with _changing(path) as file:
            file[dataset].resize(shape)


class _Reader:
    def __init__(self, path: str, dataset: str | None) -> None:
        h5py = _h5py()
        self._file = h5py.File(path, "r")
        try:
            name = the_one(path, _names(self._file)) if dataset is None else dataset
            found = self._file.get(name)
            if found is None:
                raise KeyError(f"{path} has no dataset {name!r}, but {listed(_names(self._file))}")
            if not isinstance(found, h5py.Dataset):
                raise ValueError(f"{name!r} in {path} is a group; the file has {listed(_names(self._file))}")
            if found.shape is None:
                raise ValueError(f"the dataset {name!r} in {path} is empty: it has no shape")
            self._dataset = found
            self.shape: tuple[int, ...] = found.shape
            self.dtype = torch_dtype(found.dtype, f"{name!r} in {path}")
        except BaseException:
            self._file.close()
            raise

    def placed(self, layout: Layout) -> Layout:
        chunks = self._dataset.chunks
        return by_chunks(layout, chunks) if chunks else in_pieces(layout, self.dtype.itemsize)

    def read(self, box: Box) -> torch.Tensor:
        found = torch.empty([span.stop - span.start for span in box], dtype=self.dtype)
        if found.numel():
            self._dataset.read_direct(found.numpy(), box)
        return found

    def close(self) -> None:
        self._file.close()


class _Writer:
    """Writes by the library: while this is open, no other rank may have the file open."""

    def __init__(self, path: str, dataset: str) -> None:
        self._stack = ExitStack()
        self._dataset = self._stack.enter_context(_changing(path))[dataset]

    def write(self, box: Box, part: torch.Tensor) -> None:
        if part.numel():
            self._dataset[box] = part.numpy()

    def close(self) -> None:
        self._stack.close()


class _Disk(io.FileIO):
    """A file for the library to write into, which is told of no failure.

    For it cannot even close a file after one, as on a full disk, and then the process crashes when it ends.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            while view and self.error is None:
                view = view[super().write(view) :]
        except OSError as error:
            self.error = error
        return len(data)


@contextmanager
def _changing(path: str) -> Iterator[Any]:
    """The file at `path`, old or new, to be changed by the library; OSError at the end where a write failed."""
    old = os.path.exists(path)
    with _Disk(path, "r+" if old else "x+") as disk:
        try:
            with _h5py().File(disk, "r+" if old else "w") as file:
                yield file
        finally:
            if disk.error is not None:
                raise disk.error


def _options(layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
    """The options with which a dataset is made; none for a plain one, as those without elements or axes are."""
    if not options or not (layout.size or "maxshape" in options) or not layout.ndim:
        return {}
    chunks = options.get("chunks")
    if chunks is None or chunks is True:
        chunks = chunks_of(layout, dtype.itemsize, _MOST)
    return {**options, "chunks": chunks}


def _create_plain(h5py: ModuleType, file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A dataset whose numbers have their place in the file at once, and are not set."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, space, creation, links)


def _names(file: Any) -> list[str]:
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if hasattr(item, "shape"):  # a type in a file has none
            found.append(name)

    file.visititems(look)
    return sorted(found)


def _h5py() -> ModuleType:
    return needed("h5py", "HDF5")


HDF5 = Hdf5()
