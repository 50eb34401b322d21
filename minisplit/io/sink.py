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
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.utils import _pytree as pytree

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, StoredArray
from minisplit.io.atomic import check_place, remove, replace, sync
from minisplit.io.chunks import chunks_of
from minisplit.io.formats.base import Format, Writer, path_of
from minisplit.io.formats.registry import format_of
from minisplit.vmap.pytree import input_labels

# What a chunk holds at most, in bytes.
_MOST = 2**24


class FileSink:
    """Outputs in files. See `minisplit.core.storage.Sink`."""

    def __init__(self, out: Any, comm: Communication, job: str, resume: bool) -> None:
        self.comm = comm
        labels = zip(input_labels(pytree.tree_structure(out)), pytree.tree_leaves(out), strict=True)
        self.labelled = {label: Path(path_of(path)) for label, path in labels if path is not None}
        self.paths = list(self.labelled.values())
        self.formats = [_format_of(path) for path in self.paths]
        if len(set(map(os.path.abspath, self.paths))) != len(self.labelled) or not self.paths:
            raise ValueError(f"out must be a path, or a different one for each mapped output, got {out!r}")
        first = self.paths[0]
        self.journal = first.with_name(f".{first.name}.journal")
        self.targets: list[Target] = []
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
            done = sorted((int(line[0]), int(line[1])) for line in lines if len(line) == 2)
            # A call that was killed before its first block may have left half a file, one before its last all.
            if done and all(_partial(path).exists() for path in self.paths):
                return done
        shutil.rmtree(self.journal, ignore_errors=True)
        for path, format in zip(self.paths, self.formats, strict=True):
            check_place(str(path.absolute().parent), str(path), format.check_old)
            remove(str(_partial(path)))
        self.journal.mkdir()
        words.write_text(job)
        return []

    def done(self) -> Sequence[tuple[int, int]]:
        return self._done

    def create(
        self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str], block: int
    ) -> None:
        several = len(names) > 1 and len(self.paths) == 1 and self.formats[0].adds
        one = several or len(self.paths) == len(names) == 1
        labelled = dict.fromkeys(names, self.paths[0]) if one else self.labelled
        if set(labelled) != set(names):
            raise ValueError(
                f"out has {len(self.paths)} paths, but func returns {len(layouts)} mapped outputs: give a path "
                f"for each, as func returns them ({', '.join(names)}), and None for an output that is not mapped, "
                "or one file of a format that holds several"
            )
        paths = [labelled[name] for name in names]
        formats = [_format_of(path) for path in paths]
        datasets = [dataset_of(name) if several else None for name in names]
        if several and len(set(datasets)) != len(names):
            raise ValueError(f"outputs need different names in one file, but theirs would be {datasets}")
        each = zip(formats, paths, datasets, layouts, dtypes, strict=True)
        with agreement(self.comm, "making the output files"):
            self.targets = [Target(*one, _options(one[0], one[3], one[4].itemsize, block)) for one in each]
            if self.comm.rank == 0:
                for target in self.targets:
                    target.make(resuming=bool(self._done))
        with agreement(self.comm, "opening the output files"):
            resuming = bool(self._done)
            self.writers = [None if target.shared(resuming) else target.writer() for target in self.targets]
            self.lines = (self.journal / f"done-{self.comm.rank}-{time.time_ns()}").open("x")

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        writer = self.writers[output]
        if writer is not None:
            writer.write(box, part)
            return
        # Another rank may write what lies in the same chunk of the file.
        with locked(self.journal / "job"), closing(self.targets[output].writer()) as writer:
            writer.write(box, part)

    def record(self, start: int, stop: int) -> None:
        assert self.lines is not None, "created before anything is written"
        self.lines.write(f"{start} {stop}\n")
        self.lines.flush()

    def finish(self) -> Sequence[StoredArray]:
        paths = dict.fromkeys(target.path for target in self.targets)
        with agreement(self.comm, "handing the output files to the disk"):
            self.close()
            for path in paths:
                sync(str(_partial(path)), self.comm.rank, self.comm.size)
        with agreement(self.comm, "putting the output files in their place"):
            if self.comm.rank == 0:
                for path in paths:
                    replace(str(_partial(path)), str(path))
                    remove(str(_partial(path)))  # what a folder has replaced
                shutil.rmtree(self.journal, ignore_errors=True)
        with agreement(self.comm, "opening the outputs"):
            return [target.opened(self.comm) for target in self.targets]

    def close(self) -> None:
        with ExitStack() as stack:
            for each in (self.lines, *self.writers):
                if each is not None:
                    stack.callback(each.close)


@dataclass(frozen=True, slots=True)
class Target:
    """One output in a file."""

    format: Format
    path: Path
    dataset: str | None
    layout: Layout
    dtype: torch.dtype
    options: dict[str, Any]

    def shared(self, resuming: bool) -> bool:
        """Whether writes of ranks could meet in one chunk. What is resumed may have chunks of another size."""
        placed = self.format.placed(self.layout, self.dtype, self.options)
        return self.layout.ranks > 1 and self.format.folders and (resuming or placed != self.layout)

    def make(self, resuming: bool) -> None:
        """Make the file, or see that it is as an interrupted call has made it. On rank 0."""
        partial = _partial(self.path)
        if not (resuming and partial.exists()):
            if self.dataset is not None and self.format.folders:
                self.format.add(str(partial), self.dataset)
            self.format.create(str(partial), self.dataset, self.layout, self.dtype, self.options)
            return
        with closing(self.format.open(str(partial), self.dataset)) as there:
            if (tuple(there.shape), there.dtype) != (self.layout.shape, self.dtype):
                raise ValueError(
                    f"{self.path.name} had {there.dtype} {tuple(there.shape)} in the interrupted call, but has "
                    f"{self.dtype} {self.layout.shape} in this one; call without resume= to start afresh"
                )

    def writer(self) -> Writer:
        return self.format.writer(str(_partial(self.path)), self.dataset, self.layout, self.dtype, self.options)

    def opened(self, comm: Communication) -> StoredArray:
        reader = self.format.open(str(self.path), self.dataset)
        return StoredArray(reader, self.layout, comm, self.path, self.dataset, self.dtype)


def dataset_of(name: str) -> str:
    """What to call an output in a file.

    >>> dataset_of("0['loss']"), dataset_of("1")
    ('0/loss', '1')
    """
    return "/".join(re.findall(r"[^\[\]'\"/]+", name))


def _options(format: Format, layout: Layout, itemsize: int, block: int) -> dict[str, Any]:
    """Chunks as long as a block, where files have chunks: longer ones would be written again for each block."""
    if not format.folders or layout.split is None:
        return {}
    chunks = list(chunks_of(layout, itemsize, _MOST))
    chunks[layout.split] = max(1, min(block, -(-layout.extent // layout.ranks)))
    return {"chunks": tuple(chunks)}


def _format_of(path: Path) -> Format:
    found = format_of(str(path))
    if found.table:
        raise ValueError(f"out cannot be {path.name}: {found.name} files cannot be written block by block")
    return found


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process of all that come by here, on one machine or on a file system with locks."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
