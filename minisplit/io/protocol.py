"""What a format of files is to the rest of minisplit. Nothing here, nor in a format, sends a message."""

from __future__ import annotations

import os
from typing import Any, Protocol

import torch

from minisplit.core.layout import Layout

# One slice per axis, with its start and its stop, as `Layout.box` gives it.
Box = tuple[slice, ...]


class Reader(Protocol):
    """One dataset of one file, opened on this rank. Local."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def read(self, box: Box) -> torch.Tensor:
        """That part of the dataset, as a contiguous CPU tensor in native byte order; nothing else is read."""

    def close(self) -> None: ...


class Writer(Protocol):
    """A dataset in a file under way that `Format.create` made, opened on this rank. Local."""

    def write(self, box: Box, part: torch.Tensor) -> None:
        """Put that part in its place. Boxes of different ranks do not overlap."""

    def close(self) -> None:
        """Hand what was written to the disk."""


class Format:
    """A format of files: how one is opened, made and written. A subclass has all but `in_turns` to say.

    To write one, rank 0 calls `create`; then every rank that has a part calls `writer`, writes and closes, all at
    once or, where `in_turns` says so, in the order of the ranks. See `minisplit.io.files.save`.
    """

    name: str
    suffixes: tuple[str, ...]
    # Whether a file may hold several datasets, which have names.
    named = False

    def names(self, path: str) -> list[str]:
        """The datasets in a file; [""] for the one that needs no name."""
        raise NotImplementedError

    def open(self, path: str, dataset: str | None) -> Reader:
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

    def in_turns(self, options: dict[str, Any]) -> bool:
        """Whether the ranks must write one after the other."""
        return False

    def writer(self, path: str, dataset: str | None, layout: Layout, dtype: torch.dtype) -> Writer:
        raise NotImplementedError


def path_of(path: str | os.PathLike[str]) -> str:
    """`path` as text; TypeError for what is no path, and for bytes."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a pathlib.Path, got {path!r}")
    return text


def part(shape: tuple[int, ...]) -> Box:
    """The box of a whole array."""
    return tuple(slice(0, n) for n in shape)
