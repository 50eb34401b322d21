"""What all formats have in common: ranks open a dataset, see that it is the same, read and write their parts."""

from __future__ import annotations

from contextlib import closing
from os import PathLike
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.error_text import short_repr
from minisplit.core.layout import Layout
from minisplit.core.storage import Box
from minisplit.io.chunks import blocks
from minisplit.io.formats.base import Format, Reader, Writer, path_of
from minisplit.io.formats.registry import format_of

# What is converted at once.
_BLOCK = 64 * 2**20
Path = str | PathLike[str]


def read_part(reader: Reader, box: Box, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A part of a dataset; a block at a time where it is to have another dtype or device."""
    if dtype == reader.dtype and device.type == "cpu":
        return reader.read(box)
    found = torch.empty([span.stop - span.start for span in box], dtype=dtype, device=device)
    for block, place in blocks(box, reader.dtype.itemsize, _BLOCK):
        found[place] = reader.read(block).to(device=device, dtype=dtype)
    return found


def opened(
    path: Path, dataset: str | None, format: str | None, dtype: torch.dtype | None, options: dict[str, Any]
) -> Reader:
    name = path_of(path)
    row = checked(format_of(name, format), dataset)
    return row.open(name, dataset, dtype=dtype, **options)


def checked(row: Format, dataset: str | None) -> Format:
    if dataset is not None and not isinstance(dataset, str):
        raise TypeError(f"dataset must be a str or None, got {short_repr(dataset)}")
    if dataset is not None and not row.named:
        raise ValueError(f"{row.name} files hold one array, which has no name, got dataset={dataset!r}")
    return row


def check_same(comm: Communication, reader: Reader) -> None:
    """ValueError, the same on every rank, unless all ranks have opened an array of the same shape and dtype."""
    seen = f"{reader.shape} {reader.dtype}"
    # Also in which order it lies there: by that ranks choose what each reads.
    ways = [reader.placed(Layout(reader.shape, axis, comm.size)) for axis in range(len(reader.shape))]
    comm.check_same(f"{seen} {ways}", "the array in the file", shown=seen, hint="the ranks must see the same file")


def write_parts(
    new: DNDarray,
    dtype: torch.dtype,
    format: Format,
    path: str,
    dataset: str | None,
    options: dict[str, Any],
    *,
    first: int = 0,
) -> None:
    """Let every rank write its part of `new`, whose rows are those from `first` on of a dataset. Collective.

    Of a replicated array rank 0 writes all.
    """
    comm, layout = new.comm, new.layout
    whole = Layout((first + layout.shape[0], *layout.shape[1:]), layout.split, layout.ranks) if first else layout
    for turn in _turns(layout, format.in_turns(options)):
        with agreement(comm, f"writing its part of {path}"):
            if comm.rank in turn:
                box = layout.box(comm.rank)
                if first:
                    box = (slice(first + box[0].start, first + box[0].stop), *box[1:])
                with closing(format.writer(path, dataset, whole, dtype, options)) as writer:
                    _write(writer, box, new.larray, dtype)


def _turns(layout: Layout, one_by_one: bool) -> list[list[int]]:
    """Which ranks write at once, one such list after the other. Of a replicated array rank 0 writes all."""
    counts = layout.counts if layout.size else ()
    writing = [0] if counts is None else [rank for rank, count in enumerate(counts) if count]
    return [[rank] for rank in writing] if one_by_one else [writing]


def _write(writer: Writer, box: Box, shard: torch.Tensor, dtype: torch.dtype) -> None:
    """Write a part; a block at a time where it is to be converted."""
    if dtype == shard.dtype and shard.device.type == "cpu" and not shard.is_conj() and not shard.is_neg():
        writer.write(box, shard)
        return
    for block, place in blocks(box, dtype.itemsize, _BLOCK):
        writer.write(block, shard[place].to(device="cpu", dtype=dtype).resolve_conj().resolve_neg())
