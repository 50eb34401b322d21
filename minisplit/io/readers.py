"""Readers made of readers: of a part of a dataset, and of several files whose rows follow each other."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Sequence

import torch

from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.storage import Box, Reader


class PartReader(Reader):
    """A part of a dataset: a slice of each axis."""

    def __init__(self, reader: Reader, slices: Sequence[slice | None]) -> None:
        if len(slices) > len(reader.shape):
            raise ValueError(f"slices has {len(slices)} entries, but the array has shape {reader.shape}")
        self._reader, self.path, self.version, self.dtype = reader, reader.path, reader.version, reader.dtype
        self._starts, extents = [], []
        for axis, extent in enumerate(reader.shape):
            given = slices[axis] if axis < len(slices) else None
            if not (given is None or (isinstance(given, slice) and given.step in {None, 1})):
                raise ValueError(f"slices must be None or slices in steps of 1, got {short_repr(given)}")
            start, stop, _ = (given or slice(None)).indices(extent)
            self._starts.append(start)
            extents.append(max(stop - start, 0))
        self.shape = tuple(extents)

    def read(self, box: Box) -> torch.Tensor:
        """Return a part of the part."""
        pairs = zip(box, self._starts, strict=True)
        return self._reader.read(tuple(slice(span.start + start, span.stop + start) for span, start in pairs))

    def stored_bytes(self) -> int | None:
        """Return the bytes that the file has of the whole dataset."""
        return self._reader.stored_bytes()


class JoinedReader(Reader):
    """Several files as one array: their rows, in the order of the files' names."""

    def __init__(self, path: str, readers: Sequence[Reader]) -> None:
        self._readers, self.path, self.dtype = readers, path, readers[0].dtype
        names = "\n".join(f"{os.path.basename(each.path)} {each.version}" for each in readers)
        self.version = f"{len(readers)} files, {hashlib.sha256(names.encode()).hexdigest()[:16]}"
        self._join()

    def _join(self) -> None:
        """Find out the shape of the array. ValueError unless the files fit together."""
        first = self._readers[0]
        for each in self._readers:
            if (each.dtype, len(each.shape), each.shape[1:]) != (first.dtype, len(first.shape), first.shape[1:]):
                one, other = (f"{x.dtype} {x.shape} in {os.path.basename(x.path)}" for x in (first, each))
                raise ValueError(
                    f"the files of {self.path} must have one dtype and shapes alike but for their rows, got {one} "
                    f"and {other}"
                )
        rows = sum(each.shape[0] for each in self._readers if each.shape)
        self.shape = (rows, *first.shape[1:]) if first.shape else ()

    def build_index(self, comm: Communication) -> None:
        """Find out where the rows of each file are."""
        for each in self._readers:
            each.build_index(comm)
        self._join()
        if not self.shape:
            raise ValueError(f"the files of {self.path} have no rows to join: their arrays have no axes")

    def read(self, box: Box) -> torch.Tensor:
        """Return a part, of all files that have some of it."""
        rows, parts, start = box[0], [], 0
        for each in self._readers:
            stop = start + each.shape[0]
            low, high = max(rows.start, start), min(rows.stop, stop)
            if low < high:
                parts.append(each.read((slice(low - start, high - start), *box[1:])))
            start = stop
        if not parts:
            parts = [self._readers[0].read((slice(0, 0), *box[1:]))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def stored_bytes(self) -> int | None:
        """Return the bytes of all files together, or None where one of them has all of its own."""
        found = [each.stored_bytes() for each in self._readers]
        return None if None in found else sum(each or 0 for each in found)

    def close(self) -> None:
        """Close all files."""
        for each in self._readers:
            each.close()


def files_of(pattern: str) -> list[str] | None:
    """Return the files that a pattern such as "parts/*.npy" names, in the order of their names; None for one file.

    FileNotFoundError where there is none.
    """
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return None
    found = sorted(glob.glob(pattern))
    if not found:
        raise FileNotFoundError(f"there is no file {pattern}")
    return found


def join(pattern: str, files: Sequence[str], open_one: Callable[[str], Reader]) -> JoinedReader:
    """Open several files as one array. Those that are open are closed where one cannot be opened."""
    readers: list[Reader] = []
    try:
        for each in files:
            readers.append(open_one(each))
        return JoinedReader(pattern, readers)
    except BaseException:
        for reader in readers:
            reader.close()
        raise
