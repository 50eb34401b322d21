"""HDF5, by h5py, whether that was built with MPI or not.

A plain dataset gets its bytes in the file when it is made; from then on it is a block of numbers, which all ranks
write at once. Only the library can write datasets that are compressed or in chunks, for one rank at a time.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.chunks import chunk_aligned_layout, chunk_read_layout, chunk_shape, growing_chunk_shape
from minisplit.io.files import file_version, has_content
from minisplit.io.formats.base import ArrayWriter, Format, OpenFile, Target, check_item, import_for, only_dataset
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype
from minisplit.io.formats.raw import RawWriter, contiguous_layout

# Bytes of a chunk at most, unless the caller says otherwise: the size of the library's cache of chunks, by
# default.
_MAX_CHUNK = 2**20
# Of filters of chunks that leave the number of bytes as it is, or add to it: their codes, and how many. They
# shuffle bytes, and add a checksum.
_ADDED_BY_FILTER = {2: 0, 3: 4}
# The ends of names of netCDF files, which are HDF5 files since version 4.
_NETCDF = (".nc", ".nc4")


class Hdf5(Format):
    """See `minisplit.io.formats.base.Format`. Options: those of `h5py.Group.create_dataset`."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5", ".he5", ".hdf", *_NETCDF)
    contents = "datasets"
    read_options = ("external",)
    write_options = None

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        with _h5py().File(path, "r") as file:
            return _dataset_names(file)

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        reader = NetcdfReader if path.lower().endswith(_NETCDF) else Hdf5Reader
        return reader(path, dataset, external=bool(options.get("external", False)))

    def write_layout(self, target: Target) -> Layout:
        if target.path.lower().endswith(_NETCDF):
            raise ValueError("netCDF files are read, not written: save to a name that ends in .h5")
        numpy_dtype(target.dtype, self.name)
        if options := _library_options(target):
            return chunk_aligned_layout(target.layout, options["chunks"])
        return contiguous_layout(target.layout, target.dtype.itemsize)

    def create(self, target: Target) -> None:
        h5py, name = _h5py(), target.array_name.rstrip("/") or "/"
        shape, dtype = target.layout.shape, numpy_dtype(target.dtype, self.name)
        with _open_to_change(target.path) as file:
            if name in file:
                check_item(file[name], h5py.Dataset, name, target.path, lambda: _dataset_names(file))
                # The library may not use its bytes again: to replace datasets makes a file grow.
                del file[name]
            try:
                file.require_group(os.path.dirname(name) or "/")
            except TypeError as error:  # there is a dataset where a group would have to be
                raise ValueError(f"{name!r} in {target.path} cannot be a dataset: {error}") from error
            options = _library_options(target)
            dataset = file.create_dataset(name, shape, dtype, **options)
            if not options and dataset.size:
                # The first write allocates the bytes of all elements, which are not set: before it a plain dataset
                # has no offset, and ranks would not find where to write.
                dataset[(0,) * dataset.ndim] = 0

    def open_writer(self, target: Target) -> Hdf5Writer | RawWriter:
        with _h5py().File(target.path, "r") as file:
            # None for datasets in chunks.
            offset = file[target.array_name].id.get_offset()
        if offset is None:
            return Hdf5Writer(target.path, target.array_name)
        return RawWriter(target.path, offset, target.layout.shape)

    def serial_writes(self, options: dict[str, Any]) -> bool:
        # Two processes that change one file by the library destroy it.
        return bool(options)

    def resizable_options(self, target: Target) -> dict[str, Any]:
        layout = target.layout
        chunks = growing_chunk_shape(layout, target.dtype.itemsize, _MAX_CHUNK)
        return {"chunks": chunks, "maxshape": (None, *layout.shape[1:]), **target.options}

    def append_target(self, target: Target) -> Target:
        layout = target.layout
        with _h5py().File(target.path, "r") as file:
            dataset = file[target.dataset]
            # A dataset has a limit for each axis that was set when it was made; None is no limit.
            rows, limit, chunks = dataset.shape[0] + layout.shape[0], dataset.maxshape[0], dataset.chunks
        if limit is not None and limit < rows:
            raise ValueError(
                f"{target.dataset!r} in {target.path} can have {limit} rows at most, not {rows}: make it by "
                "mode='extend' or with maxshape=(None, ...)"
            )
        if chunks:
            layout = chunk_aligned_layout(layout, chunks, rows - layout.shape[0])
        return replace(target, layout=layout, options={"chunks": chunks})

    def resize(self, target: Target, shape: tuple[int, ...]) -> None:
        with _open_to_change(target.path) as file:
            file[target.dataset].resize(shape)


