"""What is collective in all formats: ranks open a dataset, compare it, read and write their parts."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeVar

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.storage import Box, Reader
from minisplit.io.chunks import blocks
from minisplit.io.files import ReplacedError, check_regular, digest, open_pinned, size_and_time
from minisplit.io.formats.base import Format, StrPath, Target, Writer, check_options, path_text
from minisplit.io.formats.registry import checked_format
from minisplit.io.readers import JoinedReader, files_of, join

T = TypeVar("T")
# Bytes that are converted to another dtype, or moved to another device, at once: more memory than that is not
# used.
_BLOCK = 64 * 2**20
# How often a file that is replaced while it is opened or read is read anew, and seconds between.
_TRIES, _PAUSE = 5, 0.05


def open_reader(
    path: StrPath, dataset: str | None, format: str | None, dtype: torch.dtype | None, options: dict[str, Any]
) -> Reader:
    """Open a dataset in a file whose format its name or `format` tells, or in several of a pattern. Local."""
    file = path_text(path)
    files = files_of(file)
    if files is not None:
        return join(file, files, lambda each: open_reader(each, dataset, format, dtype, options))
    chosen = checked_format(file, dataset, format)
    check_regular(file)
    check_options(chosen.name, options, chosen.read_options)
    return chosen.open_reader(file, dataset, dtype, **options)


def on_rank_0(comm: Communication, doing: str, compute: Callable[[], T]) -> T:
    """Return what rank 0 computes, numbers and texts, on all ranks; its error is raised on all. Collective."""
    data = b""
    with agreement(comm, doing):
        if comm.rank == 0:
            data = pickle.dumps(compute())
    result: T = pickle.loads(comm.broadcast_bytes(data))
    return result


def in_one_version(read: Callable[[], T]) -> T:
    """Return what `read` reads on all ranks from a file, again if that was replaced by another one meanwhile.

    `read` is collective, and so is this: ReplacedError, which it catches, is raised on all ranks.
    """
    for _ in range(_TRIES - 1):
        with suppress(ReplacedError):
            return read()
        time.sleep(_PAUSE)
    return read()


def check_same_file(
    comm: Communication, path: str, version: str, content: str, description: str, *, copies: bool = True
) -> None:
    """Raise ReplacedError on all ranks unless all have opened one version, with one content. Collective.

    With `copies` they may have opened copies of one file, as each node of a cluster may have one.
    """
    try:
        comm.check_same(
            f"{version} {content}",
            "the file",
            description=f"{description} ({version})",
            hint="the ranks must see the same file, or copies of it with its time, as cp -p makes them, and while "
            "it is read no job may replace it",
        )
    except ValueError as error:
        replaced = ReplacedError(str(error))
    else:
        return
    if not copies or not _are_copies(comm, path, version, content):
        raise replaced


def _are_copies(comm: Communication, path: str, version: str, content: str) -> bool:
    """Whether the files that the ranks have opened are copies of one. Collective.

    Only if they are of one size and time they are read as a whole, as nothing less is certain: a job that replaces
    a file by another of the same shape may do so twice within the least time that a file system knows.
    """
    with agreement(comm, f"comparing {path}"):
        own = [content, *size_and_time(path)]
    if any(other != own for other in comm.allgather_object(own)):
        return False
    with agreement(comm, f"comparing {path}"), open_pinned(path) as pinned:
        # What was opened, and not what has its name now.
        opened = pinned.version.partition(",")[0] == version.partition(",")[0]
        found = digest(path) if opened else ""
    return all(other == found != "" for other in comm.allgather_object(found))


def check_same_dataset(comm: Communication, reader: Reader, *, copies: bool = True) -> None:
    """Raise ReplacedError on all ranks unless they have opened the same array, in one version. Collective."""
    description = reader.description()
    copies = copies and not isinstance(reader, JoinedReader)
    # By the order in which elements lie in the file the ranks choose what each reads: if it differs, they would
    # send messages that do not fit together.
    layouts = [reader.read_layout(Layout(reader.shape, axis, comm.size)) for axis in range(len(reader.shape))]
    check_same_file(comm, reader.path, reader.version, f"{description} {layouts}", description, copies=copies)
    reader.build_index(comm)


def read_part(reader: Reader, box: Box, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Read a part of a dataset; block by block where it is to have another dtype or device. Local."""
    size = math.prod(span.stop - span.start for span in box)
    reader.check_size(size * reader.dtype.itemsize, "the array, or this rank's part of it,")
    if dtype == reader.dtype and device.type == "cpu":
        return reader.read(box)
    part = torch.empty([span.stop - span.start for span in box], dtype=dtype, device=device)
    for block, block_in_part in blocks(box, reader.dtype.itemsize, _BLOCK):
        part[block_in_part] = reader.read(block).to(device=device, dtype=dtype)
    return part


def write_parts(x: DNDarray, format: Format, target: Target, *, first_row: int = 0) -> None:
    """Let every rank write its part of `x`, whose rows are those from `first_row` on of the dataset. Collective.

    Of a replicated array rank 0 writes all.
    """
    comm, layout = x.comm, x.layout
    if first_row:
        rows = first_row + layout.shape[0]
        target = replace(target, layout=Layout((rows, *layout.shape[1:]), layout.split, layout.ranks))
    # Of an array without elements nobody writes: `create` has made all there is.
    counts = layout.counts if layout.size else ()
    writers = [0] if counts is None else [rank for rank, count in enumerate(counts) if count]
    for turn in [[rank] for rank in writers] if format.serial_writes(target.options) else [writers]:
        # After each turn, so that a rank that fails ends the turns of all.
        with agreement(comm, f"writing its part of {target.path}"):
            if comm.rank in turn:
                box = layout.box(comm.rank)
                if first_row:
                    box = (slice(first_row + box[0].start, first_row + box[0].stop), *box[1:])
                with closing(format.open_writer(target)) as writer:
                    _write_part(writer, box, x.larray, target.dtype)


def _write_part(writer: Writer, box: Box, shard: torch.Tensor, dtype: torch.dtype) -> None:
    """Write a part; block by block where it is to be converted."""
    if dtype == shard.dtype and shard.device.type == "cpu" and not shard.is_conj() and not shard.is_neg():
        writer.write(box, shard)
        return
    for block, block_in_part in blocks(box, dtype.itemsize, _BLOCK):
        writer.write(block, shard[block_in_part].to(device="cpu", dtype=dtype).resolve_conj().resolve_neg())
