"""Rows that are put behind those of a dataset in a file."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, closing
from typing import Any

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.io.atomic import behind_the_end, replacing
from minisplit.io.collective import check_same, write_parts
from minisplit.io.formats.base import Format, the_one


def find(comm: Communication, format: Format, path: str, dataset: str | None) -> tuple[str, str | None]:
    """How rows are added to a dataset, and its name, None being the only one of the file. Collective.

    "extend" if rank 0 finds it, "a" if it finds the file without it, "w" if there is no file.
    """
    told = b""
    with agreement(comm, f"looking into {path}"):
        if comm.rank == 0:
            told = json.dumps(_found(format, path, dataset)).encode()
    mode, name = json.loads(comm.broadcast_bytes(told))
    return mode, name


def _found(format: Format, path: str, dataset: str | None) -> tuple[str, str | None]:
    if not os.path.exists(path):
        return "w", dataset
    if not format.adds:
        return "extend", dataset
    if dataset is None:
        names = format.names(path)
        return ("extend", the_one(path, names) or None) if names else ("a", None)
    try:
        format.open(path, dataset).close()
    except KeyError:
        return "a", dataset
    return "extend", dataset


def extend(
    x: DNDarray, dtype: torch.dtype, format: Format, path: str, dataset: str | None, options: dict[str, Any]
) -> None:
    """Put the rows of `x` behind those of a dataset that is there, in its own dtype. Collective."""
    comm = x.comm
    reading = {name: options[name] for name in format.reading if name in options}
    with ExitStack() as stack:
        with agreement(comm, f"looking into {path}"):
            wanted = None if format.typed else dtype
            there = stack.enter_context(closing(format.open(path, dataset, dtype=wanted, **reading)))
            column = format.table and x.ndim == 1 and len(there.shape) == 2
            rows = (1,) if column else x.shape[1:]
            if not x.ndim or not there.shape or there.shape[1:] != rows:
                raise ValueError(
                    f"rows that are added must be as long as those that are there: {path} has shape "
                    f"{there.shape}, got shape {x.shape}"
                )
            if not torch.can_cast(dtype, there.dtype):
                raise TypeError(f"{path} holds {there.dtype}, which {dtype} cannot become; convert it before")
            layout, options = format.extended(path, dataset, x.layout, there.dtype, options)
            shape = (there.shape[0] + x.shape[0], *x.shape[1:])
            told = format.told(path, shape)
        check_same(comm, there)
    new, old = x.to_layout(layout), there.shape[0]

    def check_old(path: str) -> None:
        format.check_old(path)
        with closing(format.open(path, dataset)) as now:
            if now.shape != there.shape:
                raise ValueError(
                    f"{path} had the shape {there.shape}, but meanwhile {now.shape}: add the rows again"
                )

    if told is not None:
        with behind_the_end(comm, path, check_old, told):
            write_parts(new, there.dtype, format, path, dataset, options, first=old)
        return
    if format.folders and dataset is not None:
        path, dataset = format.folder(path, dataset), None
    with replacing(comm, path, format.check_old, copied=True) as beside:
        with agreement(comm, f"adding {x.shape[0]} rows to {path}"):
            if comm.rank == 0:
                format.extend(beside, dataset, shape)
        write_parts(new, there.dtype, format, beside, dataset, options, first=old)
