"""Files to which the outputs of a mapped call go, block by block; an interrupted call can be resumed.

While a call runs, `y.npy` is written as `.y.npy.partial`, and beside it is a folder `.y.npy.journal`. There a file
`job` says which call it is. In the journal of the first output each rank has a file of its own, to which it adds a
line with two numbers once a block is written: the first global sample of the block, and the one past its last. If
outputs are reduced over the samples, it has a file that is written anew instead, with what they are so far: that
must go with the blocks that it is of. Nothing in the journal depends on the number of ranks, so that another
number of them may resume the call.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.pytorch.pytree import pytree
from minisplit.core.storage import Box, StoredArray
from minisplit.io.atomic import check_target, move_into_place, sync
from minisplit.io.chunks import chunk_shape
from minisplit.io.collective import on_rank_0
from minisplit.io.files import FileLock, beside, clear_leftover, make_empty, remove
from minisplit.io.formats.base import Format, Target, Writer, path_text
from minisplit.io.formats.registry import format_of
from minisplit.vmap.pytree import input_labels

# Bytes of a chunk at most.
_MAX_CHUNK = 2**24


class FileSink:
    """Outputs in files. See `minisplit.core.storage.Sink` and `open_sink`."""

    def __init__(self, out: Any, comm: Communication, job: str, resume: bool) -> None:
        self.comm = comm
        labels = zip(input_labels(pytree.tree_structure(out)), pytree.tree_leaves(out), strict=True)
        given = {label: path_text(path) for label, path in labels if path is not None}
        # Behind symbolic links, which stay links.
        self._labelled = {label: Path(os.path.realpath(path)) for label, path in given.items()}
        formats = [_format_of(Path(path)) for path in given.values()]
        self._formats = dict(zip(self._labelled.values(), formats, strict=True))
        if len(self._formats) != len(self._labelled) or not self._labelled:
            raise ValueError(
                f"out must be a path, or a different one for each mapped output, got {short_repr(out)}"
            )
        # The lines of the ranks are in that of the first output. Each has one, since the next call may be another
        # one to one of them.
        self._journals = [Path(beside(str(path), ".journal")) for path in self._formats]
        self._journal = self._journals[0]
        # On rank 0, while the call runs: another call with the same output is refused.
        self._locks = ExitStack()
        self._outputs: list[FileOutput] = []
        self._writers: list[Writer | None] = []
        self._log: TextIO | None = None
        # What interrupted calls have reduced, on rank 0; the samples of this rank's file of that kind; its name.
        self._reduced: list[list[torch.Tensor]] = []
        self._blocks: list[tuple[int, int]] = []
        self._state = Path()
        doing = f"looking for an interrupted map to {next(iter(self._formats)).name}"
        self._done = on_rank_0(comm, doing, lambda: self._begin(job, resume))

    def _begin(self, job: str, resume: bool) -> list[tuple[int, int]]:
        """Return what an interrupted call has done; if nothing is to be resumed, start afresh. On rank 0."""
        for path, format in self._formats.items():
            check_target(str(path), format.check_replaceable)
        with ExitStack() as stack:
            for path in self._formats:
                stack.enter_context(closing(FileLock(str(path))))
            done = self._find_done(job, resume)
            self._locks = stack.pop_all()
        return done

    def _find_done(self, job: str, resume: bool) -> list[tuple[int, int]]:
        files = [journal / "job" for journal in self._journals]
        if resume and all(file.exists() for file in files):
            for file in files:
                if (interrupted := file.read_text()) != job:
                    raise ValueError(
                        f"{file.parent} is of another call, so resume=True cannot go on with it: that was "
                        f"{interrupted}, this is {job}; call without resume= to start afresh"
                    )
            # Without what is behind the last line: a rank that was killed may have left half of one.
            logs = [file.read_text().split("\n")[:-1] for file in self._journal.glob("done-*")]
            lines = [line.split() for log in logs for line in log]
            states = [torch.load(file, weights_only=True) for file in sorted(self._journal.glob("reduced-*"))]
            blocks = [block for state in states for block in state["blocks"]]
            done = sorted([*((int(start), int(stop)) for start, stop in lines), *blocks])
            # A call that was killed before its first block may have left half a file: `create` writes no journal.
            if done and all(_partial(path).exists() for path in self._formats):
                self._reduced = [state["reduced"] for state in states]
                return done
        # The journals first: without them what is left of the files counts for nothing.
        for journal in self._journals:
            remove(str(journal))
        for path in self._formats:
            clear_leftover(str(_partial(path)), str(path))
        for file in files:
            file.parent.mkdir()
            # In one step: a call that is killed here leaves no half of it, which would be that of another call.
            new = file.parent / "new"
            new.write_text(job)
            new.replace(file)
        return []

    def done(self) -> Sequence[tuple[int, int]]:
        return self._done

    def reduced(self) -> Sequence[Sequence[torch.Tensor]]:
        return self._reduced

    def create(
        self, layouts: Sequence[Layout], dtypes: Sequence[torch.dtype], names: Sequence[str], block: int
    ) -> None:
        # One path for several outputs is a file in which each is a dataset, where the format has several.
        first, *others = self._formats
        several = len(names) > 1 and not others and self._formats[first].contents == "datasets"
        one_file = several or (len(names) == 1 and not others)
        labelled = dict.fromkeys(names, first) if one_file else self._labelled
        if set(labelled) != set(names):
            raise ValueError(
                f"out has {len(self._formats)} paths, but func returns {len(layouts)} mapped outputs: give a path "
                f"for each, as func returns them ({', '.join(names)}), and None for an output that is not mapped, "
                "or one file of a format that holds several"
            )
        datasets = [dataset_name(name) if several else None for name in names]
        if several and len(set(datasets)) != len(names):
            raise ValueError(f"outputs need different names in one file, but theirs would be {datasets}")
        resumed = bool(self._done)
        with agreement(self.comm, "making the output files"):
            for name, dataset, layout, dtype in zip(names, datasets, layouts, dtypes, strict=True):
                path = labelled[name]
                format = self._formats[path]
                options = _options(format, layout, dtype.itemsize, block)
                target = Target(str(_partial(path)), dataset, layout, dtype, options)
                self._outputs.append(FileOutput(path, format, target))
            if self.comm.rank == 0:
                for path, format in self._formats.items():
                    if not os.path.exists(_partial(path)):
                        make_empty(str(_partial(path)), like=str(path), folder=format.folders)
                for output in self._outputs:
                    output.create(resumed)
        with agreement(self.comm, "opening the output files"):
            self._writers = [
                None if out.shares_chunks(resumed) else out.format.open_writer(out.target) for out in self._outputs
            ]
            # In nanoseconds, so that ranks of a resumed call do not find a file of this name.
            mine = f"{self.comm.rank}-{time.time_ns()}"
            self._state = self._journal / f"reduced-{mine}"
            self._log = (self._journal / f"done-{mine}").open("x")

    def write(self, output: int, box: Box, part: torch.Tensor) -> None:
        writer = self._writers[output]
        if writer is not None:
            writer.write(box, part)
            return
        out = self._outputs[output]
        # Another rank may write what lies in the same chunk of the file: of a chunk all is written again.
        with (self._journal / "job").open() as lock:
            # One rank at a time, of all on this machine or on a file system with locks.
            fcntl.flock(lock, fcntl.LOCK_EX)
            with closing(out.format.open_writer(out.target)) as writer:
                writer.write(box, part)

    def record(self, start: int, stop: int, reduced: Sequence[torch.Tensor] = ()) -> None:
        assert self._log is not None, "created before anything is written"
        if reduced:
            if self._blocks and self._blocks[-1][1] == start:
                start = self._blocks.pop()[0]
            self._blocks.append((start, stop))
            new = self._journal / f"new-{self._state.name}"
            torch.save({"blocks": self._blocks, "reduced": [x.cpu() for x in reduced]}, new)
            # In one step: half of it would be of no block, and what it is of would be mapped again.
            new.replace(self._state)
            return
        self._log.write(f"{start} {stop}\n")
        # A process that is killed loses what Python has in its buffer, but not what the system has.
        self._log.flush()

    def finish(self) -> Sequence[StoredArray]:
        with agreement(self.comm, "handing the output files to the disk"):
            # Libraries may write the last of it when they close a file.
            self._close_files()
            for path in self._formats:
                sync(str(_partial(path)), self.comm.rank, self.comm.size)
        with agreement(self.comm, "putting the output files in their place"):
            if self.comm.rank == 0:
                # Before: if this is killed, a call that resumes would take what a folder has replaced for its own.
                (self._journal / "job").unlink()
                for path in self._formats:
                    move_into_place(str(_partial(path)), str(path))
                    remove(str(_partial(path)))  # what a folder has replaced
                for journal in self._journals:
                    remove(str(journal))
        with agreement(self.comm, "opening the outputs"):
            outputs = [output.open(self.comm) for output in self._outputs]
            self._locks.close()
        return outputs

    def close(self) -> None:
        with self._locks:
            self._close_files()

    def _close_files(self) -> None:
        # All of them, also if one fails to close.
        with ExitStack() as stack:
            for file in (self._log, *self._writers):
                if file is not None:
                    stack.callback(file.close)


@dataclass(frozen=True, slots=True)
class FileOutput:
    """One output: where it is in the end, and the target under another name to which it is written before."""

    path: Path
    format: Format
    target: Target

    def shares_chunks(self, resumed: bool) -> bool:
        """Whether two ranks may write to one chunk. In a file that is resumed chunks may have another size."""
        if not self.format.chunk_files or self.target.layout.ranks == 1:
            return False
        return resumed or self.format.write_layout(self.target) != self.target.layout

    def create(self, resumed: bool) -> None:
        """Make the file, or check that it is as an interrupted call has made it. On rank 0."""
        target, format = self.target, self.format
        if not resumed:
            format.create(target)
            return
        with closing(format.open_reader(target.path, target.dataset, None)) as reader:
            if (tuple(reader.shape), reader.dtype) != (target.layout.shape, target.dtype):
                raise ValueError(
                    f"{self.path.name} had {reader.dtype} {tuple(reader.shape)} in the interrupted call, but has "
                    f"{target.dtype} {target.layout.shape} in this one; call without resume= to start afresh"
                )

    def open(self, comm: Communication) -> StoredArray:
        """Open the complete output. Local."""
        target = self.target
        reader = self.format.open_reader(str(self.path), target.dataset, None)
        return StoredArray(reader, target.layout, comm, self.path, target.dataset, target.dtype)


def dataset_name(output: str) -> str:
    """Return the name of the dataset in which an output goes that has this name in the structure of the outputs.

    >>> dataset_name("0['loss']"), dataset_name("1")
    ('0/loss', '1')
    """
    return "/".join(re.findall(r"[^\[\]'\"/]+", output))


def _options(format: Format, layout: Layout, itemsize: int, block: int) -> dict[str, Any]:
    """Return options for chunks as long as a block: longer chunks would be written again for each block."""
    if not format.chunk_files or layout.split is None:
        return {}
    chunks = list(chunk_shape(layout, itemsize, _MAX_CHUNK))
    # But no longer than a rank's part, so that the borders between ranks are borders of chunks.
    chunks[layout.split] = max(1, min(block, -(-layout.extent // layout.ranks)))
    return {"chunks": tuple(chunks)}


def _format_of(path: Path) -> Format:
    format = format_of(str(path))
    if format.contents == "columns":
        raise ValueError(f"out cannot be {path.name}: {format.name} files cannot be written block by block")
    return format


def _partial(path: Path) -> Path:
    return Path(beside(str(path), ".partial"))
