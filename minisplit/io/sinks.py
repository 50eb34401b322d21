"""Files to which the outputs of a map go, block by block; an interrupted map goes on where it stopped.

While a map runs, `y.npy` is written as `.y.npy.partial`, and beside it a folder `.y.npy.journal` tells what
has been done: `job` says of which call it is, and each rank adds a line with two numbers, the first global sample
and the one past the last, to a file of its own there once a block is written. Nothing in it depends on the number
of ranks.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.utils import _pytree as pytree

from minisplit.core.communication import Communication
from minisplit.core.errors import agreement
from minisplit.core.layout import Layout
from minisplit.core.stored import Box, StoredArray
from minisplit.io.formats import format_of
from minisplit.io.protocol import Format, Writer, path_of


class FileSink:
    """Outputs in files. See `minisplit.core.stored.Sink`."""

    def __init__(self, out: Any, comm: Communication, job: str, resume: bool) -> None:
        self.comm = comm
        self.paths = [Path(path_of(path)) for path in pytree.tree_leaves(out) if path is not None]
        self.formats = [format_of(str(path)) for path in self.paths]
        first = self.paths[0]
        self.journal = first.with_name(f".{first.name}.journal")
        self.targets: list[tuple[Format, Path, str | None, Layout, torch.dtype]] = []
        self.writers: list[Writer | None] = []
        self.lines: TextIO | None = None
        told = b""
        with agreement(comm, f"looking for an interrupted map to {first.name}"):
            if comm.rank == 0:
                told = json.dumps(self._begin(job, resume)).encode()
        self._done: list[tuple[int, int]] = [(a, b) for a, b in json.loads(comm.broadcast_bytes(told))]

    def _begin(self, job: str, resume: bool) -> list[tuple[int, int]]:
        """What an interrupted call has done; without `resume`, or without one, start afresh. On rank 0."""
        words = self.journal / "job"
        if resume and words.exists():
            before = words.read_text()
            if before != job:
                raise ValueError(
                    f"{self.journal} is of another call, so resume=True cannot go on with it: that was {before}, "
                    f"this is {job}; call without resume= to start afresh"
                )
            lines = [
                line.split() for file in self.journal.glob("done-*") for line in file.read_text().splitlines()
            ]
            return sorted((int(line[0]), int(line[1])) for line in lines if len(line) == 2)
        shutil.rmtree(self.journal, ignore_errors=True)
        for path in self.paths:
            _remove(_partial(path))
        self.journal.mkdir()
        words.write_text(job)
        return []

    def done(self) -> Sequence[tuple[int, int]]:
        return self._done

    def create(self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str]) -> None:
        several = len(layouts) > 1 and len(self.paths) == 1 and self.formats[0].named
        times = len(layouts) if several else 1
        paths, formats = self.paths * times, self.formats * times
        if len(paths) != len(layouts):
            raise ValueError(
                f"out has {len(self.paths)} paths, but func returns {len(layouts)} mapped outputs: give a path "
                "for each, and None for an output that is not mapped, or one file of a format that holds several"
            )
        datasets = [name if several else None for name in names]
        self.targets = list(zip(formats, paths, datasets, layouts, dtypes, strict=True))
        with agreement(self.comm, "making the output files"):
            if self.comm.rank == 0:
                for each in self.targets:
                    self._make(*each)
        with agreement(self.comm, "opening the output files"):
            self.writers = [None if _shared(*each) else _writer(*each) for each in self.targets]
            self.lines = (self.journal / f"done-{self.comm.rank}-{time.time_ns()}").open("x")

    def _make(self, format: Format, path: Path, dataset: str | None, layout: Layout, dtype: torch.dtype) -> None:
        partial = _partial(path)
        if not (self._done and partial.exists()):
            format.create(str(partial), dataset, layout, dtype, {})
            return
        there = format.open(str(partial), dataset)
        try:
            if (tuple(there.shape), there.dtype) != (layout.shape, dtype):
                raise ValueError(
                    f"the interrupted call had an output of {there.dtype} {tuple(there.shape)} in {path.name}, "
                    f"but this one has {dtype} {layout.shape}; call without resume= to start afresh"
                )
        finally:
            there.close()

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        writer = self.writers[output]
        if writer is not None:
            writer.write(box, part)
            return
        # Another rank may write what lies in the same chunk of the file, or in a file that only one may have open.
        with locked(self.journal / "job"):
            writer = _writer(*self.targets[output])
            try:
                writer.write(box, part)
            finally:
                writer.close()

    def record(self, start: int, stop: int) -> None:
        assert self.lines is not None, "created before anything is written"
        self.lines.write(f"{start} {stop}\n")
        self.lines.flush()

    def finish(self) -> Sequence[StoredArray]:
        with agreement(self.comm, "closing the output files"):
            self.close()
        with agreement(self.comm, "giving the output files their names"):
            if self.comm.rank == 0:
                for path in dict.fromkeys(path for _, path, *_ in self.targets):
                    _replace(_partial(path), path)
                shutil.rmtree(self.journal, ignore_errors=True)
        with agreement(self.comm, "opening the outputs"):
            return [
                StoredArray(format.open(str(path), dataset), layout, self.comm, path, dataset, dtype)
                for format, path, dataset, layout, dtype in self.targets
            ]

    def close(self) -> None:
        with ExitStack() as closing:
            for each in (self.lines, *self.writers):
                if each is not None:
                    closing.callback(each.close)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _writer(format: Format, path: Path, dataset: str | None, layout: Layout, dtype: torch.dtype) -> Writer:
    return format.writer(str(_partial(path)), dataset, layout, dtype)


def _shared(format: Format, path: Path, dataset: str | None, layout: Layout, dtype: torch.dtype) -> bool:
    """Whether writes of ranks could meet: in one chunk, or since only one of them may have the file open."""
    if layout.ranks == 1:
        return False
    return format.in_turns({}) or (format.named and format.placed(layout, dtype, {}) != layout)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process of all that come by here, on one machine or on a file system with locks."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Give a complete file its name. A folder, as Zarr's, takes the place of another only once that is gone."""
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(partial, path)
