"""What a format of files is to the rest of minisplit. Nothing here, nor in a format, sends a message."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import torch

from minisplit.core import error_text, storage
from minisplit.core.layout import Layout
from minisplit.core.storage import Box


class Reader(storage.Reader, Protocol):
    """One dataset of one file, opened on this rank. Local."""

    def placed(self, layout: Layout) -> Layout:
        """The layout in which the ranks best read an array that is to have `layout`: in long pieces. Pure."""


class Writer(Protocol):
    """A dataset in a file under way that `Format.create` made, opened on this rank. Local."""

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Put that part in its place. Boxes of different ranks do not overlap."""

    def close(self) -> None:
        """No more is written; `replacing` then hands the file to the disk."""


class Format:
    """A format of files: how one is opened, made and written. A subclass says what it does otherwise.

    To write one, rank 0 calls `create`; then every rank that has a part calls `writer`, writes and closes, all at
    once or, where `in_turns` says so, in the order of the ranks. See `minisplit.io.api.save`.
    """

    name: str
    suffixes: tuple[str, ...]
    # Whether datasets have names; whether one can be added to a file; whether each is a folder of its own; whether
    # they are the columns of one table.
    named = False
    adds = False
    folders = False
    table = False
    # Whether files tell of what dtype their numbers are.
    typed = True
    # Those of the options of `writer` that `open` has too.
    reading: tuple[str, ...] = ()

    def names(self, path: str) -> list[str]:
        """The datasets in a file; [""] for the one that needs no name."""
        raise NotImplementedError

    def open(
        self, path: str, dataset: str | None = None, *, dtype: torch.dtype | None = None, **options: Any
    ) -> Reader:
        """Open a dataset, the only one for None. `dtype`, the wanted one, is for formats without any of their own.

        KeyError or ValueError, which list what is there, for a name that is missing or is no array's.
        """
        raise NotImplementedError

    def placed(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> Layout:
        """The layout in which an array of this layout is best written: in long pieces, and no chunk for two ranks.

        Pure. TypeError where the format has no such dtype, ValueError for a shape that it cannot hold.
        """
        raise NotImplementedError

    def create(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> None:
        """Make the file, or add a dataset to the one that is there, with room for an array of this layout."""
        raise NotImplementedError

    def folder(self, path: str, dataset: str) -> str:
        """The folder of a dataset that has one of its own. Pure; ValueError for a name that cannot be."""
        raise NotImplementedError

    def add(self, path: str, dataset: str) -> None:
        """Make ready for a dataset that has a folder; ValueError if it cannot be there."""
        raise NotImplementedError

    def check_old(self, path: str) -> None:
        """Raise an OSError unless what is at `path` may be replaced by a file of this format."""
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, f"{os.strerror(errno.EISDIR)}, no {self.name} file", path)

    def in_turns(self, options: dict[str, Any]) -> bool:
        """Whether the ranks must write one after the other."""
        return False

    def writer(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> Writer:
        raise NotImplementedError

    def extensible(self, layout: Layout, dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
        """The options with which a dataset is made to which rows are added later. Pure."""
        return options

    def extended(
        self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype, options: dict[str, Any]
    ) -> tuple[Layout, dict[str, Any]]:
        """The layout and options with which an array of this layout is written behind the rows of a dataset.

        ValueError if none can be added to it.
        """
        return self.placed(layout, dtype, options), options

    def extend(self, path: str, dataset: str | None, shape: tuple[int, ...]) -> None:
        """Make the dataset as long as that, in a copy of the file, before rows are written."""

    def told(self, path: str, shape: tuple[int, ...]) -> tuple[int, bytes] | None:
        """Where a file says that its array has this shape, and what it says; None if a copy has to be made."""
        return None


def path_of(path: str | os.PathLike[str]) -> str:
    """`path` as text; TypeError for what is no path, and for bytes."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a pathlib.Path, got {error_text.short_repr(path)}")
    return text


def the_one(path: str, names: Sequence[str]) -> str:
    """The only dataset of a file of which none was named; ValueError, which lists them, if there is not one."""
    if len(names) == 1:
        return names[0]
    raise ValueError(f"which dataset of {path}? It has {listed(names)}: give dataset=")


def listed(names: Sequence[str]) -> str:
    """What is in a file, for a text."""
    return error_text.short_list(list(map(repr, names)), 20) or "no dataset"


def needed(module: str, name: str) -> ModuleType:
    """The package that the format `name` needs; ModuleNotFoundError, which says how to install it, without it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f'{name} files need {error.name}: pip install "minisplit[files]"'
        raise ModuleNotFoundError(text, name=error.name) from error


def no_options(name: str, options: Mapping[str, Any]) -> None:
    """TypeError if there are options, of which this format has none."""
    if options:
        raise TypeError(f"{name} files have no option {next(iter(options))!r}")
