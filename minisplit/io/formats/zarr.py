"""Zarr, by zarr-python: a folder with a file for each chunk of an array. Written in version 3 of the format.

No two ranks write one chunk: where the borders between the ranks' parts are not borders of chunks, rows go to the
neighbour that has the greater part of a chunk.
"""

from __future__ import annotations

import errno
import os
from types import ModuleType
from typing import Any

import numpy as np
import torch

from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.chunks import aligned, by_chunks, chunks_of, unending
from minisplit.io.formats.base import Format, Reader, Writer, listed, needed, no_options, the_one
from minisplit.io.formats.numpy_dtypes import numpy_dtype, torch_dtype

# What a chunk, a file each, holds at most unless the caller says otherwise.
_MOST = 16 * 2**20
# And a chunk of an array to which rows are added, few at a time: the last is written again each time.
_LEAST = 2**20
_MARKS = ("zarr.json", ".zarray", ".zgroup")


class Zarr(Format):
    """See `minisplit.io.formats.base.Format`. Options are those of `zarr.create_array`, as `chunks`."""

    name = "zarr"
    suffixes = (".zarr",)
    named = True
    adds = True
    folders = True

    def names(self, path: str) -> list[str]:
        return _names(_node(path))

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        no_options(self.name, options)
        return _Reader(path, dataset)

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        numpy_dtype(dtype, self.name)
        chosen = options.get("shards") or options.get("chunks")
        return aligned(layout, chosen or chunks_of(layout, dtype.itemsize, _MOST))

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        chosen = {"chunks": chunks_of(layout, dtype.itemsize, _MOST), **options}
        _zarr().create_array(path, name=dataset, shape=layout.shape, dtype=numpy_dtype(dtype, self.name), **chosen)

    def folder(self, path: str, dataset: str) -> str:
        parts = dataset.strip("/").split("/")
        if any(part.strip(".") == "" or part.startswith("__") or "\\" in part for part in parts):
            raise ValueError(
                f"dataset must be names with / between them, none of dots or with __ in front, got {dataset!r}"
            )
        return os.path.join(path, *parts)

    def add(self, path: str, dataset: str) -> None:
        zarr, dataset = _zarr(), dataset.strip("/")
        if os.path.exists(path) and not isinstance(_node(path), zarr.Group):
            raise ValueError(f"{path} is an array, and only a group takes one more dataset; mode='w' replaces it")
        root = zarr.open_group(path, mode="a")
        if root.metadata.zarr_format != 3:
            raise ValueError(
                f"{path} is a group of version 2 of Zarr, to which nothing can be added; save a new one"
            )
        if dataset in root and isinstance(root[dataset], zarr.Group):
            raise ValueError(f"{dataset!r} in {path} is a group; it has {listed(_names(root))}")
        if "/" in dataset:
            root.require_group(dataset.rpartition("/")[0])

    def check_old(self, path: str) -> None:
        if not any(os.path.exists(os.path.join(path, mark)) for mark in _MARKS):
            raise FileExistsError(errno.EEXIST, "what is there is no Zarr array or group", path)

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        return _Writer(path, dataset)

    def extensible(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
        return {"chunks": chunks_of(unending(layout), dtype.itemsize, _LEAST), **options}

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        there = _zarr().open_array(path, path=dataset or "", mode="r")
        return aligned(layout, there.shards or there.chunks, there.shape[0]), {}

    def extend(self, path: str, dataset: str | None, shape: tuple[int, ...]) -> None:
        _zarr().open_array(path, path=dataset or "", mode="r+").resize(shape)


class _Reader:
    def __init__(self, path: str, dataset: str | None) -> None:
        node, zarr = _node(path), _zarr()
        name = the_one(path, _names(node)) if dataset is None else dataset.strip("/")
        if name:
            found = node.get(name) if isinstance(node, zarr.Group) else None
            if found is None:
                raise KeyError(f"{path} has no dataset {name!r}, but {listed(_names(node))}")
            if not isinstance(found, zarr.Array):
                raise ValueError(f"{name!r} in {path} is a group; it has {listed(_names(node))}")
            node = found
        self._array = node
        where = f"{name!r} in {path}" if name else path
        if any("pickle" in type(codec).__name__.lower() for codec in _codecs(self._array)):
            raise TypeError(f"{where} holds pickled Python objects, which minisplit never unpickles; save numbers")
        self.dtype = torch_dtype(self._array.dtype, where)
        self.shape: tuple[int, ...] = tuple(self._array.shape)

    def placed(self, layout: Layout) -> Layout:
        return by_chunks(layout, self._array.shards or self._array.chunks)

    def read(self, box: Box) -> torch.Tensor:
        found = np.asarray(self._array[box])
        native = np.require(found, dtype=found.dtype.newbyteorder("="), requirements=["C", "W"])
        return torch.from_numpy(native)

    def close(self) -> None:
        pass


class _Writer:
    def __init__(self, path: str, dataset: str | None) -> None:
        self._array = _zarr().open_array(path, path=dataset or "", mode="r+")

    def write(self, box: Box, part: torch.Tensor) -> None:
        if part.numel():
            self._array[box] = part.numpy()

    def close(self) -> None:
        pass


def _node(path: str) -> Any:
    """The array or group at the root of a store; an error like that of `open` where there is none."""
    zarr = _zarr()
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if not any(os.path.exists(os.path.join(path, mark)) for mark in _MARKS):
        raise ValueError(f"{path} is no Zarr array or group: it has none of {', '.join(_MARKS)}")
    try:
        return zarr.open_array(path, mode="r")
    except (zarr.errors.NodeTypeValidationError, FileNotFoundError):
        return zarr.open_group(path, mode="r", use_consolidated=False)


def _names(node: Any) -> list[str]:
    zarr = _zarr()
    if isinstance(node, zarr.Array):
        return [""]
    return sorted(name for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array))


def _codecs(array: Any) -> list[Any]:
    return [*(array.filters or ()), *(array.compressors or ())]


def _zarr() -> ModuleType:
    return needed("zarr", "Zarr")


ZARR = Zarr()
