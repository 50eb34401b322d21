"""Zarr, by zarr-python: a folder with a file for each chunk of an array. Written in version 3 of the format.

No two ranks write one chunk: where the borders between the ranks' parts are not borders of chunks, rows go to the
neighbour that has the greater part of a chunk.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.chunks import chunk_aligned_layout, chunk_read_layout, chunk_shape, growing_chunk_shape
from minisplit.io.files import PinnedPath, make_empty, open_pinned, remove
from minisplit.io.formats.base import ArrayWriter, Format, Target, Writer, check_item, import_for, only_dataset
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype

# Bytes of a chunk, a file each, at most, unless the caller says otherwise.
_MAX_CHUNK = 16 * 2**20
# The same for arrays to which rows are added, few at a time: the last chunk is written again each time.
_MAX_GROWING_CHUNK = 2**20
# Seconds that a failed write waits for others of the library to end.
_WAIT = 10
# The tasks that wait for those, each of which would wait for the others and for itself.
_WAITS = weakref.WeakSet[asyncio.Task[None]]()
# One of these files makes a folder an array or a group: that of version 3, or those of version 2.
_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")


class Zarr(Format):
    """See `minisplit.io.formats.base.Format`. Options: those of `zarr.create_array`."""

    name = "zarr"
    suffixes = (".zarr",)
    contents = "datasets"
    write_options = None
    chunk_files = folders = True

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        with open_pinned(path):
            return _array_names(_open_node(path))

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        return ZarrReader(path, dataset)

    def write_layout(self, target: Target) -> Layout:
        numpy_dtype(target.dtype, self.name)
        # A shard is one file with several chunks, so it is what ranks must not share.
        chosen = target.options.get("shards") or target.options.get("chunks")
        return chunk_aligned_layout(target.layout, chosen or _default_chunks(target))

    def create(self, target: Target) -> None:
        options = {"chunks": _default_chunks(target), **target.options}
        dtype = numpy_dtype(target.dtype, self.name)
        _zarr().create_array(target.path, name=target.dataset, shape=target.layout.shape, dtype=dtype, **options)

    def open_writer(self, target: Target) -> Writer:
        # Of a chunk that has other numbers as well only the part is changed.
        return ZarrWriter(_open_array(target, "r+"))

    def check_replaceable(self, path: str) -> None:
        if not _has_metadata(path):
            raise FileExistsError(errno.EEXIST, "what is there is no Zarr array or group", path)

    def dataset_folder(self, path: str, dataset: str) -> str:
        parts = dataset.strip("/").split("/")
        # As the specification of version 3 has it; zarr-python takes \ for /. Dots could lead out of the folder.
        if any(part.strip(".") == "" or part.startswith("__") or "\\" in part for part in parts):
            raise ValueError(
                f"dataset must be names with / between them, none of dots or with __ in front, got {dataset!r}"
            )
        return os.path.join(path, *parts)

    def place_to_add(self, path: str, dataset: str) -> tuple[str, str | None]:
        self.dataset_folder(path, dataset)  # checks the name
        zarr, dataset = _zarr(), dataset.strip("/")
        if not os.path.exists(path):
            return path, dataset
        root = _open_node(path)
        if not isinstance(root, zarr.Group):
            raise ValueError(f"{path} is an array, and only a group takes one more dataset; mode='w' replaces it")
        if root.metadata.zarr_format != 3:
            # zarr-python would make an array of version 3 in it, which readers of version 2 do not find.
            raise ValueError(
                f"{path} is a group of version 2 of Zarr, to which nothing can be added; save a new one"
            )
        *groups, name = dataset.split("/")
        for i, group in enumerate(groups):
            above = "/".join(groups[: i + 1])
            if above not in root:
                return self.dataset_folder(path, above), "/".join([*groups[i + 1 :], name])
            if not isinstance(root[above], zarr.Group):
                raise ValueError(f"{dataset!r} in {path} cannot be a dataset: {group!r} above it is an array")
        if dataset in root:
            check_item(root[dataset], zarr.Array, dataset, path, lambda: _array_names(root))
        return self.dataset_folder(path, dataset), None

    def forget_shapes(self, path: str, folder: str, new: str) -> None:
        """Remove the metadata that groups have of arrays in them, "consolidated": programs would read old shapes.

        Without these they read those of the arrays.
        """
        group, root = os.path.realpath(os.path.dirname(folder)), os.path.realpath(path)
        while os.path.commonpath([group, root]) == root:
            remove(os.path.join(group, ".zmetadata"))
            file = os.path.join(group, "zarr.json")
            if os.path.exists(file):
                with open(file, encoding="utf-8") as old:
                    metadata = json.load(old)
                if metadata.pop("consolidated_metadata", None) is not None:
                    # In a folder that is removed if this is killed.
                    renewed = os.path.join(new, "renewed.json")
                    make_empty(renewed, like=file)
                    with open(renewed, "w", encoding="utf-8") as text:
                        json.dump(metadata, text, indent=2)
                    os.replace(renewed, file)
            group = os.path.dirname(group)

    def resizable_options(self, target: Target) -> dict[str, Any]:
        chunks = growing_chunk_shape(target.layout, target.dtype.itemsize, _MAX_GROWING_CHUNK)
        return {"chunks": chunks, **target.options}

    def append_target(self, target: Target) -> Target:
        array = _open_array(target, "r")
        layout = chunk_aligned_layout(target.layout, array.shards or array.chunks, array.shape[0])
        return replace(target, layout=layout, options={})

    def resize(self, target: Target, shape: tuple[int, ...]) -> None:
        _open_array(target, "r+").resize(shape)


class ZarrWriter(ArrayWriter):
    """Writes chunks, each a file."""

    def write(self, box: Box, part: torch.Tensor) -> None:
        try:
            super().write(box, part)
        except BaseException:
            # The library writes several chunks at once, and goes on with the others after one has failed: in a
            # folder that is removed meanwhile, which it would make again.
            import_for("zarr.core.sync", "Zarr").sync(_wait_for_tasks())
            raise


async def _wait_for_tasks() -> None:
    """Wait for what else runs in the event loop of zarr-python, but for such waits, this one and other ranks'."""
    own = asyncio.current_task()
    assert own is not None
    _WAITS.add(own)
    if tasks := asyncio.all_tasks().difference(_WAITS):
        await asyncio.wait(tasks, timeout=_WAIT)