class Hdf5Reader(OpenFile, Reader):
    """Reads a dataset by the library, which knows its chunks and how they are compressed."""

    def __init__(self, path: str, dataset: str | None, *, external: bool = False) -> None:
        h5py = _h5py()
        with ExitStack() as stack:
            self._file = stack.enter_context(h5py.File(path, "r"))
            name = only_dataset(path, self._choices()) if dataset is None else dataset
            try:
                if not external:
                    # Before it is opened: the library would open the other file.
                    _check_inside(self._file, name, path)
                item = self._file.get(name)
            except KeyError as error:  # as the library has it for what it cannot read
                raise ValueError(f"{name!r} in {path} cannot be opened: {error}") from error
            check_item(item, h5py.Dataset, name, path, lambda: _dataset_names(self._file))
            if item.shape is None:
                raise ValueError(f"the dataset {name!r} in {path} is empty: it has no shape")
            self._dataset, self.shape = item, item.shape
            self.path, self.version = path, file_version(self._file.id.get_vfd_handle())
            self.dtype = torch_dtype(item.dtype, f"{name!r} in {path}")
            self._filters = []
            if item.chunks:
                self.check_size(math.prod(item.chunks) * self.dtype.itemsize, f"a chunk of {name!r} in {path}")
                properties = item.id.get_create_plist()
                self._filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
            stack.pop_all()  # the file stays open, until `close`

    def _choices(self) -> list[str]:
        """Return the datasets of which the caller means the only one."""
        return _dataset_names(self._file)

    def stored_bytes(self) -> int | None:
        # What is in other files is read only if the caller trusts them; in this one it belongs to other datasets.
        if self._dataset.is_virtual or self._dataset.external:
            return None
        return int(self._dataset.id.get_storage_size())

    def read_layout(self, layout: Layout) -> Layout:
        chunks = self._dataset.chunks
        return chunk_read_layout(layout, chunks) if chunks else contiguous_layout(layout, self.dtype.itemsize)

    def read(self, box: Box) -> torch.Tensor:
        part = torch.empty([span.stop - span.start for span in box], dtype=self.dtype)
        if part.numel():
            if self._filters:
                self._check_filters(box)
            # Into the tensor's own memory: `dataset[box]` would make an array that is copied again.
            self._dataset.read_direct(part.numpy(), box)
        return part

    def _check_filters(self, box: Box) -> None:
        """Raise ValueError for a chunk that was stored without its filters, but is not as long as without them.

        The library takes it as it is, and what lacks at its end from memory that it has not set.
        """
        dataset, filters = self._dataset, self._filters
        whole = math.prod(dataset.chunks) * dataset.dtype.itemsize
        starts = [range(span.start // n * n, span.stop, n) for span, n in zip(box, dataset.chunks, strict=True)]
        for start in product(*starts):
            chunk = dataset.id.get_chunk_info_by_coord(start)
            if not chunk.filter_mask:
                continue
            used = [code for i, code in enumerate(filters) if not chunk.filter_mask >> i & 1]
            length = whole + sum(_ADDED_BY_FILTER.get(code, 0) for code in used)
            if _ADDED_BY_FILTER.keys() >= set(used) and chunk.size != length:
                raise ValueError(
                    f"{self.path} is damaged: the chunk of {dataset.name!r} at {start} is said to be stored "
                    f"without compression, which takes {length} bytes, but it has {chunk.size}"
                )


class NetcdfReader(Hdf5Reader):
    """Reads a variable of a netCDF file: unpacked, and NaN where nothing was measured, by the CF conventions."""

    def __init__(self, path: str, dataset: str | None, *, external: bool = False) -> None:
        super().__init__(path, dataset, external=external)
        attributes = self._dataset.attrs
        self._scale, self._offset = attributes.get("scale_factor"), attributes.get("add_offset")
        fills = [attributes[name] for name in ("_FillValue", "missing_value") if name in attributes]
        self._fills = [float(fill) for each in fills for fill in np.ravel(each)]
        if self._scale is not None or self._offset is not None:
            self.dtype = torch.float64

    def _choices(self) -> list[str]:
        # Without the coordinates.
        names = _dataset_names(self._file)
        return [name for name in names if self._file[name].attrs.get("CLASS") != b"DIMENSION_SCALE"]

    def read(self, box: Box) -> torch.Tensor:
        part = super().read(box)  # which the library converts
        if not self.dtype.is_floating_point:
            return part
        is_missing = torch.zeros_like(part, dtype=torch.bool)
        for fill in self._fills:
            is_missing |= part == fill
        if self._scale is not None:
            part *= float(np.ravel(self._scale)[0])
        if self._offset is not None:
            part += float(np.ravel(self._offset)[0])
        return part.masked_fill_(is_missing, torch.nan)


class Hdf5Writer(ArrayWriter):
    """Writes by the library: while this is open, no other rank may have the file open."""

    def __init__(self, path: str, name: str) -> None:
        self._stack = ExitStack()
        super().__init__(self._stack.enter_context(_open_to_change(path))[name])

    def close(self) -> None:
        self._stack.close()


class _FailureHidingFile(io.FileIO):
    """A file for the library to write to, which keeps the first failure to itself.

    After a failed write, as on a full disk, the library cannot close the file, and the process crashes when it
    ends. So every write seems to succeed, and the error is raised once the file is closed.
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

    def truncate(self, size: int | None = None) -> int:
        # Which also makes a file longer. The library would go on with the error pending, and lose it for another.
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def _open_to_change(path: str) -> Iterator[Any]:
    """Open a file, or make it, for the library to change; OSError at the end where a write failed."""
    exists = has_content(path)
    with _FailureHidingFile(path, "r+" if exists else "w+") as disk:
        try:
            with _h5py().File(disk, "r+" if exists else "w") as file:
                yield file
        finally:
            if disk.error is not None:
                raise disk.error


def _library_options(target: Target) -> dict[str, Any]:
    """Return the options with which the library makes a dataset; none for a plain one.

    A dataset without elements or axes is a plain one, as it cannot have chunks.
    """
    options, layout = target.options, target.layout
    if not options or not (layout.size or "maxshape" in options) or not layout.ndim:
        return {}
    chunks = options.get("chunks")
    if chunks is None or chunks is True:
        chunks = chunk_shape(layout, target.dtype.itemsize, _MAX_CHUNK)
    return {**options, "chunks": chunks}


def _check_inside(file: Any, name: str, path: str, most_links: int = 16) -> None:
    """Raise ValueError if a dataset, or a link on the way to it, takes what it has from another file.

    Otherwise a file could make a program read any other file for which it has the rights.
    """
    h5py, group, parts = _h5py(), file, name.split("/")
    while parts:
        part = parts.pop(0)
        link = group.get(part, getlink=True) if part not in {"", "."} and isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(_names_another(name, path, link.filename))
        if isinstance(link, h5py.SoftLink):
            most_links -= 1
            if most_links < 0:
                raise ValueError(f"{name!r} in {path} is a link to a link to a link without end")
            group = file if link.path.startswith("/") else group
            parts = link.path.split("/") + parts
        elif link is not None:
            group = group[part]
    if not isinstance(group, h5py.Dataset):
        return
    others = [os.fsdecode(each[0]) for each in group.external or ()]
    for source in group.virtual_sources() if group.is_virtual else ():
        if source.file_name == ".":  # in this file
            if not most_links:
                raise ValueError(f"{name!r} in {path} is made of datasets that are made of others without end")
            _check_inside(file, source.dset_name, path, most_links - 1)
        else:
            others.append(source.file_name)
    if others:
        raise ValueError(_names_another(name, path, others[0]))


def _names_another(name: str, path: str, other: str) -> str:
    return (
        f"{name!r} in {path} takes its numbers from another file, {other!r}: if you trust both, load it by "
        "load(path, dataset, external=True)"
    )


def _dataset_names(file: Any) -> list[str]:
    names: list[str] = []

    # A named type, which may also be in a file, has no shape.
    try:
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    except RuntimeError as error:  # as the library has it for what it cannot read
        raise ValueError(f"the datasets of {file.filename} cannot be listed: {error}") from error
    return sorted(names)


def _h5py() -> ModuleType:
    return import_for("h5py", "HDF5")


HDF5 = Hdf5()
