"""What a format of files is to the rest of minisplit: the base classes of formats and writers.

All functions of a format are local. What is collective is in `minisplit.io.collective`, once for all formats; only
`Reader.build_index` sends messages. Tested in tests/io/test_api.py, for all formats at once.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from minisplit.core.array import DNDarray
from minisplit.core.error_text import short_list, short_repr
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader

StrPath = str | PathLike[str]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A dataset that is to be written: file, name in the file, layout, dtype, and options of the format."""

    path: str
    dataset: str | None
    layout: Layout
    dtype: torch.dtype
    options: dict[str, Any]

    @property
    def array_name(self) -> str:
        """The name of the dataset in a file where every array has one, also if the caller gave none."""
        return self.dataset or "data"


class Writer:
    """A dataset in a file that `Format.create` has made, opened on this rank. A format subclasses it."""

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Write a part, contiguous and on the CPU, to its box of the dataset. Two ranks never overlap."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file. What was written is handed to the disk later, by `atomic_replacement`."""


class ArrayWriter(Writer):
    """Writes to an array of a library, to which parts are assigned as to one of NumPy."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def write(self, box: Box, part: torch.Tensor) -> None:
        if part.numel():
            self._array[box] = part.numpy()


class OpenFile:
    """The `close` of readers and writers that have one file open."""

    _file: Any

    def close(self) -> None:
        """Close the file. Local."""
        self._file.close()


class Format:
    """A format of files: how a file is opened, made and written. A subclass says what it does otherwise.

    To write a file, rank 0 calls `create`. Then every rank that has a part calls `open_writer`, writes, and
    closes: all ranks at once or, where `serial_writes` is true, one rank after the other.
    """

    name: str
    # How the names of its files end.
    suffixes: tuple[str, ...]
    # What a file holds: one array without a name, arrays with names, to which others can be added, or the columns
    # of one table.
    contents: Literal["array", "datasets", "columns"]
    # The options of `load` and of `save`; None where the library that writes the file checks its own.
    read_options: tuple[str, ...] = ()
    # Those of them that `datasets` takes as well.
    list_options: tuple[str, ...] = ()
    write_options: tuple[str, ...] | None = ()
    # Whether a dataset is a folder with a file for each chunk. Then a dataset is added without a copy of the
    # others, and two ranks must not write to one chunk.
    chunk_files = False
    # Whether a file of this format is a folder.
    folders = False

    def dataset_names(self, path: str, **options: Any) -> list[str]:
        """Return the names of the datasets in a file; [""] for an array without a name."""
        raise NotImplementedError

    def open_reader(self, path: str, dataset: str | None, dtype: torch.dtype | None, **options: Any) -> Reader:
        """Open a dataset; for None the only one. `dtype` is for formats whose files need not have one themselves.

        KeyError or ValueError, which list what is there, for a name that is missing or is not that of an array.
        """
        raise NotImplementedError

    def write_layout(self, target: Target) -> Layout:
        """Return the layout in which ranks best write: in long pieces of the file, and one rank for each chunk.

        Pure. TypeError where the format has no such dtype, ValueError for a shape that it cannot hold.
        """
        raise NotImplementedError

    def create(self, target: Target) -> None:
        """Fill an empty file or folder, or add a dataset to what is there, with room for the whole array."""
        raise NotImplementedError

    def open_writer(self, target: Target) -> Writer:
        """Open a dataset that `create` or `resize` has made room for."""
        raise NotImplementedError

    def serial_writes(self, options: dict[str, Any]) -> bool:
        """Whether the ranks must write one after the other."""
        return False

    def check_replaceable(self, path: str) -> None:
        """Raise an OSError unless a file of this format may replace what is at `path`."""
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, f"{os.strerror(errno.EISDIR)}, no {self.name} file", path)

    def dataset_folder(self, path: str, dataset: str) -> str:
        """Return the folder of a dataset, where `chunk_files` is true. Pure; ValueError for an impossible name."""
        raise NotImplementedError

    def place_to_add(self, path: str, dataset: str) -> tuple[str, str | None]:
        """Return the folder that is to be made, or replaced, for a new dataset, and the name of the dataset in it.

        The folder is that of the dataset, or of the first group above it that is missing, or the whole store. By
        one move of it the store has the dataset. ValueError if a dataset cannot be there.
        """
        raise NotImplementedError

    def forget_shapes(self, path: str, folder: str, new: str) -> None:
        """Remove what the groups above a folder of a store say of the arrays in it, before `new` replaces it."""

    def resizable_options(self, target: Target) -> dict[str, Any]:
        """Return the options with which to make a dataset that grows later. Pure."""
        return target.options

    def open_to_append(self, target: Target) -> Reader:
        """Open the dataset to which the rows of `target` are to be added."""
        return self.open_reader(target.path, target.dataset, None)

    def append_target(self, target: Target) -> Target:
        """Return the target with the layout and options for writing its rows behind those of the dataset.

        ValueError if none can be added to it.
        """
        return replace(target, layout=self.write_layout(target))

    def resize(self, target: Target, shape: Shape) -> None:
        """Give the dataset of a file this shape, before rows are added. By default nothing has to be done."""

    def header_of_shape(self, path: str, shape: Shape) -> tuple[int, bytes, int] | None:
        """Return from which byte on a file says what shape its array has, what for this one, and where that ends.

        None for formats whose files do not grow in place, but as copies.
        """
        return None


def path_text(path: StrPath) -> str:
    """Return `path` as a str; TypeError for what is no path, and for bytes."""
    text = os.fspath(path) if isinstance(path, PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a pathlib.Path, got {short_repr(path)}")
    return text


def shown_path(path: object) -> str:
    """Return what was given as a path for an error message, the same on all ranks."""
    return path if isinstance(path, str) else os.fspath(path) if isinstance(path, Path) else short_repr(path)


def only_dataset(path: str, names: Sequence[str]) -> str:
    """Return the only name of a list; ValueError, which lists the names, if it is not the only one."""
    if len(names) == 1:
        return names[0]
    raise ValueError(f"which dataset of {path}? It has {list_datasets(names)}: give dataset=")


def list_datasets(names: Sequence[str]) -> str:
    """Return the names of datasets as part of a sentence."""
    return short_list(list(map(repr, names)), 20) or "no dataset"


def import_for(module: str, name: str) -> ModuleType:
    """Import the package that the format `name` needs; ModuleNotFoundError, which says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f'{name} files need {error.name}: pip install "minisplit[files]"'
        raise ModuleNotFoundError(text, name=error.name) from error


def check_options(name: str, options: Mapping[str, Any], known: Sequence[str] | None) -> None:
    """Raise TypeError for an option that the format `name` does not have, unless any may be, or is a DNDarray."""
    for option, value in options.items():
        if known is not None and option not in known:
            raise TypeError(f"{name} files have no option {option!r}")
        # To look at its elements is collective, but only rank 0 may do it.
        if isinstance(value, DNDarray):
            raise TypeError(f"the option {option!r} of {name} files cannot be a DNDarray; give numbers or texts")


def check_item(item: Any, array_type: type, name: str, path: str, names: Callable[[], Sequence[str]]) -> None:
    """KeyError or ValueError, which list `names()`, unless what a file has under a name is an array."""
    if item is None:
        raise KeyError(f"{path} has no dataset {name!r}, but {list_datasets(names())}")
    if not isinstance(item, array_type):
        raise ValueError(f"{name!r} in {path} is a group; the file has {list_datasets(names())}")