class ZarrReader(Reader):
    """Reads an array of a group, or the array that has the path itself."""

    def __init__(self, path: str, dataset: str | None) -> None:
        zarr = _zarr()
        with open_pinned(path):
            node = _open_node(path)
            name = only_dataset(path, _array_names(node)) if dataset is None else dataset.strip("/")
            if name:
                item = node.get(name) if isinstance(node, zarr.Group) else None
                check_item(item, zarr.Array, name, path, lambda: _array_names(node))
        self.path = os.path.join(path, name)
        self._pinned = PinnedPath(self.path)
        try:
            # Once more, as the folder that is pinned now may be a newer one.
            with _wrong_metadata(self.path):
                array = zarr.open_array(self.path, mode="r")
            self._open(array, path, name)
            self._pinned.check()
        except BaseException:
            self.close()
            raise

    def _open(self, node: Any, path: str, name: str) -> None:
        where = f"{name!r} in {path}" if name else path
        # By version 2 of the format objects may be pickled, and unpickling runs code.
        codecs = (*(node.filters or ()), *(node.compressors or ()))
        if any("pickle" in type(codec).__name__.lower() for codec in codecs):
            raise TypeError(f"{where} holds pickled Python objects, which minisplit never unpickles; save numbers")
        self._array, self.version = node, self._pinned.version
        self.dtype = torch_dtype(node.dtype, where)
        self.shape = tuple(node.shape)
        if min(node.shards or node.chunks, default=1) < 1 or min(self.shape, default=0) < 0:
            raise ValueError(f"{where} is damaged: it has the shape {self.shape} in chunks of {node.chunks}")
        chunk = math.prod(node.shards or node.chunks) * self.dtype.itemsize
        self.check_size(chunk, f"a chunk of {where}")

    def stored_bytes(self) -> int:
        files = (os.path.join(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return sum(map(os.path.getsize, files))

    def read_layout(self, layout: Layout) -> Layout:
        return chunk_read_layout(layout, self._array.shards or self._array.chunks)

    def read(self, box: Box) -> torch.Tensor:
        try:
            part = np.asarray(self._array[box])
        finally:
            # The chunks of a folder that was removed would be taken for those that were never written.
            self._pinned.check()
        # Arrays of zarr-python may be big-endian, in Fortran order, or read-only: torch takes none of these.
        native = np.require(part, dtype=part.dtype.newbyteorder("="), requirements=["C", "W"])
        return torch.from_numpy(native)

    def close(self) -> None:
        self._pinned.close()


def _default_chunks(target: Target) -> tuple[int, ...]:
    return chunk_shape(target.layout, target.dtype.itemsize, _MAX_CHUNK)


def _open_array(target: Target, mode: str) -> Any:
    return _zarr().open_array(target.path, path=target.dataset or "", mode=mode)


def _open_node(path: str) -> Any:
    """Open the array or group at the root of a store; an error like that of `open` where there is none."""
    zarr = _zarr()
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if not _has_metadata(path):
        raise ValueError(f"{path} is no Zarr array or group: it has none of {', '.join(_METADATA_FILES)}")
    with _wrong_metadata(path):
        try:
            return zarr.open_array(path, mode="r")
        except (zarr.errors.NodeTypeValidationError, FileNotFoundError):
            # Without consolidated metadata, which minisplit does not renew when it adds an array.
            return zarr.open_group(path, mode="r", use_consolidated=False)


@contextmanager
def _wrong_metadata(path: str) -> Iterator[None]:
    """Raise ValueError for all that the library raises where the metadata are not as they should be."""
    try:
        yield
    except (OSError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise ValueError(f"{path} is no Zarr array or group, or is damaged: {error!r}") from error


def _has_metadata(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, file)) for file in _METADATA_FILES)


def _array_names(node: Any) -> list[str]:
    zarr = _zarr()
    if isinstance(node, zarr.Array):
        return [""]
    return sorted(name for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array))


def _zarr() -> ModuleType:
    return import_for("zarr", "Zarr")


ZARR = Zarr()
