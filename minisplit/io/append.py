"""Rows that are added behind those of a dataset in a file: `save(..., mode="extend")`."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import replace

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.io.atomic import append_in_place, atomic_replacement
from minisplit.io.collective import check_same_dataset, on_rank_0, write_parts
from minisplit.io.files import ReplacedError, check_regular, clear_leftovers
from minisplit.io.formats.base import Format, Target, only_dataset


def find_dataset(comm: Communication, format: Format, path: str, dataset: str | None) -> tuple[str, str | None]:
    """Return how rows are added to a dataset, and its name, None being the only array of the file. Collective.

    "extend" if rank 0 finds the dataset, "a" if it finds the file without it, "w" if there is no file.
    """
    # Only rank 0 looks: ranks may not yet see a file that another job makes now.
    return on_rank_0(comm, f"looking into {path}", lambda: _find_dataset(format, path, dataset))


def _find_dataset(format: Format, path: str, dataset: str | None) -> tuple[str, str | None]:
    check_regular(path)
    if not os.path.exists(path):
        clear_leftovers(os.path.realpath(path))  # of a folder that a killed job has moved aside
    if not os.path.exists(path):
        return "w", dataset
    if format.contents != "datasets":
        return "extend", dataset
    # Of several arrays in a file it must be said to which rows are added; to an empty file one is added.
    if dataset is None:
        names = format.dataset_names(path)
        return ("extend", only_dataset(path, names) or None) if names else ("a", None)
    if not _has_dataset(format, path, dataset):
        clear_leftovers(os.path.realpath(path))  # of a dataset whose folder a killed job has moved aside
        if not _has_dataset(format, path, dataset):
            return "a", dataset
    return "extend", dataset


def _has_dataset(format: Format, path: str, dataset: str) -> bool:
    try:
        format.open_reader(path, dataset, None).close()
    except KeyError:
        return False
    return True


def append_rows(x: DNDarray, format: Format, target: Target) -> None:
    """Add the rows of `x` to a dataset that is there, in its dtype. Collective."""
    comm, path = x.comm, target.path
    with ExitStack() as stack:
        with agreement(comm, f"looking into {path}"):
            reader = stack.enter_context(closing(format.open_to_append(target)))
        check_same_dataset(comm, reader, copies=False)
        with agreement(comm, f"looking into {path}"):
            old, dtype, version, name = reader.shape, reader.dtype, reader.version, target.dataset
            # An array of one axis can be added to a table of one column, which is of two axes.
            is_column = format.contents == "columns" and x.ndim == 1 and len(old) == 2
            if not x.ndim or not old or old[1:] != ((1,) if is_column else x.shape[1:]):
                raise ValueError(
                    f"rows that are added must be as long as those that are there: {path} has shape {old}, got "
                    f"shape {x.shape}"
                )
            if not torch.can_cast(target.dtype, dtype):
                raise TypeError(f"{path} holds {dtype}, which {target.dtype} cannot become; convert it before")
            target = format.append_target(replace(target, dtype=dtype))
            shape = (old[0] + x.shape[0], *x.shape[1:])
            header = format.header_of_shape(path, shape)
    x = x.to_layout(target.layout)

    # Another job may have added rows since this one looked: it would write over them.
    def check_unchanged(_: str) -> None:
        format.check_replaceable(path)
        with closing(format.open_reader(path, name, None)) as reader:
            # Of a table the shape may not be known yet, but its version tells all.
            shape = old if format.contents == "columns" else reader.shape
            if (reader.version, shape) != (version, old):
                raise ReplacedError(f"{path} had the shape {old}, but was changed meanwhile: add the rows again")

    if header is not None:
        with append_in_place(comm, path, check_unchanged, header):
            write_parts(x, format, target, first_row=old[0])
        return
    store = None
    if format.chunk_files and name is not None:
        # Only the folder of the dataset is replaced, and nothing of what is beside it.
        store, target = path, replace(target, path=format.dataset_folder(path, name), dataset=None)

    def resize(new_path: str) -> None:
        if store is not None:
            format.forget_shapes(store, target.path, new_path)
        format.resize(replace(target, path=new_path), shape)

    with atomic_replacement(comm, target.path, check_unchanged, resize, copied=True, store=store) as new_path:
        write_parts(x, format, replace(target, path=new_path), first_row=old[0])
